"""Dependency graphs: quantities, how each is computed from earlier ones, and what the sizes of a problem are."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from gsm_lab.errors import GraphError


class Quantity(NamedTuple):
    """One node: the number of items of one kind in one place, or (item None) the total of a place."""

    place: int
    item: int | None

    @property
    def is_total(self) -> bool:
        return self.item is None


class Operation(StrEnum):
    """How a quantity is computed from its parents p1, p2, ... and its constant c."""

    CONSTANT = "constant"
    """c"""
    COPY = "copy"
    """p1"""
    SUM = "sum"
    """p1 + p2 + ..."""
    DIFFERENCE = "difference"
    """p1 - p2"""
    PLUS = "plus"
    """c + (p1 + p2 + ...)"""
    MINUS = "minus"
    """p1 - c"""
    TIMES = "times"
    """c * (p1 + p2 + ...)"""
    TOTAL = "total"
    """p1 + p2 + ..., never stated in the text: all kinds that the text mentions for the place"""


WITH_CONSTANT = frozenset({Operation.CONSTANT, Operation.PLUS, Operation.MINUS, Operation.TIMES})
_MOST = 10_000
_PARENTS = {  # fewest and most parents
    Operation.CONSTANT: (0, 0),
    Operation.COPY: (1, 1),
    Operation.SUM: (2, _MOST),
    Operation.DIFFERENCE: (2, 2),
    Operation.PLUS: (1, _MOST),
    Operation.MINUS: (1, 1),
    Operation.TIMES: (1, _MOST),
    Operation.TOTAL: (1, _MOST),
}


@dataclass(frozen=True)
class Node:
    """A quantity with its definition.

    Raises:
        GraphError: the number of parents, or the constant, does not fit the operation.
    """

    name: Quantity
    operation: Operation
    constant: int | None = None
    parents: tuple[Quantity, ...] = ()

    def __post_init__(self) -> None:
        fewest, most = _PARENTS[self.operation]
        if not fewest <= len(self.parents) <= most or len(set(self.parents)) != len(self.parents):
            raise GraphError(
                f"{self.name} is a {self.operation} of {len(self.parents)} parents {self.parents}: "
                f"give it {fewest} to {most} different ones."
            )
        if (self.constant is not None) != (self.operation in WITH_CONSTANT):
            raise GraphError(
                f"{self.name} is a {self.operation} with constant {self.constant}: only c-operations have one."
            )

    @property
    def op(self) -> int:
        """Operands, a constant counted as one: the field's difficulty label of one step."""
        return len(self.parents) + (self.constant is not None)

    def value(self, known: Mapping[Quantity, int], modulus: int | None = None) -> int:
        """The value of this quantity, given those of its parents."""
        result = self._plain_value([known[parent] for parent in self.parents])
        return result if modulus is None else result % modulus

    def _plain_value(self, parents: list[int]) -> int:
        constant = self.constant or 0
        match self.operation:
            case Operation.CONSTANT:
                return constant
            case Operation.DIFFERENCE:
                return parents[0] - parents[1]
            case Operation.MINUS:
                return parents[0] - constant
            case Operation.PLUS:
                return constant + sum(parents)
            case Operation.TIMES:
                return constant * sum(parents)
            case _:
                return sum(parents)


@dataclass(frozen=True)
class DependencyGraph:
    """Quantities in an order of computation; if it exists, it is valid.

    A node may name only nodes before it: one check rules out cycles and unknown names. A total sums all the other
    quantities of its place.

    Raises:
        GraphError: a node names itself, a later node, or no node at all; or a total leaves a kind out.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        known: set[Quantity] = set()
        for node in self.nodes:
            late = [parent for parent in node.parents if parent not in known]
            if late or node.name in known:
                raise GraphError(
                    f"{node.name} is listed twice or before its parents {late}: "
                    f"list every quantity once, after all it is computed from."
                )
            known.add(node.name)
        for node in self.nodes:
            if node.operation is Operation.TOTAL:
                kinds = {name for name in known if name.place == node.name.place and not name.is_total}
                if kinds != set(node.parents):
                    raise GraphError(f"{node.name} sums {node.parents}: a total must sum all of its place, {kinds}.")

    @cached_property
    def by_name(self) -> Mapping[Quantity, Node]:
        return {node.name: node for node in self.nodes}

    def needed_for(self, query: Quantity) -> tuple[Node, ...]:
        """The nodes on which `query` depends, itself among them, in order of computation."""
        needed = {query}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.parents)
        return tuple(node for node in self.nodes if node.name in needed)

    def values(self, modulus: int | None = None) -> dict[Quantity, int]:
        """The value of every quantity; with a modulus m, in 0 to m - 1."""
        known: dict[Quantity, int] = {}
        for node in self.nodes:
            known[node.name] = node.value(known, modulus)
        return known


@dataclass(frozen=True)
class Problem:
    """A graph and the quantity that is asked for.

    Raises:
        GraphError: the graph has no such quantity.
    """

    graph: DependencyGraph
    query: Quantity
    modulus: int | None = None
    """All values are counted modulo this, if it is not None."""

    def __post_init__(self) -> None:
        if self.query not in self.graph.by_name:
            raise GraphError(f"{self.query} is asked for but not in the graph: ask for one of its quantities.")

    @cached_property
    def needed(self) -> tuple[Node, ...]:
        """The nodes of the shortest solution, in order of computation."""
        return self.graph.needed_for(self.query)

    @cached_property
    def values(self) -> Mapping[Quantity, int]:
        return self.graph.values(self.modulus)

    @property
    def answer(self) -> int:
        return self.values[self.query]

    @property
    def op(self) -> int:
        """Sum over needed quantities of operands, a constant counted as one (GSM-Infinite, arXiv 2502.05252)."""
        return sum(node.op for node in self.needed)

    def sizes(self) -> dict[str, int]:
        """`op`, `steps`, `binary_ops`, `depth`, `width` and `distractors`, as design.md names them."""
        depth: dict[Quantity, int] = {}
        for node in self.needed:
            depth[node.name] = 1 + max((depth[parent] for parent in node.parents), default=0)
        return {
            "op": self.op,
            "steps": len(self.needed),
            "binary_ops": sum(node.op - 1 for node in self.needed),
            "depth": depth[self.query],
            "width": max(len(node.parents) for node in self.needed),
            "distractors": len(self.graph.nodes) - len(self.needed),
        }
