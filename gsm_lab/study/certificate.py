"""The certificate: laws 1 and 3 checked on fresh problems, with figures that anybody can recompute."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from gsm_lab.errors import DataError, TemplateError
from gsm_lab.problems import (
    MUTATIONS,
    Exercise,
    ProblemSpec,
    Style,
    Template,
    draw_problem,
    faults,
    grade,
    identities,
    known_contexts,
    known_frames,
    load_template,
    mutate,
    read_problem,
    read_template,
    render,
    solve_text,
)
from gsm_lab.seeds import stream

OPS = range(1, 51)
CHUNK = 250
"""Problems that a worker solves at a time."""
MOST_FAILURES = 3
"""Examples of what failed that are kept."""
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Certificate:
    """What was found, line by line."""

    lines: tuple[str, ...]
    holds: bool


@dataclass(frozen=True)
class Soundness:
    """What became of some problems whose texts were read without their graphs."""

    problems: int = 0
    solved: int = 0
    """The solver, from the text alone, wrote a solution that the grader verified."""
    unreadable: int = 0
    """The text contradicts itself, or holds a sentence that cannot be read, or that can be read in two ways."""
    lost: int = 0
    """The graph in the text is not the one that was told: a premise was lost or changed."""
    gold: int = 0
    """The grader verified the gold solution."""
    failures: tuple[str, ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    """How many problems there were of every mode, context, frames, form and order."""

    def __add__(self, other: Soundness) -> Soundness:
        return Soundness(
            self.problems + other.problems,
            self.solved + other.solved,
            self.unreadable + other.unreadable,
            self.lost + other.lost,
            self.gold + other.gold,
            (*self.failures, *other.failures)[:MOST_FAILURES],
            tuple(sorted((Counter(dict(self.kinds)) + Counter(dict(other.kinds))).items())),
        )

    @property
    def holds(self) -> bool:
        """Whether every text was sound and every solution verified."""
        return self.problems == self.solved == self.gold and not self.unreadable and not self.lost


def certify(
    num_problems: int,
    num_mutations: int,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
    contexts: Sequence[str] = (),
    frames: Sequence[str] = (),
    workers: int = 1,
) -> Certificate:
    """Let the perfect solver read `num_problems` texts, and the grader `num_mutations` wrong solutions of each class.

    Problems go round ops 1 to 50, both modes, contexts and frames (names, or paths of TOML files; all that come with
    gsm_lab where none are given); kinds of numbers, orders and forms are drawn.

    Raises:
        DataError: a number below 1; what was never tried is not certified.
        TemplateError: a context or frames file that cannot be read at all.
    """
    if num_problems < 1 or num_mutations < 1 or workers < 1:
        raise DataError(
            f"{num_problems} problems and {num_mutations} mutations with {workers} workers prove nothing: "
            f"give 1 or more of each."
        )
    pairs = _pairs(tuple(contexts), tuple(frames))
    if wrong := [fault for pair in pairs for fault in _own_faults(pair)]:
        return Certificate((*dict.fromkeys(wrong), "A LAW IS BROKEN"), False)
    total = num_problems + num_mutations * len(MUTATIONS)
    sound = Soundness()
    for part in _parts(seed, num_problems, pairs, workers):
        sound += part
        advance(sound.problems, total)
    lines = [*_lines(sound)]
    holds = sound.holds
    for number, kind in enumerate(MUTATIONS):
        missed, kept = _mutated(kind, num_mutations, seed, pairs)
        holds = holds and not missed
        lines.append(
            f"{kind:<22} {num_mutations - missed} of {num_mutations} caught; {kept} of them kept the right answer"
        )
        advance(num_problems + (number + 1) * num_mutations, total)
    lines.append("the laws hold" if holds else "A LAW IS BROKEN")
    return Certificate(tuple(lines), holds)


def _pairs(contexts: tuple[str, ...], frames: tuple[str, ...]) -> Pairs:
    """Every context with all frames that have words for it.

    A context that is given tells its own language: frames of another one are left out unless they were asked for.
    """
    pairs = []
    for context in contexts or known_contexts():
        for one in frames or known_frames():
            try:
                read_template(context, one)
            except TemplateError:
                if frames or not context.endswith(".toml") or one == "english":
                    raise
                continue
            pairs.append((context, one))
    return tuple(pairs)


def _own_faults(pair: tuple[str, str]) -> list[str]:
    """What is wrong with a template, in all of its places if a file of it was given; tests check those of gsm_lab."""
    template = read_template(*pair)
    return list(faults(template if any(name.endswith(".toml") for name in pair) else template.plain))


def _parts(seed: int, num_problems: int, pairs: Pairs, workers: int) -> Iterator[Soundness]:
    """The soundness of all problems, some at a time."""
    firsts = range(0, num_problems, CHUNK)
    job = partial(soundness, seed, num_problems, pairs)
    if workers == 1:
        yield from map(job, firsts)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, firsts)


def soundness(seed: int, num_problems: int, pairs: Pairs, first: int) -> Soundness:
    """Read and solve problems `first` and those after it, a chunk at most."""
    found = Soundness()
    for index in range(first, min(first + CHUNK, num_problems)):
        exercise, template, rng = _exercise(seed, index, pairs)
        found += _read(exercise, template, rng)
    return found


def _read(exercise: Exercise, template: Template, rng: random.Random) -> Soundness:
    style = exercise.style
    kinds = (exercise.problem.mode, exercise.context, exercise.frames, style.form, style.sentence_order)
    gold = grade(exercise, exercise.completion).verified
    unreadable = lost = solved = False
    reason: str | None = None
    try:
        told = read_problem(exercise.prompt, template)
        lost = identities(told) != exercise.identities or told.answer != exercise.answer
        result = grade(exercise, solve_text(exercise.prompt, template, style, rng))
        solved, reason = result.verified, result.first_error
    except TemplateError as error:
        unreadable, reason = True, str(error)
    failed = not (gold and solved) or unreadable or lost
    return Soundness(
        problems=1,
        solved=int(solved),
        unreadable=int(unreadable),
        lost=int(lost),
        gold=int(gold),
        failures=(f"{exercise.prompt!r}: {reason}",) if failed else (),
        kinds=tuple((kind, 1) for kind in kinds),
    )


def _lines(sound: Soundness) -> Iterator[str]:
    yield f"perfect solver, from the text alone: {sound.solved} of {sound.problems} verified"
    yield f"texts that contradict themselves or cannot be read: {sound.unreadable}; premises lost: {sound.lost}"
    yield f"gold solutions: {sound.gold} of {sound.problems} verified"
    yield "problems by kind: " + ", ".join(f"{kind} {count}" for kind, count in sound.kinds)
    for failure in sound.failures:
        yield f"  failed: {failure}"


def _mutated(kind: str, num_mutations: int, seed: int, pairs: Pairs) -> tuple[int, int]:
    """How many wrong solutions of this class were verified, and how many kept the right answer."""
    done = index = missed = kept = 0
    while done < num_mutations:
        exercise, _, rng = _exercise(seed, index, pairs)
        index += 1
        text = mutate(exercise, kind, rng)
        if text is None:
            continue
        done += 1
        result = grade(exercise, text)
        missed += result.verified
        kept += result.answer_correct
    return missed, kept


def _exercise(seed: int, index: int, pairs: Pairs) -> tuple[Exercise, Template, random.Random]:
    """Exercise `index` of the certificate: mode, op and template go round, the rest is drawn."""
    rng = stream(seed, "certify", index)
    mode = ("forward", "reverse")[index % 2]
    context, frames = pairs[index // 2 % len(pairs)]
    modulus = rng.choice([None, None, 10, 23]) if mode == "forward" else None
    operations = ("add", "subtract", "multiply", "divide") if modulus is None else ("add", "subtract", "multiply")
    spec = ProblemSpec(
        op=OPS[index // 2 % len(OPS)],
        mode=mode,
        width=(0, rng.choice([2, 3, 5])),
        implicit_totals=0.3,
        nested_totals=0.3,
        reuse=rng.choice([0.0, 0.2, 0.5]),
        operations=operations,
        modulus=modulus,
    )
    style = Style(
        sentence_order=rng.choice(["shuffled", "computation", "reversed"]),
        trace_order=rng.choice(["leaf_first", "random", "goal_directed"]),
        form=rng.choice(["steps", "steps", "steps", "think", "answer_only"]),
        checks=rng.choice([0.0, 0.3]),
        recovery=rng.choice([0.0, 0.3]),
        rules=rng.random() < 0.5,
    )
    template = load_template(context, frames)
    return render(draw_problem(spec, rng), template, rng, style), template, rng
