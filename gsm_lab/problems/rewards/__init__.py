"""Rewards: small pure functions of a grade, and their composition as a recipe names it."""

from gsm_lab.problems.rewards.composition import (
    Attempt,
    Composition,
    Format,
    GroupLength,
    Language,
    LinearLength,
    Score,
    Term,
)
from gsm_lab.problems.rewards.noise import Noise, corrected
from gsm_lab.problems.rewards.of_grade import (
    REWARDS,
    Reward,
    gated,
    literal,
    mix,
    named_reward,
    outcome,
    process,
    strict,
    well_formed,
)
from gsm_lab.problems.rewards.of_steps import at_tokens, computed_steps, shaped_steps, shaping, spread, step_rewards
from gsm_lab.problems.rewards.of_text import group_length, language_consistency, linear_length

__all__ = [
    "REWARDS",
    "Attempt",
    "Composition",
    "Format",
    "GroupLength",
    "Language",
    "LinearLength",
    "Noise",
    "Reward",
    "Score",
    "Term",
    "at_tokens",
    "computed_steps",
    "corrected",
    "gated",
    "group_length",
    "language_consistency",
    "linear_length",
    "literal",
    "mix",
    "named_reward",
    "outcome",
    "process",
    "shaped_steps",
    "shaping",
    "spread",
    "step_rewards",
    "strict",
    "well_formed",
]
