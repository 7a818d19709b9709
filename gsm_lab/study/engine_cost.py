"""What training and sampling cost at least: floating-point operations, bytes of the cache; and what a machine can do.

A multiplication and an addition are two operations. What is counted is what the result needs, whoever computes it:
nothing for padding, nothing for masked keys, nothing twice.

Shapes: P parameters that are multiplied, L layers, D width (of all query heads together), V vocabulary; a token that
sees c keys, itself included, costs 4 c L D operations of attention forward and 12 c L D forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from gsm_lab.model import ModelShape
from gsm_lab.study.measured import seconds_of

BYTES = 4
"""Of a number in float32, which sampling works in."""
LARGE = (1024, 2048, 3072)
"""Sides of the large square matrices that the matrix rate is looked for with."""
COPIED_BYTES = 1 << 28
"""Of an array that is copied to measure the memory: far more than any cache holds."""
SHORTEST = 1e9
"""Operations that are timed at once, at least: a small product would be lost in the clock's own time."""
REPEATS = 5
Product = tuple[int, int, int]
"""Rows of the first matrix, columns of it and rows of the second, columns of the second."""


@dataclass(frozen=True)
class Work:
    """What a job needs at least."""

    operations: float
    """Floating-point operations."""
    bytes: float = 0.0
    """Read from and written to the cache of keys and values."""

    def seconds(self, machine: Machine) -> float:
        """The roofline: the longer of what the arithmetic and what the memory takes."""
        return max(self.operations / machine.operations, self.bytes / machine.bytes)


@dataclass(frozen=True)
class Machine:
    """What a machine was measured to do in a second."""

    operations: float
    """Floating-point operations of a matrix product, the best of all sizes tried."""
    bytes: float
    """Read from and written to memory."""


def multiplied_parameters(shape: ModelShape) -> int:
    """Parameters that a token is multiplied with: all but an embedding table that is only looked up."""
    return shape.parameters - (0 if shape.tied_embeddings else shape.vocab_size * shape.width)


def training_work(shape: ModelShape, lengths: Iterable[int]) -> Work:
    """Forward and backward over documents of these lengths: 6 P a token, and attention with its real context."""
    sizes = list(lengths)
    keys = sum(map(_seen_by_all, sizes))
    return Work(6.0 * multiplied_parameters(shape) * sum(sizes) + 12.0 * shape.layers * shape.width * keys)


def sampling_work(shape: ModelShape, prompts: Sequence[int], samples: Sequence[Sequence[int]]) -> Work:
    """Prompts of these lengths, read once each, and for every prompt samples of these lengths.

    The last token of a sample is not read, and the head is needed once for every token that is sampled (the first of
    all samples of a prompt together). Each step reads a prompt's keys and values once, for all of its samples that are
    still being written; and each sample its own.
    """
    head = shape.vocab_size * shape.width
    body = multiplied_parameters(shape) - head
    position = 2 * shape.layers * shape.kv_heads * shape.head_width * BYTES
    operations = moved = 0.0
    for prompt, lengths in zip(prompts, samples, strict=True):
        read = [length - 1 for length in lengths]
        keys = _seen_by_all(prompt) + sum(prompt * own + _seen_by_all(own) for own in read)
        operations += 2.0 * body * (prompt + sum(read)) + 2.0 * head * (1 + sum(read))
        operations += 4.0 * shape.layers * shape.width * keys
        positions = prompt + sum(read)  # written
        positions += prompt * max(read) + sum(map(_seen_by_all, read))
        moved += float(position) * positions
    return Work(operations, moved)


def _seen_by_all(length: int) -> int:
    """Keys that the tokens of a document see, each itself and those before it."""
    return length * (length + 1) // 2


def best_product(
    sizes: Iterable[Product], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Product, float]:
    """Which of these products reaches the most operations a second, and how many."""
    rates = {size: product_rate(size, device, dtype) for size in sizes}
    best = max(rates, key=rates.__getitem__)
    return best, rates[best]


def product_rate(size: Product, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Operations a second of a matrix product; the best of some tries."""
    rows, inner, columns = size
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(rows, inner, generator=generator).to(device, dtype)
    second = torch.randn(inner, columns, generator=generator).to(device, dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    operations = 2.0 * rows * inner * columns
    calls = max(1, int(SHORTEST // operations))

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(first, second, out=out)

    multiply()
    return calls * operations / min(seconds_of(multiply) for _ in range(REPEATS))


def model_products(shape: ModelShape, tokens: int) -> list[Product]:
    """The products of a layer and of the head for so many tokens at once: forward, and the two of backward."""
    key_value_width = shape.kv_heads * shape.head_width
    weights = {
        (shape.width, shape.width),
        (shape.width, key_value_width),
        (shape.width, shape.ffn),
        (shape.ffn, shape.width),
        (shape.width, shape.vocab_size),
    }
    forward = [(tokens, inner, columns) for inner, columns in sorted(weights)]
    to_input = [(tokens, columns, inner) for _, inner, columns in forward]
    to_weight = [(inner, tokens, columns) for _, inner, columns in forward]
    return [*forward, *to_input, *to_weight]


def large_products(sides: Iterable[int] = LARGE) -> list[Product]:
    """Products of large square matrices."""
    return [(side, side, side) for side in sides]


def memory_rate(size: int = COPIED_BYTES, device: str = "cpu") -> float:
    """Bytes a second read and written by the better of a copy and a + s b, in float32; each the best of some tries."""
    source, other, target = (torch.ones(size // BYTES, device=device) for _ in range(3))

    def copy() -> None:
        target.copy_(source)

    def triad() -> None:
        torch.add(source, other, alpha=3.0, out=target)

    rates = []
    for work, arrays in ((copy, 2), (triad, 3)):
        work()
        rates.append(arrays * size / min(seconds_of(work) for _ in range(REPEATS)))
    return max(rates)
