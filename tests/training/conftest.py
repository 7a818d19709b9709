"""A model small enough to train within a second, and rows of tokens to train it on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer

VOCABULARY = 16


@dataclass(frozen=True)
class Rows:
    """The arrays of `PackedRows`, made by hand."""

    tokens: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    documents: np.ndarray
    loss_mask: np.ndarray


def rows_of(documents: list[list[int]], prompt_length: int = 0, padding: int = 0, pad: int = 0) -> Rows:
    """One document a row, padded on the right to the longest and by `padding` more."""
    length = max(len(ids) for ids in documents) - 1 + padding
    shape = (len(documents), length)
    rows = Rows(
        tokens=np.full(shape, pad, np.int32),
        targets=np.full(shape, pad, np.int32),
        positions=np.zeros(shape, np.int32),
        documents=np.full(shape, -1, np.int32),
        loss_mask=np.zeros(shape, bool),
    )
    for row, ids in enumerate(documents):
        count = len(ids) - 1
        rows.tokens[row, :count] = ids[:-1]
        rows.targets[row, :count] = ids[1:]
        rows.positions[row, :count] = range(count)
        rows.documents[row, :count] = 0
        rows.loss_mask[row, max(prompt_length - 1, 0) : count] = True
    return rows


def batches_of(seed: int = 0, rows: int = 4, length: int = 9) -> Callable[[int], tuple[Rows, int]]:
    """Counting sequences that begin anywhere: easy to learn, and a pure function of the cursor."""

    def next_batch(cursor: int) -> tuple[Rows, int]:
        starts = np.random.default_rng([seed, cursor]).integers(0, VOCABULARY, rows)
        return rows_of([[(int(start) + i) % VOCABULARY for i in range(length)] for start in starts]), cursor + rows

    return next_batch


def tiny_model(seed: int = 0) -> Transformer:
    shape = ModelShape(vocab_size=VOCABULARY, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
    return Transformer.initial(shape, seed)


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="tiny_model")
def _tiny_model():
    return tiny_model


@pytest.fixture(name="rows_of")
def _rows_of():
    return rows_of


@pytest.fixture(name="batches_of")
def _batches_of():
    return batches_of


@pytest.fixture(name="gradients")
def _gradients():
    return gradients


@pytest.fixture(name="same_weights")
def _same_weights():
    def same(first: Transformer, second: Transformer) -> bool:
        pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        return all(torch.equal(one, other) for one, other in pairs)

    return same
