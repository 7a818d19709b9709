"""A model large enough for every kernel of a GPU, and packed rows to train it on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer

SHAPE = ModelShape(vocab_size=64, layers=3, width=128, heads=4, kv_heads=2, ffn=256, max_positions=512)
ROWS, LENGTH = 8, 256


@dataclass(frozen=True)
class Rows:
    """The arrays of `PackedRows`, made by hand."""

    tokens: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    documents: np.ndarray
    loss_mask: np.ndarray


def packed_rows(cursor: int) -> Rows:
    """Documents of 20 to 60 tokens that count up from anywhere, some padding at the end; a pure function."""
    rng = np.random.default_rng(cursor)
    shape = (ROWS, LENGTH)
    rows = Rows(*(np.zeros(shape, np.int32) for _ in range(3)), np.full(shape, -1, np.int32), np.zeros(shape, bool))
    for row in range(ROWS):
        begin, number = 0, 0
        while begin + (size := int(rng.integers(20, 61))) <= LENGTH:
            ids = (rng.integers(64) + np.arange(size)) % 64
            part = slice(begin, begin + size)
            rows.tokens[row, part], rows.positions[row, part], rows.documents[row, part] = ids, range(size), number
            rows.targets[row, begin : begin + size - 1] = ids[1:]
            rows.loss_mask[row, begin + size // 3 : begin + size - 1] = True
            begin, number = begin + size, number + 1
    return rows


def next_batch(cursor: int) -> tuple[Rows, int]:
    return packed_rows(cursor), cursor + ROWS


def make_model(device: str = "cuda", **changes: int) -> Transformer:
    """Weights large enough that every part of the model shows in the logits."""
    shape = ModelShape(**{**vars(SHAPE), **changes})
    return Transformer.initial(shape, seed=0, std=0.06).to(device)


@pytest.fixture(name="next_batch")
def _next_batch() -> Callable[[int], tuple[Rows, int]]:
    return next_batch


@pytest.fixture(name="make_model")
def _make_model() -> Callable[..., Transformer]:
    return make_model


@pytest.fixture(name="distance")
def _distance() -> Callable[[Transformer, Transformer], float]:
    """The length of the difference of two gradients over the length of the second."""

    def distance(one: Transformer, other: Transformer) -> float:
        first, second = (
            torch.cat([value.grad.double().cpu().flatten() for value in model.parameters()]) for model in (one, other)
        )
        return float((first - second).norm() / second.norm())

    return distance
