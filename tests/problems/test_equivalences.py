"""Whatever is right is accepted however it is written, and named; the literal strictness wants the grammar's words."""

import random
from collections import Counter

import pytest

from gsm_lab.errors import SpecError
from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    draw_problem,
    equivalences,
    grade,
    known_frames,
    load_template,
    mutate,
    render,
)
from gsm_lab.problems.equivalences import ENGLISH, EQUIVALENCES, reordered, reword
from gsm_lab.problems.rewriting import Gold, colour_of
from gsm_lab.problems.style import TRACE_ORDERS
from gsm_lab.problems.trace import read_expression, read_trace

FEW = 3
FRAMES = {"number_of": set(ENGLISH), "units": set(ENGLISH), "answer_is": set(ENGLISH)}
FRAMES |= {"long_names": {*ENGLISH, "chinese"}, "split": {*ENGLISH, "chinese"}}
FRAMES |= {"capitals": set(known_frames()) - {"chinese"}}
"""Rewordings that only some frames have words for."""


def wide_exercises(count: int) -> list[Exercise]:
    """Exercises in which every rewording finds a place somewhere: copies, sums in brackets, numbers beyond 1000."""
    exercises = []
    for index in range(count):
        rng = random.Random(f"wide {index}")
        frames = known_frames()[index % len(known_frames())]
        mode = ("forward", "reverse")[index // len(known_frames()) % 2]
        spec = ProblemSpec(
            op=6 + index % 15,
            mode=mode,
            width=(0, 4),
            copies=0.4,
            composites=0.6,
            operations=("add", "subtract", "multiply", "divide"),
            **({"constants": (1, 900), "values": (0, 100_000)} if index % 3 else {}),
        )
        style = Style(form=("steps", "steps", "think")[index % 3], trace_order=TRACE_ORDERS[index % 4 % 3])
        exercises.append(render(draw_problem(spec, rng), load_template("zoo", frames), rng, style))
    return exercises


@pytest.fixture(scope="module")
def wide() -> list[Exercise]:
    return wide_exercises(300)


@pytest.mark.parametrize("kind", EQUIVALENCES)
def test_what_a_fair_teacher_accepts_is_verified_and_named_and_not_literal(kind: str, wide: list[Exercise]):
    rng = random.Random(kind)
    found: Counter[str] = Counter()
    for exercise in wide:
        text = reword(exercise, kind, rng)
        if text is None:
            continue
        assert text != exercise.completion
        result = grade(exercise, text)
        assert result.verified, (result.first_error, text)
        assert result.deviation, text
        assert not result.literal, text
        assert result.process_accuracy == 1
        found[exercise.frames] += 1
    assert set(found) == FRAMES.get(kind, set(known_frames()))
    assert min(found.values()) >= FEW


def test_gold_in_another_order_and_with_other_letters_is_literal(wide: list[Exercise]):
    changed = 0
    for exercise in wide:
        text = reordered(exercise, random.Random(0))
        changed += text != exercise.completion
        result = grade(exercise, text)
        assert result.literal
        assert result.deviation == ()
    assert changed > len(wide) / 2


@pytest.mark.parametrize("kind", EQUIVALENCES)
def test_a_rewording_of_a_wrong_answer_stays_wrong(kind: str, wide: list[Exercise]):
    """The near miss: words do not hide a wrong sum. The answer of the rewording is one too high."""
    checked = 0
    for exercise in wide[:60]:
        text = reword(exercise, kind, random.Random(kind))
        if text is None:
            continue
        answer = exercise.answer
        head, _, tail = text.rpartition(f"{answer:,}" if f"{answer:,}" in text[-40:] else str(answer))
        result = grade(exercise, f"{head}{answer + 1}{tail}")
        assert not result.verified
        assert not result.literal
        checked += 1
    assert checked


def test_an_answer_alone_has_nothing_to_reword():
    rng = random.Random(0)
    exercise = render(
        draw_problem(ProblemSpec(op=5), rng), load_template("zoo", "english"), rng, Style(form="answer_only")
    )
    assert all(reword(exercise, kind, rng) is None for kind in EQUIVALENCES)


def test_rewordings_are_functions_of_their_stream(wide: list[Exercise]):
    for kind in EQUIVALENCES:
        texts = {reword(wide[7], kind, random.Random(1)) for _ in range(2)}
        assert len(texts) == 1


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ("2 * ( a + b )", "2 * b + 2 * a", True),
        ("a + b - c", "a - ( c - b )", True),
        ("( a + b ) / 2", "a / 2 + b / 2", True),
        ("2 * a + b", "2 * ( a + b )", False),
        ("a - b", "b - a", False),
        ("a + a", "2 * a", True),
        ("a + 2", "a + 3", False),
        ("a / b", "b / a", False),
    ],
)
def test_colours_are_equal_where_algebra_makes_expressions_equal(one: str, other: str, is_equal: bool):
    colours = {"a": 123_456_789, "b": 987_654_321, "c": 555_555_557}
    trees = [read_expression(text) for text in (one, other)]
    assert None not in trees
    assert (colour_of(trees[0], colours) == colour_of(trees[1], colours)) is is_equal


def test_a_copy_means_its_original_and_an_equal_number_does_not(wide: list[Exercise]):
    """`means` unfolds definitions down to the constants of the text, which are symbols: equal values do not count."""
    seen = Counter()
    for exercise in wide:
        gold = Gold.of(exercise)
        assert gold is not None
        for at in gold.steps:
            step = gold.step(at)
            assert gold.means(step.chain[0], step.name) or isinstance(step.chain[0], int)
            others = [one for one in gold.steps if gold.operation(gold.step(one).name) == "constant"]
            for other in others:
                same_value = exercise.value_of[gold.step(other).name] == exercise.value_of[step.name]
                if same_value and gold.operation(step.name) in ("plus", "sum", "times"):
                    assert not gold.means(gold.step(other).variable, step.name)
                    seen["equal number"] += 1
    assert seen["equal number"] > FEW


def test_gold_is_put_together_as_it_was_taken_apart(wide: list[Exercise]):
    for exercise in wide:
        gold = Gold.of(exercise)
        assert gold is not None
        again = gold.write(gold.statements)
        assert again is not None
        assert read_trace(again, exercise.grammar, exercise.style.form) == [*gold.statements]


def test_every_kind_is_documented():
    assert all(equivalence.__doc__ for equivalence in equivalences.EQUIVALENCES.values())


@pytest.mark.parametrize(("change", "known"), [(reword, "commuted"), (mutate, "wrong_value")])
def test_an_unknown_kind_of_change_is_refused_with_those_that_are_known(change, known):
    exercise = render(draw_problem(ProblemSpec(op=3), random.Random(0)), load_template(), random.Random(0))
    with pytest.raises(SpecError, match=rf"^kind='wrong': give one of .*\b{known}\b"):
        change(exercise, "wrong", random.Random(0))
