"""Law 2 by force: thousands of random, spliced and bit-flipped texts, and the laws that every grade keeps."""

import dataclasses
import importlib.util
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gsm_lab.errors import RunError
from gsm_lab.problems import Verdict, compiled_modules, examine, grade
from gsm_lab.problems.reading import read_freely
from gsm_lab.study import fuzz

_PATH = Path(__file__).parent / "fuzz.py"


def _command():
    """The command beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("fuzz_command", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXERCISES = _command().odd_exercises(60)


def broken(count: int, seed: int) -> list[tuple[str, str]]:
    """The laws that so many texts break, with the texts."""
    return [
        (law, repr(text))
        for number, (_, exercise, text) in enumerate(fuzz.fuzz_texts(EXERCISES, count, random.Random(seed)))
        for law in fuzz.broken_laws(exercise, text, is_thorough=number % 10 == 0)[1]
    ]


def test_no_text_breaks_a_law():
    assert broken(2_000, 0) == []


def test_texts_are_of_all_kinds_and_some_are_right():
    """A fuzzer whose texts are all noise finds nothing."""
    verdicts: Counter[tuple[str, Verdict]] = Counter()
    for kind, exercise, text in fuzz.fuzz_texts(EXERCISES, 1_600, random.Random(1)):
        verdicts[kind, grade(exercise, text).verdict] += 1
    assert {kind for kind, _ in verdicts} == set(fuzz.KINDS)
    assert {verdict for _, verdict in verdicts} == set(Verdict) - {Verdict.TRUNCATED}
    assert sum(count for (_, verdict), count in verdicts.items() if verdict is Verdict.CORRECT) > 10


def test_texts_are_functions_of_their_stream():
    one, other = (list(fuzz.fuzz_texts(EXERCISES, 50, random.Random(3))) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("law", "change"),
    [
        ("a literal solution is verified", {"literal": True}),
        ("what is not verified has a reason", {"first_error": None}),
        ("a right answer is the right one", {"answer_correct": True, "answer": -1}),
        ("shares lie in 0 to 1", {"process_accuracy": 1.5}),
        ("a verified solution has the right answer and no error", {"verdict": Verdict.CORRECT}),
        ("grading and examining agree", {"missing": 99}),
    ],
)
def test_a_grader_that_breaks_a_law_is_seen(law: str, change: dict[str, object], monkeypatch):
    monkeypatch.setattr(fuzz, "grade", lambda *args, **kwargs: dataclasses.replace(grade(*args, **kwargs), **change))
    assert law in fuzz.broken_laws(EXERCISES[0], "nothing", is_thorough=False)[1]


def test_marks_outside_the_text_or_in_disorder_are_seen(monkeypatch):
    def moved(exercise, text):
        found = examine(exercise, text)
        return dataclasses.replace(found, marks=found.marks[::-1])

    monkeypatch.setattr(fuzz, "examine", moved)
    assert "marks lie in the text, one after another" in fuzz.broken_laws(EXERCISES[0], EXERCISES[0].completion)[1]


def test_a_grader_that_raises_is_seen(monkeypatch):
    def raising(exercise, text, finished=True):
        raise KeyError("k")

    monkeypatch.setattr(fuzz, "grade", raising)
    verdict, laws = fuzz.broken_laws(EXERCISES[0], "x")
    assert verdict is None
    assert laws == ["grading raises nothing: KeyError: 'k'"]


def search(seconds: float, seed: int) -> tuple[int, float, str]:
    """Texts kept, the share of the grader's lines that were reached, and all that the command printed."""
    command = [sys.executable, str(_PATH), "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) kept; (\d+) of (\d+) lines", done.stdout)
    assert found is not None
    kept, reached, lines = map(int, found.groups())
    missed = done.stdout.split("not reached:")[1].splitlines()[0].split()
    assert reached + len(missed) == lines
    return kept, reached / lines, done.stdout


def test_a_search_reaches_most_lines_of_the_grader_and_breaks_no_law():
    kept, share, _ = search(6.0, 0)
    assert kept > 20
    assert share > 0.6


@pytest.mark.skipif(bool(compiled_modules()), reason="the lines of compiled modules cannot be watched")
def test_a_search_leaves_the_interpreter_as_it_was():
    before = sys.gettrace()
    assert fuzz.explore(EXERCISES, 0.2, 0).reached
    assert sys.gettrace() is before


def test_a_search_of_compiled_modules_is_refused(monkeypatch):
    monkeypatch.setattr(fuzz.problems, "compiled_modules", lambda: ("draw", "examine", "trace"))
    with pytest.raises(RunError, match=r"^examine, trace of gsm_lab.problems are compiled.*tests/problems/fuzz.py"):
        fuzz.explore(EXERCISES, 0.1, 0)


@pytest.mark.parametrize("number", [0, 9])
def test_a_megabyte_is_bounded(number: int):
    """Generous: what it must rule out takes minutes."""
    exercise = EXERCISES[number]
    for text in fuzz.hostile_texts(exercise):
        assert fuzz.hostile_seconds(exercise, text) < 5, text[:80]


def test_hostile_texts_are_as_long_as_the_grader_reads_and_no_longer():
    grammar = EXERCISES[0].grammar
    assert read_freely("a" * fuzz.MOST_READ, grammar) is not None
    assert read_freely("a" * (fuzz.MOST_READ + 20), grammar) is None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_text_of_many_breaks_a_law():
    assert broken(200_000, 7) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_long_search_breaks_no_law():
    _, share, said = search(300.0, 1)
    assert share > 0.8, said
