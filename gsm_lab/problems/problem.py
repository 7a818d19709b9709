"""Problems: a graph and what is asked of it, forward or in reverse."""

from dataclasses import dataclass
from functools import cached_property

from gsm_lab.errors import GraphError
from gsm_lab.problems.graph import DependencyGraph, Linear, Operation
from gsm_lab.problems.measures import linear_forms, sizes_of


@dataclass(frozen=True)
class Problem:
    """A graph and what is asked of it.

    A forward problem asks for the value of a quantity. A reverse problem tells the value of one quantity, `given`, and
    asks for a constant that it depends on, which the text keeps to itself.

    Raises:
        GraphError: the graph has no such quantity; or the given value does not settle the asked one.
    """

    graph: DependencyGraph
    query: int
    """The place of the asked quantity in the graph."""
    modulus: int | None = None
    """All values are counted modulo this, if it is not None."""
    given: int | None = None
    """In a reverse problem, the place of the quantity whose value is told though it has a definition."""

    def __post_init__(self) -> None:
        size = len(self.graph.nodes)
        if not 0 <= self.query < size or not (self.given is None or 0 <= self.given < size):
            raise GraphError(
                f"query={self.query} and given={self.given}: the graph has the quantities 0 to {size - 1}."
            )
        if self.given is not None:
            if self.modulus is not None:
                raise GraphError(
                    f"a reverse problem with modulus={self.modulus}: its equation may have many solutions."
                )
            form = self.forms[self.given]
            if self.graph.nodes[self.query].operation is not Operation.CONSTANT or form is None or not form.a:
                raise GraphError(
                    f"the value of {self.graph.nodes[self.given].name} does not settle "
                    f"{self.graph.nodes[self.query].name}: ask for a constant that it depends on."
                )

    @property
    def mode(self) -> str:
        """ "forward" or "reverse"."""
        return "forward" if self.given is None else "reverse"

    @property
    def top(self) -> int:
        """The last quantity of the solution: the asked one, or in a reverse problem the given one."""
        return self.query if self.given is None else self.given

    @cached_property
    def needed(self) -> list[int]:
        """The places of the quantities of the shortest solution, in order of computation."""
        return self.graph.needed_for(self.top)

    @cached_property
    def values(self) -> list[int]:
        """The value of every quantity, in the graph's order."""
        return self.graph.values(self.modulus)

    @cached_property
    def forms(self) -> list[Linear | None]:
        """Every quantity in terms of the asked one, or None where it is no a * x + b in whole numbers."""
        return linear_forms(self.graph.nodes, self.query)

    @property
    def answer(self) -> int:
        return self.values[self.query]

    @property
    def op(self) -> int:
        """Sum over needed quantities of operands, a constant counted as one (GSM-Infinite, arXiv 2502.05252)."""
        nodes = self.graph.nodes
        return sum(nodes[place].op for place in self.needed)

    def sizes(self) -> dict[str, int]:
        """`op`, `steps`, `binary_ops`, `depth`, `width` and `distractors`, as design.md names them.

        Of the distractors, `independent` ones rest on no needed quantity; `reachable` ones do; a `dead_end` does, looks
        like the quantity that is asked for (the same place or the same item), and nothing uses it.
        """
        return sizes_of(self.graph.nodes, self.needed, self.top)
