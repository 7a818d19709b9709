"""A graph that exists is valid, and its sizes are those of design.md."""

import pytest

from gsm_lab.errors import GraphError
from gsm_lab.problems import DependencyGraph, Linear, Node, Operation, Problem, Quantity

A, B, C, D, TOTAL = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0), Quantity(1, 1), Quantity(0, None)
RATE_A, RATE_B, YIELD = Quantity(0, 0, True), Quantity(0, 1, True), Quantity(0, None, True)
LEAF_A = Node(A, Operation.CONSTANT, 3)
COPY_B = Node(B, Operation.COPY, None, (0,))
SUM_AB = Node(TOTAL, Operation.TOTAL, None, (0, 1))
PLUS_C = Node(C, Operation.PLUS, 1, (2, 0))
OTHER_D = Node(D, Operation.TIMES, 4, (3,))
ALL = (LEAF_A, COPY_B, SUM_AB, PLUS_C, OTHER_D)
PAIRS = (
    Node(A, Operation.CONSTANT, 3),
    Node(B, Operation.CONSTANT, 5),
    Node(RATE_A, Operation.CONSTANT, 2),
    Node(RATE_B, Operation.CONSTANT, 4),
    Node(YIELD, Operation.NESTED_TOTAL, None, (0, 2, 1, 3)),
)


def test_sizes_count_what_is_needed():
    sizes = Problem(DependencyGraph(ALL), 3).sizes()
    # op: 3 (1) + copy (1) + total of two (2) + constant and two parents (3); binary: 0 + 0 + 1 + 2;
    # the longest chain is A, B, total, C; D rests on C, and is in its place, and nothing uses it
    assert sizes == {
        "op": 7, "steps": 4, "binary_ops": 3, "depth": 4, "width": 2, "distractors": 1,
        "independent": 0, "reachable": 0, "dead_end": 1,
    }  # fmt: skip


def test_a_distractor_has_the_kind_of_what_it_rests_on():
    far, farther, alone = Quantity(5, 5), Quantity(5, 6), Quantity(1, 5)
    graph = DependencyGraph(
        (
            LEAF_A,
            Node(C, Operation.COPY, None, (0,)),
            Node(alone, Operation.CONSTANT, 3),  # in the asked place, but on nothing needed
            Node(D, Operation.COPY, None, (0,)),  # in the asked place, but used
            Node(far, Operation.COPY, None, (3,)),  # used by nothing, but unlike the asked one
            Node(farther, Operation.SUM, None, (2, 0)),
        )
    )
    sizes = Problem(graph, 1).sizes()
    assert (sizes["independent"], sizes["reachable"], sizes["dead_end"]) == (1, 3, 0)
    assert Problem(DependencyGraph(graph.nodes[:4]), 1).sizes()["dead_end"] == 1


def test_values_follow_the_operations():
    assert DependencyGraph(ALL).values() == [3, 3, 6, 10, 40]
    assert DependencyGraph(ALL).values(modulus=7) == [3, 3, 6, 3, 5]
    assert DependencyGraph(PAIRS).values()[4] == 3 * 2 + 5 * 4
    divided = (LEAF_A, Node(C, Operation.CONSTANT, 7), Node(D, Operation.DIVIDED, 2, (1, 0), 1))
    assert DependencyGraph(divided).values()[2] == (7 - 3) // 2


def test_a_division_with_a_remainder_has_no_value():
    graph = DependencyGraph((LEAF_A, Node(C, Operation.DIVIDED, 2, (0,))))
    with pytest.raises(GraphError, match="divides 3 by 2: give a constant that divides it"):
        graph.values()


def test_a_difference_keeps_its_order():
    graph = DependencyGraph((LEAF_A, Node(C, Operation.CONSTANT, 5), Node(D, Operation.DIFFERENCE, None, (1, 0), 1)))
    assert graph.values()[2] == 2


def test_forms_are_exact_in_the_unknown():
    nodes = (LEAF_A, Node(C, Operation.TIMES, 4, (0,)), Node(D, Operation.MINUS, 2, (1, 0), 1))
    problem = Problem(DependencyGraph(nodes), 0, None, 2)
    assert problem.forms == [Linear(1, 0), Linear(4, 0), Linear(3, -2)]
    assert problem.answer == 3
    assert problem.mode == "reverse"
    assert problem.values[2] == 7


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((COPY_B, LEAF_A), "list every quantity after all it is computed from"),
        ((Node(B, Operation.COPY, None, (0,)),), "list every quantity after all it is computed from"),
        ((LEAF_A, Node(B, Operation.COPY, None, (-1,))), "list every quantity after all it is computed from"),
        ((LEAF_A, LEAF_A), "listed twice: list every quantity once"),
        ((LEAF_A, COPY_B, Node(TOTAL, Operation.TOTAL, None, (0,))), "must sum all kinds of its place"),
        ((*PAIRS[:4], Node(YIELD, Operation.NESTED_TOTAL, None, (0, 2))), "must sum all kinds of its place"),
        ((*PAIRS[:4], Node(YIELD, Operation.NESTED_TOTAL, None, (0, 3, 1, 2))), "must sum all kinds of its place"),
        ((*PAIRS[:4], Node(YIELD, Operation.NESTED_TOTAL, None, (0, 2, 1))), "must sum all kinds of its place"),
        ((LEAF_A, Node(C, Operation.DIFFERENCE, None, (0,), 1)), "give it 2 to"),
        ((LEAF_A, COPY_B, Node(C, Operation.DIFFERENCE, None, (0, 1))), "difference that subtracts"),
        ((LEAF_A, COPY_B, Node(C, Operation.SUM, None, (0, 1), 1)), "subtracts 1 of 2"),
        ((LEAF_A, COPY_B, Node(C, Operation.PLUS, 1, (0, 1), 2)), "subtracts 2 of 2"),
        ((LEAF_A, Node(C, Operation.SUM, None, (0, 0))), "different ones"),
        ((LEAF_A, Node(B, Operation.COPY, 3, (0,))), "only c-operations"),
        ((LEAF_A, Node(B, Operation.PLUS, None, (0,))), "only c-operations"),
        ((LEAF_A, Node(B, Operation.DIVIDED, 0, (0,))), "none divides by 0"),
    ],
)
def test_what_is_no_graph_is_refused(nodes: tuple[Node, ...], message: str):
    with pytest.raises(GraphError, match=message):
        DependencyGraph(nodes)


@pytest.mark.parametrize(
    ("query", "modulus", "given", "message"),
    [
        (5, None, None, "the graph has the quantities 0 to 4"),
        (-1, None, None, "the graph has the quantities 0 to 4"),
        (0, None, 5, "the graph has the quantities 0 to 4"),
        (0, 7, 3, "modulus=7: its equation may have many solutions"),
        (1, None, 3, "ask for a constant that it depends on"),
    ],
)
def test_what_cannot_be_asked_is_refused(query: int, modulus: int | None, given: int | None, message: str):
    with pytest.raises(GraphError, match=message):
        Problem(DependencyGraph(ALL), query, modulus, given)


def test_a_given_value_that_settles_nothing_is_refused():
    cancelled = DependencyGraph((LEAF_A, COPY_B, Node(C, Operation.DIFFERENCE, None, (0, 1), 1)))
    with pytest.raises(GraphError, match="does not settle"):
        Problem(cancelled, 0, None, 2)
    squared = (Node(A, Operation.CONSTANT, 3), Node(RATE_A, Operation.COPY, None, (0,)))
    with pytest.raises(GraphError, match="does not settle"):
        Problem(DependencyGraph((*squared, Node(YIELD, Operation.NESTED_TOTAL, None, (0, 1)))), 0, None, 2)
