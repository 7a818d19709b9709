"""Colours the quantities of a problem, so that problems that are equal up to names have equal colours.

Every quantity gets a colour from its definition and the colours of its parents, then another one from that and the
colours of what uses it; the colour of a whole is the product of those of its parts. Colours are numbers modulo a prime.
Distractors are coloured last, with the final colours of needed quantities, which are the same whatever is added.

`colours.c` computes the same numbers and takes this module's place where it is compiled, for here a row spends a
quarter of its time; this is what it has to agree with.
"""

from collections.abc import Sequence

from gsm_lab.problems.graph import Node, Operation
from gsm_lab.problems.palette import (
    ADDED,
    ASKED,
    COUNT,
    PRIME,
    RATE,
    SHAPES,
    SUBTRACTED,
    TOP,
    USED,
    USES,
    colour_of,
)


def colours_of(nodes: Sequence[Node], num_needed: int, top: int, asked: int) -> tuple[int, int, int]:
    """The colours of all needed quantities without their numbers, of these with numbers, and of all quantities.

    The first `num_needed` nodes are the needed ones; `top` and `asked` are the places of two of them.
    """
    needed = nodes[:num_needed]
    shapes = [SHAPES[node.operation] for node in needed]
    structure, _ = _needed(needed, shapes, top, asked)
    colours = [colour_of(node.operation, node.constant) for node in nodes]
    numbers, final = _needed(needed, colours[:num_needed], top, asked)
    if len(nodes) == num_needed:
        return structure, numbers, numbers
    return structure, numbers, numbers * _distractors(nodes, final, colours) % PRIME


def _needed(nodes: Sequence[Node], definitions: Sequence[int], top: int, asked: int) -> tuple[int, list[int]]:
    """The colour of the needed quantities, and of each of them, given those of their definitions."""
    below: list[int] = []
    for at, (_, operation, _, parents, minus) in enumerate(nodes):
        colour = definitions[at]
        if not parents:
            below.append(colour + ASKED if at == asked else colour)
            continue
        if operation is Operation.NESTED_TOTAL:
            colour += _pairs(parents, below)
        else:
            colour += _group(parents, minus, below)
        below.append(colour * colour % PRIME)
    uses = [0] * len(nodes)  # 0 where there is none yet, then a product
    uses[top] = TOP
    uses[asked] = (uses[asked] or 1) * ASKED % PRIME
    total = 1
    final = below
    for at in range(len(nodes) - 1, -1, -1):
        colour = (below[at] + USED) * (uses[at] + USES) % PRIME
        final[at] = colour
        total = total * (ADDED + colour) % PRIME
        _, operation, _, parents, minus = nodes[at]
        added = len(parents) - minus
        for number, parent in enumerate(parents):
            if operation is Operation.NESTED_TOTAL:
                role = RATE if number % 2 else COUNT
            else:
                role = ADDED if number < added else SUBTRACTED
            uses[parent] = (uses[parent] or 1) * (role + colour) % PRIME
    return total, final


def _group(parents: Sequence[int], minus: int, below: Sequence[int]) -> int:
    """What parents add to the colour of a definition.

    Several give a product: sums of squares can be equal by chance where the numbers are made by one rule.
    """
    if len(parents) == 1:
        return below[parents[0]]
    added = len(parents) - minus
    product = 1
    for number, parent in enumerate(parents):
        role = ADDED if number < added else SUBTRACTED
        product = product * (role + below[parent]) % PRIME
    return product


def _pairs(parents: Sequence[int], below: Sequence[int]) -> int:
    """What counts and averages add to the colour of a nested total."""
    product = 1
    for at in range(0, len(parents), 2):
        product = product * (ADDED + (COUNT + below[parents[at]]) * (RATE + below[parents[at + 1]])) % PRIME
    return product


def _distractors(nodes: Sequence[Node], final: Sequence[int], definitions: Sequence[int]) -> int:
    """The colour of the quantities behind those that have one already, and of these as they are used by the former."""
    start = len(final)
    below = list(final)
    for at in range(start, len(nodes)):
        _, _, _, parents, minus = nodes[at]
        colour = definitions[at]
        if parents:
            colour += _group(parents, minus, below)
            colour = colour * colour % PRIME
        below.append(colour)
    uses = [0] * len(nodes)
    total = 1
    for at in range(len(nodes) - 1, -1, -1):
        if at < start and not uses[at]:
            continue
        colour = (below[at] + USED) * (uses[at] + USES) % PRIME
        total = total * (ADDED + colour) % PRIME
        if at < start:
            continue
        _, _, _, parents, minus = nodes[at]
        added = len(parents) - minus
        for number, parent in enumerate(parents):
            role = ADDED if number < added else SUBTRACTED
            uses[parent] = (uses[parent] or 1) * (role + colour) % PRIME
    return total
