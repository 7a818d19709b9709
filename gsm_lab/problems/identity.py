"""Canonical identities of a problem: what it asks, not how it is told. Names, order and template do not enter.

Every quantity gets a colour from its definition and the colours of its parents, then another one from that and the
colours of what uses it. Colours are numbers modulo a prime; those of definitions are cryptographic hashes, and a colour
is a polynomial in them, so that different unfoldings collide as seldom as random numbers of 127 bits do. What is equal
up to names has the same identity always. Two problems that differ only in ways that the two passes cannot see would
share one, which keeps splits safe; the tests compare with exact isomorphism.

Distractors are coloured last, with the final colours of needed quantities, which are the same whatever is added.
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


_ADDED, _SUBTRACTED, _COUNT, _RATE, _ASKED, _TOP, _USED, _USES = [_colour_of("role", number) for number in range(8)]


_SHAPES = {operation: _colour_of(operation) for operation in Operation}


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
        whole *= _distractors(nodes, final)
    return Identities(
        _digest(f"structure {head} {structure % _PRIME:x}"),
        _digest(f"numbers {head} {numbers % _PRIME:x}"),
        _digest(f"problem {head} {len(nodes)} {whole % _PRIME:x}"),
    )


def problem_id(problem: Problem) -> str:
    """32 hexadecimal digits: the same for another order of sentences, other letters, another template."""
    return identities(problem).problem_id


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _core(nodes: Sequence[Node], top: int, asked: int) -> tuple[int, int, list[int]]:
    """The colours of the needed quantities: all without numbers, all with numbers, and the latter singly.

    Both kinds are computed side by side, since going through the graph costs more than the sums.
    """
    prime = _PRIME
    shapes: list[int] = []
    values: list[int] = []
    for at, (_, operation, constant, parents, minus) in enumerate(nodes):
        shape, value = _SHAPES[operation], _colour_of(operation, constant)
        if not parents:
            shapes.append(shape + _ASKED if at == asked else shape)
            values.append(value + _ASKED if at == asked else value)
            continue
        if operation is _NESTED:
            shape_product = value_product = 1
            for pair in range(0, len(parents), 2):
                one, other = parents[pair], parents[pair + 1]
                shape_product = shape_product * (_ADDED + (_COUNT + shapes[one]) * (_RATE + shapes[other])) % prime
                value_product = value_product * (_ADDED + (_COUNT + values[one]) * (_RATE + values[other])) % prime
            shape += shape_product
            value += value_product
        elif len(parents) == 1:
            shape += shapes[parents[0]]
            value += values[parents[0]]
        else:
            # a product, for sums of squares can be equal by chance where the numbers are made by one rule
            shape_product, value_product = _ADDED + shapes[parents[0]], _ADDED + values[parents[0]]
            added = len(parents) - minus
            for number in range(1, len(parents)):
                parent = parents[number]
                role = _ADDED if number < added else _SUBTRACTED
                shape_product = shape_product * (role + shapes[parent]) % prime
                value_product = value_product * (role + values[parent]) % prime
            shape += shape_product
            value += value_product
        shapes.append(shape * shape % prime)
        values.append(value * value % prime)
    shape_uses, value_uses = [0] * len(nodes), [0] * len(nodes)  # 0 where there is none yet, then a product
    for uses in (shape_uses, value_uses):
        uses[top] = _TOP
        uses[asked] = (uses[asked] or 1) * _ASKED % prime
    structure = numbers = 1
    for at in range(len(nodes) - 1, -1, -1):
        shape = (shapes[at] + _USED) * (shape_uses[at] + _USES) % prime
        value = (values[at] + _USED) * (value_uses[at] + _USES) % prime
        values[at] = value
        shape_term, value_term = _ADDED + shape, _ADDED + value
        structure = structure * shape_term % prime
        numbers = numbers * value_term % prime
        _, operation, _, parents, minus = nodes[at]
        for number, parent in enumerate(parents):
            if minus or operation is _NESTED:
                if operation is _NESTED:
                    role = _RATE if number % 2 else _COUNT
                else:
                    role = _ADDED if number < len(parents) - minus else _SUBTRACTED
                shape_term, value_term = role + shape, role + value
            if shape_uses[parent]:
                shape_uses[parent] = shape_uses[parent] * shape_term % prime
                value_uses[parent] = value_uses[parent] * value_term % prime
            else:
                shape_uses[parent], value_uses[parent] = shape_term, value_term
    return structure, numbers, values


def _distractors(nodes: Sequence[Node], final: list[int]) -> int:
    """The colours of the quantities behind those that have one already, and of these as they are used by the former."""
    prime = _PRIME
    start = len(final)
    below = final
    for _, operation, constant, parents, minus in nodes[start:]:
        colour = _colour_of(operation, constant)
        if not parents:
            below.append(colour)
            continue
        if len(parents) == 1:
            colour += below[parents[0]]
        else:
            product = 1
            added = len(parents) - minus
            for number, parent in enumerate(parents):
                role = _ADDED if number < added else _SUBTRACTED
                product = product * (role + below[parent]) % prime
            colour += product
        below.append(colour * colour % prime)
    uses = [0] * len(nodes)
    total = 1
    for at in range(len(nodes) - 1, -1, -1):
        if at < start and not uses[at]:
            continue
        colour = (below[at] + _USED) * (uses[at] + _USES) % prime
        total = total * (_ADDED + colour) % prime
        if at < start:
            continue
        _, _, _, parents, minus = nodes[at]
        added = len(parents) - minus
        for number, parent in enumerate(parents):
            role = _ADDED if number < added else _SUBTRACTED
            uses[parent] = uses[parent] * (role + colour) % prime if uses[parent] else role + colour
    return total
