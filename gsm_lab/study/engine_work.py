"""What the engine is measured with: the task's real problems, models of five sizes, and our own way of doing each job.

The models of all sizes write the same texts. The smallest is trained for some seconds, so that its texts have the form
and the length that they have in use; the others are grown from it: their further layers, heads and widths hold random
numbers that reach no output. What a step costs does not depend on the numbers, but lengths do, and they are real.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gsm_lab.data import Documents, PackedRows, Packer, Tokenizer
from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, Sample, Transformer, sample
from gsm_lab.study.pipeline import prompts_of
from gsm_lab.study.presets import Study
from gsm_lab.study.recipe import Recipe, Reinforce, Supervised
from gsm_lab.study.settings import shape_of
from gsm_lab.study.sources import Curriculum, source_of, tokenizer_of
from gsm_lab.training import FitSettings, NextBatch, OptimizerSettings, Precision, Prompt, Schedule, World, fit

HEAD_WIDTH = 32
POSITIONS = 2048
SIZES = {
    "0.3 M": (3, 96, 256),
    "0.8 M": (4, 128, 384),
    "3 M": (4, 256, 640),
    "10 M": (6, 384, 1024),
    "30 M": (10, 512, 1280),
}
"""Layers, width and hidden width of each size; heads are 32 wide, each with keys and values of its own. 0.8 M is the
`nano` scale."""
GROWN_SIZE = 1e-4
"""Of the random numbers in a grown model that must not matter: too small to be seen, too large to vanish."""
ADAMW = OptimizerSettings(kind="adamw", learning_rate=1e-4)
"""What is trained with where a peer has to do the same."""
CONSTANT = Schedule(kind="constant", warmup_steps=0)


@dataclass(frozen=True)
class Material:
    """A study's problems as tokens."""

    study: Study

    @cached_property
    def recipe(self) -> Recipe:
        """Pretraining, then reinforcement learning on the edge."""
        return self.study.recipe("bench", 0, self.study.pretrain, self.study.reinforce)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer_of(self.study.task)

    @property
    def pretrain(self) -> Supervised:
        return self.study.pretrain

    @property
    def reinforce(self) -> Reinforce:
        return self.study.reinforce

    def shape(self, size: str) -> ModelShape:
        """The shape of one of `SIZES` for this vocabulary."""
        layers, width, ffn = SIZES[size]
        heads = width // HEAD_WIDTH
        scale = self.study.scale.model_copy(
            update={
                "layers": layers,
                "width": width,
                "heads": heads,
                "kv_heads": heads,
                "ffn": ffn,
                "max_positions": POSITIONS,
            }
        )
        return shape_of(scale, self.tokenizer.vocab_size)

    @property
    def source(self) -> Curriculum:
        """The problems of pretraining."""
        return source_of(self.recipe, 0, self.tokenizer)

    def packer(self, rows: int, length: int, documents: Documents | None = None) -> Packer:
        """Batches of pretraining, without the jumps of positions that no peer knows."""
        return Packer(documents or self.source, self.tokenizer, rows, length, self.pretrain.loss_on)

    def batches(self, rows: int, length: int, count: int) -> list[PackedRows]:
        """The first batches of pretraining."""
        packer, cursor, batches = self.packer(rows, length), 0, []
        for _ in range(count):
            batch, cursor = packer.batch(cursor)
            batches.append(batch)
        return batches

    def prompts(self, count: int, step: int = 0) -> list[Prompt]:
        """The problems of a step of reinforcement learning, as many as wanted."""
        stage = self.reinforce.model_copy(update={"prompts_per_step": count})
        return prompts_of(stage, source_of(self.recipe, 1, self.tokenizer), self.tokenizer, step)

    def trained(self, steps: int) -> Transformer:
        """The smallest model after some steps of pretraining with the study's optimiser: it writes what looks right."""
        model = Transformer.initial(self.shape("0.3 M"), 0, self.study.scale.initial_std)
        stage = self.pretrain
        optimizer = OptimizerSettings(
            kind="muon",
            learning_rate=stage.optimization.learning_rate,
            matrix_learning_rate=stage.optimization.matrix_learning_rate,
        )
        settings = FitSettings(
            steps=steps, optimizer=optimizer, schedule=Schedule(kind="linear", warmup_steps=5), save_every=steps
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(model, self.packer(stage.rows, stage.row_length).batch, settings, Path(folder))
        return model


def grown(model: Transformer, shape: ModelShape) -> Transformer:
    """A model of a larger shape that writes what `model` writes, up to rounding.

    Raises:
        TrainingError: the shape is smaller, or of another vocabulary or width of heads.
    """
    small = model.shape
    equal = ("vocab_size", "head_width", "tied_embeddings", "queries_per_kv_head")
    larger = ("layers", "width", "ffn", "max_positions")
    if any(getattr(small, name) != getattr(shape, name) for name in equal) or any(
        getattr(small, name) > getattr(shape, name) for name in larger
    ):
        raise TrainingError(f"{shape} cannot be grown from {small}: give more layers or widths of the same heads.")
    result = Transformer.initial(shape, seed=1)
    own = dict(result.named_parameters())
    with torch.no_grad():
        for name, value in own.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value.mul_(GROWN_SIZE)  # all that a further layer or head adds to the residual vector
            elif name.endswith("embed_tokens.weight"):
                value[:, small.width :] *= GROWN_SIZE
        for name, value in model.named_parameters():
            _put(own[name], value, name, (small.width / shape.width) ** 0.5)
    return result


def _put(target: torch.Tensor, value: torch.Tensor, name: str, norm_scale: float) -> None:
    """Put a weight into the corner of a larger one; what the further inputs would add to its outputs goes away.

    A norm divides by the mean square over more numbers, which is smaller: its weights make up for it.
    """
    corner = tuple(slice(size) for size in value.shape)
    if name.endswith("norm.weight"):
        target.fill_(GROWN_SIZE)
        target[corner] = value * norm_scale
        return
    if value.dim() == 2 and not name.endswith("embed_tokens.weight"):
        target[corner[0]] *= GROWN_SIZE
    target[corner] = value


@dataclass(frozen=True)
class Trained:
    """What some steps of our training loop took."""

    tokens: int
    """Padding not counted."""
    seconds: float
    """Of the loop itself, without the state that it saves at the end."""

    @property
    def rate(self) -> float:
        """Useful tokens a second."""
        return self.tokens / self.seconds


def train(
    model: Transformer,
    next_batch: NextBatch,
    steps: int,
    *,
    warm_up: int = 2,
    precision: Precision = "float32",
    world: World | None = None,
    folder: Path | None = None,
) -> Trained:
    """Our training loop, `fit`, timed by itself: `steps` steps after some that warm it up and are not counted.

    Several ranks give the same `folder`, whose `timings.jsonl` the first of them has written.
    """
    settings = FitSettings(
        steps=warm_up + steps,
        optimizer=ADAMW,
        schedule=CONSTANT,
        precision=precision,
        log_every=warm_up,
        save_every=warm_up + steps,
    )
    with tempfile.TemporaryDirectory() as own:
        place = folder or Path(own)
        fit(model, next_batch, settings, place, world=world)
        times, metrics = (
            [json.loads(line) for line in (place / name).read_text().splitlines()]
            for name in ("timings.jsonl", "metrics.jsonl")
        )
    return Trained(metrics[-1]["tokens"] - metrics[0]["tokens"], sum(line["seconds"] for line in times[1:]))


def from_list(batches: Sequence[PackedRows]) -> NextBatch:
    """Batches that are there already, again and again: the loop does not wait for data."""
    return lambda cursor: (batches[cursor % len(batches)], cursor + 1)


class Stopwatch:
    """Wraps a source of batches, and adds up the time that the loop spends in it after its first calls."""

    def __init__(self, next_batch: NextBatch, skipped: int) -> None:
        self.seconds = 0.0
        self._next_batch = next_batch
        self._skipped = skipped

    def __call__(self, cursor: int) -> tuple[PackedRows, int]:
        began = time.perf_counter()
        batch = self._next_batch(cursor)
        if self._skipped:
            self._skipped -= 1
        else:
            self.seconds += time.perf_counter() - began
        return batch


def write(
    model: Transformer,
    prompts: Sequence[Prompt],
    samples: int,
    longest: int,
    eos_id: int | Sequence[int],
    max_rows: int,
    seed: int,
) -> list[list[Sample]]:
    """Our sampler, with the random numbers of round `seed`."""
    uniforms = [np.random.default_rng([seed, place]).random((samples, longest)) for place in range(len(prompts))]
    ids = [prompt.ids for prompt in prompts]
    return sample(model, ids, uniforms, max_new_tokens=longest, eos_id=eos_id, max_rows=max_rows)


def lengths_of(batches: Sequence[PackedRows]) -> list[int]:
    """The length of every document in some batches, in tokens."""
    lengths: list[int] = []
    for batch in batches:
        for row in batch.documents:
            lengths += np.bincount(row[row >= 0]).tolist()
    return lengths


def on_device(model: Transformer, device: str) -> Transformer:
    """A copy of the model there."""
    copy = Transformer(model.shape)
    copy.load_state_dict(model.state_dict())
    return copy.to(device)
