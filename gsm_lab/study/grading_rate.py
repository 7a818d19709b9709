"""How many solutions are graded a second on one core, by both strictnesses, and how long the worst texts take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from gsm_lab.data import without_collector
from gsm_lab.problems import (
    EQUIVALENCES,
    Exercise,
    ProblemSpec,
    Style,
    draw_problem,
    examine,
    grade,
    load_template,
    mutate,
    render,
    reword,
    solve_text,
)
from gsm_lab.seeds import stream
from gsm_lab.study.certificate import FUZZ_CHUNK, fuzz_of_chunk
from gsm_lab.study.certificate_source import Source, pairs_of
from gsm_lab.study.fuzz import HOSTILE, fuzz_texts

ROUNDS = 5
TEXTS = 1000
"""Of every kind."""
BARS = {10: 20_000, 20: 10_000}
"""Gold solutions a second by op that the project asks of itself."""
FRAMES = ("english", "terse")
ORDINARY_OPS = (2, 5, 10, 20, 35, 50)
ORDINARY = 20_000
"""Texts of every op."""
CERTIFIED = 100_000
"""Texts that `certify` throws at the grader."""
SHARE = 0.999
"""Of those of them that are not hostile, under a millisecond."""
Pair = tuple[Exercise, str]


def bench_grading() -> Iterator[str]:
    """Lines for a person: medians of five rounds, with the lowest and the highest; rounds of all kinds take turns.

    The exercises lie in memory, as in training. What is right word for word is known from the literal check, which
    implies the semantic one; everything else is examined.
    """
    yield f"one process, {TEXTS} texts of every kind, medians of {ROUNDS} rounds [lowest, highest]"
    kinds: dict[str, list[Pair]] = {}
    for frames in FRAMES:
        for op in BARS:
            gold = list(_gold(op, frames))
            where = f"{frames}, op {op}"
            kinds[f"gold, {where}"] = gold
            kinds[f"other letters and order of steps, {where}"] = list(_retold(gold))
            kinds[f"reworded, {where}"] = list(_changed(gold, _rewording))
            kinds[f"wrong, {where}"] = list(_changed(gold, _mistake))
    works: dict[str, Callable[[], object]] = {
        f"{name}, both strictnesses": lambda pairs=pairs: [grade(*pair) for pair in pairs]  # type: ignore[misc]
        for name, pairs in kinds.items()
    }
    works |= {
        f"{name}, every statement examined": lambda pairs=pairs: [examine(*pair) for pair in pairs]  # type: ignore[misc]
        for name, pairs in kinds.items()
        if name.startswith("gold")
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:  # the first fills the tables that are kept
                rates[name].append(TEXTS / (time.perf_counter() - began))
    for name, rate in rates.items():
        bar = next((f"; asked for: {BARS[op]:,}" for op in BARS if f"op {op}, both" in name and "gold" in name), "")
        yield f"{name}: {statistics.median(rate):,.0f} a second [{min(rate):,.0f}, {max(rate):,.0f}]{bar}"
    yield from _ordinary()


def _ordinary() -> Iterator[str]:
    """How many texts of the usual length take less than a millisecond of one core, each read for the first time."""
    for op in ORDINARY_OPS:
        exercises = []
        for number in range(400):
            rng = stream(4, "grading", op, number)
            spec = ProblemSpec(op=op, mode=("forward", "reverse")[number % 2])
            exercises.append(render(draw_problem(spec, rng), load_template("zoo", FRAMES[number // 2 % 2]), rng))
        texts = [one for one in fuzz_texts(exercises, ORDINARY, stream(5, "grading", op)) if one[0] not in HOSTILE]
        yield _times_of(f"op {op}, forward and reverse, {' and '.join(FRAMES)}", _seconds(texts))
    source = Source(4, pairs_of((), ()))
    seconds: list[float] = []
    for first in range(0, CERTIFIED, FUZZ_CHUNK):
        seconds += _seconds([one for one in fuzz_of_chunk(source, CERTIFIED, first) if one[0] not in HOSTILE])
    yield f"{_times_of('of a certificate, op 1 to 50, all contexts and frames', seconds)}; asked for: {SHARE:.1%}"


def _seconds(texts: list[tuple[str, Exercise, str | bytes]]) -> list[float]:
    """The time that the grade of each takes."""
    seconds = []
    with without_collector():
        for _, exercise, text in texts:
            began = time.thread_time()
            grade(exercise, text)
            seconds.append(time.thread_time() - began)
    return seconds


def _times_of(what: str, seconds: list[float]) -> str:
    median, late = (1e3 * sorted(seconds)[len(seconds) * part // 1000] for part in (500, 999))
    share = sum(second < 1e-3 for second in seconds) / len(seconds)
    return (
        f"texts of every kind but hostile ones, {what}, {len(seconds):,} of them: {share:.2%} under 1 ms; "
        f"median {median:.2f} ms, 99.9 % under {late:.2f} ms"
    )


def _gold(op: int, frames: str) -> Iterator[Pair]:
    template = load_template("zoo", frames)
    for index in range(TEXTS):
        rng = stream(0, "grading", op, index)
        exercise = render(draw_problem(ProblemSpec(op=op), rng), template, rng)
        grade(exercise, exercise.completion)  # fills what an exercise keeps, as a first grading does
        yield exercise, exercise.completion


def _retold(gold: list[Pair]) -> Iterator[Pair]:
    """What a solver writes who has read only the text."""
    for index, (exercise, _) in enumerate(gold):
        template = load_template(exercise.context, exercise.frames)
        yield exercise, solve_text(exercise.prompt, template, Style(trace_order="random"), stream(1, "grading", index))


def _changed(gold: list[Pair], change: Callable[[Exercise, int], str | None]) -> Iterator[Pair]:
    for index, (exercise, text) in enumerate(gold):
        yield exercise, change(exercise, index) or text


def _rewording(exercise: Exercise, index: int) -> str | None:
    rng = stream(2, "grading", index)
    return reword(exercise, rng.choice(list(EQUIVALENCES)), rng)


def _mistake(exercise: Exercise, index: int) -> str | None:
    return mutate(exercise, "wrong_value", stream(3, "grading", index))
