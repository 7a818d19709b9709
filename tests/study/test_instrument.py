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

PINNED = {2: "1554b090bf9063e5"}
"""Digest of what instrument number so-and-so does."""


def test_another_instrument_has_another_number():
    """If this fails, the same recipe now gives other problems or grades: raise INSTRUMENT, and pin the new digest."""
    digest = hashlib.sha256()
    for context in known_contexts():
        for frames in known_frames():
            template = load_template(context, frames)
            for number in range(8):
                rng = random.Random(f"{context} {frames} {number}")
                orders = ("leaf_first", "goal_directed"), ("shuffled", "computation")
                style = Style(trace_order=orders[0][number % 2], sentence_order=orders[1][number // 2 % 2])
                spec = ProblemSpec(op=2 + number * 2, implicit_totals=0.4, modulus=(None, 10)[number % 2])
                exercise = render(draw_problem(spec, rng), template, rng, style)
                texts = [exercise.completion, *(mutate(exercise, kind, rng) or "" for kind in MUTATIONS)]
                digest.update(json.dumps(exercise.to_dict(), sort_keys=True).encode())
                digest.update(exercise.problem_id.encode())
                digest.update(json.dumps([grade(exercise, text).to_dict() for text in texts], sort_keys=True).encode())
    assert PINNED.get(INSTRUMENT) == digest.hexdigest()[:16]
