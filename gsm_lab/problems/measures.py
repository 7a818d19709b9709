"""What can be said of a graph without its words: its sizes, and its quantities in terms of an unknown."""

from collections.abc import Sequence
from typing import Final

from gsm_lab.problems.graph import Linear, Node, Operation
from gsm_lab.problems.making import new_tuple

_PLUS: Final = Operation.PLUS
_MINUS: Final = Operation.MINUS
_TIMES: Final = Operation.TIMES
_DIVIDED: Final = Operation.DIVIDED
_NESTED: Final = Operation.NESTED_TOTAL
_NO_DISTRACTORS: Final = {"independent": 0, "reachable": 0, "dead_end": 0}


def sizes_of(nodes: Sequence[Node], needed: Sequence[int], top: int) -> dict[str, int]:
    """The sizes of a problem, as `Problem.sizes` describes them, given its needed quantities and the last of them."""
    depths = [0] * len(nodes)
    op = width = 0
    for place in needed:
        _, _, constant, parents, _ = nodes[place]
        size = len(parents)
        if size == 1:
            depths[place] = depths[parents[0]] + 1
        elif size:
            depths[place] = max([depths[parent] for parent in parents]) + 1
        else:
            depths[place] = 1
        op += size if constant is None else size + 1
        if size > width:
            width = size
    steps = len(needed)
    sizes = {
        "op": op,
        "steps": steps,
        "binary_ops": op - steps,
        "depth": depths[top],
        "width": width,
        "distractors": len(nodes) - steps,
    }
    sizes.update(_distractor_kinds(nodes, top, depths) if len(nodes) > steps else _NO_DISTRACTORS)
    return sizes


def _distractor_kinds(nodes: Sequence[Node], top: int, rooted: list[int]) -> dict[str, int]:
    """How many distractors there are of each kind that `ProblemSpec.distractor_kinds` names.

    `rooted` is above 0 for needed quantities; what rests on one is marked in it, too.
    """
    used = [False] * len(nodes)
    for node in nodes:
        for parent in node[3]:
            used[parent] = True
    (top_place, top_item, _), _, _, top_parents, _ = nodes[top]
    items = {top_item} if top_item is not None else {nodes[parent][0][1] for parent in top_parents}
    independent = reachable = dead_end = 0
    for place, ((home, item, _), _, _, parents, _) in enumerate(nodes):
        if rooted[place]:  # it is needed
            continue
        for parent in parents:
            if rooted[parent]:
                rooted[place] = 1
        if not rooted[place]:
            independent += 1
        elif not used[place] and (home == top_place or item in items):
            dead_end += 1
        else:
            reachable += 1
    return {"independent": independent, "reachable": reachable, "dead_end": dead_end}


def linear_forms(nodes: Sequence[Node], unknown: int) -> list[Linear | None]:
    """Every quantity in terms of the one at place `unknown`, or None where it is no a * x + b in whole numbers."""
    forms: list[Linear | None] = []
    for place, node in enumerate(nodes):
        forms.append(new_tuple(Linear, (1, 0)) if place == unknown else linear_form(node, forms))
    return forms


def linear_form(node: Node, known: Sequence[Linear | None]) -> Linear | None:
    """A quantity in terms of the unknown, given the forms of all quantities before it; None if it has none.

    It has none where two quantities that both depend on the unknown are multiplied, where a division would leave
    fractions, and after such quantities.
    """
    _, operation, number, parents, minus = node
    constant = number or 0
    if not parents:
        return new_tuple(Linear, (0, constant))
    forms: list[Linear] = []
    for parent in parents:
        form = known[parent]
        if form is None:
            return None
        forms.append(form)
    if operation is _NESTED:
        pairs = list(zip(forms[::2], forms[1::2], strict=True))
        if any(first.a and second.a for first, second in pairs):
            return None
        a = sum(first.a * second.b + first.b * second.a for first, second in pairs)
        return Linear(a, sum(first.b * second.b for first, second in pairs))
    a, b = forms[0]
    for at in range(1, len(forms)):
        term_a, term_b = forms[at]
        if at < len(forms) - minus:
            a, b = a + term_a, b + term_b
        else:
            a, b = a - term_a, b - term_b
    if number is None:
        return new_tuple(Linear, (a, b))
    if operation is _PLUS:
        b += constant
    elif operation is _MINUS:
        b -= constant
    elif operation is _TIMES:
        a, b = a * constant, b * constant
    elif operation is _DIVIDED:
        if a % constant or b % constant:
            return None
        a, b = a // constant, b // constant
    return new_tuple(Linear, (a, b))
