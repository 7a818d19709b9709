"""Wrong, early, lonely or second answers."""

import random

from gsm_lab.problems.mutations.changes import Rows
from gsm_lab.problems.rewriting import Gold
from gsm_lab.problems.statements import Answer


def wrong_answer(gold: Gold, rng: random.Random) -> Rows:
    """All steps right, and the value of something else given as the answer."""
    others = sorted(set(gold.exercise.value_of.values()) - {gold.exercise.answer})
    value = rng.choice(others) if others else gold.other(gold.exercise.answer, rng)
    return [*gold.statements[:-1], Answer(value)]


def answer_first(gold: Gold, rng: random.Random) -> Rows:
    """The right answer before the first step, the right work after it."""
    return [gold.statements[-1], *gold.statements[:-1]]


def answer_alone(gold: Gold, rng: random.Random) -> Rows:
    """The right answer without any work."""
    return [gold.statements[-1]]


def second_answer(gold: Gold, rng: random.Random) -> Rows:
    """The right answer, and another one after it."""
    return [*gold.statements, Answer(gold.other(gold.exercise.answer, rng))]


def changed_answer(gold: Gold, rng: random.Random) -> Rows:
    """A wrong answer, and the right one after it."""
    return [*gold.statements[:-1], Answer(gold.other(gold.exercise.answer, rng)), gold.statements[-1]]
