"""Every template that comes with gsm_lab (its first ten places), one tokenizer for all of them, and a small mixture."""

import pytest

from gsm_lab.data import Mixture, Slice, Tokenizer
from gsm_lab.problems import ProblemSpec, Template, known_contexts, known_frames, load_template


@pytest.fixture(scope="session")
def templates() -> list[Template]:
    return [load_template(context, frames).limited(10, 10) for context in known_contexts() for frames in known_frames()]


@pytest.fixture(scope="session")
def tokenizer(templates: list[Template]) -> Tokenizer:
    return Tokenizer.for_templates(templates)


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    return Mixture(
        (
            Slice(ProblemSpec(op=3), "zoo", "english", 0.25),
            Slice(ProblemSpec(op=5), "school", "terse", 0.75),
        )
    )
