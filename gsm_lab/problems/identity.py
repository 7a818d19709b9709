"""Canonical identities of a problem: what it asks, not how it is told. Names, order and template do not enter.

Every quantity gets a colour from its definition and the colours of its parents, then another one from that and the
colours of what uses it. Colours are numbers modulo a prime; those of definitions are cryptographic hashes, and a colour
is a polynomial in them, so that different unfoldings collide as seldom as random numbers of 89 bits do. What is equal
up to names has the same identity always. Two problems that differ only in ways that the two passes cannot see would
share one, which keeps splits safe; the tests compare with exact isomorphism.

Distractors are coloured last, with the final colours of needed quantities, which are the same whatever is added.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from gsm_lab.problems.graph import Node, Operation
from gsm_lab.problems.problem import Problem

LEVELS = ("structure_id", "numbers_id", "problem_id")
_PRIME: Final = 2**89 - 1
_NESTED: Final = Operation.NESTED_TOTAL


@lru_cache(maxsize=1 << 16)
def _colour_of(*definition: object) -> int:
    text = "\x1f".join(map(str, definition))
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big") % _PRIME


_ADDED: Final[int] = _colour_of("role", 0)
_SUBTRACTED: Final[int] = _colour_of("role", 1)
_COUNT: Final[int] = _colour_of("role", 2)
_RATE: Final[int] = _colour_of("role", 3)
_ASKED: Final[int] = _colour_of("role", 4)
_TOP: Final[int] = _colour_of("role", 5)
_USED: Final[int] = _colour_of("role", 6)
_USES: Final[int] = _colour_of("role", 7)
_SHAPES: Final = {operation: _colour_of(operation) for operation in Operation}


class Identities(NamedTuple):
    """32 hexadecimal digits each, from the coarsest to the finest."""

    structure_id: str
    """The needed quantities and their operations, without numbers."""
    numbers_id: str
    """The needed quantities with their constants."""
    problem_id: str
    """The whole problem, distractors too."""


class _Ordered:
    """A problem with its needed quantities in front."""

    __slots__ = ("asked", "head", "nodes", "num_needed", "top")

    def __init__(self, nodes: Sequence[Node], num_needed: int, top: int, asked: int, modulus: int | None) -> None:
        self.nodes = nodes
        self.num_needed = num_needed
        self.top = top
        self.asked = asked
        # with one quantity that is both given and asked, a reverse problem is a forward one
        self.head = f"{'forward' if top == asked else 'reverse'} {modulus} {num_needed}"
        """What else counts: the mode, the modulus, and how much is needed."""


def identities(problem: Problem) -> Identities:
    """The three canonical identities of a problem."""
    ordered = _ordered(problem)
    structure, numbers, final = _needed(ordered, True)
    return Identities(
        _digest("structure", ordered, structure),
        _digest("numbers", ordered, numbers),
        _digest("problem", ordered, _whole(ordered, numbers, final)),
    )


def identity_at(problem: Problem, level: str) -> str:
    """One of the three identities, by its name in `LEVELS`; less work than all of them."""
    ordered = _ordered(problem)
    structure, colour, final = _needed(ordered, level == "structure_id")
    if level == "structure_id":
        colour = structure
    elif level == "problem_id":
        colour = _whole(ordered, colour, final)
    return _digest(level.removesuffix("_id"), ordered, colour)


def problem_id(problem: Problem) -> str:
    """32 hexadecimal digits: the same for another order of sentences, other letters, another template."""
    return identity_at(problem, "problem_id")


def _ordered(problem: Problem) -> _Ordered:
    nodes, needed = problem.graph.nodes, problem.needed
    top, asked = problem.top, problem.query
    if needed[-1] >= len(needed):  # not as draw_problem orders them
        order = needed + sorted(set(range(len(nodes))).difference(needed))
        place_of = {place: number for number, place in enumerate(order)}
        nodes = tuple(
            nodes[place]._replace(parents=tuple([place_of[parent] for parent in nodes[place].parents]))
            for place in order
        )
        top, asked = place_of[top], place_of[asked]
    return _Ordered(nodes, len(needed), top, asked, problem.modulus)


def _whole(ordered: _Ordered, numbers: int, final: list[int]) -> int:
    """The colour of all quantities, given those of the needed ones."""
    if len(ordered.nodes) == ordered.num_needed:
        return numbers
    return numbers * _distractors(ordered.nodes, final) % _PRIME


def _digest(level: str, ordered: _Ordered, colour: int) -> str:
    size = f" {len(ordered.nodes)}" if level == "problem" else ""
    text = f"{level} {ordered.head}{size} {hex(colour)[2:]}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _needed(ordered: _Ordered, with_structure: bool) -> tuple[int, int, list[int]]:
    """The colours of the needed quantities: all without numbers (if wanted), all with numbers, and each of the latter.

    Both kinds are computed side by side, since going through the graph costs more than the products.
    """
    prime = _PRIME
    nodes = ordered.nodes[: ordered.num_needed]
    asked = ordered.asked
    shapes: list[int] = []
    values: list[int] = []
    for at, (_, operation, constant, parents, minus) in enumerate(nodes):
        shape, value = _SHAPES[operation], _colour_of(operation, constant)
        if not parents:
            shapes.append(shape + _ASKED if at == asked else shape)
            values.append(value + _ASKED if at == asked else value)
            continue
        if len(parents) == 1:
            value += values[parents[0]]
            shape += shapes[parents[0]] if with_structure else 0
        else:
            shape_group, value_group = _group(operation, parents, minus, shapes, values, with_structure)
            value += value_group
            shape += shape_group
        values.append(value * value % prime)
        if with_structure:
            shapes.append(shape * shape % prime)
    shape_uses, value_uses = [0] * len(nodes), [0] * len(nodes)  # 0 where there is none yet, then a product
    for uses in (shape_uses, value_uses):
        uses[ordered.top] = _TOP
        uses[asked] = (uses[asked] or 1) * _ASKED % prime
    structure = numbers = 1
    shape = 0
    for at in range(len(nodes) - 1, -1, -1):
        _, operation, _, parents, minus = nodes[at]
        value = (values[at] + _USED) * (value_uses[at] + _USES)
        if with_structure:
            shape = (shapes[at] + _USED) * (shape_uses[at] + _USES)
        if parents:  # that of a leaf only enters the product, which is reduced itself
            value, shape = value % prime, shape % prime
        values[at] = value
        shape_term, value_term = _ADDED + shape, _ADDED + value
        numbers = numbers * value_term % prime
        if with_structure:
            structure = structure * shape_term % prime
        is_plain = not minus and operation is not _NESTED
        for number, parent in enumerate(parents):
            if not is_plain:
                if minus:
                    role = _ADDED if number < len(parents) - minus else _SUBTRACTED
                else:
                    role = _RATE if number % 2 else _COUNT
                shape_term, value_term = role + shape, role + value
            if value_uses[parent]:
                value_uses[parent] = value_uses[parent] * value_term % prime
                shape_uses[parent] = shape_uses[parent] * shape_term % prime
            else:
                value_uses[parent], shape_uses[parent] = value_term, shape_term
    return structure, numbers, values


def _group(
    operation: Operation,
    parents: Sequence[int],
    minus: int,
    shapes: Sequence[int],
    values: Sequence[int],
    with_structure: bool,
) -> tuple[int, int]:
    """What two or more parents add to the colours of a definition, without numbers and with them.

    They give a product: sums of squares can be equal by chance where the numbers are made by one rule.
    """
    prime = _PRIME
    if operation is _NESTED:
        shape = value = 1
        for pair in range(0, len(parents), 2):
            one, other = parents[pair], parents[pair + 1]
            value = value * (_ADDED + (_COUNT + values[one]) * (_RATE + values[other])) % prime
            if with_structure:
                shape = shape * (_ADDED + (_COUNT + shapes[one]) * (_RATE + shapes[other])) % prime
        return shape, value
    value = _ADDED + values[parents[0]]
    shape = _ADDED + shapes[parents[0]] if with_structure else 0
    for number in range(1, len(parents)):
        parent = parents[number]
        role = _ADDED if number < len(parents) - minus else _SUBTRACTED
        value = value * (role + values[parent]) % prime
        if with_structure:
            shape = shape * (role + shapes[parent]) % prime
    return shape, value


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
            product = _ADDED + below[parents[0]]
            for number in range(1, len(parents)):
                role = _ADDED if number < len(parents) - minus else _SUBTRACTED
                product = product * (role + below[parents[number]]) % prime
            colour += product
        below.append(colour * colour % prime)
    uses = [0] * len(nodes)
    total = 1
    for at in range(len(nodes) - 1, -1, -1):
        if at < start and not uses[at]:
            continue
        colour = (below[at] + _USED) * (uses[at] + _USES)
        total = total * (_ADDED + colour) % prime
        if at < start:
            continue
        _, _, _, parents, minus = nodes[at]
        colour %= prime
        added = len(parents) - minus
        for number, parent in enumerate(parents):
            role = _ADDED if number < added else _SUBTRACTED
            uses[parent] = uses[parent] * (role + colour) % prime if uses[parent] else role + colour
    return total
