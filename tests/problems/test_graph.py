"""A graph that exists is valid, and its sizes are those of design.md."""

import pytest

from gsm_lab.errors import GraphError
from gsm_lab.problems import DependencyGraph, Node, Operation, Problem, Quantity

A, B, C, D, TOTAL = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0), Quantity(1, 1), Quantity(0, None)
LEAF_A = Node(A, Operation.CONSTANT, 3)
COPY_B = Node(B, Operation.COPY, None, (A,))
SUM_AB = Node(TOTAL, Operation.TOTAL, None, (A, B))
PLUS_C = Node(C, Operation.PLUS, 1, (TOTAL, A))
OTHER_D = Node(D, Operation.TIMES, 4, (C,))


def test_sizes_count_what_is_needed():
    sizes = Problem(DependencyGraph((LEAF_A, COPY_B, SUM_AB, PLUS_C, OTHER_D)), C).sizes()
    # op: 3 (1) + copy (1) + total of two (2) + constant and two parents (3); binary: 0 + 0 + 1 + 2;
    # the longest chain is A, B, total, C
    assert sizes == {"op": 7, "steps": 4, "binary_ops": 3, "depth": 4, "width": 2, "distractors": 1}


def test_values_follow_the_operations():
    graph = DependencyGraph((LEAF_A, COPY_B, SUM_AB, PLUS_C, OTHER_D))
    assert graph.values() == {A: 3, B: 3, TOTAL: 6, C: 10, D: 40}
    assert graph.values(modulus=7) == {A: 3, B: 3, TOTAL: 6, C: 3, D: 5}


def test_a_difference_keeps_its_order():
    graph = DependencyGraph((LEAF_A, Node(C, Operation.CONSTANT, 5), Node(D, Operation.DIFFERENCE, None, (C, A))))
    assert graph.values()[D] == 2


def test_a_node_before_its_parent_is_refused():
    with pytest.raises(GraphError, match="listed twice or before its parents"):
        DependencyGraph((COPY_B, LEAF_A))


def test_a_node_listed_twice_is_refused():
    with pytest.raises(GraphError, match="listed twice"):
        DependencyGraph((LEAF_A, LEAF_A))


def test_a_total_that_leaves_a_kind_out_is_refused():
    with pytest.raises(GraphError, match="must sum all of its place"):
        DependencyGraph((LEAF_A, COPY_B, Node(TOTAL, Operation.TOTAL, None, (A,))))


def test_a_wrong_number_of_parents_is_refused():
    with pytest.raises(GraphError, match="2 to 2 different ones"):
        Node(A, Operation.DIFFERENCE, None, (B,))


def test_a_constant_where_none_belongs_is_refused():
    with pytest.raises(GraphError, match="only c-operations"):
        Node(A, Operation.COPY, 3, (B,))


def test_a_query_outside_the_graph_is_refused():
    with pytest.raises(GraphError, match="not in the graph"):
        Problem(DependencyGraph((LEAF_A,)), B)
