"""Problems have exactly the op that was asked for, and numbers within their range."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsm_lab.errors import SpecError
from gsm_lab.problems import Operation, ProblemSpec, draw_problem

specs = st.builds(
    ProblemSpec,
    op=st.integers(3, 30),
    distractors=st.tuples(st.integers(0, 3), st.integers(3, 12)),
    implicit_totals=st.sampled_from([0.0, 0.3, 1.0]),
    reuse=st.sampled_from([0.0, 0.3, 0.9]),
    copies=st.sampled_from([0.0, 0.2, 1.0]),
    width=st.integers(2, 5),
    operations=st.sampled_from([("add",), ("add", "subtract"), ("add", "subtract", "multiply")]),
    modulus=st.sampled_from([None, 10, 23]),
)


@settings(max_examples=300, deadline=None)
@given(spec=specs, seed=st.integers(0, 2**32))
def test_never_outside_what_was_asked(spec: ProblemSpec, seed: int):
    problem = draw_problem(spec, random.Random(seed))
    sizes = problem.sizes()
    assert sizes["op"] == spec.op
    assert sizes["width"] <= spec.width
    assert spec.distractors is not None
    assert spec.distractors[0] <= sizes["distractors"] <= spec.distractors[1]
    low, high = (0, spec.modulus - 1) if spec.modulus else spec.values
    assert all(low <= value <= high for value in problem.values.values())


@pytest.mark.parametrize("op", range(2, 21))
def test_every_op_is_reached(op: int):
    assert all(draw_problem(ProblemSpec(op=op), random.Random(seed)).op == op for seed in range(20))


def test_every_operation_can_be_reached():
    seen = {
        node.operation for seed in range(100) for node in draw_problem(ProblemSpec(op=12), random.Random(seed)).needed
    }
    assert seen == set(Operation)


def test_settings_leave_out_what_they_exclude():
    spec = ProblemSpec(op=12, implicit_totals=0, copies=0, operations=("add",), reuse=0)
    for seed in range(100):
        problem = draw_problem(spec, random.Random(seed))
        operations = {node.operation for node in problem.needed}
        assert operations <= {Operation.CONSTANT, Operation.SUM, Operation.PLUS}
        parents = [parent for node in problem.needed for parent in node.parents]
        assert len(parents) == len(set(parents)), "without reuse the needed quantities form a tree"


def test_distractors_keep_to_themselves_if_asked_to():
    spec = ProblemSpec(op=8, distractors=(8, 8), distractor_parents="distractors")
    entangled = 0
    for seed in range(100):
        problem = draw_problem(spec, random.Random(seed))
        needed = {node.name for node in problem.needed}
        others = [parent for node in problem.graph.nodes if node.name not in needed for parent in node.parents]
        assert not needed & set(others)
        assert len(others) == len(set(others)), "each is used once at most"
        free = draw_problem(ProblemSpec(op=8, distractors=(8, 8)), random.Random(seed))
        entangled += any(
            {node.name for node in free.needed} & set(node.parents)
            for node in free.graph.nodes
            if node not in free.needed
        )
    assert entangled > 80, "and otherwise they do not"


def test_facts_fix_the_length_whatever_the_op():
    for op in (2, 6, 12):
        problem = draw_problem(ProblemSpec(op=op, facts=(14, 14), implicit_totals=0), random.Random(op))
        assert len(problem.graph.nodes) == 14


def test_more_needed_facts_than_asked_for_leave_no_distractors():
    problem = draw_problem(ProblemSpec(op=30, facts=(1, 3), implicit_totals=0), random.Random(0))
    assert problem.sizes()["distractors"] == 0


@pytest.mark.parametrize("settings", [{"op": 10, "items": 2}, {"op": 20, "items": 4, "width": 5, "implicit_totals": 1}])
def test_few_items_make_smaller_totals(settings: dict):
    for seed in range(200):
        problem = draw_problem(ProblemSpec(**settings), random.Random(seed))
        assert all(len(node.parents) <= settings["items"] for node in problem.needed if node.name.is_total)


def test_a_structure_without_numbers_is_drawn_anew():
    spec = ProblemSpec(op=60, reuse=1, width=5)
    assert all(draw_problem(spec, random.Random(seed)).op == 60 for seed in range(20))


def test_multipliers_are_constants_of_the_range():
    spec = ProblemSpec(op=12, modulus=10, constants=(6, 9), operations=("multiply",))
    constants = {node.constant for seed in range(50) for node in draw_problem(spec, random.Random(seed)).graph.nodes}
    assert constants - {None} == {6, 7, 8, 9}


def test_the_same_stream_gives_the_same_problem():
    spec = ProblemSpec(op=12)
    assert draw_problem(spec, random.Random(5)) == draw_problem(spec, random.Random(5))
    assert draw_problem(spec, random.Random(5)) != draw_problem(spec, random.Random(6))


def test_an_op_that_settings_cannot_reach_names_them():
    # leaf (1) and one step of two operands each: only odd ops
    with pytest.raises(SpecError, match=r"op=6 cannot be reached with width=1, copies=0"):
        draw_problem(ProblemSpec(op=6, width=1, copies=0), random.Random(0))
    assert draw_problem(ProblemSpec(op=7, width=1, copies=0), random.Random(0)).op == 7


def test_numbers_that_cannot_stay_in_range_name_the_settings():
    spec = ProblemSpec(op=21, values=(1, 9), operations=("multiply",), copies=0, width=2)
    with pytest.raises(
        SpecError, match=r"op=21 contradicts values=\(1, 9\), constants=\(1, 9\) or operations=\('multiply',\)"
    ):
        draw_problem(spec, random.Random(0))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"op": 0}, "op=0: give a number from 1 to 60"),
        ({"op": 61}, "op=61"),
        ({"op": 5, "distractors": (4, 2)}, r"distractors=\(4, 2\): give a least and a greatest"),
        ({"op": 5, "distractors": (0, 2), "facts": (3, 4)}, "distractors=.* and facts=.* contradict"),
        ({"op": 5, "modulus": 7, "constants": (1, 9)}, "constants=.* and modulus=7 contradict"),
        ({"op": 5, "constants": (1, 9), "values": (2, 100)}, "constants=.* and values=.* contradict"),
        ({"op": 5, "operations": ("divide",)}, "operations=.*divide"),
        ({"op": 5, "reuse": 1.5}, "reuse=1.5"),
        ({"op": 10.5}, "op=10.5: give a whole number"),
        ({"op": True}, "op=True: give a whole number"),
        ({"op": 5, "modulus": 10.5}, "modulus=10.5: give a whole number"),
        ({"op": 5, "distractors": ()}, r"distractors=\(\): give a tuple of two whole numbers"),
        ({"op": 5, "distractors": 3}, "distractors=3: give a tuple of two whole numbers"),
        ({"op": 5, "facts": ()}, r"facts=\(\): give a tuple of two whole numbers"),
        ({"op": 5, "operations": ["add"]}, r"operations=\['add'\]: give a tuple"),
    ],
)
def test_impossible_settings_are_refused_at_birth(setting: dict, message: str):
    with pytest.raises(SpecError, match=message):
        ProblemSpec(**setting)
