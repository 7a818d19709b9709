"""The settings of training on texts: data, valid from birth, each with its unit."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from gsm_lab.errors import TrainingError
from gsm_lab.training.optimizer import OptimizerSettings
from gsm_lab.training.precision import PRECISIONS, Precision
from gsm_lab.training.schedule import Schedule

_NO_EFFECT_ON_RESULTS = ("save_every", "keep_states", "micro_batch_rows", "compile")


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long and how to train on texts.

    Raises:
        TrainingError: a count below 1, or an unknown precision.
    """

    steps: int
    """Optimiser steps."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = "float32"
    """Of the layers; `tf32` and `bfloat16` are for GPUs."""
    log_every: int = 10
    """Steps from one line of metrics to the next."""
    save_every: int = 50
    """Steps from one saved state to the next: what a kill can cost. No effect on the result."""
    keep_states: int = 2
    """Saved states left on disk. No effect on the result."""
    micro_batch_rows: int = 0
    """Rows of a rank's share that pass through the model at once, 0 for all: memory only, the gradient is the same.
    `suggested_micro_batch_rows` works out how many a card holds."""
    compile: bool | None = None
    """Whether the layers are compiled; None: on CUDA, and not on the CPU. Like the device, it changes rounding only.
    Rows are as many and as long in every batch, so one graph serves all; torch keeps it in its own cache
    (TORCHINDUCTOR_CACHE_DIR), from which the next run takes it."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "save_every", "keep_states"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)}: give 1 or more.")
        if self.micro_batch_rows < 0:
            raise TrainingError(f"micro_batch_rows is {self.micro_batch_rows}: give 0 (all rows) or more.")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision is {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")

    def identity_fields(self) -> dict[str, Any]:
        """Every setting that can change the result: a run is resumed only under the same ones."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in _NO_EFFECT_ON_RESULTS}
