"""Rewards: small pure functions of a grade.

A truncated or unreadable solution has no right answer, but keeps the process accuracy of the steps it did write.
"""

from collections.abc import Callable

from gsm_lab.errors import RecipeError
from gsm_lab.problems.grade import Grade

Reward = Callable[[Grade], float]


def outcome(grade: Grade) -> float:
    """1 for the right answer, however it was reached."""
    return float(grade.answer_correct)


def process(grade: Grade) -> float:
    """The share of needed quantities that were computed rightly, 0 to 1."""
    return grade.process_accuracy


def mix(grade: Grade, alpha: float) -> float:
    """`alpha * outcome + (1 - alpha) * process` (arXiv 2512.07783, section 6)."""
    return alpha * outcome(grade) + (1 - alpha) * process(grade)


def gated(grade: Grade, alpha: float) -> float:
    """`mix` where the answer is right, else 0 (what the released code of arXiv 2512.07783 computes)."""
    return mix(grade, alpha) if grade.answer_correct else 0.0


def strict(grade: Grade) -> float:
    """1 for a verified solution: right answer, every step right."""
    return float(grade.verified)


def named_reward(name: str, alpha: float = 0.5) -> Reward:
    """The reward that a recipe names; `alpha` counts for "mix" and "gated".

    Raises:
        RecipeError: no reward has that name, or alpha is not a share.
    """
    if not 0 <= alpha <= 1:
        raise RecipeError(f"alpha={alpha}: give the share of the outcome, 0 to 1.")
    known: dict[str, Reward] = {
        "outcome": outcome,
        "process": process,
        "mix": lambda grade: mix(grade, alpha),
        "gated": lambda grade: gated(grade, alpha),
        "strict": strict,
    }
    if name not in known:
        raise RecipeError(f"there is no reward {name!r}: give one of {', '.join(known)}.")
    return known[name]
