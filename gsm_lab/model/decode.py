"""Writing completions with the compiled kernels: rows that finish are refilled at once, so that none idles.

The rows in work are a list without order in time: each has its own prompt, its own number of tokens, and its own slot
in memory. A row that ends leaves the list, and nothing is copied; when enough slots are free, the next prompts are read
and their samples join. Rows of one prompt stand together, so that its keys and values are read once for all of them.
One call of the kernels writes several tokens of all rows.

Shapes: R rows that join, N tokens of the prompts that are read together, D width, W projected width, X most new tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsm_lab.model import kernels
from gsm_lab.model.texts import Texts
from gsm_lab.model.transformer import Transformer, run_layers

_REFILL_AT = 16
"""Rows are refilled when one in so many is free."""

_TOKENS_AT_ONCE = 16
"""Of every row, at most, before requests that are done are announced, and signals heard."""

_READ_AT_ONCE = 1024
"""So many tokens of prompts are read together, if there are as many: reading a few alone takes nearly as long."""


@dataclass
class Written:
    """What has been written so far; S samples of all requests, in their order."""

    tokens: NDArray[np.int64]
    """(S, X)."""
    logprobs: NDArray[np.float32]
    """(S, X)."""
    lengths: NDArray[np.int64]
    finished: NDArray[np.bool_]

    @classmethod
    def empty(cls, samples: int, room: int) -> Written:
        """Nothing yet."""
        shape = (samples, room)
        return cls(
            np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(samples, np.int64), np.zeros(samples, bool)
        )


class Writer:
    """Completes requests with at most `max_rows` rows at a time.

    Args:
        prompts: token ids of each request.
        counts: how many samples of each.
        uniforms: (all samples, X) of float64, request by request.
        ends_V: which tokens end a completion.
        temperature: divides the logits; 0 takes the likeliest token.
        on_request: called with the number of a request when all its samples are written.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        uniforms: NDArray[np.float64],
        ends_V: NDArray[np.bool_],
        temperature: float,
        max_rows: int,
        on_request: Callable[[int], None],
    ) -> None:
        self._model, self._weights = model, model.model.weights()
        self._prompts, self._on_request = prompts, on_request
        self._begins = np.concatenate(([0], np.cumsum(counts)))
        self._missing = np.array(counts)
        self.written = Written.empty(len(uniforms), uniforms.shape[1])
        self._request_of = np.repeat(np.arange(len(prompts)), counts)
        num_rows = min(max_rows, len(uniforms))
        self._free_slots = list(range(num_rows))[::-1]
        self._num_rows = num_rows
        self._order = sorted(range(len(prompts)), key=lambda one: -len(prompts[one]))
        self._queue = self._samples_in_order()
        self._num_read = 0
        self._waiting = len(uniforms)
        shape = model.shape
        num_rooms = min(num_rows + 1, len(prompts))
        rooms = (num_rooms, max(map(len, prompts)), num_rows, uniforms.shape[1])
        tables = (model.model.cosines, model.model.sines)
        self._memories = [
            kernels.LayerMemory(shape.heads, shape.kv_heads, shape.head_width, rooms, *tables)
            for _ in range(shape.layers)
        ]
        trunk = model.model
        ends = (trunk.norm.weight, shape.norm_eps, trunk.embed_tokens.weight, model.head_weight())
        self._stack = kernels.Stack(self._weights, self._memories, *ends, num_rows)
        made = self.written
        arrays = (made.tokens, made.logprobs, made.lengths, made.finished)
        self._writing = kernels.Writing(uniforms, ends_V, temperature, *arrays, num_rows)
        self._free_rooms = list(range(num_rooms))[::-1]
        self._room_of = np.full(len(prompts), -1)
        self._first_logits = torch.empty(num_rooms, shape.vocab_size)

    def _samples_in_order(self) -> Iterator[tuple[int, int]]:
        """(request, sample): long prompts first, for their completions are the longest, too."""
        for request in self._order:
            for sample in range(self._begins[request], self._begins[request + 1]):
                yield request, sample

    def finish(self) -> Written:
        """Write until every sample is finished or at the limit."""
        while self._waiting or self._writing.num_rows:
            enough = -(-self._num_rows // _REFILL_AT) - len(self._free_slots) if self._waiting else self._num_rows
            if self._waiting and (enough <= 0 or not self._writing.num_rows):
                self._admit()
            else:
                self._stack.write(self._writing, _TOKENS_AT_ONCE, enough)
            self._free_ended()
        kernels.LayerMemory.give_back(self._memories)
        return self.written

    def _admit(self) -> None:
        """Fill the free slots with samples, reading their prompts where that is not done."""
        num_new = min(len(self._free_slots), self._waiting)
        requests, samples = zip(*itertools.islice(self._queue, num_new), strict=True)
        self._waiting -= num_new
        self._read_until(requests[-1])
        rooms_R = self._room_of[list(requests)]
        slots = [self._free_slots.pop() for _ in samples]
        self._writing.begin(rooms_R, slots, samples, self._first_logits[torch.from_numpy(rooms_R)])

    def _free_ended(self) -> None:
        """Take back what rows had that have ended, and announce the requests that are done."""
        slots, samples = self._writing.take_ended()
        self._free_slots += slots
        for request in self._request_of[samples].tolist():
            self._missing[request] -= 1
            if self._missing[request] == 0:
                self._free_rooms.append(int(self._room_of[request]))
                self._on_request(request)

    def _read_until(self, request: int) -> None:
        """Prefill the prompts up to this request's and, if there are any to read, some that come next in the order.

        There is a room for it: prompts are read in the order in which they are begun, so what has one stands before it
        and is not finished. Of such there are no more than rows in work, and the one that was begun last.
        """
        to_read: list[int] = []
        tokens = 0
        while self._num_read < len(self._order) and self._free_rooms:
            if self._room_of[request] >= 0 and (not to_read or tokens >= _READ_AT_ONCE):
                break
            following = self._order[self._num_read]
            self._room_of[following] = self._free_rooms.pop()
            to_read.append(following)
            tokens += len(self._prompts[following])
            self._num_read += 1
        if to_read:
            self._read(to_read)

    def _read(self, requests: Sequence[int]) -> None:
        """Prefill: keep the keys and values of these prompts, and the logits of what follows each."""
        lengths = torch.tensor([len(self._prompts[request]) for request in requests])
        texts = Texts.of_lengths(lengths)
        rooms_P = self._room_of[requests]
        rooms = [
            (int(room), int(first), int(length))
            for room, first, length in zip(rooms_P, texts.trees[:-1], lengths, strict=True)
        ]
        shape, trunk = self._model.shape, self._model.model
        heads = self._model.heads_for(texts)

        def attend_with(memory: kernels.LayerMemory) -> Callable[[Tensor], Tensor]:
            def attend(qkv_NW: Tensor) -> Tensor:
                memory.remember(rooms, qkv_NW)
                return kernels.attention(qkv_NW, heads)

            return attend

        tokens_N = torch.tensor([token for request in requests for token in self._prompts[request]])
        hidden_ND = run_layers(
            trunk.embed_tokens(tokens_N),
            self._weights,
            trunk.norm.weight,
            shape.norm_eps,
            [attend_with(memory) for memory in self._memories],
        )
        self._first_logits[torch.from_numpy(rooms_P)] = self._stack.head(hidden_ND[texts.trees[1:] - 1])
