"""Canonical identities of a problem: what it asks, not how it is told. Names, order and template do not enter.

Every quantity gets a colour from its definition and the colours of its parents, then another one from that and the
colours of what uses it. Colours are numbers modulo a prime; those of definitions are cryptographic hashes, and a colour
is a polynomial in them, so that different unfoldings collide as seldom as random numbers of 127 bits do. What is equal
up to names has the same identity always. Two problems that differ only in ways that the two passes cannot see would
share one, which keeps splits safe; the tests compare with exact isomorphism.

Distractors are coloured last, with the final colours of needed quantities: these are the same whatever is added.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gsm_lab.problems.graph import Node, Operation
from gsm_lab.problems.problem import Problem

LEVELS = ("structure_id", "numbers_id", "problem_id")
_PRIME = 2**127 - 1
_NESTED = Operation.NESTED_TOTAL


@lru_cache(maxsize=1 << 16)
def _colour_of(*definition: object) -> int:
    text = "\x1f".join(map(str, definition))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big") % _PRIME


_SUBTRACTED, _COUNT, _RATE, _ASKED, _TOP = (_colour_of("role", number) for number in range(5))


class Identities(NamedTuple):
    """32 hexadecimal digits each, from the coarsest to the finest."""

    structure_id: str
    """The needed quantities and their operations, without numbers."""
    numbers_id: str
    """The needed quantities with their constants."""
    problem_id: str
    """The whole problem, distractors too."""


def identities(problem: Problem) -> Identities:
    """The three canonical identities of a problem."""
    nodes = problem.graph.nodes
    needed = problem.needed
    top, asked = problem.top, problem.query
    if needed[-1] >= len(needed):  # not as draw_problem orders them: the needed ones first
        order = needed + sorted(set(range(len(nodes))).difference(needed))
        place_of = {place: number for number, place in enumerate(order)}
        nodes = tuple(
            nodes[place]._replace(parents=tuple([place_of[parent] for parent in nodes[place].parents]))
            for place in order
        )
        top, asked = place_of[top], place_of[asked]
    # with one quantity that is both given and asked, a reverse problem is a forward one
    head = f"{'forward' if top == asked else 'reverse'} {problem.modulus} {len(needed)}"
    num = len(needed)
    structure, numbers, final = _core(nodes[:num], top, asked)
    whole = numbers
    if len(nodes) > num:
        whole += _distractors(nodes, final)
    return Identities(
        _digest(f"structure {head} {structure % _PRIME}"),
        _digest(f"numbers {head} {numbers % _PRIME}"),
        _digest(f"problem {head} {len(nodes)} {whole % _PRIME}"),
    )


def problem_id(problem: Problem) -> str:
    """32 hexadecimal digits: the same for another order of sentences, other letters, another template."""
    return identities(problem).problem_id


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _core(nodes: Sequence[Node], top: int, asked: int) -> tuple[int, int, list[int]]:
    """The colours of the needed quantities: their sum without numbers, their sum with numbers, and the latter singly.

    Both kinds are computed side by side, since going through the graph costs more than the sums.
    """
    prime = _PRIME
    shapes: list[int] = []
    values: list[int] = []
    for at, (_, operation, constant, parents, minus) in enumerate(nodes):
        shape, value = _colour_of(operation), _colour_of(operation, constant)
        if not parents:
            if at == asked:
                shape += _ASKED
                value += _ASKED
        elif operation is _NESTED:
            for pair in range(0, len(parents), 2):
                one, other = parents[pair], parents[pair + 1]
                product = shapes[one] * _COUNT + shapes[other] * _RATE
                shape += product * product % prime
                product = values[one] * _COUNT + values[other] * _RATE
                value += product * product % prime
        else:
            for parent in parents:
                shape += shapes[parent]
                value += values[parent]
            if minus:
                for parent in parents[-minus:]:
                    shape += shapes[parent] * _SUBTRACTED
                    value += values[parent] * _SUBTRACTED
        shapes.append(shape * shape % prime)
        values.append(value * value % prime)
    shape_uses, value_uses = [0] * len(nodes), [0] * len(nodes)
    for uses in (shape_uses, value_uses):
        uses[asked] += _ASKED
        uses[top] += _TOP
    structure = numbers = 0
    for at in range(len(nodes) - 1, -1, -1):
        shape = shapes[at] * _TOP + shape_uses[at]
        shape = shape * shape % prime
        structure += shape
        value = values[at] * _TOP + value_uses[at]
        value = value * value % prime
        numbers += value
        values[at] = value
        _, operation, _, parents, minus = nodes[at]
        if operation is _NESTED:
            for number, parent in enumerate(parents):
                role = _RATE if number % 2 else _COUNT
                shape_uses[parent] += shape * role
                value_uses[parent] += value * role
        elif parents:
            for parent in parents:
                shape_uses[parent] += shape
                value_uses[parent] += value
            if minus:
                for parent in parents[-minus:]:
                    shape_uses[parent] += shape * _SUBTRACTED
                    value_uses[parent] += value * _SUBTRACTED
    return structure, numbers, values


def _distractors(nodes: Sequence[Node], final: list[int]) -> int:
    """The sum of the colours of the quantities behind those that have one already."""
    prime = _PRIME
    start = len(final)
    below = final
    for _, operation, constant, parents, minus in nodes[start:]:
        colour = _colour_of(operation, constant)
        for parent in parents:
            colour += below[parent]
        if minus:
            for parent in parents[-minus:]:
                colour += below[parent] * _SUBTRACTED
        below.append(colour * colour % prime)
    uses = [0] * len(nodes)
    total = 0
    for at in range(len(nodes) - 1, start - 1, -1):
        colour = below[at] * _TOP + uses[at]
        colour = colour * colour % prime
        total += colour
        _, _, _, parents, minus = nodes[at]
        for parent in parents:
            uses[parent] += colour
        if minus:
            for parent in parents[-minus:]:
                uses[parent] += colour * _SUBTRACTED
    return total
