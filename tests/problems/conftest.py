"""One stream of varied exercises for all tests of problems."""

import random
from collections.abc import Iterator

import pytest

from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    Template,
    draw_problem,
    known_contexts,
    known_frames,
    load_template,
    render,
)


def varied_exercises(count: int) -> Iterator[tuple[Exercise, Template]]:
    """Exercises over all ops, contexts, frames, orders and kinds of numbers, always the same ones."""
    for index in range(count):
        rng = random.Random(f"varied {index}")
        template = load_template(rng.choice(known_contexts()), rng.choice(known_frames()))
        style = Style(
            sentence_order=rng.choice(["shuffled", "computation"]),
            trace_order=rng.choice(["leaf_first", "goal_directed"]),
        )
        spec = ProblemSpec(op=2 + index % 19, implicit_totals=0.4, modulus=rng.choice([None, 10, 23]))
        yield render(draw_problem(spec, rng), template, rng, style), template


@pytest.fixture(scope="session")
def exercises() -> list[tuple[Exercise, Template]]:
    return list(varied_exercises(600))
