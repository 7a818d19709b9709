"""Problems have exactly what was asked for: sizes, kinds, and numbers within their ranges."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gsm_lab.errors import SpecError
from gsm_lab.problems import Operation, ProblemSpec, draw_counted, draw_problem, load_template, render
from gsm_lab.problems.graph import IMPLICIT
from gsm_lab.problems.spec import DISTRACTOR_KINDS, OPERATIONS

MODES = ("forward", "reverse")


def ranges(least: int, most: int, room: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(0, room)).map(lambda pair: (pair[0], pair[0] + pair[1]))


specs = st.fixed_dictionaries(
    {
        "op": st.integers(1, 30) | st.integers(1, 200),
        "mode": st.sampled_from(MODES),
        "modulus": st.sampled_from([None, None, 10, 23]),
        "distractors": ranges(0, 6, 6),
        "distractor_kinds": st.lists(st.sampled_from(DISTRACTOR_KINDS), min_size=1, unique=True).map(tuple),
        "implicit_totals": st.sampled_from([0.0, 0.3, 1.0]),
        "nested_totals": st.sampled_from([0.0, 0.5, 1.0]),
        "reuse": st.sampled_from([0.0, 0.2, 0.9]),
        "copies": st.sampled_from([0.0, 0.2, 1.0]),
        "composites": st.sampled_from([0.0, 0.25, 1.0]),
        "width": ranges(0, 3, 3) | st.integers(2, 5).map(lambda most: (0, most)),
        "depth": st.none() | ranges(2, 12, 8),
        "operations": st.lists(st.sampled_from(OPERATIONS), unique=True, min_size=1).map(tuple),
        "values": st.sampled_from([(0, 1000), (0, 60), (0, 10**6)]),
    }
)


@settings(max_examples=600, deadline=None)
@given(asked=specs, seed=st.integers(0, 2**32))
def test_never_outside_what_was_asked(asked: dict[str, Any], seed: int):
    if asked["modulus"]:
        asked |= {"mode": "forward", "operations": tuple(name for name in asked["operations"] if name != "divide")}
    spec = ProblemSpec(**asked)
    try:
        problem = draw_problem(spec, random.Random(seed))
    except SpecError:  # test_budget says when that may be
        assume(False)
        raise
    sizes = problem.sizes()
    assert sizes["op"] == spec.op == problem.op
    assert spec.widths[0] <= sizes["width"] <= spec.widths[1]
    assert spec.depths[0] <= sizes["depth"] <= spec.depths[1]
    assert spec.num_distractors[0] <= sizes["distractors"] <= spec.num_distractors[1]
    assert sizes["distractors"] == sum(sizes[kind] for kind in DISTRACTOR_KINDS)
    low, high = (0, spec.modulus - 1) if spec.modulus else spec.values
    assert all(low <= value <= high for value in problem.values)
    if spec.answer_range is not None:
        assert spec.answer_range[0] <= problem.answer <= spec.answer_range[1]
    assert problem.mode == (spec.mode if spec.op > 1 else "forward")
    assert problem.modulus == spec.modulus


@pytest.mark.parametrize("mode", MODES)
def test_every_op_is_reached_without_drawing_in_vain(mode: str):
    for op in range(1, 201):
        for seed in range(5):
            problem, num_skeletons, _ = draw_counted(ProblemSpec(op=op, mode=mode), random.Random(f"{op} {seed}"))
            assert (problem.op, num_skeletons) == (op, 1)


@pytest.mark.parametrize("mode", MODES)
def test_one_skeleton_is_enough_whatever_its_shape(mode: str):
    for seed in range(300):
        rng = random.Random(seed)
        spec = ProblemSpec(
            op=rng.randint(2, 60), mode=mode, width=rng.randint(2, 5), reuse=rng.choice([0, 0.9]), composites=0.5,
            implicit_totals=0.5, nested_totals=0.5, operations=("add", "subtract", "multiply", "divide"),
        )  # fmt: skip
        try:
            assert draw_counted(spec, rng)[1] == 1, spec
        except SpecError as error:
            assert "cannot be reached" in str(error)  # noqa: PT017 (few ops are too small for their width)


def test_every_operation_and_kind_can_be_reached():
    spec = ProblemSpec(op=14, implicit_totals=0.5, nested_totals=0.5, operations=OPERATIONS, distractors=6)
    problems = [draw_problem(spec, random.Random(seed)) for seed in range(100)]
    assert {problem.graph.nodes[place].operation for problem in problems for place in problem.needed} == set(Operation)
    for kind in DISTRACTOR_KINDS:
        assert any(problem.sizes()[kind] for problem in problems)
    assert {True, False} == {node.minus > 0 for problem in problems for node in problem.graph.nodes
                             if node.operation is Operation.TIMES and len(node.parents) > 1}  # fmt: skip


def test_every_depth_and_width_of_a_range_is_reached():
    depths = Counter(draw_problem(ProblemSpec(op=20, depth=(3, 8)), random.Random(seed)).sizes()["depth"]
                     for seed in range(1200))  # fmt: skip
    assert set(depths) == set(range(3, 9))
    assert chi_square(depths, range(3, 9)) < 20.5  # 99.9 % of 5 degrees of freedom: all depths are equally likely
    widths = {draw_problem(ProblemSpec(op=20, width=(2, 5)), random.Random(seed)).sizes()["width"]
              for seed in range(200)}  # fmt: skip
    assert widths == {2, 3, 4, 5}


def test_settings_leave_out_what_they_exclude():
    spec = ProblemSpec(op=12, implicit_totals=0, copies=0, composites=0, operations=("add",), reuse=0)
    for seed in range(100):
        problem = draw_problem(spec, random.Random(seed))
        nodes = [problem.graph.nodes[place] for place in problem.needed]
        assert {node.operation for node in problem.graph.nodes} <= {Operation.CONSTANT, Operation.SUM, Operation.PLUS,
                                                                    Operation.COPY}  # fmt: skip
        assert Operation.COPY not in {node.operation for node in nodes}
        assert all(len(node.parents) == 1 for node in nodes if node.operation is Operation.PLUS)
        parents = [parent for node in nodes for parent in node.parents]
        assert len(parents) == len(set(parents)), "without reuse the needed quantities form a tree"


def test_weights_say_how_often_an_operation_comes():
    def share(weights: tuple[float, ...]) -> float:
        spec = ProblemSpec(op=12, operations=("add", "multiply"), operation_weights=weights, modulus=23)
        problems = [draw_problem(spec, random.Random(seed)) for seed in range(200)]
        found = Counter(node.operation for one in problems for node in one.graph.nodes if len(node.parents) == 1)
        return found[Operation.TIMES] / (found[Operation.TIMES] + found[Operation.PLUS])

    assert share((1.0, 9.0)) == pytest.approx(0.9, abs=0.05)
    assert share((9.0, 1.0)) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", DISTRACTOR_KINDS)
def test_distractors_are_of_the_kinds_asked_for(kind: str, mode: str):
    spec = ProblemSpec(op=8, mode=mode, distractors=8, distractor_kinds=(kind,), implicit_totals=0.5)
    for seed in range(150):
        problem = draw_problem(spec, random.Random(seed))
        assert problem.sizes()[kind] == 8
        needed = set(problem.needed)
        others = [node for place, node in enumerate(problem.graph.nodes) if place not in needed]
        parents = [parent for node in others for parent in node.parents]
        if kind == "independent":
            assert not needed & set(parents)
            assert len(parents) == len(set(parents)), "each is used once at most"
        if kind == "dead_end":
            assert needed.issuperset(parents)


def test_more_dead_ends_than_names_for_them_are_refused():
    spec = ProblemSpec(op=8, distractors=40, distractor_kinds=("dead_end",), implicit_totals=0)
    with pytest.raises(SpecError, match=r"distractor_kinds=\('dead_end',\) and distractors=\(40, 40\) contradict"):
        draw_problem(spec, random.Random(0))


def test_a_kind_is_as_asked_or_refused_where_a_total_takes_all_items():
    """What is not alike to a total of all items has no name."""
    spec = ProblemSpec(op=8, items=2, distractors=6, distractor_kinds=("reachable",), implicit_totals=1)
    refused = 0
    for seed in range(50):
        try:
            assert draw_problem(spec, random.Random(seed)).sizes()["reachable"] == 6
        except SpecError:
            refused += 1
    assert 0 < refused < 50


def test_facts_fix_the_length_whatever_the_op():
    for op in (2, 6, 12):
        for seed in range(20):
            problem = draw_problem(ProblemSpec(op=op, facts=14, implicit_totals=0.5), random.Random(seed))
            assert sum(node.operation not in IMPLICIT for node in problem.graph.nodes) == 14


def test_more_needed_facts_than_asked_for_leave_no_distractors():
    problem = draw_problem(ProblemSpec(op=30, facts=(1, 3), implicit_totals=0), random.Random(0))
    assert problem.sizes()["distractors"] == 0


@pytest.mark.parametrize("settings", [{"op": 10, "items": 2}, {"op": 20, "items": 4, "width": (0, 5)}])
def test_few_items_make_smaller_totals(settings: dict):
    for seed in range(200):
        problem = draw_problem(ProblemSpec(implicit_totals=1, **settings), random.Random(seed))
        assert all(len(node.parents) <= settings["items"] for node in problem.graph.nodes if node.name.is_total)


def test_few_items_do_for_nested_totals_of_reverse_problems():
    spec = ProblemSpec(op=60, mode="reverse", items=2, width=(1, 4), reuse=0.9, implicit_totals=0.5, nested_totals=1)
    for seed in range(400):
        assert draw_problem(spec, random.Random(seed)).op == 60


def test_names_tell_all_quantities_apart_even_where_they_are_scarce():
    spec = ProblemSpec(op=30, distractors=10, places=4, items=10, implicit_totals=1, nested_totals=0.5)
    for seed in range(50):
        names = [node.name for node in draw_problem(spec, random.Random(seed)).graph.nodes]
        assert len(set(names)) == len(names)
        assert all(name.place < 4 and (name.item is None or name.item < 10) for name in names)


def test_multipliers_and_divisors_are_constants_of_the_range():
    spec = ProblemSpec(op=12, modulus=10, constants=(6, 9), operations=("multiply",))
    constants = {node.constant for seed in range(50) for node in draw_problem(spec, random.Random(seed)).graph.nodes}
    assert constants - {None} == {6, 7, 8, 9}
    spec = ProblemSpec(op=12, operations=("divide", "multiply", "add"), constants=(0, 9))
    for seed in range(200):
        for node in draw_problem(spec, random.Random(seed)).graph.nodes:
            if node.operation in (Operation.TIMES, Operation.DIVIDED):
                assert 2 <= (node.constant or 0) <= (4 if node.operation is Operation.TIMES else 9)


def test_the_same_stream_gives_the_same_problem():
    for mode in MODES:
        spec = ProblemSpec(op=12, mode=mode)
        assert draw_problem(spec, random.Random(5)) == draw_problem(spec, random.Random(5))
        assert draw_problem(spec, random.Random(5)) != draw_problem(spec, random.Random(6))


def chi_square(counts: Counter[int], cells: range) -> float:
    expected = counts.total() / len(cells)
    return sum((counts[cell] - expected) ** 2 / expected for cell in cells)


UNIFORM = [
    {"mode": "reverse", "op": 2},
    {"mode": "reverse", "op": 10},
    {"mode": "reverse", "op": 40},
    {"mode": "reverse", "op": 12, "values": (0, 30)},
    {"mode": "reverse", "op": 12, "implicit_totals": 1, "nested_totals": 1},
    {"mode": "reverse", "op": 12, "operations": OPERATIONS},
    {"mode": "reverse", "op": 10, "answers": (5, 24)},
    {"balanced": True, "op": 10, "answers": (1, 20)},
    {"balanced": True, "op": 60, "answers": (1, 20)},
    {"balanced": True, "op": 10, "modulus": 20},
    {"balanced": True, "op": 50, "modulus": 20},
]


@pytest.mark.parametrize("asked", UNIFORM, ids=str)
def test_all_answers_are_equally_likely(asked: dict):
    spec = ProblemSpec(**asked)
    assert spec.answer_range is not None
    low, high = spec.answer_range
    answers = Counter(draw_problem(spec, random.Random(f"uniform {seed}")).answer for seed in range(1500))
    assert set(answers) == set(range(low, high + 1))
    assert chi_square(answers, range(low, high + 1)) < 43.8  # 99.9 % of 19 degrees of freedom


def test_reverse_answers_stay_balanced_where_numbers_are_drawn_again():
    spec = ProblemSpec(op=10, mode="reverse", operations=("multiply",), copies=0.5, values=(0, 100))
    answers = Counter(draw_problem(spec, random.Random(seed)).answer for seed in range(1500))
    assert chi_square(answers, range(1, 21)) < 43.8


def test_unbalanced_answers_are_not_uniform_but_in_range():
    spec = ProblemSpec(op=10, answers=(1, 20))
    answers = Counter(draw_problem(spec, random.Random(seed)).answer for seed in range(1500))
    assert set(answers) == set(range(1, 21))
    assert chi_square(answers, range(1, 21)) > 43.8


def test_an_answer_out_of_reach_names_the_settings():
    with pytest.raises(SpecError, match=r"op=1 contradicts .*answers=\(10, 12\)"):
        draw_problem(ProblemSpec(op=1, answers=(10, 12)), random.Random(0))


@pytest.mark.parametrize("op", [2, 10, 100])
def test_reverse_problems_have_one_solution(op: int):
    for seed in range(100):
        problem = draw_problem(ProblemSpec(op=op, mode="reverse", nested_totals=0.5), random.Random(f"{op} {seed}"))
        assert problem.given is not None
        form, value = problem.forms[problem.given], problem.values[problem.given]
        assert form is not None
        assert form.a != 0
        assert form.a * problem.answer + form.b == value
        nodes = list(problem.graph.nodes)  # brute force: no other value of the unknown gives what is given
        for other in set(range(41)) - {problem.answer}:
            nodes[problem.query] = nodes[problem.query]._replace(constant=other)
            assert form.a * other + form.b != value
            known: list[int] = []
            for place, node in enumerate(nodes[: problem.given + 1]):
                if node.operation is Operation.DIVIDED:
                    break  # a remainder: the form above speaks for it
                known.append(node.value(known))
                if place == problem.given:
                    assert known[place] != value


def test_a_reverse_problem_of_one_operand_is_a_forward_one():
    problem = draw_problem(ProblemSpec(op=1, mode="reverse", answers=(15, 20)), random.Random(1))
    assert problem.mode == "forward"
    assert 15 <= problem.answer <= 20


def test_without_copies_there_are_none_among_distractors_either():
    spec = ProblemSpec(op=10, copies=0, distractors=6, values=(5, 20), constants=(5, 9))
    for seed in range(50):
        nodes = draw_problem(spec, random.Random(seed)).graph.nodes
        assert all(node.operation is not Operation.COPY for node in nodes)


def test_the_sentence_of_the_given_value_is_a_fact_too():
    template = load_template("zoo", "english")
    for mode in ("forward", "reverse"):
        problem = draw_problem(ProblemSpec(op=6, mode=mode, facts=12), random.Random(0))
        assert render(problem, template, random.Random(0)).prompt.count(". ") == 12
