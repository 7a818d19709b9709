"""The certificate: laws 1 and 3 checked on fresh problems, with figures that anybody can recompute."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gsm_lab.errors import DataError
from gsm_lab.problems import (
    MUTATIONS,
    Exercise,
    ProblemSpec,
    Style,
    Template,
    draw_problem,
    grade,
    known_contexts,
    known_frames,
    load_template,
    mutate,
    render,
    solve_text,
)
from gsm_lab.seeds import stream

OPS = range(2, 21)


@dataclass(frozen=True)
class Certificate:
    """What was found, line by line."""

    lines: tuple[str, ...]
    holds: bool


def certify(
    num_problems: int, num_mutations: int, seed: int, advance: Callable[[int, int], None] = lambda done, total: None
) -> Certificate:
    """Let the perfect solver read `num_problems` texts, and the grader `num_mutations` wrong solutions of each class.

    Problems go round all ops from 2 to 20, contexts, frames, orders, with and without a modulus.

    Raises:
        DataError: a number below 1; what was never tried is not certified.
    """
    if num_problems < 1 or num_mutations < 1:
        raise DataError(f"{num_problems} problems and {num_mutations} mutations prove nothing: give 1 or more of each.")
    total = num_problems + num_mutations * len(MUTATIONS)
    lines = []
    solved = 0
    failure = ""
    for index in range(num_problems):
        exercise, template, rng = _exercise(seed, index)
        style = Style(trace_order=rng.choice(["leaf_first", "goal_directed"]))
        result = grade(exercise, solve_text(exercise.prompt, template, style))
        solved += result.verified
        failure = failure or ("" if result.verified else f"  failed: {exercise.prompt!r}: {result.first_error}")
        advance(index + 1, total)
    lines.append(f"perfect solver, from the text alone: {solved} of {num_problems} verified")
    lines += [failure] if failure else []
    holds = solved == num_problems
    for number, kind in enumerate(MUTATIONS):
        caught: Counter[str] = Counter()
        done = index = 0
        while done < num_mutations:
            exercise, _, rng = _exercise(seed, index)
            index += 1
            text = mutate(exercise, kind, rng)
            if text is None:
                continue
            done += 1
            result = grade(exercise, text)
            key = ("caught" if not result.verified else "missed") + (" answer kept" if result.answer_correct else "")
            caught[key] += 1
            advance(num_problems + number * num_mutations + done, total)
        missed = caught["missed"] + caught["missed answer kept"]
        kept = caught["caught answer kept"] + caught["missed answer kept"]
        holds = holds and not missed
        lines.append(
            f"{kind:<22} {num_mutations - missed} of {num_mutations} caught; {kept} of them kept the right answer"
        )
    lines.append("the laws hold" if holds else "A LAW IS BROKEN")
    return Certificate(tuple(lines), holds)


def _exercise(seed: int, index: int) -> tuple[Exercise, Template, random.Random]:
    """Exercise `index` of the certificate: op and template go round, the rest is drawn."""
    rng = stream(seed, "certify", index)
    contexts, frames = known_contexts(), known_frames()
    op = OPS[index % len(OPS)]
    template = load_template(contexts[index % len(contexts)], frames[index // len(contexts) % len(frames)])
    style = Style(
        sentence_order=rng.choice(["shuffled", "computation"]), trace_order=rng.choice(["leaf_first", "goal_directed"])
    )
    spec = ProblemSpec(op=op, implicit_totals=0.3, modulus=rng.choice([None, 10, 23]))
    return render(draw_problem(spec, rng), template, rng, style), template, rng
