"""Writing completions with the compiled kernels: rows that finish are refilled at once, so that none idles.

The rows in work are a list without order in time: each has its own prompt, its own number of tokens, and its own slot
in memory. A row that ends leaves the list, and nothing is copied; when enough slots are free, the next prompts are read
and their samples join. Rows of one prompt stand together, so that its keys and values are read once for all of them.

Shapes: R rows in work, N tokens of the prompts that are read together, D width, W projected width, X most new tokens.
"""

from __future__ import annotations

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

_READ_AT_ONCE = 1024
"""So many tokens of prompts are read together, if there are as many: reading a few alone takes nearly as long."""

Choose = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (R, V) and uniforms (R,) -> tokens and their log-probabilities, (R,) each."""


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


@dataclass
class _Rows:
    """The rows in work, one number each."""

    sample: NDArray[np.int64]
    request: NDArray[np.int64]
    slot: NDArray[np.int64]
    length: NDArray[np.int64]
    """Tokens written."""

    def kept(self, mask: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.sample[mask], self.request[mask], self.slot[mask], self.length[mask])

    def joined(self, other: _Rows) -> _Rows:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Rows(*(np.concatenate(pair) for pair in pairs))

    @classmethod
    def none(cls) -> _Rows:
        return cls(*(np.zeros(0, np.int64) for _ in range(4)))


class Writer:
    """Completes requests with at most `max_rows` rows at a time.

    Args:
        prompts: token ids of each request.
        counts: how many samples of each.
        uniforms: (all samples, X) of float64, request by request.
        ends_V: which tokens end a completion.
        choose: picks tokens.
        on_request: called with the number of a request when all its samples are written.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        uniforms: NDArray[np.float64],
        ends_V: NDArray[np.bool_],
        choose: Choose,
        max_rows: int,
        on_request: Callable[[int], None],
    ) -> None:
        self._model, self._weights = model, model.model.weights()
        self._prompts, self._uniforms, self._ends_V = prompts, uniforms, ends_V
        self._choose, self._on_request = choose, on_request
        self._begins = np.concatenate(([0], np.cumsum(counts)))
        self._missing = np.array(counts)
        self.written = Written.empty(len(uniforms), uniforms.shape[1])
        self._rows = _Rows.none()
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
        self._stack = kernels.Stack(self._weights, self._memories, *ends)
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
        tokens_R = torch.empty(0, dtype=torch.int64)
        while self._waiting or len(self._rows.sample):
            logits_RV = self._step(tokens_R)
            free = len(self._free_slots)
            if self._waiting and (not len(self._rows.sample) or free * _REFILL_AT >= self._num_rows):
                logits_RV = torch.cat((logits_RV, self._admit()))
            tokens_R = self._write(logits_RV)
        kernels.LayerMemory.give_back(self._memories)
        return self.written

    def _admit(self) -> Tensor:
        """Fill the free slots with samples, reading their prompts where that is not done: logits (R, V)."""
        new = []
        while self._free_slots and self._waiting:
            request, sample = next(self._queue)
            self._waiting -= 1
            new.append((sample, request, self._free_slots.pop(), 0))
        self._read_until(new[-1][1])
        rows = _Rows(*np.array(new).T)
        self._rows = self._rows.joined(rows)
        return self._first_logits[torch.from_numpy(self._room_of[rows.request])]

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

    def _step(self, tokens_R: Tensor) -> Tensor:
        """Read the token that each row wrote last: logits (R, V)."""
        rows = self._rows
        if not len(tokens_R):
            return torch.empty(0, self._model.shape.vocab_size)
        ends = np.append(np.flatnonzero(rows.request[1:] != rows.request[:-1]) + 1, len(rows.request))
        first = np.append(0, ends[:-1])
        groups = torch.from_numpy(np.stack((self._room_of[rows.request[first]], first, ends - first), axis=1))
        slots, lengths = torch.from_numpy(rows.slot), torch.from_numpy(rows.length - 1)
        return self._stack.step(tokens_R, groups, slots, lengths)

    def _write(self, logits_RV: Tensor) -> Tensor:
        """Choose a token for every row, drop the rows that are done: the tokens of the others."""
        rows, written = self._rows, self.written
        uniforms_R = torch.from_numpy(self._uniforms[rows.sample, rows.length])
        chosen, logprobs_R = self._choose(logits_RV, uniforms_R)
        chosen_R = chosen.numpy()
        written.tokens[rows.sample, rows.length] = chosen_R
        written.logprobs[rows.sample, rows.length] = logprobs_R.numpy()
        rows.length += 1
        ended_R = self._ends_V[chosen_R]
        done_R = ended_R | (rows.length == written.tokens.shape[1])
        if not done_R.any():
            return chosen
        done = rows.kept(done_R)
        written.lengths[done.sample] = done.length
        written.finished[done.sample] = ended_R[done_R]
        self._free_slots.extend(done.slot.tolist())
        self._rows = rows.kept(~done_R)
        for request in done.request.tolist():
            self._missing[request] -= 1
            if self._missing[request] == 0:
                self._free_rooms.append(int(self._room_of[request]))
                self._on_request(request)
        return chosen[torch.from_numpy(~done_R)]
