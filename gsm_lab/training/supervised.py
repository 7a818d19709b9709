"""Training on texts: pretraining, mid-training and fine-tuning differ only in the batches.

`fit` knows no problems and no words: it asks for batches by a cursor, which makes the data a pure function of a number
that fits into the state. Killed anywhere and started again, it ends with the same weights and the same metrics.

Shapes: B rows, T positions, D width, N scored positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.losses import token_logprobs
from gsm_lab.training.optimizer import Optimizer, OptimizerSettings
from gsm_lab.training.precision import PRECISIONS, Precision, working_precision
from gsm_lab.training.run_folder import RunFolder
from gsm_lab.training.schedule import Schedule, learning_rate_scale
from gsm_lab.training.state import fingerprint_of

if TYPE_CHECKING:
    from gsm_lab.data import PackedRows

NextBatch = Callable[[int], "tuple[PackedRows, int]"]
OnMetrics = Callable[[Mapping[str, Any]], None]

_NO_EFFECT_ON_RESULTS = ("save_every", "keep_states", "micro_batch_rows")


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
    """Of the layers; `bfloat16` is for GPUs."""
    log_every: int = 10
    """Steps from one line of metrics to the next."""
    save_every: int = 50
    """Steps from one saved state to the next: what a kill can cost. No effect on the result."""
    keep_states: int = 2
    """Saved states left on disk. No effect on the result."""
    micro_batch_rows: int = 0
    """Rows of a batch that pass through the model at once, 0 for all: memory only, the gradient is the same."""

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


@dataclass(frozen=True)
class FitSummary:
    """Where a call of `fit` ended."""

    step: int
    """Steps done."""
    tokens: int
    """Tokens read since step 0, padding not counted."""
    finished: bool
    """False when `should_stop` ended it before the last step; the same call goes on."""


@dataclass
class _Progress:
    """All that changes from step to step beside weights and optimiser; JSON-ready, so that it is saved exactly."""

    step: int = 0
    cursor: int = 0
    tokens: int = 0
    scored: int = 0
    skipped: int = 0
    window_loss: float = 0.0
    window_scored: int = 0


def fit(
    model: Transformer,
    next_batch: NextBatch,
    settings: FitSettings,
    folder: Path,
    *,
    on_metrics: OnMetrics | None = None,
    should_stop: Callable[[], bool] | None = None,
    identity: str = "",
) -> FitSummary:
    """Train `model` in place, or go on where an earlier call with the same arguments was cut off.

    Args:
        model: with the weights to begin from, also when resuming: they are part of the run's identity.
        next_batch: the batch at a cursor, and the next cursor; pure, beginning at 0.
        folder: gets `metrics.jsonl`, `timings.jsonl` and `state/`.
        on_metrics: called with every line of metrics; must leave the model's weights alone.
        should_stop: asked after every step; a True saves the state and returns.
        identity: a name for the data; another name in the same folder is refused.

    Raises:
        TrainingError: a loss or gradient that is not finite; the last saved state stays.
        CheckpointError: the folder's state is damaged, or another run's.
    """
    optimizer = Optimizer(model, settings.optimizer)
    run = RunFolder(folder, _fingerprint(model, settings, identity), settings.keep_states)
    progress = _Progress(**(run.resume(model, optimizer) or {}))
    optimizer.forget_gradient()
    model.train()
    began, tokens_before = time.perf_counter(), progress.tokens
    while progress.step < settings.steps:
        gradient_length, scale = _one_step(model, optimizer, next_batch, settings, progress)
        if progress.step % settings.log_every == 0 or progress.step == settings.steps:
            seconds = time.perf_counter() - began
            metrics = _metrics(progress, settings, gradient_length, scale)
            run.log(metrics, _timing(progress.step, seconds, progress.tokens - tokens_before))
            progress.window_loss, progress.window_scored = 0.0, 0
            if on_metrics is not None:
                on_metrics(metrics)
            began, tokens_before = time.perf_counter(), progress.tokens
        stopping = should_stop is not None and should_stop()
        if stopping or progress.step % settings.save_every == 0 or progress.step == settings.steps:
            run.save(progress.step, dataclasses.asdict(progress), model, optimizer)
        if stopping:
            break
    return FitSummary(progress.step, progress.tokens, finished=progress.step == settings.steps)


def _one_step(
    model: Transformer, optimizer: Optimizer, next_batch: NextBatch, settings: FitSettings, progress: _Progress
) -> tuple[float, float]:
    """One optimiser step: the length of its gradient, and the share of the learning rate."""
    batch, cursor = next_batch(progress.cursor)
    if cursor <= progress.cursor:
        raise TrainingError(
            f"the batch at cursor {progress.cursor} names {cursor} as the next: a cursor has to grow, "
            f"or the same batch comes again for ever."
        )
    scale = learning_rate_scale(settings.schedule, progress.step, settings.steps)
    scored = int(np.count_nonzero(batch.loss_mask))
    total = accumulate_gradient(model, batch, settings.micro_batch_rows, settings.precision)
    if not math.isfinite(total):
        raise TrainingError(
            f"the loss at step {progress.step} is {total / scored}: training stopped, the last saved state is whole. "
            f"Lower the learning rate, lengthen the warm-up, or look at the batch at cursor {progress.cursor}."
        )
    gradient_length = optimizer.step(scale) if scored else 0.0
    progress.skipped += 0 if scored else 1
    progress.step += 1
    progress.cursor = cursor
    progress.tokens += int(np.count_nonzero(batch.documents >= 0))
    progress.scored += scored
    progress.window_loss += total
    progress.window_scored += scored
    return gradient_length, scale


def accumulate_gradient(
    model: Transformer, batch: PackedRows, micro_batch_rows: int = 0, precision: Precision = "float32"
) -> float:
    """Add the gradient of the batch's mean loss to the parameters; the SUM of its token losses, in nats.

    The mean is over the scored tokens of the whole batch, whatever the micro-batches. Nothing scored, nothing added.
    """
    scored = int(np.count_nonzero(batch.loss_mask))
    if scored == 0:
        return 0.0
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for rows in _row_slices(len(batch.tokens), micro_batch_rows):
        if batch.loss_mask[rows].any():
            loss = batch_loss(model, batch, rows, precision)
            (loss / scored).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
    return float(total)


def batch_loss(
    model: Transformer, batch: PackedRows, rows: slice = slice(None), precision: Precision = "float32"
) -> Tensor:
    """The summed cross-entropy of the scored positions in some rows, in nats; the head is applied to no others."""

    def on_device(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(model.device)

    places = np.flatnonzero(batch.loss_mask[rows])
    targets_N = on_device(batch.targets[rows].reshape(-1)[places].astype(np.int64))
    with working_precision(model, precision):
        hidden_BTD = model.hidden(
            on_device(batch.tokens[rows]), on_device(batch.positions[rows]), on_device(batch.documents[rows])
        )
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, on_device(places))
    return -token_logprobs(model.head(hidden_ND), targets_N).sum()


def _row_slices(rows: int, at_once: int) -> Iterator[slice]:
    size = at_once or rows
    return (slice(first, first + size) for first in range(0, rows, size))


def _fingerprint(model: Transformer, settings: FitSettings, identity: str) -> str:
    return fingerprint_of(model, {"loop": "fit", "identity": identity, "settings": settings.identity_fields()})


def _metrics(progress: _Progress, settings: FitSettings, gradient_length: float, scale: float) -> dict[str, Any]:
    """One line of metrics; the loss is the mean over the tokens since the last line, null when there were none."""
    scored = progress.window_scored
    return {
        "step": progress.step,
        "loss": progress.window_loss / scored if scored else None,
        "tokens": progress.tokens,
        "scored_tokens": progress.scored,
        "learning_rate": settings.optimizer.learning_rate * scale,
        "learning_rate_scale": scale,
        "gradient_norm": gradient_length,
        "skipped_steps": progress.skipped,
    }


def _timing(step: int, seconds: float, tokens: int) -> dict[str, Any]:
    return {"step": step, "seconds": round(seconds, 6), "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)}
