"""Training on texts: pretraining, mid-training and fine-tuning differ only in the batches.

`fit` knows no problems and no words: it asks for batches by a cursor, which makes the data a pure function of a number
that fits into the state. Killed anywhere and started again, it ends with the same weights and the same metrics.

Several ranks share each batch by rows and make the same step; see `distributed.py`. On a GPU nothing waits for a
number to come back: a loss is looked at one step late, but before any state is saved or any metric written.

Shapes: B rows, T positions, D width, N scored positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.batches import DrawnBatch, NextBatch, ScoredRows, batches_from, micro_batches, scored_rows
from gsm_lab.training.distributed import World
from gsm_lab.training.fit_settings import FitSettings
from gsm_lab.training.losses import token_logprobs
from gsm_lab.training.optimizer import Optimizer
from gsm_lab.training.precision import Precision, backward_precision, working_precision
from gsm_lab.training.run_folder import OnMetrics, RunFolder
from gsm_lab.training.schedule import learning_rate_scale
from gsm_lab.training.state import fingerprint_of

if TYPE_CHECKING:
    from gsm_lab.data import PackedRows

Hidden = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`Transformer.hidden`, or the same compiled: tokens, positions and documents (B, T) -> (B, T, D)."""


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
    world: World | None = None,
) -> FitSummary:
    """Train `model` in place, or go on where an earlier call with the same arguments was cut off.

    Args:
        model: with the weights to begin from, also when resuming: they are part of the run's identity.
        next_batch: the batch at a cursor, and the next cursor; pure, beginning at 0. On a GPU it is called from
            another thread, for one batch at a time, one batch ahead.
        folder: gets `metrics.jsonl`, `timings.jsonl` and `state/`; with several ranks one that all of them see.
        on_metrics: called with every line of metrics, on rank 0 only; must leave the model's weights alone.
        should_stop: asked after every step; a True, on any rank, saves the state and returns.
        identity: a name for the data; another name in the same folder is refused.
        world: the ranks that train together, each calling `fit` with the same arguments; alone by default. The number
            of ranks is not part of the run's identity: it changes the order of sums only, as `micro_batch_rows` does.

    Raises:
        TrainingError: a loss or gradient that is not finite, the last saved state stays; or ranks that disagree.
        CheckpointError: the folder's state is damaged, or another run's.
    """
    world = world or World.alone(model.device)
    training = _Training(model, settings, world, folder, identity)
    with closing(training.batches(next_batch)) as batches:
        for batch in batches:
            training.step(batch)
            if training.is_at(settings.log_every):
                training.log(on_metrics)
            stopping = should_stop is not None and world.any(should_stop())
            if stopping or training.is_at(settings.save_every):
                training.save()
            if stopping:
                break
    world.barrier()  # nobody goes on to the next stage before rank 0 has written this one
    progress = training.progress
    return FitSummary(progress.step, progress.tokens, finished=progress.step == settings.steps)


class _Training:
    """One call of `fit`: a model that is moved on by one batch at a time, and all that is counted on the way."""

    def __init__(self, model: Transformer, settings: FitSettings, world: World, folder: Path, identity: str) -> None:
        fingerprint = _fingerprint(model, settings, identity)
        world.same(fingerprint)
        self.model, self.settings, self.world = model, settings, world
        self.optimizer = Optimizer(model, settings.optimizer)
        self.run = RunFolder(folder, fingerprint, settings.keep_states)
        self.progress = _Progress(**(world.in_turn(lambda: self.run.resume(model, self.optimizer)) or {}))
        world.same(dataclasses.asdict(self.progress))
        self.optimizer.forget_gradient()
        model.train()
        self._hidden: Hidden | None = None
        self._unread: deque[_Unread] = deque()
        self._lag = 1 if model.device.type == "cuda" else 0
        self._gradient_length, self._scale = 0.0, 0.0
        self._clock = _Clock(self.progress.tokens)

    def batches(self, next_batch: NextBatch) -> Generator[DrawnBatch, None, None]:
        """The batches of the steps that are left."""
        left = self.settings.steps - self.progress.step
        at_once, own = self.settings.micro_batch_rows, self.world.own
        return batches_from(next_batch, self.progress.cursor, left, at_once, own, self.model.device)

    def is_at(self, every: int) -> bool:
        """Whether the step that was just made is the last, or one of every `every`."""
        return self.progress.step % every == 0 or self.progress.step == self.settings.steps

    def step(self, batch: DrawnBatch) -> None:
        """One optimiser step, the same on every rank."""
        progress, settings = self.progress, self.settings
        hidden = self._layers(batch)
        self._scale = learning_rate_scale(settings.schedule, progress.step, settings.steps)
        total = add_gradient(self.model, batch.micro_batches, batch.scored, settings.precision, hidden)
        self.world.sum_(total)
        self._unread.append(_Unread(progress.step, batch.cursor, batch.scored, _Reading(total)))
        self._read_losses(self._lag)
        if batch.scored:
            self.world.sum_gradients(self.model.parameters())
        self._gradient_length = self.optimizer.step(self._scale) if batch.scored else 0.0
        progress.skipped += 0 if batch.scored else 1
        progress.step += 1
        progress.cursor = batch.after
        progress.tokens += batch.tokens
        progress.scored += batch.scored
        progress.window_scored += batch.scored

    def log(self, on_metrics: OnMetrics | None) -> None:
        """Write and hand out what happened since the last line, and begin a new window."""
        self._read_losses()
        metrics = _metrics(self.progress, self.settings, self._gradient_length, self._scale)
        timings = self._clock.lap(self.progress.step, self.progress.tokens)
        self.progress.window_loss, self.progress.window_scored = 0.0, 0
        if self.world.is_first:
            self.run.log(metrics, timings)
            if on_metrics is not None:
                on_metrics(metrics)
        self._clock.start()

    def save(self) -> None:
        """Save the state; every loss that led to it has been looked at."""
        self._read_losses()
        if self.world.is_first:
            self.run.save(self.progress.step, dataclasses.asdict(self.progress), self.model, self.optimizer)

    def _read_losses(self, keep: int = 0) -> None:
        """Count the losses of all steps but the last `keep`, which may still be on their way."""
        while len(self._unread) > keep:
            unread = self._unread.popleft()
            total = unread.reading.value()
            if not math.isfinite(total):
                raise TrainingError(
                    f"the loss at step {unread.step} is {total / unread.scored}: training stopped, the last saved "
                    f"state is whole. Lower the learning rate, lengthen the warm-up, or look at the batch at cursor "
                    f"{unread.cursor}."
                )
            self.progress.window_loss += total

    def _layers(self, batch: DrawnBatch) -> Hidden:
        """The layers as they are, or compiled at the first batch."""
        if self._hidden is None:
            on_gpu = self.model.device.type == "cuda"
            wanted = on_gpu if self.settings.compile is None else self.settings.compile
            self._hidden = self._compiled(batch) if wanted else self.model.hidden
        return self._hidden

    def _compiled(self, batch: DrawnBatch) -> Hidden:
        """The layers compiled for the shapes of a batch, by a pass whose gradient is thrown away.

        That keeps the cost out of the speed that is logged; it is logged by itself.
        """
        began = time.perf_counter()
        hidden: Hidden = torch.compile(self.model.hidden, dynamic=False)
        total = add_gradient(self.model, batch.micro_batches, max(batch.scored, 1), self.settings.precision, hidden)
        _Reading(total).value()
        self.optimizer.forget_gradient()
        self._clock.leave_out(time.perf_counter() - began)
        return hidden


class _Clock:
    """Seconds and tokens since the last line of timings."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._compile_seconds: float | None = None
        self.start()

    def start(self) -> None:
        """Begin a new line."""
        self._began = time.perf_counter()

    def leave_out(self, compile_seconds: float) -> None:
        """Seconds that passed but went into compilation."""
        self._began += compile_seconds
        self._compile_seconds = compile_seconds

    def lap(self, step: int, tokens: int) -> dict[str, Any]:
        """The line of timings at `step`, when `tokens` have been read in all; `compile_seconds` if there were any."""
        seconds = time.perf_counter() - self._began
        rate = (tokens - self._tokens) / max(seconds, 1e-9)
        line: dict[str, Any] = {"step": step, "seconds": round(seconds, 6), "tokens_per_second": round(rate, 1)}
        if self._compile_seconds is not None:
            line["compile_seconds"] = round(self._compile_seconds, 3)
        self._tokens, self._compile_seconds = tokens, None
        return line


class _Reading:
    """A number on its way from the device to the host: asking for it waits for that number, not for later work."""

    def __init__(self, number: Tensor) -> None:
        self._number = number
        self._arrived: torch.cuda.Event | None = None
        if number.is_cuda:
            self._number = torch.empty_like(number, device="cpu", pin_memory=True).copy_(number, non_blocking=True)
            self._arrived = torch.cuda.current_stream(number.device).record_event()

    def value(self) -> float:
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._number)


@dataclass(frozen=True)
class _Unread:
    """The loss of a step that has not been looked at yet."""

    step: int
    cursor: int
    scored: int
    reading: _Reading


def accumulate_gradient(
    model: Transformer, batch: PackedRows, micro_batch_rows: int = 0, precision: Precision = "float32"
) -> float:
    """Add the gradient of the batch's mean loss to the parameters; the SUM of its token losses, in nats.

    The mean is over the scored tokens of the whole batch, whatever the micro-batches. Nothing scored, nothing added.
    """
    scored = int(np.count_nonzero(batch.loss_mask))
    return float(add_gradient(model, micro_batches(batch, micro_batch_rows), scored, precision))


def add_gradient(
    model: Transformer,
    parts: Iterable[ScoredRows],
    scored: int,
    precision: Precision = "float32",
    hidden: Hidden | None = None,
) -> Tensor:
    """Add the gradient of the parts' token losses over `scored`; the SUM of those losses, in nats, float64.

    `scored` counts the whole batch, of which the parts may be one rank's share. The sum stays on the device.
    """
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for rows in parts:
        loss = rows_loss(model, rows.on(model.device), precision, hidden)
        with backward_precision(precision):
            (loss / scored).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def batch_loss(
    model: Transformer, batch: PackedRows, rows: slice = slice(None), precision: Precision = "float32"
) -> Tensor:
    """The summed cross-entropy of the scored positions in some rows, in nats; the head is applied to no others."""
    return rows_loss(model, scored_rows(batch, rows).on(model.device), precision)


def rows_loss(
    model: Transformer, rows: ScoredRows, precision: Precision = "float32", hidden: Hidden | None = None
) -> Tensor:
    """The summed cross-entropy of rows on the model's device, in nats; `hidden` stands for `model.hidden`.

    The number of scored positions differs from batch to batch, so the head is not part of what is compiled.
    """
    with working_precision(model, precision):
        hidden_BTD = (hidden or model.hidden)(rows.tokens_BT, rows.positions_BT, rows.documents_BT)
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, rows.places_N)
    return -token_logprobs(model.head(hidden_ND), rows.targets_N).sum()


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
