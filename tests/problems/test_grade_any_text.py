"""Law 2: any text, and any bytes, get a verdict in little time; nothing but the right solution is verified."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsm_lab.problems import (
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    ProblemSpec,
    Quantity,
    Style,
    Verdict,
    draw_problem,
    grade,
    known_frames,
    load_template,
    render,
)
from gsm_lab.problems.grammar import FORMS
from gsm_lab.problems.style import TRACE_ORDERS
from gsm_lab.problems.trace import read_trace, write_trace

LIONS, OTTERS, OWLS = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0)
FRUIT = Problem(
    DependencyGraph(
        (
            Node(LIONS, Operation.CONSTANT, 3),
            Node(OTTERS, Operation.PLUS, 2, (0,)),
            Node(OWLS, Operation.DIFFERENCE, None, (1, 0), 1),
        )
    ),
    2,
)


@pytest.fixture
def owls() -> Exercise:
    """a = 3, b = 2 + a = 5, and asked c = b - a = 2; names are put in by `say`."""
    return render(FRUIT, load_template("zoo", "terse"), random.Random(0))


def say(exercise: Exercise, text: str) -> str:
    """A text in which a, b, c stand for the exercise's names."""
    lookup = dict(zip("abc", exercise.names, strict=True))
    return " ".join(lookup.get(word, word) for word in text.split())


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
        "a " + "+".join(["1"] * 1000),
        "a 1 = " + "-".join(["1"] * 340) + " = " + "-".join(["1"] * 340),
        "find a " + "-".join(["a"] * 1000),
        ("find a " + "a - a + " * 15 + "a ; ") * 300,
        ("a 3 = 1 + 1 + 1 + 0 + 0 + 0 = 2 + 0 + 1 + 0 + 0 = 2 + 1 + 0 ; ") * 700,
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


def test_law_2_bytes_and_halves_of_characters_get_a_verdict(owls: Exercise):
    assert grade(owls, owls.completion.encode()).verified
    for noise in (b"\xff\xfe answer", "\ud800 3 ; answer 2", "\ud800"):
        result = grade(owls, noise)
        assert not result.verified
        (result.first_error or "").encode()


def test_a_text_beyond_all_length_that_was_cut_is_truncated(owls: Exercise):
    assert grade(owls, "x" * 100_000, finished=False).verdict is Verdict.TRUNCATED
    assert grade(owls, "x" * 100_000).verdict is Verdict.UNREADABLE


def odd_exercises() -> list[Exercise]:
    """Sixty exercises of all modes, frames and forms."""
    exercises = []
    for number in range(60):
        rng = random.Random(f"odd {number}")
        style = Style(form=FORMS[number % 3], trace_order=rng.choice(TRACE_ORDERS), checks=0.3, recovery=0.3)
        spec = ProblemSpec(op=2 + number % 17, mode=("forward", "reverse")[number % 2], nested_totals=0.4)
        template = load_template("zoo", known_frames()[number % len(known_frames())])
        exercises.append(render(draw_problem(spec, rng), template, rng, style))
    return exercises


ODD = odd_exercises()


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=200), number=st.integers(0, 59))
def test_law_2_any_bytes_get_a_verdict(noise: bytes, number: int):
    exercise = ODD[number]
    result = grade(exercise, noise)
    assert result.verdict is Verdict.UNREADABLE or b"nswer" in noise.lower()
    assert result == grade(exercise, noise)


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 59), start=st.integers(0, 2000), end=st.integers(0, 2000))
def test_law_2_any_part_of_gold_gets_a_verdict_and_only_the_whole_is_verified(number: int, start: int, end: int):
    exercise = ODD[number]
    text = exercise.completion
    part = text[start % len(text) : len(text) - end % len(text)]
    result = grade(exercise, part)
    if exercise.style.form == "steps" and sum(map(part.count, exercise.names)) < sum(map(text.count, exercise.names)):
        assert not result.literal  # a fair teacher does without a plan
    assert 0 <= result.process_accuracy <= 1


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 59), rng=st.randoms(use_true_random=False), cut=st.integers(0, 4))
def test_law_2_any_statements_in_any_order_get_a_verdict(number: int, rng: random.Random, cut: int):
    exercise = ODD[number]
    statements = read_trace(exercise.completion, exercise.grammar, exercise.style.form)
    assert statements is not None
    others = read_trace(ODD[(number + 7) % 60].completion, exercise.grammar) or []
    mixed = [*statements, *others[:cut]]
    rng.shuffle(mixed)
    text = write_trace(mixed[: len(mixed) - cut], exercise.grammar)
    result = grade(exercise, text)
    assert result == grade(exercise, text)
    assert grade(exercise, text, finished=False).verdict is Verdict.TRUNCATED


HOSTILE = [
    "k = " + " + ".join(["3 * k + 2"] * 20) + " = " + " + ".join(["2 + 3 * k"] * 20),
    "k " + "( " * 19 + "k" + " + 1 )" * 19,
    "given k 14 : " + " + ".join(["k"] * 60) + " = 14",
    "solve : k = " + " * ".join(["999999999999"] * 60) + " = 4",
    "solve : " + "k = " * 900 + "4",
    "check : " + "1 = " * 1200 + "1",
    "check : " + " * ".join(["999999999999"] * 64) + " = 1",
    "k ? ; " * 20_000,
    "undo ; " * 30_000,
    "check : 1 = 1 ; undo ; " * 8_000,
    "<think> " * 20_000,
    "<think> " + "k 3 ; " * 30_000 + "</think> <answer> 4 </answer>",
    "<think> </think> <answer> " + "9" * 100_000 + " </answer>",
    "find k " + "( " * 60 + "k" + " )" * 60,
]


@pytest.mark.parametrize("form", ["steps", "think"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16])
def test_law_2_hostile_texts_are_bounded_in_reverse_too(text: str, form: str):
    problem = draw_problem(ProblemSpec(op=12, mode="reverse", width=5), random.Random(3))
    for frames in ("terse", "english", "chinese"):
        exercise = render(problem, load_template("zoo", frames), random.Random(0), Style(form=form))
        many = text.replace("k", exercise.asked_name)[:199_000]
        whole = many * (190_000 // (len(many) + 3)) if len(many) < 60_000 else many
        for one in (many, whole, exercise.completion + many):
            began = time.process_time()
            assert not grade(exercise, one).verified
            assert time.process_time() - began < 2  # generous: what it must rule out takes minutes
