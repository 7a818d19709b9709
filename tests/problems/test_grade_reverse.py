"""In a reverse problem every form, the equation, and every step of its solution must be right."""

import random

import pytest

from gsm_lab.problems import (
    DependencyGraph,
    Exercise,
    Grade,
    Node,
    Operation,
    Problem,
    ProblemSpec,
    Quantity,
    Verdict,
    draw_problem,
    grade,
    load_template,
    render,
)
from gsm_lab.problems.verdicts import ERRORS

A, B, C, D = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0), Quantity(1, 1)
UNKNOWN = Node(A, Operation.CONSTANT, 4)
TRIPLED = Node(B, Operation.TIMES, 3, (0,))
HALVED = Node(D, Operation.DIVIDED, 2, (0,))
"""It has no form in whole numbers."""
FORMS = "a ? ; b 3 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ;"
GIVEN = "given c 14 : 3 * a + 2 = 14 ;"
SOLVED = "solve : 3 * a = 14 - 2 = 12 ; solve : a = 12 / 3 = 4 ;"


def reverse(*nodes: Node, given: int = 2) -> Exercise:
    return render(Problem(DependencyGraph(nodes), 0, None, given), load_template("zoo", "terse"), random.Random(0))


AWAY = reverse(UNKNOWN, TRIPLED, Node(C, Operation.PLUS, 2, (1,)))
"""a = 4 is asked, b = 3 * a, and c = 2 + b = 14 is given."""
FROM = reverse(UNKNOWN, Node(B, Operation.CONSTANT, 9), Node(C, Operation.DIFFERENCE, None, (1, 0), 1))
"""a = 4 is asked, b = 9, and c = b - a = 5 is given."""
FREE = reverse(UNKNOWN, TRIPLED, Node(C, Operation.PLUS, 2, (1,)), HALVED)


def graded(text: str, exercise: Exercise = AWAY) -> Grade:
    lookup = dict(zip("abcd", exercise.names, strict=False))
    return grade(exercise, " ".join(lookup.get(word, word) for word in text.split()))


def errors_of(result: Grade) -> set[str]:
    return {kind for kind in ERRORS if getattr(result, kind)}


@pytest.mark.parametrize(
    ("text", "exercise"),
    [
        (f"{FORMS} {GIVEN} {SOLVED} answer 4", AWAY),
        (f"a ? ; b a * 3 ; c b + 2 = 3 * a + 2 ; {GIVEN} {SOLVED} answer 4", AWAY),
        (f"{FORMS} {GIVEN} solve : 3 * a = 12 ; solve : a = 4 ; answer 4", AWAY),
        (f"{FORMS} {GIVEN} check : 3 * 4 = 12 ; {SOLVED} answer 4", AWAY),
        (f"a ? ; b 3 * a ; c 2 + b = 9 ; undo ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED} answer 4", AWAY),
        ("a ? ; b 9 ; c b - a = 9 - a ; given c 5 : 9 - a = 5 ; solve : a = 9 - 5 = 4 ; answer 4", FROM),
        ("b 9 ; a ? ; c b - a = 9 - a ; given c 5 : 9 - a = 5 ; solve : a = 9 - 5 = 4 ; answer 4", FROM),
    ],
)
def test_fair_solutions_are_correct(text: str, exercise: Exercise):
    result = graded(text, exercise)
    assert result.verified, result.first_error
    assert result.process_accuracy == 1


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", {"missing"}),
        (GIVEN, None),
        (f"{FORMS}", {"missing"}),
        (f"{FORMS} {GIVEN}", {"missing"}),
        (f"{FORMS} {GIVEN} solve : 3 * a = 14 - 2 = 12 ;", {"missing"}),
        (f"{FORMS} {SOLVED}", {"used_before_defined", "missing"}),
        (f"{SOLVED} {FORMS} {GIVEN}", {"used_before_defined", "missing"}),
        (f"b 3 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", None),
        (f"a ? ; b 4 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", {"wrong_operand"}),
        (f"a ? ; b 3 + a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", {"wrong_operation"}),
        (f"a ? ; b 3 * a = 4 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", {"wrong_value"}),
        (f"a ? ; b 3 * a ; c 2 + b = 2 + 4 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", {"wrong_value"}),
        (f"a ? ; b 3 * a ; c 2 + b = 2 + 3 * a = 3 * a + 3 ; {GIVEN} {SOLVED}", {"wrong_value"}),
        (f"a ? ; b 3 * a ; c 2 + b = 1 + 3 * a + 1 = 3 * a + 2 ; {GIVEN} {SOLVED}", {"false_arithmetic"}),
        (f"a ? ; b 3 * a = 5 * a - 2 * a = 3 * a ; c 2 + b = 3 * a + 2 ; {GIVEN} {SOLVED}", {"false_arithmetic"}),
        (f"a ? ; b 3 * a ; c 2 + b ; {GIVEN} {SOLVED}", {"wrong_value"}),
        (f"a ? ; b 3 * a = 3 * 4 = 12 ; c 2 + b = 2 + 12 = 14 ; {GIVEN} {SOLVED}", {"wrong_value"}),
        (f"a 4 ; b 3 * a = 3 * 4 = 12 ; c 2 + b = 2 + 12 = 14 ; {GIVEN} {SOLVED}", None),
        (f"a ? ; a 4 ; b 3 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", None),
        (f"a ? ; b ? ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}", {"wrong_operation"}),
        (f"a ? ; {FORMS} {GIVEN} {SOLVED}", {"redefined"}),
        (f"{FORMS} given c 15 : 3 * a + 2 = 15 ; {SOLVED}", {"wrong_value"}),
        (f"{FORMS} given c 14 : 3 * a + 3 = 14 ; {SOLVED}", {"wrong_operand"}),
        (f"{FORMS} given c 14 : 2 + 4 * a = 14 ; {SOLVED}", {"wrong_operand"}),
        (f"{FORMS} given c 14 : 3 * a + 2 = 15 ; {SOLVED}", {"wrong_value"}),
        (f"{FORMS} given b 12 : 3 * a = 12 ; solve : a = 12 / 3 = 4 ;", None),
        (f"{FORMS} {GIVEN} undo ; {SOLVED}", {"used_before_defined", "missing"}),
        (f"{FORMS} {GIVEN} solve : 3 * a = 14 - 3 = 12 ; solve : a = 12 / 3 = 4 ;", {"false_arithmetic"}),
        (f"{FORMS} {GIVEN} solve : 3 * a = 14 - 3 = 11 ; solve : a = 12 / 3 = 4 ;", None),
        (f"{FORMS} {GIVEN} solve : 3 * a = 8 + 4 = 12 ; solve : a = 12 / 3 = 4 ;", {"false_arithmetic"}),
        (f"{FORMS} {GIVEN} solve : 3 * a = 14 - 2 = 12 ; solve : a = 28 / 7 = 4 ;", {"false_arithmetic"}),
        (f"{FORMS} {GIVEN} solve : 3 * a = 14 - 2 = 12 ; solve : a = 12 / 4 = 3 ;", None),
        (f"{FORMS} {GIVEN} solve : 3 * b = 12 ; {SOLVED}", {"malformed"}),
        (f"{FORMS} {GIVEN} {SOLVED} solve : 3 * a = 12 ;", {"missing", "wrong_value"}),
    ],
)  # fmt: skip
def test_a_right_answer_by_a_wrong_way_is_luck(text: str, counted: set[str] | None):
    result = graded(f"{text} answer 4")
    assert result.verdict is Verdict.LUCKY
    assert (result.answer, result.answer_correct) == (4, True)
    if counted is not None:
        assert errors_of(result) == counted, result.first_error


@pytest.mark.parametrize(
    "solving",
    [
        "solve : 7 * a + 5 = 33 ; solve : a = 4 ;",
        "solve : 7 * a = 28 ; solve : a = 28 / 7 = 4 ;",
        "solve : 6 * a - 12 = 14 - 2 = 12 ; solve : a = 4 ;",
        "solve : 3 * a = 14 - 2 = 6 + 6 = 12 ; solve : a = 12 / 3 = 4 ;",
        "solve : 3 * a = 14 - 2 = 24 / 2 = 12 ; solve : a = 12 / 3 = 4 ;",
    ],
)
def test_a_solving_step_must_follow_from_the_equation_before(solving: str):
    assert graded(f"{FORMS} {GIVEN} {solving} answer 4").verdict is Verdict.LUCKY


def test_a_solution_in_one_go_is_named():
    result = graded(f"{FORMS} {GIVEN} solve : a = 4 ; answer 4")
    assert not result.verified or result.deviation


@pytest.mark.parametrize(
    "text",
    [
        f"a ? ; answer 4 ; b 3 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED}",
        f"{FORMS} answer 4 ; {GIVEN} {SOLVED}",
        f"{FORMS} {GIVEN} answer 4 ; {SOLVED}",
    ],
)
def test_an_answer_before_the_equation_is_solved_is_a_guess(text: str):
    assert graded(text).verdict is Verdict.LUCKY


def test_an_answer_before_the_unknown_is_named_is_a_guess():
    assert graded(f"answer 4 ; {FORMS} {GIVEN} {SOLVED}").used_before_defined == 1


@pytest.mark.parametrize("chain", ["a / 2 = 7 = 99", "a / 2 = 999", "a / 2 = 5 / 2"])
def test_a_false_chain_of_what_has_no_form_is_caught(chain: str):
    """d = a / 2 is not needed, and a / 2 is no a * x + b in whole numbers."""
    assert graded(f"{FORMS} {GIVEN} {SOLVED} answer 4", FREE).verified
    assert not graded(f"{FORMS} d {chain} ; {GIVEN} {SOLVED} answer 4", FREE).verified


def test_a_wrong_definition_of_what_has_no_form_is_caught():
    assert not graded(f"{FORMS} d a / 3 ; {GIVEN} {SOLVED} answer 4", FREE).verified


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("a ? ; b 9 ; c a - b = 9 - a ; given c 5 : 9 - a = 5 ; solve : a = 9 - 5 = 4 ; answer 4", {"wrong_operand"}),
        ("a ? ; b 9 ; c b - a = 9 - a ; given c 5 : a - 9 = 5 ; solve : a = 9 - 5 = 4 ; answer 4", {"wrong_operand"}),
        (
            "a ? ; b 9 ; c b - a = 9 - a ; given c 5 : 9 - a = 5 ; solve : a = 5 - 9 = 4 ; answer 4",
            {"false_arithmetic"},
        ),
        ("a ? ; b 8 ; c b - a = 9 - a ; given c 5 : 9 - a = 5 ; solve : a = 9 - 5 = 4 ; answer 4", None),
    ],
)  # fmt: skip
def test_what_is_taken_away_keeps_its_side(text: str, counted: set[str] | None):
    result = graded(text, FROM)
    assert result.verdict is Verdict.LUCKY
    if counted is not None:
        assert errors_of(result) == counted


def test_unknowns_and_equations_have_no_place_in_forward_problems():
    nodes = (UNKNOWN, TRIPLED)
    forward = render(Problem(DependencyGraph(nodes), 1), load_template("zoo", "terse"), random.Random(0))
    right = "a 4 ; b 3 * a = 3 * 4 = 12 ; answer 12"
    assert graded(right, forward).verified
    for text in (f"a ? ; {right}", f"given b 12 : 12 = 12 ; {right}", f"solve : 1 = 1 ; {right}",
                 "a ? ; b 3 * a ; answer 12"):  # fmt: skip
        assert graded(text, forward).verdict is Verdict.LUCKY


def test_process_accuracy_counts_the_right_forms():
    assert graded(f"a ? ; b 4 * a ; c 2 + b = 2 + 3 * a = 3 * a + 2 ; {GIVEN} {SOLVED} answer 4").process_accuracy == (
        pytest.approx(2 / 3)
    )
    assert graded(f"{FORMS} answer 5").process_accuracy == 1
    assert graded("answer 4").process_accuracy == 0


def test_a_plan_that_tells_the_unknown_is_an_error():
    template = load_template("zoo", "english")
    exercise = render(draw_problem(ProblemSpec(op=6, mode="reverse"), random.Random(1)), template, random.Random(1))
    told = f" We look for {exercise.asked_name}, which is {exercise.answer}."
    assert grade(exercise, exercise.completion).verified
    assert errors_of(grade(exercise, told + exercise.completion)) == {"wrong_operation"}


def test_an_equation_can_be_taken_back():
    template = load_template("zoo", "english")
    exercise = render(draw_problem(ProblemSpec(op=6, mode="reverse"), random.Random(1)), template, random.Random(1))
    before, hence, after = exercise.completion.partition(" Hence ")
    assert hence, "choose another seed: nothing is solved here"
    slip = f"{before} Hence {exercise.answer} = 99. Wait, that is not right. Hence {after}"
    result = grade(exercise, slip)
    assert result.verified, result.first_error
    assert result.retracted == 1
