"""Batches on their way into the model: drawn by cursor, cut to this rank's rows, moved to the device.

On a GPU the next batch is drawn in the background while this one is worked on, and nothing here makes the host wait
for the GPU. On the CPU a batch is drawn when its step begins: there is nobody to wait for.

Shapes: B rows that pass through the model together, T positions, N of them scored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsm_lab.errors import TrainingError

if TYPE_CHECKING:
    from gsm_lab.data import PackedRows

NextBatch = Callable[[int], "tuple[PackedRows, int]"]
"""The batch at a cursor, and the next cursor."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a batch that pass through the model together, with the targets that count."""

    tokens_BT: Tensor
    positions_BT: Tensor
    documents_BT: Tensor
    places_N: Tensor
    """Where in the flattened rows the scored targets stand."""
    targets_N: Tensor

    def on(self, device: torch.device) -> ScoredRows:
        """The same rows on a device; from pinned memory the copy runs beside the host."""
        return ScoredRows(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def pinned(self) -> ScoredRows:
        """The same rows in memory that a GPU can read by itself."""
        return ScoredRows(*(tensor.pin_memory() for tensor in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.tokens_BT, self.positions_BT, self.documents_BT, self.places_N, self.targets_N


@dataclass(frozen=True)
class DrawnBatch:
    """What one optimiser step needs: this rank's rows, and the counts of the WHOLE batch."""

    cursor: int
    after: int
    """The cursor of the next batch."""
    tokens: int
    """Tokens of all ranks' rows, padding not counted."""
    scored: int
    """Scored targets of all ranks' rows: what the loss is divided by."""
    micro_batches: tuple[ScoredRows, ...]
    """Only those of this rank, and only those that score anything."""


def scored_rows(batch: PackedRows, rows: slice = slice(None)) -> ScoredRows:
    """Some rows of a batch as tensors on the host."""

    def tensor(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    places = np.flatnonzero(batch.loss_mask[rows])
    return ScoredRows(
        tokens_BT=tensor(batch.tokens[rows]),
        positions_BT=tensor(batch.positions[rows]),
        documents_BT=tensor(batch.documents[rows]),
        places_N=tensor(places),
        targets_N=tensor(batch.targets[rows].reshape(-1)[places].astype(np.int64)),
    )


def micro_batches(batch: PackedRows, at_once: int, own: slice = slice(None)) -> tuple[ScoredRows, ...]:
    """The rows of `own`, `at_once` at a time (0: all), without those that score nothing."""
    parts = row_slices(len(batch.tokens), at_once, own)
    return tuple(scored_rows(batch, rows) for rows in parts if batch.loss_mask[rows].any())


def row_slices(num_rows: int, at_once: int, own: slice = slice(None)) -> Iterator[slice]:
    """Slices of `range(num_rows)[own]`, each of `at_once` rows (0: all), the last perhaps of fewer."""
    mine = range(num_rows)[own]
    size = at_once or max(len(mine), 1)
    for first in range(0, len(mine), size):
        part = mine[first : first + size]
        yield slice(part.start, part.stop, part.step)


def drawn_batch(next_batch: NextBatch, cursor: int, at_once: int, own: slice = slice(None)) -> DrawnBatch:
    """The batch at a cursor, on the host.

    Raises:
        TrainingError: the next cursor is not greater than this one.
    """
    batch, after = next_batch(cursor)
    if after <= cursor:
        raise TrainingError(
            f"the batch at cursor {cursor} names {after} as the next: a cursor has to grow, "
            f"or the same batch comes again for ever."
        )
    return DrawnBatch(
        cursor=cursor,
        after=after,
        tokens=int(np.count_nonzero(batch.documents >= 0)),
        scored=int(np.count_nonzero(batch.loss_mask)),
        micro_batches=micro_batches(batch, at_once, own),
    )


def batches_from(
    next_batch: NextBatch, cursor: int, count: int, at_once: int, own: slice, device: torch.device
) -> Generator[DrawnBatch, None, None]:
    """`count` batches from `cursor` on, none drawn beyond them; for a GPU in pinned memory, one drawn ahead."""
    on_gpu = device.type == "cuda"

    def in_order() -> Generator[DrawnBatch, None, None]:
        place = cursor
        for _ in range(count):
            drawn = drawn_batch(next_batch, place, at_once, own)
            yield _pinned(drawn, device) if on_gpu else drawn
            place = drawn.after

    return one_ahead(in_order()) if on_gpu else in_order()


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, the next one made in a thread while this one is in use.

    An error comes when the item would have come. Closing it waits for the item in the making.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="next-batch") as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item


def _pinned(drawn: DrawnBatch, device: torch.device) -> DrawnBatch:
    torch.cuda.set_device(device)  # of this thread: pinning would else open a context on GPU 0
    parts = tuple(rows.pinned() for rows in drawn.micro_batches)
    return DrawnBatch(drawn.cursor, drawn.after, drawn.tokens, drawn.scored, parts)
