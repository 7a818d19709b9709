"""Documents: the token ids of exercises as training reads them, prompt, completion and the end of sequence.

Whoever trains asks a provider for document `index`; whether that is drawn on the spot, in worker processes
(`DocumentWorkers`) or read from disk (`TokenDocuments`) makes no difference to what it is.
"""

from array import array
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gsm_lab.data.collector import without_collector
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.problems import Exercise

Ids = NDArray[np.int32] | NDArray[np.uint16]


class Exercises(Protocol):
    """Anything that has an exercise for every index from 0 on; an `ExerciseSource` for one."""

    def at(self, index: int) -> Exercise: ...


class Document(NamedTuple):
    """One exercise as a row of ids."""

    ids: Ids
    """Those of the prompt, those of the completion, and the end of sequence."""
    num_prompt: int
    """How many of them are the prompt's."""


@runtime_checkable
class Documents(Protocol):
    """Anything that has a document for every index from 0 on, or up to some index."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Whose ids the documents are made of."""

    def document(self, index: int) -> Document:
        """Document `index`, always the same."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive documents in one array."""

    ids: Ids
    """One document after another."""
    ends: NDArray[np.int64]
    """Where in `ids` each of them ends."""
    num_prompts: NDArray[np.int64]
    """How many ids of each are its prompt's."""

    def __len__(self) -> int:
        return len(self.ends)

    def document(self, number: int) -> Document:
        """Document `number` of this block, counted from 0."""
        begin = int(self.ends[number - 1]) if number else 0
        return Document(self.ids[begin : int(self.ends[number])], int(self.num_prompts[number]))


@dataclass(frozen=True)
class DrawnDocuments:
    """Documents drawn when they are asked for, in this process."""

    source: Exercises
    tokenizer: Tokenizer

    def document(self, index: int) -> Document:
        """Document `index`, always the same."""
        return self.block(index, index + 1).document(0)

    def block(self, first: int, last: int) -> Block:
        """Documents `first` to `last - 1`."""
        encode, at = self.tokenizer.encode_bytes, self.source.at
        eos = array("i", [self.tokenizer.eos_id]).tobytes()
        parts: list[bytes] = []
        sizes: list[int] = []
        prompts: list[int] = []
        with without_collector():
            for index in range(first, last):
                exercise = at(index)
                prompt, completion = encode(exercise.prompt), encode(exercise.completion)
                parts += (prompt, completion, eos)
                prompts.append(len(prompt))
                sizes.append(len(prompt) + len(completion) + len(eos))
        return Block(
            ids=np.frombuffer(b"".join(parts), np.int32),
            ends=np.cumsum(np.array(sizes, np.int64)) // len(eos),
            num_prompts=np.array(prompts, np.int64) // len(eos),
        )
