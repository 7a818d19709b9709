"""Canonical identities of a problem: what it asks, not how it is told. Names, order and template do not enter.

Every quantity gets a colour from its definition and the colours of its parents, then another one from that and the
colours of what uses it. Colours are numbers modulo a prime; those of definitions are cryptographic hashes, and a colour
is a polynomial in them, so that different unfoldings collide as seldom as random numbers of 127 bits do. What is equal
up to names has the same identity always. Two problems that differ only in ways that the two passes cannot see would
share one, which keeps splits safe; the tests compare with exact isomorphism.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gsm_lab.problems.graph import Node, Operation, Problem

LEVELS = ("structure_id", "numbers_id", "problem_id")
_PRIME = 2**127 - 1
_NESTED = Operation.NESTED_TOTAL


@lru_cache(maxsize=1 << 16)
def _colour_of(*definition: object) -> int:
    text = "\x1f".join(map(str, definition))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big") % _PRIME


_SUBTRACTED, _COUNT, _RATE, _USED, _MINUEND = (_colour_of("role", number) for number in range(5))


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
    top, asked = problem.top, problem.query
    needed = problem.needed
    is_prefix = needed[-1] == len(needed) - 1
    if is_prefix:  # as draw_problem orders them
        core: Sequence[Node] = nodes[: len(needed)]
    else:
        place_of = {place: number for number, place in enumerate(needed)}
        core = [
            nodes[place]._replace(parents=tuple(place_of[parent] for parent in nodes[place].parents))
            for place in needed
        ]
        top, asked = place_of[top], place_of[asked]
    mode = "reverse" if top != asked else "forward"  # one quantity, given and asked: both are the same problem
    head = f"{mode}\x1f{problem.modulus}"
    structure = _digest(f"structure\x1f{head}", core, top, asked, [_colour_of(node[1]) for node in core])
    colours = [_colour_of(node[1], node[2]) for node in core]
    numbers = _digest(f"numbers\x1f{head}", core, top, asked, colours)
    if is_prefix:
        colours += [_colour_of(node[1], node[2]) for node in nodes[len(core) :]]
    else:
        colours = [_colour_of(node[1], node[2]) for node in nodes]
    whole = _digest(f"problem\x1f{head}", nodes, problem.top, problem.query, colours)
    return Identities(structure, numbers, whole)


def problem_id(problem: Problem) -> str:
    """32 hexadecimal digits: the same for another order of sentences, other letters, another template."""
    return identities(problem).problem_id


def _digest(head: str, nodes: Sequence[Node], top: int, asked: int, colours: list[int]) -> str:
    """The hash of a graph whose definitions have these colours: the same for every order of the same nodes."""
    prime = _PRIME
    below: list[int] = []
    for (_, operation, _, parents, minus), colour in zip(nodes, colours, strict=True):
        if parents:
            if operation is _NESTED:
                for at in range(0, len(parents), 2):
                    pair = below[parents[at]] * _COUNT + below[parents[at + 1]] * _RATE
                    colour += pair * pair % prime
            elif minus:
                added = len(parents) - minus
                colour += sum([below[parent] for parent in parents[:added]])
                colour += _SUBTRACTED * sum([below[parent] for parent in parents[added:]])
            else:
                for parent in parents:
                    colour += below[parent]
        elif len(below) == asked:
            colour += _COUNT
        below.append(colour * colour % prime)
    uses = [0] * len(nodes)
    uses[asked] += _RATE
    uses[top] += _USED
    total = 0
    for number in range(len(nodes) - 1, -1, -1):
        colour = below[number] * _MINUEND + uses[number]
        colour = colour * colour % prime
        total += colour * colour
        _, operation, _, parents, minus = nodes[number]
        if not parents:
            continue
        if operation is _NESTED:
            for at, parent in enumerate(parents):
                uses[parent] += colour * (_RATE if at % 2 else _COUNT)
        elif minus:
            subtracted = colour * _SUBTRACTED
            added = len(parents) - minus
            for at, parent in enumerate(parents):
                uses[parent] += colour if at < added else subtracted
        else:
            for parent in parents:
                uses[parent] += colour
    return hashlib.blake2b(f"{head}\x1f{len(nodes)}\x1f{total % prime}".encode(), digest_size=16).hexdigest()
