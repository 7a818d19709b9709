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
from gsm_lab.problems.style import SENTENCE_ORDERS, TRACE_ORDERS


def varied_exercises(count: int) -> Iterator[tuple[Exercise, Template]]:
    """Exercises over both modes, all ops, contexts, frames, orders and kinds of numbers, always the same ones."""
    for index in range(count):
        rng = random.Random(f"varied {index}")
        template = load_template(rng.choice(known_contexts()), rng.choice(known_frames()))
        style = Style(
            sentence_order=rng.choice(SENTENCE_ORDERS),
            trace_order=rng.choice(TRACE_ORDERS),
            rules=rng.random() < 0.5,
        )
        mode = rng.choice(["forward", "forward", "reverse"])
        modulus = rng.choice([None, 10, 23]) if mode == "forward" else None
        spec = ProblemSpec(
            op=2 + index % 19,
            mode=mode,
            implicit_totals=0.4,
            nested_totals=0.4,
            modulus=modulus,
            operations=("add", "subtract", "multiply") if modulus else ("add", "subtract", "multiply", "divide"),
            width=rng.choice([3, 5]) if index % 19 > 8 else (0, 3),
        )
        yield render(draw_problem(spec, rng), template, rng, style), template


@pytest.fixture(scope="session")
def exercises() -> list[tuple[Exercise, Template]]:
    return list(varied_exercises(600))
