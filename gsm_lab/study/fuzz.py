"""Texts that no solver would write, and the laws that the grader keeps whatever it reads.

A text is random, spliced from solutions, or a solution with some of its characters changed. A search that watches which
lines of the grader a text reaches keeps those that reach new ones, and goes on from them.
"""

from __future__ import annotations

import inspect
import itertools
import random
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm_lab import problems
from gsm_lab.errors import RunError
from gsm_lab.problems import MUTATIONS, Exercise, Verdict, equivalences, examine, grade, mutate

MOST_CHARACTERS = 6_000
"""A text grows no longer than this; hostile texts of a megabyte are measured apart."""
MOST_READ = problems.MOST_CHARACTERS - 10
"""Of a text with no more characters than this the grader reads all."""
WATCHED = ("algebra", "chains", "definitions", "equations", "examine", "grade", "literal", "marks", "reading", "trace")
"""The modules of the grader, whose lines the search counts."""
_ODD = (
    "\x00\ufeff\u202e\ud800\u0663\u00b2\u00d7\u2212\u00bd\uff11\u3002\uff0c\U0001f600"
    "\t\n\r \\${}[]<>|#*_`~^%&@!?;:,.'\""
)
_WORDS = (
    *("=", "= =", "+", "-", "*", "/", "(", ")", "( (", ") )", "0", "1", "-1", "007", "1e9", "9" * 13, "2.5", "1,200"),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\\boxed{",
        "}",
        "####",
        "**",
        "$",
        "\n- ",
        "\n1. ",
        "so",
        "Wait",
    ),
)


@dataclass(frozen=True)
class Finding:
    """A law that a text breaks."""

    law: str
    exercise: Exercise
    text: str | bytes


# ------------------------------------------------------------------------------------ texts


def _random_text(gold: str, other: str, rng: random.Random) -> str | bytes:
    """Characters or bytes of any kind."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randint(0, 120))
    alphabet = gold + _ODD
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 200)))


def _words(gold: str, other: str, rng: random.Random) -> str:
    """Words of two solutions in any order."""
    words = [*gold.split(" "), *other.split(" ")[:20], *_WORDS]
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, 80)))


def _spliced(gold: str, other: str, rng: random.Random) -> str:
    """Statements of two solutions in any order, some of them twice, some left out."""
    end = next((mark for mark in ("。", ". ", ";") if mark in gold), " ")
    parts = [*gold.split(end), *rng.sample(other.split(end), min(len(other.split(end)), rng.randint(0, 3)))]
    first = rng.randrange(len(parts))
    for _ in range(rng.randint(1, 4)):
        one, two = rng.randrange(len(parts)), rng.randrange(len(parts))
        parts[one], parts[two] = parts[two], parts[one] if rng.random() < 0.7 else parts[two]
    return end.join(parts[first:] + parts[:first] if rng.random() < 0.2 else parts)


def _flipped(gold: str, other: str, rng: random.Random) -> bytes:
    """A solution with some bits turned over."""
    text = bytearray(gold.encode("utf-8", "surrogatepass"))
    for _ in range(rng.randint(1, 4)):
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return bytes(text)


def _edited(gold: str, other: str, rng: random.Random) -> str:
    """A solution with some spans left out, doubled, or replaced by words."""
    text = gold
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        span = text[start : start + rng.randint(0, 12)]
        new = rng.choice(("", span * 2, rng.choice(_WORDS), rng.choice(_ODD), rng.choice(other or " ")))
        text = text[:start] + new + text[start + len(span) :]
    return text


def _digits(gold: str, other: str, rng: random.Random) -> str:
    """A solution with one digit or sign changed."""
    places = [at for at, character in enumerate(gold) if character in "0123456789+-*/"]
    if not places:
        return gold
    at = rng.choice(places)
    return gold[:at] + rng.choice("0123456789" if gold[at].isdigit() else "+-*/=") + gold[at + 1 :]


def _cut(gold: str, other: str, rng: random.Random) -> str:
    """A part of a solution, or a solution with the end of another."""
    head = gold[: rng.randrange(len(gold) + 1)]
    return head if rng.random() < 0.5 else head + other[rng.randrange(len(other) + 1) :]


def _nested(gold: str, other: str, rng: random.Random) -> str:
    """A solution with a long expression in place of a number."""
    at = max(gold.find(str(rng.randint(0, 9))), 0)
    number = str(rng.randint(0, 30))
    depth = rng.randint(1, 80)
    long = rng.choice(
        ("( " * depth + number + " )" * depth, f"{number} + " * depth + "1", f"{number} * " * depth + "1")
    )
    return gold[:at] + long + gold[at + 1 :]


HOSTILE = ("nested",)
"""The kinds of texts that were made to take long."""
KINDS: dict[str, Callable[[str, str, random.Random], str | bytes]] = {
    "random": _random_text,
    "words": _words,
    "spliced": _spliced,
    "bits": _flipped,
    "edited": _edited,
    "digits": _digits,
    "cut": _cut,
    "nested": _nested,
}


def base_text(exercise: Exercise, rng: random.Random) -> str:
    """The gold solution, or a wrong or reworded one: what texts are made from."""
    drawn = rng.random()
    if drawn < 0.4:
        return mutate(exercise, rng.choice(list(MUTATIONS)), rng) or exercise.completion
    if drawn < 0.7:
        return equivalences.reword(exercise, rng.choice(list(equivalences.EQUIVALENCES)), rng) or exercise.completion
    return exercise.completion


def fuzz_texts(
    exercises: Sequence[Exercise], count: int, rng: random.Random
) -> Iterator[tuple[str, Exercise, str | bytes]]:
    """So many texts, each with its kind and the exercise that it pretends to solve."""
    kinds = list(KINDS)
    for number in range(count):
        exercise, other = rng.choice(exercises), rng.choice(exercises)
        kind = kinds[number % len(kinds)]
        text = KINDS[kind](base_text(exercise, rng) or " ", base_text(other, rng), rng)
        yield kind, exercise, text[:MOST_CHARACTERS]


def hostile_texts(exercise: Exercise) -> list[str]:
    """Texts made to take long, in the words of an exercise; `hostile_seconds` repeats them up to a megabyte."""
    name, grammar = exercise.asked_name, exercise.grammar
    letter = "k" if grammar.has_variables else name
    great = " * ".join(["999999999999"] * 60)
    ones = "1 = 1 + 1 + 1 + 0 + 0 + 0 = 2 + 0 + 1 + 0 + 0 = 2 + 1 + 0"
    forms = " + ".join([f"3 * {letter} + 2"] * 20) + " = " + " + ".join([f"2 + 3 * {letter}"] * 20)
    products = " * ".join([f"( {letter} + 1 )"] * 30) + " = " + " * ".join([f"( 1 + {letter} )"] * 30)
    chains = [
        "3",
        ones,
        forms,
        products,
        " + ".join(["1"] * 64),
        "( " * 19 + letter + " + 1 )" * 19,
        "1 = " * 1_000 + "1",
    ]
    said = [grammar.step.format(n=name, v=letter, chain=chain) for chain in chains]
    said += [grammar.step.format(n=f"{name} {'x' * 190}", v="x" * 60, chain="1")]
    said += [grammar.plan.format(n=name, expression=" - ".join([name] * 60)), grammar.unknown.format(n=name, v=letter)]
    said += [grammar.given.format(n=name, value=14, equation=" + ".join([letter] * 60) + " = 14")]
    said += [
        grammar.solve.format(equation=f"{letter} = {great} = 4"),
        grammar.check.format(equation="1 = " * 1_000 + "1"),
    ]
    said += [grammar.retract, f"{grammar.check.format(equation='1 = 1')} {grammar.retract}"]
    said += [grammar.answer.format(value="9" * 40_000) + grammar.statement_end]
    return [
        *(text + " " for text in said),
        *("(" * 20_000, "1" * 40_000, "Define " * 7_000, "<think> ", "**" * 3_000 + "1. - * ", "\n- " * 999),
        "$" * 500 + "\\boxed{" * 500 + " ",
        "\u00d7" * 999 + name,
    ]


def hostile_seconds(exercise: Exercise, text: str) -> float:
    """The processor time that grading a text takes, repeated to a megabyte, or to what is just read."""
    slowest = 0.0
    gold = exercise.completion
    for length, before in ((1_000_000, ""), (MOST_READ - len(gold), gold), (MOST_READ, "")):
        whole = before + (text * (length // len(text) + 1))[:length]
        began = time.process_time()
        grade(exercise, whole)
        slowest = max(slowest, time.process_time() - began)
    return slowest


# ------------------------------------------------------------------------------------ laws


def broken_laws(exercise: Exercise, text: str | bytes, is_thorough: bool = True) -> tuple[Verdict | None, list[str]]:
    """The verdict of a text, and the laws that grading it breaks; the verdict is None if it raised.

    `is_thorough` also grades it twice, and as an unfinished text.
    """
    try:
        found = examine(exercise, text)
        again = grade(exercise, text)
        cut = grade(exercise, text, finished=False) if is_thorough else None
    except Exception as error:  # the law is that nothing is raised: it becomes a finding
        return None, [f"grading raises nothing: {type(error).__name__}: {error}"]
    one = again
    length = len(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    marks = found.marks
    ordered = all(0 <= mark.start <= mark.end <= length for mark in marks) and all(
        before.end <= after.start for before, after in itertools.pairwise(marks)
    )
    is_right = one.answer == exercise.answer and one.answer_correct and one.first_error is None and not one.findings
    laws = {
        "a literal solution is verified": not one.literal or one.verified,
        "a verified solution has the right answer and no error": not one.verified or is_right,
        "a verified solution has computed all": not one.verified
        or exercise.style.form == "answer_only"
        or one.process_accuracy == 1,
        "a verified solution that is not literal names a deviation": not one.verified
        or one.literal != bool(one.deviation),
        "what is not verified has a reason": one.verified or one.first_error is not None,
        "a right answer is the right one": not one.answer_correct or one.answer == exercise.answer,
        "shares lie in 0 to 1": 0 <= one.process_accuracy <= 1,
        "there are 20 findings at most": len(one.findings) <= 20,
        "marks lie in the text, one after another": ordered,
        "the gains of all marks make up the process accuracy": abs(
            sum(mark.gain for mark in marks) - one.process_accuracy
        )
        < 1e-9,
        "grading and examining agree": again == found.grade,
        "grading is deterministic": not is_thorough or grade(exercise, text) == again,
        "an unfinished text is truncated": cut is None
        or (cut.verdict is Verdict.TRUNCATED and not cut.literal and not cut.answer_correct),
    }
    return one.verdict, [law for law, is_kept in laws.items() if not is_kept]


# ------------------------------------------------------------------------------------ the search


@dataclass(frozen=True)
class Search:
    """What a search for new lines of the grader found."""

    texts: int
    kept: int
    """Texts that reached a line that none before them had reached."""
    reached: int
    lines: int
    """Lines of the grader that can be reached, those of its functions."""
    missed: tuple[str, ...]
    """Where the lines are that no text reached."""
    findings: tuple[Finding, ...]


def explore(exercises: Sequence[Exercise], seconds: float, seed: int) -> Search:
    """Throw texts at the grader for so long; texts that reach new lines of it are changed further.

    Raises:
        RunError: the grader is compiled, and its lines cannot be watched.
    """
    if compiled := sorted(set(WATCHED).intersection(problems.compiled_modules())):
        raise RunError(
            f"{', '.join(compiled)} of gsm_lab.problems are compiled, and nobody can watch their lines: run "
            f"tests/problems/fuzz.py, which takes a copy of the sources."
        )
    rng = random.Random(seed)
    folder = Path(str(problems.__file__)).parent
    files = {str(folder / f"{name}.py") for name in WATCHED}
    wanted = {(path, line) for path in files for line in _lines_of(Path(path))}
    reached: set[tuple[str, int]] = set()
    corpus: list[tuple[Exercise, str]] = []
    findings: list[Finding] = []
    texts = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = rng.choice(list(KINDS))
        if corpus and rng.random() < 0.7:
            exercise, base = rng.choice(corpus)
        else:
            exercise = rng.choice(exercises)
            base = base_text(exercise, rng)
        other = rng.choice(exercises)
        text = KINDS[kind](base or " ", base_text(other, rng), rng)[:MOST_CHARACTERS]
        new, laws = _watched(exercise, text, files)
        texts += 1
        findings += [Finding(law, exercise, text) for law in laws]
        if not new <= reached:
            reached |= new
            corpus.append((exercise, text if isinstance(text, str) else text.decode("utf-8", "replace")))
    missed = sorted(f"{Path(path).name}:{line}" for path, line in wanted - reached)
    return Search(texts, len(corpus), len(reached & wanted), len(wanted), tuple(missed), tuple(findings))


def _watched(exercise: Exercise, text: str | bytes, files: set[str]) -> tuple[set[tuple[str, int]], list[str]]:
    """The lines of these files that grading a text runs, and the laws that it breaks."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: types.FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if path not in files:
            return None
        if event == "line":
            lines.add((path, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _, laws = broken_laws(exercise, text, is_thorough=False)
    finally:
        sys.settrace(before)
    return lines, laws


def _lines_of(path: Path) -> set[int]:
    """The lines of the functions of a module, without those of their heads."""
    waiting = [compile(path.read_text(encoding="utf-8"), str(path), "exec")]
    lines: set[int] = set()
    while waiting:
        code = waiting.pop()
        waiting += [one for one in code.co_consts if isinstance(one, types.CodeType)]
        if code.co_flags & inspect.CO_OPTIMIZED:  # a function, not a module or a class
            lines |= {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}
    return lines
