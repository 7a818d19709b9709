"""The share of the full learning rate at each step: a pure function, so resuming needs no schedule state."""

import math
from dataclasses import dataclass
from typing import Literal

from gsm_lab.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Warm-up, then a fall to `min_share`.

    Raises:
        TrainingError: a negative warm-up, an unknown kind, or a share outside 0 to 1.
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up; `constant` does not fall."""
    warmup_steps: int = 0
    """Steps of linear rise; the last of them already runs at the full rate."""
    min_share: float = 0.1
    """Share of the full rate at the very last step (not used by `constant`)."""

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "linear", "constant"):
            raise TrainingError(f"schedule kind is {self.kind!r}: choose cosine, linear or constant.")
        if self.warmup_steps < 0 or not 0.0 <= self.min_share <= 1.0:
            raise TrainingError(
                f"warmup_steps is {self.warmup_steps} and min_share {self.min_share}: "
                f"warm-up counts steps from 0 up, and the share lies between 0 and 1."
            )


def learning_rate_scale(schedule: Schedule, step: int, total: int) -> float:
    """The factor on the learning rate at `step` of `total`, steps counted from 0.

    The rise is `(step + 1) / warmup_steps`, so no step is wasted at rate 0; the fall starts at the first full-rate
    step and reaches `min_share` exactly at step `total - 1`.
    """
    if not 0 <= step < total:
        raise TrainingError(f"step {step} is not one of the {total} steps 0 to {total - 1}.")
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    peak = max(schedule.warmup_steps - 1, 0)
    if schedule.kind == "constant" or total - 1 == peak:
        return 1.0
    progress = (step - peak) / (total - 1 - peak)
    fall = progress if schedule.kind == "linear" else (1.0 - math.cos(math.pi * progress)) / 2.0
    return (1.0 - fall) + schedule.min_share * fall
