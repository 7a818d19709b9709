"""Canonical identities of a problem: what it asks, not how it is told. Names, order and template do not enter.

An identity is a digest of the colours of a problem's quantities (`colours.py`). Colours are polynomials in
cryptographic hashes, so that different unfoldings collide as seldom as random numbers of 89 bits do. What is equal up
to names has the same identity always. Two problems that differ only in ways that the passes of colouring cannot see
would share one, which keeps splits safe; the tests compare with exact isomorphism.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from gsm_lab.errors import SpecError
from gsm_lab.problems.colours import colours_of
from gsm_lab.problems.graph import Node
from gsm_lab.problems.making import new_tuple
from gsm_lab.problems.problem import Problem

LEVELS = ("structure_id", "numbers_id", "problem_id")


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
    structure, numbers, whole = _colours(ordered)
    digests = (
        _digest("structure", ordered, structure),
        _digest("numbers", ordered, numbers),
        _digest("problem", ordered, whole),
    )
    return new_tuple(Identities, digests)


def identity_at(problem: Problem, level: str) -> str:
    """One of the three identities, by its name in `LEVELS`; less work than all of them.

    Raises:
        SpecError: no such level.
    """
    if level not in LEVELS:
        raise SpecError(f"level={level!r}: give one of {', '.join(LEVELS)}.")
    ordered = _ordered(problem)
    return _digest(level.removesuffix("_id"), ordered, _colours(ordered)[LEVELS.index(level)])


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


def _colours(ordered: _Ordered) -> tuple[int, int, int]:
    return colours_of(ordered.nodes, ordered.num_needed, ordered.top, ordered.asked)


def _digest(level: str, ordered: _Ordered, colour: int) -> str:
    size = f" {len(ordered.nodes)}" if level == "problem" else ""
    text = f"{level} {ordered.head}{size} {hex(colour)[2:]}"
    return blake2b(text.encode(), digest_size=16).hexdigest()
