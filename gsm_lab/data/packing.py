"""Packs documents of different lengths into rows of one length; no document is cut, and none sees another.

Axes: R rows, L positions of a row.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gsm_lab.data.documents import Document, Documents, DrawnDocuments, Exercises, Ids
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import TokenError
from gsm_lab.seeds import stream_seed

LOSS_ON = ("completion", "all")


@dataclass(frozen=True, eq=False)
class PackedRows:
    """One batch; every array has shape (R, L).

    The first token of a document is never a target: nothing stands before it that it could be told from.
    """

    tokens: NDArray[np.int32]
    """Ids; the pad id where no document is."""
    targets: NDArray[np.int32]
    """The id that follows in the same document; the pad id where none does."""
    positions: NDArray[np.int32]
    """Place within the document, from 0; 0 in padding."""
    documents: NDArray[np.int32]
    """Number of the document within its row, from 0; -1 in padding."""
    loss_mask: NDArray[np.bool_]
    """Which targets count."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.documents >= 0).sum())

    @property
    def num_targets(self) -> int:
        """Targets that count."""
        return int(self.loss_mask.sum())


SENTENCE_ENDS = frozenset(".;:?。：？")  # noqa: RUF001 - Chinese marks


@dataclass(frozen=True)
class Jumps:
    """Random jumps of positions between the sentences of a training document.

    Rotary positions do not extrapolate: past the longest training example accuracy falls at once, whatever the depth of
    the problem. Where positions jump ahead between sentences, a model meets longer distances than its texts have, and
    the order of words within a sentence is left alone. The idea is that of randomised positional encodings
    (arXiv:2305.16843).

    Raises:
        TokenError: a share outside 0 to 1, or lengths below 1.
    """

    documents: float
    """Share of documents that jump at all, 0 to 1; the others are as in use."""
    share: float
    """Chance of a jump after each of their sentences, 0 to 1."""
    longest: int
    """Most positions that one jump leaves out."""
    room: int
    """Positions that the model has; a document's jumps are shortened to fit."""
    seed: int = 0
    """Another seed, other jumps."""

    def __post_init__(self) -> None:
        if not (0 <= self.documents <= 1 and 0 <= self.share <= 1 and self.longest >= 1 and self.room >= 1):
            raise TokenError(f"{self}: give shares from 0 to 1, and lengths of at least 1.")

    def positions(self, ends: NDArray[np.bool_], index: int) -> NDArray[np.int32]:
        """The positions of document `index`, a pure function: `ends` says which of its tokens end a sentence."""
        length = len(ends)
        rng = np.random.Generator(np.random.Philox(key=stream_seed(self.seed, "jumps", index)))
        if rng.random() >= self.documents:
            return np.arange(length, dtype=np.int32)
        jumps = np.where(rng.random(length) < self.share, rng.integers(1, self.longest + 1, length), 0)
        jumps[1:] *= ends[:-1]
        jumps[0] = 0
        total, spare = int(jumps.sum()), max(0, self.room - length)
        if total > spare:
            jumps = jumps * spare // total
        return np.asarray(np.arange(length) + np.cumsum(jumps), dtype=np.int32)


class Packer:
    """Batches of packed rows from endless documents; the same ones, whoever provides them.

    Args:
        source: exercises, which are drawn and encoded here, or a provider of documents: `DocumentWorkers`,
            `TokenDocuments`.

    Raises:
        TokenError: rows or length that hold nothing, an unknown `loss_on`, or documents of another tokenizer.
    """

    def __init__(
        self,
        source: Exercises | Documents,
        tokenizer: Tokenizer,
        rows: int,
        length: int,
        loss_on: Literal["completion", "all"] = "all",
        jumps: Jumps | None = None,
    ) -> None:
        if rows < 1 or length < 2:
            raise TokenError(f"rows={rows} and length={length}: give at least 1 row of at least 2 tokens.")
        if loss_on not in LOSS_ON:
            raise TokenError(f"loss_on={loss_on!r}: give one of {', '.join(LOSS_ON)}.")
        self.documents: Documents = source if isinstance(source, Documents) else DrawnDocuments(source, tokenizer)
        if self.documents.tokenizer != tokenizer:
            raise TokenError("the documents were made with another tokenizer: give theirs, or make them again.")
        self.tokenizer = tokenizer
        self.rows = rows
        self.length = length
        self.loss_on = loss_on
        self.jumps = jumps
        self._last: tuple[int, Document] | None = None
        self._ends = np.array([token.strip() in SENTENCE_ENDS for token in tokenizer.tokens])

    def batch(self, cursor: int) -> tuple[PackedRows, int]:
        """The batch that begins with document `cursor`, and the cursor of the next one.

        Documents are taken in order, each into the first row with room, until one finds none: that one begins the
        next batch. So every document is in exactly one batch, and a cursor is all there is to remember.

        Raises:
            TokenError: a document that is longer than a row.
        """
        packed = self._empty()
        used = [0] * self.rows
        num_documents = [0] * self.rows
        while True:
            ids, num_prompt = self._document(cursor)
            row = next((row for row in range(self.rows) if used[row] + len(ids) <= self.length), None)
            if row is None:
                return packed, cursor
            self._put(packed, row, used[row], num_documents[row], ids, num_prompt)
            if self.jumps is not None:
                place = slice(used[row], used[row] + len(ids))
                packed.positions[row, place] = self.jumps.positions(self._ends[ids], cursor)
            used[row] += len(ids)
            num_documents[row] += 1
            cursor += 1

    def _empty(self) -> PackedRows:
        shape = (self.rows, self.length)
        pads = np.full(shape, self.tokenizer.pad_id, dtype=np.int32)
        return PackedRows(
            tokens=pads,
            targets=pads.copy(),
            positions=np.zeros(shape, dtype=np.int32),
            documents=np.full(shape, -1, dtype=np.int32),
            loss_mask=np.zeros(shape, dtype=np.bool_),
        )

    def _document(self, index: int) -> Document:
        """The document that found no room in a batch begins the next one: it is not drawn again."""
        if self._last is None or self._last[0] != index:
            self._last = index, self.documents.document(index)
        document = self._last[1]
        size = len(document.ids)
        if size > self.length:
            raise TokenError(
                f"exercise {index} has {size} tokens and a row has {self.length}: "
                f"set the row length to at least {size}, or lower op or the distractors."
            )
        return document

    def _put(self, packed: PackedRows, row: int, begin: int, number: int, ids: Ids, num_prompt: int) -> None:
        end = begin + len(ids)
        packed.tokens[row, begin:end] = ids
        packed.targets[row, begin : end - 1] = ids[1:]
        packed.positions[row, begin:end] = np.arange(len(ids))
        packed.documents[row, begin:end] = number
        first_target = begin + (num_prompt - 1 if self.loss_on == "completion" else 0)
        packed.loss_mask[row, max(begin, first_target) : end - 1] = True
