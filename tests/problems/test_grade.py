"""Law 1 to 3: a perfect solver scores 100 %, every class of wrong step is caught, any text gets a verdict."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsm_lab.problems import (
    MUTATIONS,
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    Quantity,
    Style,
    Verdict,
    grade,
    load_template,
    mutate,
    render,
    rewards,
    solve_text,
)

LIONS, OTTERS, OWLS = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0)
FRUIT = Problem(
    DependencyGraph(
        (
            Node(LIONS, Operation.CONSTANT, 3),
            Node(OTTERS, Operation.PLUS, 2, (LIONS,)),
            Node(OWLS, Operation.DIFFERENCE, None, (OTTERS, LIONS)),
        )
    ),
    OWLS,
)


@pytest.fixture
def owls() -> Exercise:
    """a = 3, b = 2 + a = 5, and asked c = b - a = 2; names are put in by `say`."""
    return render(FRUIT, load_template("zoo", "terse"), random.Random(0))


def say(exercise: Exercise, text: str) -> str:
    """A text in which a, b, c stand for the exercise's names."""
    lookup = dict(zip("abc", exercise.names, strict=True))
    return " ".join(lookup.get(word, word) for word in text.split())


def test_gold_is_correct_without_deviation(exercises):
    for exercise, _ in exercises:
        result = grade(exercise, exercise.completion)
        assert result.verified
        assert result.process_accuracy == 1
        assert result.deviation == ()
        assert result.first_error is None


def test_law_1_a_solver_that_reads_only_the_text_is_always_right(exercises):
    for exercise, template in exercises:
        for order in ("leaf_first", "goal_directed"):
            assert grade(exercise, solve_text(exercise.prompt, template, Style(trace_order=order))).verified


@pytest.mark.parametrize("kind", MUTATIONS)
def test_law_3_every_class_of_wrong_step_is_caught(kind: str, exercises):
    rng = random.Random(kind)
    seen = [(exercise, mutated) for exercise, _ in exercises if (mutated := mutate(exercise, kind, rng)) is not None]
    assert len(seen) > 200
    for exercise, mutated in seen:
        assert mutated != exercise.completion
        assert not grade(exercise, mutated).verified, mutated


def test_mutations_that_keep_the_answer_are_luck(exercises):
    for exercise, _ in exercises:
        mutated = mutate(exercise, "wrong_value", random.Random(0))
        assert mutated is not None
        assert grade(exercise, mutated).verdict is Verdict.LUCKY


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("a 3 ; b 2 + a = 2 + 3 = 6 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_value", "false_arithmetic"}),
        ("a 3 ; b 3 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operand", "wrong_value"}),
        ("a 3 ; b 2 * a = 2 * 3 = 6 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operation", "wrong_value"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c a - b = 5 - 3 = 2 ; answer 2", {"wrong_operand", "wrong_value"}),
        ("a 3 ; c b - a = 5 - 3 = 2 ; b 2 + a = 2 + 3 = 5 ; answer 2", {"used_before_defined"}),
        ("a 3 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"redefined"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; answer 2", {"missing"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 9 - 7 = 2 ; answer 2", {"wrong_value"}),
        ("a 3 ; b 2 + a = 2 + 3 = 9 - 4 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"false_arithmetic"}),
        ("lion 3 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"unknown"}),
        ("so ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"malformed"}),
        ("find b 2 + c ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operand"}),
    ],
)
def test_a_right_answer_by_a_wrong_step_is_luck(owls: Exercise, text: str, counted: set[str]):
    result = grade(owls, say(owls, text))
    assert result.verdict is Verdict.LUCKY
    assert result.answer_correct
    assert counted <= {kind for kind in result.to_dict() if result.to_dict()[kind] in (1, 2) and kind != "answer"}
    assert result.first_error


@pytest.mark.parametrize(
    ("text", "deviation"),
    [
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", ()),
        ("a 3 ; b a + 2 = 3 + 2 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", ("terms in another order",)),
        ("a 3 ; b 2 + a = 5 ; c b - a = 2 ; answer 2", ("numbers not put in before calculating",)),
    ],
)
def test_what_a_fair_teacher_accepts_is_correct_and_named(owls: Exercise, text: str, deviation: tuple[str, ...]):
    result = grade(owls, say(owls, text))
    assert result.verified
    assert result.deviation == deviation


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("answer 2", Verdict.LUCKY),
        ("answer 3", Verdict.WRONG),
        ("answer 2 ; answer 3", Verdict.WRONG),
        ("answer 3 ; answer 2", Verdict.LUCKY),
        ("answer two", Verdict.UNREADABLE),
        ("answer 2.0", Verdict.UNREADABLE),
        ("", Verdict.UNREADABLE),
        ("2", Verdict.UNREADABLE),
    ],
)
def test_verdicts_tell_outcomes_apart(owls: Exercise, text: str, verdict: Verdict):
    assert grade(owls, text).verdict is verdict


def test_an_unfinished_solution_is_truncated_even_if_it_looks_whole(owls: Exercise):
    result = grade(owls, owls.completion, finished=False)
    assert result.verdict is Verdict.TRUNCATED
    assert not result.verified
    assert not result.answer_correct
    assert result.process_accuracy == 1


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=300) | st.text(alphabet="lion_ashgrve=+-*();<0123456789 answer\n", max_size=300))
def test_law_2_any_text_gets_a_verdict(text: str):
    exercise = render(FRUIT, load_template("zoo", "terse"), random.Random(0))
    assert grade(exercise, text) == grade(exercise, text)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "(" * 20_000,
        "a = " + "1" * 40_000,
        "answer " + "9" * 40_000,
        "a 9**9**9**9 ; answer 9**9**9",
        "a = " + "1 + " * 10_000 + "1",
        "Define " * 7_000,
        "a " * 24_000,
        "a 3 ; " * 6_000,
        "x" * 5_000_000,
        "a = \u0663 ; \u202e answer \u00b2 \x00",
    ],
    ids=lambda text: text[:12],
)
def test_law_2_hostile_texts_are_bounded(owls: Exercise, text: str):
    english = render(FRUIT, load_template("zoo", "english"), random.Random(0))
    for exercise in (owls, english):
        began = time.process_time()
        assert not grade(exercise, say(exercise, text) if len(text) < 100 else text).verified
        assert time.process_time() - began < 2  # generous: what it must rule out takes minutes


def test_rewards_are_what_their_names_say(owls: Exercise):
    lucky = grade(owls, say(owls, "a 3 ; b 2 + a = 2 + 3 = 5 ; answer 2"))
    wrong = grade(owls, say(owls, "a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 1 ; answer 1"))
    assert (rewards.outcome(lucky), rewards.strict(lucky)) == (1, 0)
    assert rewards.process(lucky) == pytest.approx(2 / 3)
    assert rewards.mix(lucky, 0.25) == pytest.approx(0.25 + 0.75 * 2 / 3)
    assert rewards.gated(lucky, 0.25) == rewards.mix(lucky, 0.25)
    assert rewards.gated(wrong, 0.25) == 0 < rewards.mix(wrong, 0.25)
    assert rewards.named_reward("mix", 0.25)(lucky) == rewards.mix(lucky, 0.25)


def test_unknown_rewards_are_refused():
    with pytest.raises(ValueError, match="there is no reward 'best': give one of outcome"):
        rewards.named_reward("best")
