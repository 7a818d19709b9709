"""A problem in words: what a model reads, what it should write, and all that grading needs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from gsm_lab.errors import DataError
from gsm_lab.problems.graph import DependencyGraph, Node, Operation, Problem, Quantity
from gsm_lab.problems.identity import problem_id
from gsm_lab.problems.solution import Style, expression_of
from gsm_lab.problems.trace import Expression, TraceGrammar


@dataclass(frozen=True)
class Exercise:
    """One problem rendered through one template. `prompt + completion` is the whole text."""

    problem: Problem
    context: str
    frames: str
    style: Style
    names: tuple[str, ...]
    """What solutions call each quantity, in the order of `problem.graph.nodes`."""
    grammar: TraceGrammar
    prompt: str
    completion: str
    """The gold solution; it begins with a space."""

    @property
    def answer(self) -> int:
        return self.problem.answer

    @property
    def op(self) -> int:
        return self.problem.op

    @cached_property
    def problem_id(self) -> str:
        return problem_id(self.problem)

    @cached_property
    def quantity_of(self) -> Mapping[str, Quantity]:
        """Which quantity a name in a solution means."""
        return {name: node.name for name, node in zip(self.names, self.problem.graph.nodes, strict=True)}

    @cached_property
    def definition_of(self) -> Mapping[str, Expression]:
        """How each quantity is computed, in the names that solutions use."""
        names = {quantity: name for name, quantity in self.quantity_of.items()}
        return {names[node.name]: expression_of(node, names) for node in self.problem.graph.nodes}

    @cached_property
    def value_of(self) -> Mapping[str, int]:
        """The value of each quantity, by the name that solutions use."""
        return {name: self.problem.values[quantity] for name, quantity in self.quantity_of.items()}

    @cached_property
    def asked_name(self) -> str:
        """What solutions call the asked quantity."""
        return next(name for name, quantity in self.quantity_of.items() if quantity == self.problem.query)

    @cached_property
    def needed_names(self) -> tuple[str, ...]:
        """What solutions call the needed quantities, in an order of computation; the asked one is among them."""
        needed = {node.name for node in self.problem.needed}
        return tuple(name for name, quantity in self.quantity_of.items() if quantity in needed)

    def sizes(self) -> dict[str, int]:
        """`op`, `steps`, `binary_ops`, `depth`, `width` and `distractors`."""
        return self.problem.sizes()

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold and `from_dict` reads back as an equal exercise."""
        return {
            "problem": {
                "nodes": [
                    [list(node.name), node.operation.value, node.constant, [list(parent) for parent in node.parents]]
                    for node in self.problem.graph.nodes
                ],
                "query": list(self.problem.query),
                "modulus": self.problem.modulus,
            },
            "context": self.context,
            "frames": self.frames,
            "style": asdict(self.style),
            "names": list(self.names),
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
            nodes = tuple(
                Node(Quantity(*name), Operation(operation), constant, tuple(Quantity(*parent) for parent in parents))
                for name, operation, constant, parents in value["problem"]["nodes"]
            )
            problem = Problem(DependencyGraph(nodes), Quantity(*value["problem"]["query"]), value["problem"]["modulus"])
            if len(value["names"]) != len(nodes) or len(set(value["names"])) != len(nodes):
                raise ValueError(f"{len(value['names'])} names for {len(nodes)} quantities, or one of them twice")
            return Exercise(
                problem=problem,
                context=value["context"],
                frames=value["frames"],
                style=Style(**value["style"]),
                names=tuple(value["names"]),
                grammar=TraceGrammar(**value["grammar"]),
                prompt=value["prompt"],
                completion=value["completion"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"this is not an exercise as Exercise.to_dict writes it ({type(error).__name__}: {error}): "
                f"generate the data set again."
            ) from error
