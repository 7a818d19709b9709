"""Draws problems with exactly the wanted `op`, depth, width and distractors, by construction.

A skeleton first (`structure.py`), then numbers from the leaves up (`numbers.py`), names, and distractors. Nothing is
drawn in vain but numbers, where settings leave no other way; `draw_counted` says how often.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from gsm_lab.errors import SpecError
from gsm_lab.problems.distractors import add_distractors, num_distractors
from gsm_lab.problems.graph import DependencyGraph, Node, Quantity, counts_of
from gsm_lab.problems.making import made, new_tuple
from gsm_lab.problems.numbers import Numbers, Rules, draw_numbers, rules_for
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.spec import ProblemSpec
from gsm_lab.problems.steer import steer
from gsm_lab.problems.structure import FLAT, NESTED, Skeleton, draw_skeleton

MOST_DRAWS = 2_000
"""Of numbers for one problem, over all skeletons."""
DRAWS_A_SKELETON = 100


def draw_problem(spec: ProblemSpec, rng: Random) -> Problem:
    """A problem with exactly `spec.op`; all randomness is `rng`'s.

    Raises:
        SpecError: settings that contradict each other: no such graph, or no such numbers.
    """
    return draw_counted(spec, rng)[0]


def draw_counted(spec: ProblemSpec, rng: Random) -> tuple[Problem, int, int]:
    """A problem, the number of skeletons that were drawn for it, and of times that its numbers were.

    Raises:
        SpecError: as `draw_problem`.
    """
    rules = rules_for(spec)
    target, answer = spec.answer_range, 0
    if target is not None and (spec.balanced or spec.mode == "reverse"):
        # once: numbers that are drawn again must not favour any
        answer = target[0] + int(rng.random() * (target[1] - target[0] + 1))
        target = (answer, answer) if spec.mode == "forward" else None
    num_skeletons = num_draws = 0
    while num_draws < MOST_DRAWS:
        num_skeletons += 1
        skeleton = draw_skeleton(spec, rng)
        unknown = _unknown(skeleton, spec.items, rng) if spec.mode == "reverse" else None
        for _ in range(DRAWS_A_SKELETON):
            num_draws += 1
            numbers = draw_numbers(skeleton, rules, rng, unknown, answer)
            if numbers is not None and target is not None:
                numbers = steer(numbers, skeleton.caps[::-1], target, rules, rng)
            if numbers is None or (unknown is not None and not numbers.coefficient):
                continue
            return _assemble(skeleton, numbers, unknown, spec, rules, rng), num_skeletons, num_draws
    raise SpecError(
        f"op={spec.op} contradicts values={spec.values}, constants={spec.constants}, "
        f"answers={spec.answers if target is None else target} or operations={spec.operations}: in {MOST_DRAWS} draws "
        f"no numbers kept every quantity in range; widen values or constants, narrow answers, give a modulus, or allow "
        f"subtraction."
    )


def check_spec(spec: ProblemSpec) -> None:
    """Make sure that a spec can be drawn, and every one of its answers if they are balanced, before long work.

    Raises:
        SpecError: as `draw_problem` would, sooner or later.
    """
    rng = Random(0)
    draw_problem(spec, rng)
    if spec.balanced and spec.mode == "forward" and spec.answer_range is not None:
        for answer in range(spec.answer_range[0], spec.answer_range[1] + 1):
            draw_problem(replace(spec, answers=answer), rng)


def _unknown(skeleton: Skeleton, items: int, rng: Random) -> int:
    """The leaf that a reverse problem asks for.

    A nested total whose count and average both depend on it would make the equation quadratic: it becomes a flat one,
    or a plain sum if it has more kinds than there are items.
    """
    parents_of = skeleton.parents
    leaves = [number for number, parents in enumerate(parents_of) if not parents]
    unknown = leaves[int(rng.random() * len(leaves))]
    if NESTED not in skeleton.totals:
        return unknown
    depends = [False] * len(parents_of)
    depends[unknown] = True
    for number in range(len(parents_of) - 1, -1, -1):
        parents = parents_of[number]
        depends[number] = depends[number] or any(depends[parent] for parent in parents)
        if skeleton.totals[number] == NESTED and any(
            depends[parents[at]] and depends[parents[at + 1]] for at in range(0, len(parents), 2)
        ):
            skeleton.totals[number] = FLAT if len(parents) <= items else 0
            if len(parents) > items:
                skeleton.num_totals -= 1
                skeleton.home[parents[0] : parents[0] + len(parents)] = [-1] * len(parents)
    return unknown


def _assemble(
    skeleton: Skeleton, numbers: Numbers, unknown: int | None, spec: ProblemSpec, rules: Rules, rng: Random
) -> Problem:
    """The problem: names for all quantities, and distractors behind those that are needed."""
    places, names = _names(skeleton, spec, rng)
    names.reverse()
    values = numbers.values
    nodes: list[Node] = []
    for number, (operation, constant, parents, minus) in enumerate(numbers.definitions):
        nodes.append(new_tuple(Node, (names[number], operation, constant, parents, minus)))
    last = len(nodes) - 1
    num = num_distractors(spec, nodes, rng)
    if num:
        add_distractors(nodes, values, num, places, spec, rules, rng)
    needed = list(range(last + 1))
    return made(  # the checks would take a tenth of the time of a draw; the tests make them for what is drawn
        Problem,
        graph=made(DependencyGraph, nodes=tuple(nodes)),
        query=last - (unknown or 0),
        modulus=spec.modulus,
        given=last if unknown else None,  # with op 1 the given quantity is the asked one: a forward problem
        values=values,
        needed=needed,
    )


def _names(skeleton: Skeleton, spec: ProblemSpec, rng: Random) -> tuple[list[int], list[Quantity]]:
    """The places that no total is about, and a name for every number; a total has its place to itself and its kinds.

    The places in use come first: where there are few quantities there are few, so that texts hang together.
    """
    random = rng.random
    num_places, items, num_totals = spec.num_places, spec.items, skeleton.num_totals
    size = len(skeleton.parents)
    num_used = max(1, min(num_places, (size + spec.most_distractors) // 4 + 1)) + num_totals
    places = list(range(num_places))
    for at in range(min(num_used, num_places - 1)):  # the first places of a random order
        other = at + int(random() * (num_places - at))
        places[at], places[other] = places[other], places[at]
    if not num_totals:
        return places, _free_names(size, places, items, num_used, random)
    closed = places[:num_totals]
    places = places[num_totals:]
    home, totals = skeleton.home, skeleton.totals
    num_free = size - num_totals - sum([total >= 0 for total in home])
    free = _free_names(num_free, places, items, num_used - num_totals, random)
    names: list[Quantity] = []
    place_of: dict[int, int] = {}
    kinds: dict[int, list[int]] = {}
    for number, kind in enumerate(totals):
        total = home[number]
        if kind:
            place_of[number] = closed.pop()
            kinds[number] = rng.sample(range(items), len(skeleton.parents[number]) // (2 if kind == NESTED else 1))
            names.append(new_tuple(Quantity, (place_of[number], None, kind == NESTED)))
        elif total >= 0:
            at = number - skeleton.parents[total][0]
            is_nested = totals[total] == NESTED
            item = kinds[total][at // 2 if is_nested else at]
            names.append(new_tuple(Quantity, (place_of[total], item, is_nested and at % 2 == 1)))
        else:
            names.append(free.pop())
    return places, names


def _free_names(
    num: int, places: Sequence[int], items: int, num_places: int, random: Callable[[], float]
) -> list[Quantity]:
    """So many different names, in the first places, or in more of them if those do not hold enough."""
    room = min(max(num_places, -(-num // items)), len(places)) * items
    taken: dict[int, None] = {}
    while len(taken) < num:
        code = int(random() * room)
        while code in taken:
            code = code + 1 if code + 1 < room else 0
        taken[code] = None
    counts = counts_of(items)
    return [counts[places[code // items] * items + code % items] for code in taken]
