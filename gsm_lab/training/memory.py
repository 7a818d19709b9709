"""How much memory a step of `fit` takes on a card, worked out beforehand, and how many rows therefore fit at once.

Arithmetic only, and nobody uses it unasked: `micro_batch_rows` is a setting, and this suggests one. Counted are the
tensors that autograd keeps when the layers run as PyTorch's operations with fused attention, nothing recomputed; a
compiled graph keeps fewer. Left out are the card's own needs (context, kernels, fragments), for which `share` leaves
room. Units are bytes, and 80 GB are 80e9.

Letters: D width, W width of all key heads (as of all value heads), F width of the feed-forward network, H query heads,
V vocabulary, P parameters, b bytes of a number in the layers' precision (2 in bfloat16, else 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape
from gsm_lab.training.precision import Precision

FLOAT32 = 4
BFLOAT16 = 2
INT64 = 8


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one card."""

    weights: int
    gradients: int
    """With several ranks also the flat buffer in which they are summed."""
    averages: int
    """Of the optimiser."""
    copies: int
    """Of weights, joined and cast for the layers; kept until the backward pass is over."""
    update: int
    """What the optimiser needs while it moves the weights."""
    activations: int
    """Of one micro-batch: all that is kept for its backward pass."""

    @property
    def total(self) -> int:
        """At the fullest moment: either at the end of a forward pass or in the middle of an update."""
        return self.weights + self.gradients + self.averages + max(self.copies + self.activations, self.update)


def training_memory(
    shape: ModelShape,
    *,
    rows: int,
    length: int,
    precision: Precision = "bfloat16",
    optimizer: Literal["muon", "adamw"] = "muon",
    ranks: int = 1,
) -> TrainingMemory:
    """What training takes with `rows` rows of `length` tokens in a micro-batch.

    - weights and gradients: 4 P each; the summing buffer, 4 P, when there are several ranks.
    - averages: 8 a parameter under AdamW, 4 under Muon.
    - copies: the joined matrices of all layers in float32, and every matrix of the layers in bfloat16 under autocast.
    - update: 16 a number of Muon's largest group of matrices (gradients stacked, 4; three buffers of the iteration in
      bfloat16, 6; the result, 4; products of short sides, below 2), or 4 a parameter under AdamW, if that is more.
    """
    matrices = _layer_matrices(shape)
    joined = shape.layers * (_qkv(shape) + 2 * shape.width * shape.ffn)
    by_muon = matrices if optimizer == "muon" else 0
    by_adamw = shape.parameters - by_muon
    largest_group = max(_muon_groups(shape).values()) if optimizer == "muon" else 0
    return TrainingMemory(
        weights=FLOAT32 * shape.parameters,
        gradients=FLOAT32 * shape.parameters * (2 if ranks > 1 else 1),
        averages=2 * FLOAT32 * by_adamw + FLOAT32 * by_muon,
        copies=FLOAT32 * joined + (BFLOAT16 * matrices if precision == "bfloat16" else 0),
        update=max(16 * largest_group, FLOAT32 * by_adamw),
        activations=rows * length * activation_bytes(shape, precision),
    )


def activation_bytes(shape: ModelShape, precision: Precision) -> int:
    """Bytes kept for the backward pass for each token, all of them scored.

    Each layer keeps, per token:

    - 8 D: the residual vector before either norm, float32 in every precision;
    - 6 D b: normed vectors (2), rotated queries, queries as projected (the values are a view into that buffer), what
      the heads mix by head, and the same by token;
    - 3 W b: rotated keys, and keys and values as projected;
    - 4 F b: gates and ups, silu of the gates, and their product;
    - 4 H + 8: the logarithm of each softmax's sum, and the two norms' roots.

    Once, not by layer: 12 D for the last norm (in, out, and the scored positions of it), 8 K for the rotation of heads
    of width K, 12 V for logits, their log-softmax and its gradient, and 28 for ids, places and targets.
    """
    number = BFLOAT16 if precision == "bfloat16" else FLOAT32
    by_number = 6 * shape.width + 3 * shape.kv_heads * shape.head_width + 4 * shape.ffn
    layer = 2 * FLOAT32 * shape.width + number * by_number + FLOAT32 * (shape.heads + 2)
    once = 3 * FLOAT32 * (shape.width + shape.vocab_size) + 2 * FLOAT32 * shape.head_width + 3 * FLOAT32 + 2 * INT64
    return shape.layers * layer + once


def suggested_micro_batch_rows(
    shape: ModelShape,
    *,
    rows: int,
    length: int,
    memory: float,
    precision: Precision = "bfloat16",
    optimizer: Literal["muon", "adamw"] = "muon",
    ranks: int = 1,
    share: float = 0.9,
) -> int:
    """The most rows that pass through the model at once on a card of `memory` bytes, of which `share` may be used.

    A divisor of the rows that each rank has, so that every micro-batch is of one size: a compiled graph serves one.

    Args:
        rows: of the whole batch, over all ranks.

    Raises:
        TrainingError: not even one row fits, or the ranks cannot share the rows evenly.
    """
    if rows < 1 or rows % ranks:
        raise TrainingError(f"{rows} rows for {ranks} ranks: give each rank the same number of rows, one or more.")
    for at_once in sorted(_divisors(rows // ranks), reverse=True):
        needed = training_memory(
            shape, rows=at_once, length=length, precision=precision, optimizer=optimizer, ranks=ranks
        )
        if needed.total <= share * memory:
            return at_once
    raise TrainingError(
        f"one row of {length} tokens needs {needed.total / 1e9:.1f} GB, and {share:.0%} of the card are "
        f"{share * memory / 1e9:.1f} GB: choose shorter rows, a smaller model, bfloat16, or a larger card."
    )


def _qkv(shape: ModelShape) -> int:
    return shape.width * (shape.width + 2 * shape.kv_heads * shape.head_width)


def _muon_groups(shape: ModelShape) -> dict[tuple[int, int], int]:
    """Numbers in the hidden matrices of each size, over all layers; a size and its transpose are one."""
    width, keys, ffn = shape.width, shape.kv_heads * shape.head_width, shape.ffn
    groups: dict[tuple[int, int], int] = {}
    for one, other in ((width, width), (width, width), (width, keys), (width, keys), *[(width, ffn)] * 3):
        size = (min(one, other), max(one, other))
        groups[size] = groups.get(size, 0) + shape.layers * one * other
    return groups


def _layer_matrices(shape: ModelShape) -> int:
    return sum(_muon_groups(shape).values())


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
