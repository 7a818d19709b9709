"""Gold solutions: the statements that a careful solver would write, in a chosen order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from gsm_lab.errors import SpecError
from gsm_lab.problems.graph import Node, Operation, Problem, Quantity
from gsm_lab.problems.trace import Answer, Binary, Expression, Plan, Statement, Step, reduced, substitute

SENTENCE_ORDERS = ("shuffled", "computation")
TRACE_ORDERS = ("leaf_first", "goal_directed")


@dataclass(frozen=True, kw_only=True)
class Style:
    """In which order a problem is told, and in which it is solved.

    Raises:
        SpecError: an order that does not exist.
    """

    sentence_order: str = "shuffled"
    """"shuffled", or "computation": every quantity after those it is computed from."""
    trace_order: str = "leaf_first"
    """"leaf_first": steps in an order of computation; "goal_directed": first a plan that unfolds the definitions
    from the question on, then the steps from its end back to its beginning."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("sentence_order", self.sentence_order, SENTENCE_ORDERS),
            ("trace_order", self.trace_order, TRACE_ORDERS),
        ):
            if value not in known:
                raise SpecError(f"{name}={value!r}: give one of {known}.")


def expression_of(node: Node, names: Mapping[Quantity, str]) -> Expression:
    """The definition of a quantity, in the given names of its parents."""
    parents: list[Expression] = [names[parent] for parent in node.parents]
    match node.operation:
        case Operation.CONSTANT:
            assert node.constant is not None
            return node.constant
        case Operation.COPY:
            return parents[0]
        case Operation.DIFFERENCE:
            return Binary("-", parents[0], parents[1])
        case Operation.SUM | Operation.TOTAL:
            return _sum(parents)
    assert node.constant is not None
    if node.operation is Operation.MINUS:
        return Binary("-", parents[0], node.constant)
    return Binary("+" if node.operation is Operation.PLUS else "*", node.constant, _sum(parents))


def _sum(terms: list[Expression]) -> Expression:
    return reduce(lambda left, right: Binary("+", left, right), terms)


def chain_of(definition: Expression, values: Mapping[str, int], modulus: int | None) -> tuple[Expression, ...]:
    """Symbols, numbers put in, then one calculation at a time: `2 * ( k + B )`, `2 * ( 3 + 4 )`, `2 * 7`, `14`."""
    chain = [definition]
    numbers = substitute(definition, values)
    if numbers != definition:
        chain.append(numbers)
    while isinstance(chain[-1], Binary):
        chain.append(reduced(chain[-1], modulus))
    return tuple(chain)


def plan_order(problem: Problem) -> list[Node]:
    """The needed nodes from the question on, each once all that uses it has been unfolded: a queue by last mention."""
    uses = dict.fromkeys((node.name for node in problem.needed), 0)
    for node in problem.needed:
        for parent in node.parents:
            uses[parent] += 1
    order: list[Node] = []
    queue = [problem.query]
    for name in queue:
        node = problem.graph.by_name[name]
        order.append(node)
        for parent in node.parents:
            uses[parent] -= 1
            if not uses[parent]:
                queue.append(parent)
    return order


def solution(
    problem: Problem, names: Mapping[Quantity, str], variables: Mapping[Quantity, str], trace_order: str
) -> list[Statement]:
    """The statements of a full and correct solution, the answer last."""
    values = {variables[node.name]: problem.values[node.name] for node in problem.needed}
    statements: list[Statement] = []
    order = list(problem.needed)
    if trace_order == "goal_directed":
        unfolded = plan_order(problem)
        statements += [Plan(names[node.name], expression_of(node, names)) for node in unfolded]
        order = unfolded[::-1]
    for node in order:
        chain = chain_of(expression_of(node, variables), values, problem.modulus)
        statements.append(Step(names[node.name], variables[node.name], chain))
    return [*statements, Answer(problem.answer)]
