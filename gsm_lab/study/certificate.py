"""The certificate: the laws of problems and grades, checked on fresh exercises, in figures that anybody can recompute.

Everything in it but the times is a function of its settings: the same figures whatever the number of workers. A
checksum over its JSON shows whether a figure was changed since.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from gsm_lab.data import SPLITS, read_manifest
from gsm_lab.errors import DataError, TemplateError
from gsm_lab.problems import (
    MUTATIONS,
    Exercise,
    equivalences,
    grade,
    identities,
    mutate,
    read_problem,
    solve_text,
)
from gsm_lab.seeds import stream
from gsm_lab.study.certificate_page import lines_of, page_of
from gsm_lab.study.certificate_source import Source, guesses_of, identities_of, own_faults, pairs_of
from gsm_lab.study.fuzz import broken_laws, fuzz_texts, hostile_seconds, hostile_texts

FORMAT = "gsm_lab certificate, layout 1"
CHUNK = 100
"""Problems that a worker solves at a time."""
FUZZ_CHUNK = 1_000
FEW = 10
"""Exercises that a worker changes at a time, in every way that is still wanted."""
ROUND = 64
"""So many times `FEW` exercises at most go by before it is looked at what is still wanted."""
MOST_TRIES = 60
"""For every changed solution that is wanted, so many exercises at most are searched for a place."""
FEWEST_TRIES = 120
"""A change that finds no place in so many exercises of a mode has none there."""
MOST_FAILURES = 3
"""Examples of every broken law that are kept."""
GUESSED_OPS = (2, 4, 8, 16, 32)
MOST_GUESSED = 400
MOST_IDENTITIES = 2_000
HOSTILE = 8
"""Exercises in whose words hostile texts are measured."""
MOST_SECONDS = 5.0
"""Processor time that no text of a megabyte may take; generous, for what it must rule out takes minutes."""
In = TypeVar("In")
Out = TypeVar("Out")
Key = tuple[str, ...]
Tally = tuple[Counter[Key], list[dict[str, Any]]]
"""Counts by part, kind and so on; and examples of broken laws."""


@dataclass(frozen=True)
class Certificate:
    """What was found; `signed` is the same for the same settings, `times` are this machine's."""

    signed: Mapping[str, Any]
    times: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def holds(self) -> bool:
        """Whether every law does."""
        return bool(self.signed["holds"]) and bool(self.times.get("hold", True))

    @property
    def lines(self) -> tuple[str, ...]:
        """What was found, line by line, for a person."""
        return (*lines_of(self.signed, self.times), "the laws hold" if self.holds else "A LAW IS BROKEN")

    def document(self) -> dict[str, Any]:
        """A value that JSON can hold, with its checksum."""
        return {**self.signed, "checksum": _checksum(self.signed), "times": dict(self.times)}

    def page(self) -> str:
        """All of it as one HTML page."""
        return page_of(self.signed, self.times, _checksum(self.signed))


def check_document(document: Mapping[str, Any]) -> Certificate:
    """The certificate that a document holds, if nobody changed it.

    Raises:
        DataError: it is none of ours, or its figures are not those that its checksum was made from.
    """
    signed = {key: value for key, value in document.items() if key not in ("checksum", "times")}
    if document.get("format") != FORMAT:
        raise DataError(f"format={document.get('format')!r}: this is not a {FORMAT}: certify again.")
    if document.get("checksum") != _checksum(signed):
        raise DataError(
            f"the checksum {document.get('checksum')} is not that of the figures, {_checksum(signed)}: "
            f"they were changed after they were signed; certify again."
        )
    return Certificate(signed, document.get("times", {}))


def _checksum(signed: Mapping[str, Any]) -> str:
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------ parts


def _example(
    law: str, exercise: Exercise, text: str | bytes, reason: str | None, place: Sequence[Any]
) -> dict[str, Any]:
    """What it takes to see a law broken again."""
    return {
        "law": law,
        "reason": reason,
        "stream": list(place),
        "problem_id": exercise.problem_id,
        "context": exercise.context,
        "frames": exercise.frames,
        "prompt": exercise.prompt,
        "text": text if isinstance(text, str) else text.decode("utf-8", "backslashreplace"),
    }


def solved_chunk(source: Source, num: int, first: int) -> Tally:
    """Let the perfect solver read problems `first` and those after it, and grade gold solutions told otherwise."""
    counts: Counter[Key] = Counter()
    examples: list[dict[str, Any]] = []
    for index in range(first, min(first + CHUNK, num)):
        exercise, template, rng = source.exercise("solve", index)
        place = (source.seed, "solve", index)
        style = exercise.style
        kinds = (exercise.problem.mode, exercise.context, exercise.frames, style.form, style.sentence_order)
        counts.update({("kinds", kind): 1 for kind in kinds})
        counts["solver", "problems"] += 1
        try:
            told = read_problem(exercise.prompt, template)
            solution = solve_text(exercise.prompt, template, style, rng)
        except TemplateError as error:
            counts["solver", "unreadable"] += 1
            examples.append(_example("texts can be read", exercise, exercise.prompt, str(error), place))
            continue
        texts = {"solver": solution, "gold": exercise.completion, "reordered": equivalences.reordered(exercise, rng)}
        for name, text in texts.items():
            found = grade(exercise, text)
            counts[name, "verified"] += found.verified
            counts[name, "literal"] += found.literal
            if not found.verified or not found.literal:
                examples.append(_example(_ACCEPTED[name], exercise, text, found.first_error, place))
        if identities(told) != exercise.identities or told.answer != exercise.answer:
            counts["solver", "lost"] += 1
            examples.append(_example("texts tell the problem", exercise, exercise.prompt, "another problem", place))
    return counts, examples


_ACCEPTED = {
    "solver": "the perfect solver is right",
    "gold": "gold is right in both strictnesses",
    "reordered": "gold is right with other letters and in another order, in both strictnesses",
}


def changed_chunk(source: Source, mode: str, wanted: Sequence[tuple[str, str]], first: int) -> Tally:
    """Change exercises `first` and those after it in every way that is wanted, and grade what comes of it."""
    counts: Counter[Key] = Counter()
    examples: list[dict[str, Any]] = []
    for index in range(first, first + FEW):
        exercise, _, _ = source.exercise("change", index, mode)
        for group, kind in wanted:
            own = stream(source.seed, "certify", "change", mode, index, kind)
            text = (mutate if group == "mutations" else equivalences.reword)(exercise, kind, own)
            if text is None:
                continue
            found = grade(exercise, text)
            key = (group, kind, exercise.problem.mode, exercise.frames)
            counts[*key, "tried"] += 1
            counts[*key, "verified"] += found.verified
            counts[*key, "literal"] += found.literal
            counts[*key, "right answer"] += found.answer_correct
            counts[*key, "named"] += bool(found.deviation)
            place = (source.seed, "change", mode, index, kind)
            if group == "mutations" and (found.verified or found.literal):
                examples.append(_example(f"{kind} is caught", exercise, text, "it is accepted", place))
            elif group == "equivalences" and (not found.verified or found.literal or not found.deviation):
                reason = "it is literal" if found.literal else found.first_error or "no deviation is named"
                examples.append(_example(f"{kind} is accepted, not literal, and named", exercise, text, reason, place))
    return counts, examples


def fuzz_of_chunk(source: Source, num: int, first: int) -> Iterator[tuple[str, Exercise, str | bytes]]:
    """Texts `first` and those after it, of `num` in all: kind, exercise and text."""
    exercises = [source.exercise("fuzz", first // FUZZ_CHUNK * 16 + number)[0] for number in range(16)]
    rng = stream(source.seed, "certify", "fuzz texts", first)
    return fuzz_texts(exercises, min(FUZZ_CHUNK, num - first), rng)


def fuzzed_chunk(source: Source, num: int, first: int) -> Tally:
    """Throw texts `first` and those after it at the grader."""
    counts: Counter[Key] = Counter()
    examples: list[dict[str, Any]] = []
    texts = fuzz_of_chunk(source, num, first)
    for number, (kind, exercise, text) in enumerate(texts):
        verdict, laws = broken_laws(exercise, text, is_thorough=number % 10 == 0)
        counts["fuzz", kind, str(verdict)] += 1
        for law in laws:
            examples.append(_example(law, exercise, text, None, (source.seed, "fuzz texts", first, number)))
    return counts, examples


# ------------------------------------------------------------------------------------ the whole


def certify(
    num_problems: int,
    num_mutations: int,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
    contexts: Sequence[str] = (),
    frames: Sequence[str] = (),
    workers: int = 1,
    *,
    num_equivalences: int | None = None,
    num_fuzz: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Path | str | None = None,
    is_timed: bool = True,
) -> Certificate:
    """Check the laws: on `num_problems` texts, and on so many changed solutions of each class and mode.

    Problems go round ops 1 to 50, both modes, contexts and frames (names, or paths of TOML files; all that come with
    gsm_lab where none are given); kinds of numbers, orders and forms are drawn, but for what `settings` of
    `ProblemSpec` and `Style` say. Or they are those of a data set, `data`. There are as many equivalences as mutations
    and five times as many random texts as problems, if nothing is said. `is_timed` measures texts of a megabyte, too.

    Raises:
        DataError: a number below 1, as what was never tried is not certified; or `data` beside words or settings.
        TemplateError: a context or frames file that cannot be read at all.
        SpecError: settings that contradict each other.
    """
    num_equivalences = num_mutations if num_equivalences is None else num_equivalences
    num_fuzz = 5 * num_problems if num_fuzz is None else num_fuzz
    if min(num_problems, num_mutations, num_equivalences, num_fuzz, workers) < 1:
        raise DataError(
            f"{num_problems} problems, {num_mutations} mutations, {num_equivalences} equivalences and {num_fuzz} "
            f"random texts with {workers} workers prove nothing: give 1 or more of each."
        )
    if data is not None and (contexts or frames or settings):
        raise DataError(
            f"data={str(data)!r} has words and settings of its own: leave out contexts, frames and settings, or data."
        )
    pairs = () if data is not None else pairs_of(tuple(contexts), tuple(frames))
    source = Source(seed, pairs, tuple(sorted((settings or {}).items())), None if data is None else str(data))
    sizes = {
        "problems": num_problems,
        "mutations": num_mutations,
        "equivalences": num_equivalences,
        "fuzz": num_fuzz,
    }
    signed: dict[str, Any] = {"format": FORMAT, "gsm_lab": _our_version(), "python": platform.python_version()}
    signed["settings"] = {"sizes": sizes, **json.loads(json.dumps(asdict(source)))}
    if wrong := [fault for pair in pairs for fault in own_faults(pair)]:
        return Certificate({**signed, "faults": list(dict.fromkeys(wrong)), "holds": False})
    began = time.monotonic()
    with _crew(workers) as crew:
        figures, broken = _figures(source, sizes, crew, advance)
        seconds = list(crew(partial(hostile_of, source), range(HOSTILE))) if is_timed else []
    slowest = max(seconds, default=0.0)
    times = {
        "slowest_megabyte": slowest if is_timed else None,
        "bound": MOST_SECONDS,
        "hold": slowest <= MOST_SECONDS,
        "seconds": round(time.monotonic() - began, 1),
        "workers": workers,
    }
    return Certificate({**signed, "figures": figures, "broken": broken, "holds": not broken}, times)


def _our_version() -> str:
    try:
        return version("gsm-lab")
    except PackageNotFoundError:
        return "source tree"


@dataclass(frozen=True)
class Crew:
    """Does a job for every item, in their order: this process alone, or several."""

    pool: ProcessPoolExecutor | None

    def __call__(self, job: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        return map(job, items) if self.pool is None else self.pool.map(job, items)


@contextmanager
def _crew(workers: int) -> Iterator[Crew]:
    if workers == 1:
        yield Crew(None)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield Crew(pool)


def _figures(
    source: Source, sizes: Mapping[str, int], crew: Crew, advance: Callable[[int, int], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All figures, and the laws that are broken with examples."""
    counts: Counter[Key] = Counter()
    examples: list[dict[str, Any]] = []
    total = (
        sizes["problems"]
        + sizes["fuzz"]
        + len(source.modes)
        * (sizes["mutations"] * len(MUTATIONS) + sizes["equivalences"] * len(equivalences.EQUIVALENCES))
    )
    done = 0

    def add(parts: Iterable[Tally], size: Callable[[Counter[Key]], int]) -> None:
        nonlocal done
        for own, broken in parts:
            counts.update(own)
            examples.extend(broken)
            done = min(total, done + size(own))
            advance(done, total)

    # the quick parts come first: settings that cannot be met are known before long work
    shared = _identities(source, sizes["problems"], crew, examples)
    guesses = _guesses(source, sizes["problems"], crew)
    problems, texts = sizes["problems"], sizes["fuzz"]
    add(crew(partial(solved_chunk, source, problems), range(0, problems, CHUNK)), lambda own: own["solver", "problems"])
    for mode in source.modes:
        index = 0
        while wanted := _wanted(counts, sizes, mode, index):
            most = max(sizes["mutations"], sizes["equivalences"])
            firsts = range(index, index + FEW * min(ROUND, -(-most // FEW)), FEW)
            add(crew(partial(changed_chunk, source, mode, wanted), firsts), lambda own: _num_tried(own))
            index = firsts[-1] + FEW
            counts["searched", mode] = index
    add(crew(partial(fuzzed_chunk, source, texts), range(0, texts, FUZZ_CHUNK)), lambda own: own.total())
    figures: dict[str, Any] = {
        "solver": {name: counts[key] for name, key in _SOLVER.items()},
        "kinds": {key[1]: count for key, count in sorted(counts.items()) if key[0] == "kinds"},
        "searched": {mode: counts["searched", mode] for mode in source.modes},
        "guesses": guesses,
        "identities": shared,
    }
    for group in ("mutations", "equivalences", "fuzz"):
        figures[group] = _nested({key[1:]: count for key, count in sorted(counts.items()) if key[0] == group})
    return figures, _broken(examples)


_SOLVER = {
    "problems": ("solver", "problems"),
    "solved": ("solver", "verified"),
    "unreadable": ("solver", "unreadable"),
    "lost": ("solver", "lost"),
    "gold": ("gold", "verified"),
    "gold_literal": ("gold", "literal"),
    "reordered": ("reordered", "verified"),
    "reordered_literal": ("reordered", "literal"),
}


def _num_tried(counts: Counter[Key]) -> int:
    return sum(count for key, count in counts.items() if key[-1] == "tried")


def _wanted(counts: Counter[Key], sizes: Mapping[str, int], mode: str, searched: int) -> list[tuple[str, str]]:
    """The kinds of changes of which there are too few in a mode, and maybe more to be found."""
    tried: Counter[tuple[str, str]] = Counter()
    for key, count in counts.items():
        if key[-1] == "tried" and key[2] == mode:
            tried[key[0], key[1]] += count
    kinds = [("mutations", kind) for kind in MUTATIONS]
    kinds += [("equivalences", kind) for kind in equivalences.EQUIVALENCES]
    return [
        pair
        for pair in kinds
        if tried[pair] < sizes[pair[0]]
        and searched < (MOST_TRIES * sizes[pair[0]] if tried[pair] else max(FEWEST_TRIES, 2 * sizes[pair[0]]))
    ]


def _nested(counts: Mapping[Key, int]) -> dict[str, Any]:
    """Counts as dictionaries in dictionaries, one for every part of their keys."""
    result: dict[str, Any] = {}
    for key, count in counts.items():
        inner = result
        for part in key[:-1]:
            inner = inner.setdefault(part, {})
        inner[key[-1]] = count
    return result


def _guesses(source: Source, num_problems: int, crew: Crew) -> list[dict[str, Any]]:
    """How far the best guesses go; none for a data set, whose card tells them."""
    if source.data is not None:
        return []
    settings = dict(source.settings)
    ops = (settings["op"],) if "op" in settings else GUESSED_OPS
    jobs = [(op, mode) for op in ops for mode in source.modes]
    parts = crew(partial(guesses_of, source, min(MOST_GUESSED, num_problems)), jobs)
    return [row for part in parts for row in part]


def _identities(source: Source, num_problems: int, crew: Crew, examples: list[dict[str, Any]]) -> dict[str, int]:
    """How many different problems every split has, and how many are in two."""
    splits = list(SPLITS) if source.data is None else list(read_manifest(source.data)["splits"])
    known: dict[str, str] = {}
    figures: dict[str, int] = {}
    shared = 0
    for split, own in zip(
        splits, crew(partial(identities_of, source, min(MOST_IDENTITIES, num_problems)), splits), strict=True
    ):
        figures[split] = len(own)
        for identity in own:
            if known.setdefault(identity, split) != split:
                shared += 1
                law = "no problem is in two splits"
                examples.append({"law": law, "reason": f"{known[identity]} and {split}", "problem_id": identity})
    return figures | {"in two splits": shared}


def _broken(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every broken law with how often it was, and its first examples."""
    found: dict[str, dict[str, Any]] = {}
    for example in examples:
        law = found.setdefault(example["law"], {"law": example["law"], "times": 0, "examples": []})
        law["times"] += 1
        if len(law["examples"]) < MOST_FAILURES:
            law["examples"].append({key: value for key, value in example.items() if key != "law"})
    return list(found.values())


def hostile_of(source: Source, index: int) -> float:
    """The most seconds that hostile texts of a megabyte take in one exercise."""
    exercise = source.exercise("hostile", index)[0]
    return max(hostile_seconds(exercise, text) for text in hostile_texts(exercise))
