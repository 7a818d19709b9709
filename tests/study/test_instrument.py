"""The instrument is pinned: what it draws, says and grades does not change without a new number in every identity."""

import hashlib
import json
import random

from gsm_lab.problems import (
    MUTATIONS,
    ProblemSpec,
    Style,
    draw_problem,
    grade,
    known_contexts,
    known_frames,
    load_template,
    mutate,
    render,
)
from gsm_lab.study.recipe import INSTRUMENT

PINNED = {4: "7069663d497bae19"}
"""Digest of what instrument number so-and-so does."""
PLAIN_OPERATIONS = ("add", "subtract", "multiply")


def test_another_instrument_has_another_number():
    """If this fails, the same recipe now gives other problems or grades: raise INSTRUMENT, and pin the new digest."""
    digest = hashlib.sha256()
    for context in known_contexts():
        for frames in known_frames():
            template = load_template(context, frames)
            for number in range(12):
                rng = random.Random(f"{context} {frames} {number}")
                mode = ("forward", "forward", "reverse")[number % 3]
                modulus = 10 if mode == "forward" and number % 2 else None
                style = Style(
                    trace_order=("leaf_first", "goal_directed", "random")[number % 3],
                    sentence_order=("shuffled", "computation", "reversed")[number // 3 % 3],
                    form=("steps", "steps", "steps", "think", "answer_only")[number % 5],
                    checks=0.3 * (number % 4 == 0),
                    recovery=0.3 * (number % 4 == 1),
                    rules=number % 4 == 2,
                )
                spec = ProblemSpec(
                    op=1 + number * 2,
                    mode=mode,
                    depth=(1, 6) if number % 4 == 3 else None,
                    width=(0, 3 + number % 3),
                    implicit_totals=0.4,
                    nested_totals=0.3,
                    modulus=modulus,
                    operations=PLAIN_OPERATIONS if modulus else (*PLAIN_OPERATIONS, "divide"),
                    answers=(0, 9) if modulus else None,
                    balanced=modulus is not None,
                )
                exercise = render(draw_problem(spec, rng), template, rng, style)
                texts = [exercise.completion, *(mutate(exercise, kind, rng) or "" for kind in MUTATIONS)]
                digest.update(json.dumps(exercise.to_dict(), sort_keys=True).encode())
                digest.update("".join(exercise.identities).encode())
                digest.update(json.dumps([grade(exercise, text).to_dict() for text in texts], sort_keys=True).encode())
    assert PINNED.get(INSTRUMENT) == digest.hexdigest()[:16]
