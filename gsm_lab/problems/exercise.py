"""A problem in words: what a model reads, what it should write, and all that grading needs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from gsm_lab.errors import DataError
from gsm_lab.problems.grammar import TraceGrammar
from gsm_lab.problems.graph import DependencyGraph, Node, Operation, Quantity
from gsm_lab.problems.identity import Identities, identities
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.solution import expression_of
from gsm_lab.problems.statements import Expression
from gsm_lab.problems.style import Style


@dataclass(frozen=True)
class Exercise:
    """One problem rendered through one template. `prompt + completion` is the whole text."""

    problem: Problem
    context: str
    frames: str
    style: Style
    names: tuple[str, ...]
    """What solutions call each quantity, in the order of `problem.graph.nodes`."""
    sentences: tuple[int, ...]
    """The quantities that the text defines, in the order of its sentences."""
    grammar: TraceGrammar
    prompt: str
    completion: str
    """The gold solution; it begins with the joiner of its frames."""

    @property
    def answer(self) -> int:
        return self.problem.answer

    @property
    def op(self) -> int:
        return self.problem.op

    @cached_property
    def identities(self) -> Identities:
        """The three canonical identities of the problem."""
        return identities(self.problem)

    @property
    def problem_id(self) -> str:
        """The finest of the identities."""
        return self.identities.problem_id

    @cached_property
    def quantity_of(self) -> Mapping[str, int]:
        """Which quantity of the graph a name in a solution means."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def definition_of(self) -> Mapping[str, Expression]:
        """How each quantity is computed, in the names that solutions use."""
        nodes = self.problem.graph.nodes
        return {name: expression_of(node, self.names) for name, node in zip(self.names, nodes, strict=True)}

    @cached_property
    def value_of(self) -> Mapping[str, int]:
        """The value of each quantity, by the name that solutions use."""
        return dict(zip(self.names, self.problem.values, strict=True))

    @property
    def asked_name(self) -> str:
        """What solutions call the asked quantity."""
        return self.names[self.problem.query]

    @cached_property
    def needed_names(self) -> tuple[str, ...]:
        """What solutions call the needed quantities, in an order of computation; the asked one is among them."""
        return tuple(self.names[place] for place in self.problem.needed)

    def sizes(self) -> dict[str, int]:
        """`op`, `steps`, `binary_ops`, `depth`, `width`, `distractors` and the counts of their kinds."""
        return self.problem.sizes()

    @property
    def disorder(self) -> float:
        """Share of the pairs of a stated quantity and its stated parent that the text tells in the wrong order.

        0 in order of computation, 1 in reverse, about one half shuffled; `nan` where there is no such pair.
        """
        rank = {place: number for number, place in enumerate(self.sentences)}
        nodes = self.problem.graph.nodes
        pairs = [rank[parent] > rank[place] for place in rank for parent in nodes[place].parents if parent in rank]
        return sum(pairs) / len(pairs) if pairs else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold and `from_dict` reads back as an equal exercise."""
        return {
            "problem": problem_to_dict(self.problem),
            "context": self.context,
            "frames": self.frames,
            "style": asdict(self.style),
            "names": list(self.names),
            "sentences": list(self.sentences),
            "grammar": asdict(self.grammar),
            "prompt": self.prompt,
            "completion": self.completion,
        }

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> "Exercise":
        """The exercise that `to_dict` wrote.

        Raises:
            DataError: the value is not such a thing.
        """
        try:
            problem = problem_from_dict(value["problem"])
            size = len(problem.graph.nodes)
            if len(value["names"]) != size or len(set(value["names"])) != size:
                raise ValueError(f"{len(value['names'])} names for {size} quantities, or one of them twice")
            return Exercise(
                problem=problem,
                context=value["context"],
                frames=value["frames"],
                style=Style(**value["style"]),
                names=tuple(value["names"]),
                sentences=tuple(value["sentences"]),
                grammar=TraceGrammar(**value["grammar"]),
                prompt=value["prompt"],
                completion=value["completion"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"this is not an exercise as Exercise.to_dict writes it ({type(error).__name__}: {error}): "
                f"generate the data set again."
            ) from error


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """A value that JSON can hold: every node as [place, item, each, operation, constant, parents, minus]."""
    return {
        "nodes": [
            [*node.name, node.operation.value, node.constant, list(node.parents), node.minus]
            for node in problem.graph.nodes
        ],
        "query": problem.query,
        "modulus": problem.modulus,
        "given": problem.given,
    }


def problem_from_dict(value: Mapping[str, Any]) -> Problem:
    """The problem that `problem_to_dict` wrote.

    Raises:
        GraphError: it is no valid problem.
    """
    nodes = tuple(
        Node(Quantity(place, item, each), Operation(operation), constant, tuple(parents), minus)
        for place, item, each, operation, constant, parents, minus in value["nodes"]
    )
    return Problem(DependencyGraph(nodes), value["query"], value["modulus"], value["given"])
