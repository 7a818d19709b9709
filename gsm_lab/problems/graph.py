"""Dependency graphs: quantities, and how each is computed from earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from gsm_lab.errors import GraphError


class Quantity(NamedTuple):
    """One quantity: what a sentence speaks of.

    An item of a place is counted ("adult lions at Ashgrove Zoo"); without an item it is the total of the place. With
    `each` it is about the parts that items have: their average number in one item ("newborns per adult lion"), or,
    without an item, the total number of parts in the place, which sums count times average over all its items.
    """

    place: int
    item: int | None
    each: bool = False

    @property
    def is_total(self) -> bool:
        """Whether this is what an implicit total computes, flat or nested."""
        return self.item is None


@lru_cache(maxsize=16)
def counts_of(items: int) -> tuple[Quantity, ...]:
    """The counts of `items` items in 1,000 places, ready made: that of an item at `place * items + item`."""
    return tuple(Quantity(place, item) for place in range(1000) for item in range(items))


class Operation(StrEnum):
    """How a quantity is computed from its group of parents g and its constant c.

    The group is p1 + p2 + ... - q1 - q2 - ...; the last `Node.minus` parents are subtracted.
    """

    CONSTANT = "constant"
    """c, without parents"""
    COPY = "copy"
    """p1"""
    SUM = "sum"
    """p1 + p2 + ..."""
    DIFFERENCE = "difference"
    """p1 + ... - q1 - ..."""
    PLUS = "plus"
    """c + g"""
    MINUS = "minus"
    """g - c"""
    TIMES = "times"
    """c * g"""
    DIVIDED = "divided"
    """g / c, which is a whole number"""
    TOTAL = "total"
    """p1 + p2 + ..., never stated in the text: all kinds that the text mentions for the place"""
    NESTED_TOTAL = "nested_total"
    """p1 * p2 + p3 * p4 + ..., never stated: count times average over all kinds that the text mentions for the place"""

    __hash__ = str.__hash__  # Enum's own is a Python function, and operations are keys of every table here


WITH_CONSTANT = frozenset({Operation.CONSTANT, Operation.PLUS, Operation.MINUS, Operation.TIMES, Operation.DIVIDED})
IMPLICIT = frozenset({Operation.TOTAL, Operation.NESTED_TOTAL})
_MOST = 10_000
_FORMS = {  # fewest and most parents; whether there is a constant; fewest and most subtracted parents
    Operation.CONSTANT: (0, 0, True, 0, 0),
    Operation.COPY: (1, 1, False, 0, 0),
    Operation.SUM: (2, _MOST, False, 0, 0),
    Operation.DIFFERENCE: (2, _MOST, False, 1, _MOST),
    Operation.PLUS: (1, _MOST, True, 0, _MOST),
    Operation.MINUS: (1, _MOST, True, 0, _MOST),
    Operation.TIMES: (1, _MOST, True, 0, _MOST),
    Operation.DIVIDED: (1, _MOST, True, 0, _MOST),
    Operation.TOTAL: (1, _MOST, False, 0, 0),
    Operation.NESTED_TOTAL: (2, _MOST, False, 0, 0),
}


class Node(NamedTuple):
    """A quantity with its definition; `DependencyGraph` checks it."""

    name: Quantity
    operation: Operation
    constant: int | None = None
    parents: tuple[int, ...] = ()
    """The places of its parents in the graph, all before its own."""
    minus: int = 0
    """How many of the last parents are subtracted, not added."""

    @property
    def op(self) -> int:
        """Operands, a constant counted as one: the field's difficulty label of one step."""
        return len(self.parents) + (self.constant is not None)

    def value(self, known: Sequence[int], modulus: int | None = None) -> int:
        """The value of this quantity, given those of all quantities before it.

        Raises:
            GraphError: a division that leaves a remainder.
        """
        operation, constant, parents = self.operation, self.constant or 0, self.parents
        if operation is Operation.CONSTANT:
            result = constant
        elif operation is Operation.NESTED_TOTAL:
            result = sum(known[parents[at]] * known[parents[at + 1]] for at in range(0, len(parents), 2))
        else:
            result = self.group([known[parent] for parent in parents])
            if operation is Operation.PLUS:
                result += constant
            elif operation is Operation.MINUS:
                result -= constant
            elif operation is Operation.TIMES:
                result *= constant
            elif operation is Operation.DIVIDED:
                if result % constant:
                    raise GraphError(f"{self.name} divides {result} by {constant}: give a constant that divides it.")
                result //= constant
        return result if modulus is None else result % modulus

    def group(self, numbers: Sequence[int]) -> int:
        """The sum of the parents' numbers, the last `minus` of them subtracted."""
        return sum(numbers) - 2 * sum(numbers[len(numbers) - self.minus :]) if self.minus else sum(numbers)


class Linear(NamedTuple):
    """a * x + b, in whole numbers: what a quantity is in terms of the unknown of a reverse problem."""

    a: int
    b: int


@dataclass(frozen=True)
class DependencyGraph:
    """Quantities in an order of computation; if it exists, it is valid.

    A node may name only nodes before it: one check rules out cycles and unknown names. A total sums all the other
    quantities of its place, a nested total the products of all its counts and averages.

    Raises:
        GraphError: a node names itself, a later node or none; its parents or its constant do not fit its operation; a
            total leaves a kind out.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        has_totals = False
        for place, (name, operation, constant, parents, minus) in enumerate(self.nodes):
            fewest, most, has_constant, least_minus, most_minus = _FORMS[operation]
            size = len(parents)
            if not fewest <= size <= most or (size > 1 and len(set(parents)) != size):
                raise GraphError(
                    f"{name} is a {operation} of {size} parents {parents}: give it {fewest} to {most} different ones."
                )
            if (constant is not None) != has_constant or (operation is Operation.DIVIDED and not constant):
                raise GraphError(
                    f"{name} is a {operation} with constant {constant}: only c-operations have one, and none divides "
                    f"by 0."
                )
            if (minus or least_minus) and not least_minus <= minus <= min(most_minus, size - 1):
                raise GraphError(f"{name} is a {operation} that subtracts {minus} of {size} parents.")
            if parents and (max(parents) >= place or min(parents) < 0):
                raise GraphError(
                    f"{name} has number {place} and the parents {parents}: list every quantity after all it is "
                    f"computed from."
                )
            has_totals = has_totals or operation in IMPLICIT
        self._check_names()
        if has_totals:
            self._check_totals()

    def _check_names(self) -> None:
        names = [node[0] for node in self.nodes]
        if len(set(names)) != len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise GraphError(f"{double} is listed twice: list every quantity once.")

    def _check_totals(self) -> None:
        names = [node.name for node in self.nodes]
        for node in self.nodes:
            if node.operation not in IMPLICIT:
                continue
            mentioned = [name for name in names if name.place == node.name.place and not name.is_total]
            parents = [names[parent] for parent in node.parents]
            wanted = sorted(name for name in mentioned if not name.each)
            if node.operation is Operation.NESTED_TOTAL:
                pairs = [(parents[at], parents[at + 1]._replace(each=False)) for at in range(0, len(parents) - 1, 2)]
                complete = (
                    sorted(count for count, _ in pairs) == wanted
                    and all(count == rate for count, rate in pairs)
                    and all(name.each for name in parents[1::2])
                    and 2 * len(wanted) == len(parents) == len(mentioned)
                )
            else:
                complete = sorted(parents) == wanted
            if not complete:
                raise GraphError(
                    f"{node.name} sums {parents}: a {node.operation} must sum all kinds of its place, {mentioned}."
                )

    def needed_for(self, query: int) -> list[int]:
        """The places of the nodes on which node `query` depends, itself among them, in order of computation."""
        needed = [False] * len(self.nodes)
        needed[query] = True
        for place in range(query, -1, -1):
            if needed[place]:
                for parent in self.nodes[place].parents:
                    needed[parent] = True
        return [place for place, is_needed in enumerate(needed) if is_needed]

    def values(self, modulus: int | None = None) -> list[int]:
        """The value of every quantity in the graph's order; with a modulus m, in 0 to m - 1."""
        known: list[int] = []
        for node in self.nodes:
            known.append(node.value(known, modulus))
        return known
