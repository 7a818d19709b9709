"""The canonical identity of a problem: what it asks, not how it is told.

Colour refinement (Weisfeiler and Leman) on the graph: every quantity starts with its operation and constant and takes
in, round by round, the colours of its parents and of what is computed from it. Names, sentence order and template do
not enter. Two problems that differ only in ways that refinement cannot see share an identity, which keeps splits safe.
"""

import hashlib
from collections.abc import Iterable

from gsm_lab.problems.graph import Operation, Problem, Quantity

_ORDERED = frozenset({Operation.DIFFERENCE})


def problem_id(problem: Problem) -> str:
    """32 hexadecimal digits: the same for another order of sentences, other letters, another template."""
    nodes = problem.graph.nodes
    colours = {
        node.name: _hash(node.operation, str(node.constant), "asked" if node.name == problem.query else "")
        for node in nodes
    }
    users: dict[Quantity, list[tuple[str, Quantity]]] = {node.name: [] for node in nodes}
    for node in nodes:
        for place, parent in enumerate(node.parents):
            users[parent].append((str(place) if node.operation in _ORDERED else "", node.name))
    classes = len(set(colours.values()))
    while True:
        refined = {}
        for node in nodes:
            parents: Iterable[str] = (colours[parent] for parent in node.parents)
            if node.operation not in _ORDERED:
                parents = sorted(parents)
            refined[node.name] = _hash(
                colours[node.name], *parents, "|", *sorted(place + colours[user] for place, user in users[node.name])
            )
        colours = refined
        finer = len(set(colours.values()))
        if finer == classes:
            break
        classes = finer
    return _hash(str(problem.modulus), *sorted(colours.values()))


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()
