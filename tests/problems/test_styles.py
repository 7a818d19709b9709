"""Gold solutions of every style are correct, and their orders are orders of computation."""

import itertools
import random

import pytest

from gsm_lab.errors import SpecError
from gsm_lab.problems import (
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    ProblemSpec,
    Quantity,
    Style,
    draw_problem,
    grade,
    known_contexts,
    known_frames,
    load_template,
    render,
    solve_text,
)
from gsm_lab.problems.grammar import FORMS
from gsm_lab.problems.statements import Check, Plan, Retract, Step, Unknown
from gsm_lab.problems.style import TRACE_ORDERS
from gsm_lab.problems.trace import names_in, read_trace, write_trace

MODES = ("forward", "reverse")


def statements_of(exercise: Exercise) -> list:
    statements = read_trace(exercise.completion, exercise.grammar, exercise.style.form)
    assert statements is not None
    return statements


@pytest.mark.parametrize("frames", known_frames())
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", TRACE_ORDERS)
def test_gold_is_verified_in_every_style(order: str, form: str, frames: str):
    for number, (mode, checks, recovery) in enumerate(itertools.product(MODES, (0, 0.5, 1), (0, 0.5, 1))):
        rng = random.Random(f"{order} {form} {frames} {number}")
        modulus = rng.choice([None, 10, 23]) if mode == "forward" else None
        spec = ProblemSpec(
            op=rng.randint(2, 40), mode=mode, modulus=modulus, implicit_totals=0.4, nested_totals=0.5, composites=0.5,
            operations=("add", "subtract", "multiply") + (() if modulus else ("divide",)), width=(0, 5),
        )  # fmt: skip
        template = load_template(rng.choice(known_contexts()), frames)
        style = Style(trace_order=order, form=form, checks=checks, recovery=recovery)
        exercise = render(draw_problem(spec, rng), template, rng, style)
        result = grade(exercise, exercise.completion)
        assert result.verified, (result.first_error, exercise.completion)
        assert form == "answer_only" or result.process_accuracy == 1
        assert result.literal
        assert grade(exercise, solve_text(exercise.prompt, template, style, rng)).verified


@pytest.mark.parametrize("op", [1, 100, 200])
@pytest.mark.parametrize("mode", MODES)
def test_gold_is_verified_at_the_ends_of_op(mode: str, op: int):
    for frames in known_frames():
        rng = random.Random(f"{mode} {op} {frames}")
        exercise = render(draw_problem(ProblemSpec(op=op, mode=mode), rng), load_template("zoo", frames), rng)
        assert grade(exercise, exercise.completion).verified


def gold_of_wide(width: int, operation: Operation, constant: int | None) -> bool:
    nodes = [Node(Quantity(at // 10, at % 10), Operation.CONSTANT, at + 1) for at in range(width)]
    nodes.append(Node(Quantity(5, 0), operation, constant, tuple(range(width))))
    exercise = render(Problem(DependencyGraph(tuple(nodes)), width), load_template("zoo", "symbolic"), random.Random(0))
    return grade(exercise, exercise.completion).verified


@pytest.mark.parametrize(
    ("operation", "constant", "widths"),
    [
        (Operation.SUM, None, range(2, 7)),
        (Operation.PLUS, 2, range(1, 6)),
        (Operation.TIMES, 2, range(1, 7)),
        pytest.param(Operation.SUM, None, range(7, 21)),
        pytest.param(Operation.PLUS, 2, range(6, 21)),
        pytest.param(Operation.TIMES, 2, range(7, 21)),
    ],
)
def test_gold_of_wide_definitions_is_verified(operation: Operation, constant: int | None, widths: range):
    """A spec may ask for a width up to 20, and gold adds up term by term."""
    assert all(gold_of_wide(width, operation, constant) for width in widths)


@pytest.mark.parametrize("width", [3, 5, pytest.param(9)])
@pytest.mark.parametrize("mode", MODES)
def test_gold_of_wide_problems_is_verified(mode: str, width: int):
    for seed in range(60):
        rng = random.Random(f"wide {seed}")
        spec = ProblemSpec(op=60, mode=mode, width=width, reuse=0.9, composites=0.5, implicit_totals=0.5,
                           nested_totals=0.5)  # fmt: skip
        exercise = render(draw_problem(spec, rng), load_template("zoo", "symbolic"), rng)
        assert grade(exercise, exercise.completion).verified


@pytest.mark.parametrize("order", TRACE_ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_orders_are_orders_of_computation(mode: str, order: str):
    template = load_template("zoo", "english")
    for seed in range(60):
        rng = random.Random(seed)
        problem = draw_problem(ProblemSpec(op=20, mode=mode, reuse=0.5), rng)
        exercise = render(problem, template, rng, Style(trace_order=order))
        statements = statements_of(exercise)
        known: set[str] = set()
        for statement in statements:
            if isinstance(statement, Step):
                assert known.issuperset(names_in(statement.chain[0]))
            if isinstance(statement, Step | Unknown):
                assert statement.variable not in known
                known.add(statement.variable)
        told = [statement.name for statement in statements if isinstance(statement, Step | Unknown)]
        assert sorted(told) == sorted(exercise.needed_names)
        if order == "leaf_first":
            assert tuple(told) == exercise.needed_names


def test_a_goal_directed_trace_unfolds_from_the_question():
    for seed in range(60):
        for mode in MODES:
            rng = random.Random(seed)
            problem = draw_problem(ProblemSpec(op=15, mode=mode), rng)
            exercise = render(problem, load_template("zoo", "terse"), rng, Style(trace_order="goal_directed"))
            plans = [statement for statement in statements_of(exercise) if isinstance(statement, Plan)]
            wanted = {exercise.names[problem.top]}
            for plan in plans:
                assert plan.name in wanted, "nothing is unfolded before it is asked for"
                wanted.update(names_in(plan.expression))
            assert plans[0].name == exercise.names[problem.top]
            unknown = {exercise.asked_name} if mode == "reverse" else set()
            assert {plan.name for plan in plans} == set(exercise.needed_names) - unknown
            steps = [one.name for one in statements_of(exercise) if isinstance(one, Step)]
            assert steps == [plan.name for plan in plans][::-1]


def test_other_orders_have_no_plans():
    problem = draw_problem(ProblemSpec(op=15), random.Random(1))
    for order in ("leaf_first", "random"):
        exercise = render(problem, load_template(), random.Random(2), Style(trace_order=order))
        assert not any(isinstance(statement, Plan) for statement in statements_of(exercise))


def test_random_orders_differ():
    problem = draw_problem(ProblemSpec(op=20), random.Random(1))
    template = load_template("zoo", "symbolic")
    orders: set[tuple[int, ...]] = set()
    for seed in range(10):
        exercise = render(problem, template, random.Random(seed), Style(trace_order="random"))
        place_of = {name: place for place, name in enumerate(exercise.names)}
        orders.add(tuple(place_of[one.name] for one in statements_of(exercise) if isinstance(one, Step)))
    assert len(orders) > 5


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_checks_and_recoveries_come_at_their_rates(share: float):
    steps = checks = retracted = checkable = 0
    for seed in range(150):
        rng = random.Random(seed)
        problem = draw_problem(ProblemSpec(op=15), rng)
        exercise = render(problem, load_template("zoo", "terse"), rng, Style(checks=share, recovery=share))
        statements = statements_of(exercise)
        steps += len(problem.needed)
        checkable += sum(len(problem.graph.nodes[place].parents) + (problem.graph.nodes[place].constant is not None) > 1
                         for place in problem.needed)  # fmt: skip
        checks += sum(isinstance(statement, Check) for statement in statements)
        retracted += sum(isinstance(statement, Retract) for statement in statements)
    assert retracted / steps == pytest.approx(share, abs=0.05)
    assert checks / checkable == pytest.approx(share, abs=0.06)


def test_a_recovery_takes_back_a_wrong_step_and_does_it_again():
    for seed in range(40):
        rng = random.Random(seed)
        modulus = rng.choice([None, 10])
        exercise = render(
            draw_problem(ProblemSpec(op=9, modulus=modulus), rng), load_template(), rng, Style(recovery=1)
        )
        statements = statements_of(exercise)
        for wrong, taken_back, right in zip(statements, statements[1:], statements[2:], strict=False):
            if isinstance(taken_back, Retract):
                assert isinstance(wrong, Step)
                assert isinstance(right, Step)
                assert (wrong.name, wrong.variable, wrong.chain[:-1]) == (right.name, right.variable, right.chain[:-1])
                assert wrong.chain[-1] != right.chain[-1]
        without = write_trace([one for one in statements if not isinstance(one, Retract)], exercise.grammar)
        assert not grade(exercise, without).verified, "the near miss: the wrong steps left standing"


def test_answers_alone_are_short():
    exercise = render(
        draw_problem(ProblemSpec(op=15), random.Random(1)), load_template(), random.Random(2), Style(form="answer_only")
    )
    assert exercise.completion == f" Answer: {exercise.answer}."


def test_thinking_stands_in_its_tags():
    exercise = render(
        draw_problem(ProblemSpec(op=9), random.Random(1)), load_template(), random.Random(2), Style(form="think")
    )
    assert exercise.completion.startswith(" <think> Define ")
    assert exercise.completion.endswith(f" </think> <answer> {exercise.answer} </answer>")


def test_statements_survive_writing_and_reading(exercises):
    for exercise, _ in exercises:
        statements = statements_of(exercise)
        assert read_trace(write_trace(statements, exercise.grammar), exercise.grammar) == statements
        assert write_trace(statements, exercise.grammar) == exercise.completion


def test_a_quantity_both_given_and_asked_is_a_forward_problem_in_words_too():
    problem = Problem(DependencyGraph((Node(Quantity(0, 0), Operation.CONSTANT, 3),)), 0, None, 0)
    template = load_template("zoo", "terse")
    exercise = render(problem, template, random.Random(0))
    assert grade(exercise, solve_text(exercise.prompt, template)).verified


def test_an_unknown_order_is_refused():
    with pytest.raises(SpecError, match="trace_order='question_first': give one of"):
        Style(trace_order="question_first")


@pytest.mark.parametrize(
    "spec",
    [
        ProblemSpec(op=10, answers=(0, 5), composites=1.0, balanced=True),
        ProblemSpec(op=8, answers=(1, 20), balanced=True),
        ProblemSpec(op=30, width=9, composites=1.0, answers=(0, 5)),
    ],
    ids=lambda spec: f"op {spec.op}",
)
def test_answers_that_were_steered_to_leave_no_group_below_zero(spec: ProblemSpec):
    """`6 + ( 4 - 5 )` has a right value, but nobody takes five from four."""
    template = load_template("zoo", "english")
    for seed in range(60):
        exercise = render(draw_problem(spec, random.Random(seed)), template, random.Random(seed))
        assert " -" not in exercise.completion.replace(" - ", " ")
        assert grade(exercise, exercise.completion).verified, exercise.completion


def test_an_answer_alone_may_leave_steps_out_but_not_tell_false_ones():
    template = load_template("zoo", "english")
    problem = draw_problem(ProblemSpec(op=5), random.Random(0))
    exercise = render(problem, template, random.Random(0), Style(form="answer_only"))
    assert grade(exercise, exercise.completion).verified
    assert not grade(exercise, " It is obviously 7." + exercise.completion).verified


def test_checks_and_slips_leave_out_steps_in_which_the_unknown_cancels():
    template = load_template("zoo", "symbolic")
    style = Style(checks=1.0, recovery=0.5)
    cancelled = 0
    for seed in range(400):
        problem = draw_problem(ProblemSpec(op=16, mode="reverse", reuse=0.9), random.Random(seed))
        exercise = render(problem, template, random.Random(seed), style)
        assert grade(exercise, exercise.completion).verified, exercise.completion
        cancelled += any(
            problem.forms[place].a == 0
            and any(problem.forms[parent].a for parent in problem.graph.nodes[place].parents)
            for place in problem.needed
        )
    assert cancelled > 3
