"""Rewards of one grade, each 0 to 1.

Every one of them is affine in its outcome, the yes or no of a verifier: so a noise in the outcome that is corrected on
average is corrected in the reward (`noise.py`). A truncated or unreadable solution has no right answer, but keeps the
process accuracy of the steps it did write.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gsm_lab.errors import RecipeError
from gsm_lab.problems.verdicts import Grade, Verdict

Reward = Callable[[Grade], float]


def outcome(grade: Grade) -> float:
    """0 or 1: 1 for the right answer, however it was reached (arXiv 2501.12948)."""
    return float(grade.answer_correct)


def process(grade: Grade) -> float:
    """0 to 1: the share of needed quantities that were computed rightly (arXiv 2512.07783, section 6)."""
    return grade.process_accuracy


def mix(grade: Grade, alpha: float) -> float:
    """0 to 1: `alpha * outcome + (1 - alpha) * process` (arXiv 2512.07783, section 6)."""
    return _mixed(outcome(grade), grade, alpha)


def gated(grade: Grade, alpha: float) -> float:
    """0 to 1: `mix` where the answer is right, else 0 (what the released code of arXiv 2512.07783 computes)."""
    return _gated(outcome(grade), grade, alpha)


def strict(grade: Grade) -> float:
    """0 or 1: 1 for a verified solution, the right answer with every step right (arXiv 2512.07783, section 6)."""
    return float(grade.verified)


def literal(grade: Grade) -> float:
    """0 or 1: 1 for a verified solution that keeps to the trace grammar word for word; never more than `strict`."""
    return float(grade.literal)


def well_formed(grade: Grade) -> float:
    """0 or 1: 1 for a solution that ended, gave an answer and has no malformed statement, right or wrong.

    Source: the format reward of arXiv 2501.12948.
    """
    unread = grade.verdict in (Verdict.UNREADABLE, Verdict.TRUNCATED)
    return float(not unread and not grade.malformed)


def _mixed(right: float, grade: Grade, alpha: float) -> float:
    return alpha * right + (1 - alpha) * grade.process_accuracy


def _gated(right: float, grade: Grade, alpha: float) -> float:
    return right * _mixed(1.0, grade, alpha)


@dataclass(frozen=True)
class RewardKind:
    """A reward that recipes can name."""

    outcome: Reward
    """What its verifier says, 0 or 1."""
    of: Callable[[float, Grade, float], float]
    """From an outcome, the grade and alpha to the reward; affine in the outcome."""
    uses_outcome: bool = True
    uses_alpha: bool = False


REWARDS: Mapping[str, RewardKind] = {
    "outcome": RewardKind(outcome, lambda right, grade, alpha: right),
    "process": RewardKind(outcome, lambda right, grade, alpha: process(grade), uses_outcome=False),
    "mix": RewardKind(outcome, _mixed, uses_alpha=True),
    "gated": RewardKind(outcome, _gated, uses_alpha=True),
    "strict": RewardKind(strict, lambda right, grade, alpha: right),
    "literal": RewardKind(literal, lambda right, grade, alpha: right),
    "format": RewardKind(outcome, lambda right, grade, alpha: well_formed(grade), uses_outcome=False),
}
"""By the names that recipes use."""


def reward_kind(name: str, alpha: float) -> RewardKind:
    """What a recipe names.

    Raises:
        RecipeError: no reward has that name, or alpha is not a share.
    """
    if not 0 <= alpha <= 1:
        raise RecipeError(f"alpha={alpha}: give the share of the outcome, 0 to 1.")
    if name not in REWARDS:
        raise RecipeError(f"there is no reward {name!r}: give one of {', '.join(REWARDS)}.")
    return REWARDS[name]


def named_reward(name: str, alpha: float = 0.5) -> Reward:
    """The reward that a recipe names; `alpha` counts for "mix" and "gated".

    Raises:
        RecipeError: no reward has that name, or alpha is not a share.
    """
    kind = reward_kind(name, alpha)
    return lambda grade: kind.of(kind.outcome(grade), grade, alpha)
