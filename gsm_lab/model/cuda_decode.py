"""Writing completions with PyTorch's operations: on a GPU, a step of all rows is one captured CUDA graph.

A graph repeats the same operations on the same memory, so every shape is fixed: a number of rows, each with its own
tokens, and rooms in which each prompt is kept once for all its samples (see `cache.py`). Which sample a row writes, how
far it is and where it sits are numbers on the device. The token is chosen within the graph, from uniforms found by
sample and length; so neither refilling nor other rows change a completion. A row that ends notes it on the device and
goes on writing nonsense for the dustbin, the last line of each table. The host looks which rows have ended only every
few steps, so in between it never waits: then it hands on finished requests and puts new samples into the free rows.

Three ways were weighed for the attention of one token a row to its prompt and its own tokens:

- Rows in blocks of a prompt, one matrix product a block: a block is refilled only when its last row is done, so rows
  stand idle, and all products are as long as the longest row and prompt may become.
- The prompt's keys gathered for each row: any row takes any sample, but a prompt is read and written once for each of
  its 16 samples, in every layer and step, which is more traffic than all the rest.
- A kernel that reads each row's room and lengths: any row takes any sample, nothing beyond the lengths is read, and
  the rows of a prompt find it in the GPU's cache. It is the one that is used, and it is thirty lines.

On a CPU there are no graphs, and the host looks after every step. There the rows begin together: products are as long
as the longest row, so a row that began later would pay for it. Rows that end are dropped, until the next ones begin.

Bytes: those of the cache, bounded by rows and lengths, for there are at most 1.5 (R / S + 1) + 2 rooms; the tables,
(all samples + 1) x X x (16 + bytes of a log-probability); and while prompts are read the activations of at most 65,536
of their tokens, or of one prompt.

Shapes: R rows, S seats in a room, N rows that are read or admitted together, B prompts, T positions, D width, W
projected width, X most new tokens; H, J, K as in `transformer.py`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsm_lab.model.cache import NOWHERE, Extent, KeyValueCache, Reading
from gsm_lab.model.decode import Written
from gsm_lab.model.transformer import Attend, Rotation, Transformer, attend_rows, rotate, run_layers

_REFILL_AT = 8
"""On a GPU rows are refilled when one in so many is free: reading prompts together is quicker than each alone."""
_LOOK_EVERY = 8
"""Steps between two looks at which rows have ended, on a GPU."""
_FEWER_ROWS = 4
"""On a GPU rows that nobody is left for are dropped when one in so many is left: each number of rows is a graph of its
own, and to capture one costs as much as a few dozen steps of it."""
_FEWEST_ROWS = 16
_TIGHTEN_AT = 1.25
"""On a CPU, rows that are computed for each row in work, above which rows are dropped."""
_WASTE_IN_SEATS = 1.1
"""Seats for each sample, at most; so uneven numbers of samples make small groups."""
_ROOMS_FOR_ROWS = 1.5
"""Rooms for each that full groups would need: a room stays taken until the last of its samples is done."""
_PREFILL_TOKENS = 1 << 16
"""Tokens of prompts, with padding, that are read together at most; one prompt may be longer."""

Choose = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (R, V) and uniforms (R,) -> tokens and their log-probabilities, (R,) each."""


@dataclass
class _Group:
    """Samples of one prompt that share a room."""

    request: int
    samples: range
    room: int = NOWHERE
    admitted: int = 0
    done: int = 0


class _Rows(NamedTuple):
    """What rows are doing, on the device: (N,) each."""

    sample: Tensor
    """The number of the dustbin for a row without work."""
    place: Tensor
    length: Tensor
    """Tokens written, the last of which is not yet read; 1 for a row without work."""
    token: Tensor
    """The last one."""


class Writer:
    """Completes requests with at most `max_rows` rows at a time. Arguments as of `decode.Writer`, but

    Args:
        choose: in place of a temperature, picks tokens.
        static: whether shapes are fixed and the host looks only now and then; if not given, whether there is a GPU.
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
        static: bool | None = None,
    ) -> None:
        self._model, self._weights = model, model.model.weights()
        self._prompts, self._choose, self._on_request = prompts, choose, on_request
        self._begins = np.concatenate(([0], np.cumsum(counts)))
        self._missing = np.array(counts)
        self._total, self._room = uniforms.shape
        self._num_rows = self._rows_at_first = min(max_rows, self._total)
        self._seats = seats_of_room(counts, self._num_rows)
        groups = self._groups()
        self._queue = deque(groups)
        num_rooms = 1 + min(len(groups), 1 + int(_ROOMS_FOR_ROWS * -(-self._num_rows // self._seats)))
        self._free_rooms = list(range(1, num_rooms))
        self._group_of_row: list[_Group | None] = [None] * self._num_rows
        self._length_of_row = np.zeros(self._num_rows, np.int64)
        self._make_tables(uniforms, ends_V, num_rooms)
        on_gpu = model.device.type == "cuda"
        self._static = on_gpu if static is None else static
        self._graphs = _Graphs() if on_gpu and self._static else None

    def _make_tables(self, uniforms: NDArray[np.float64], ends_V: NDArray[np.bool_], num_rooms: int) -> None:
        """All that lives on the device; the dustbin is sample number `total`."""
        weight = self._model.model.embed_tokens.weight
        table, device = (self._total + 1, self._room), weight.device
        precise = torch.promote_types(weight.dtype, torch.float32)  # the head works in float32 at least
        self._uniforms = torch.zeros(table, dtype=torch.float64, device=device)
        self._uniforms[: self._total] = torch.from_numpy(uniforms)
        self._ends_V = torch.from_numpy(ends_V).to(device)
        self._tokens = torch.zeros(table, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(table, dtype=precise, device=device)
        self._lengths = torch.zeros(self._total + 1, dtype=torch.long, device=device)
        self._finished = torch.zeros(self._total + 1, dtype=torch.bool, device=device)
        self._idle_41 = torch.tensor([[self._total], [NOWHERE], [1], [0]], device=device)
        self._rows_4R = self._idle_41.repeat(1, self._num_rows)
        longest = max(map(len, self._prompts))
        rooms = (self._num_rows, num_rooms, self._seats, longest, self._room)
        self._cache = KeyValueCache(self._model.shape, *rooms, like=weight)
        self._last_hidden = weight.new_zeros(num_rooms, self._model.shape.width)
        self.written = Written(
            np.zeros((self._total, self._room), np.int64),
            torch.zeros(self._total, self._room, dtype=precise).numpy(),
            np.zeros(self._total, np.int64),
            np.zeros(self._total, bool),
        )

    def _groups(self) -> list[_Group]:
        """Samples that share a room; long prompts first, for their completions are the longest, too."""
        groups = []
        for request in sorted(range(len(self._prompts)), key=lambda one: -len(self._prompts[one])):
            begin, end = int(self._begins[request]), int(self._begins[request + 1])
            for first in range(begin, end, self._seats):
                groups.append(_Group(request, range(first, min(first + self._seats, end))))
        return groups

    def finish(self) -> Written:
        """Write until every sample is finished or at the limit."""
        while self._queue or self._in_work():
            num_writing = len(self._in_work())
            refill_at = _REFILL_AT if self._static else 1
            if self._queue and (self._rows_at_first - num_writing) * refill_at >= self._rows_at_first:
                self._admit()
            elif not self._queue or not self._static:
                self._drop_rows(num_writing)
            self._write()
            self._look()
        return self.written

    def _in_work(self) -> list[int]:
        """The rows that had work at the last look."""
        return [row for row, group in enumerate(self._group_of_row) if group is not None]

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long).to(self._model.device)

    def _admit(self) -> None:
        """Fill the free rows with samples, read the prompts that are new, and write the first token of each."""
        self._group_of_row += [None] * (self._rows_at_first - self._num_rows)
        self._num_rows = self._rows_at_first
        rows, samples, places, to_read = [], [], [], []
        for row, taken in enumerate(self._group_of_row):
            if taken is not None:
                continue
            if not self._queue or not (self._queue[0].admitted or self._free_rooms):
                break
            group = self._queue[0]
            if not group.admitted:
                group.room = heapq.heappop(self._free_rooms)
                to_read.append(group)
            rows.append(row)
            samples.append(group.samples[group.admitted])
            places.append(group.room * self._seats + group.admitted)
            self._group_of_row[row] = group
            group.admitted += 1
            if group.admitted == len(group.samples):
                self._queue.popleft()
        if not rows:
            return
        for portion in self._portions(to_read):
            self._read_prompts(portion)
        self._length_of_row[rows] = 1
        place_N = self._tensor(places)
        new = _Rows(self._tensor(samples), place_N, torch.zeros_like(place_N), torch.zeros_like(place_N))
        self._rows_4R[:, self._tensor(rows)] = self._note(self._last_hidden[place_N // self._seats], new)

    def _portions(self, groups: Sequence[_Group]) -> Iterator[list[_Group]]:
        """Groups whose prompts are read together; they come with the longest first."""
        portion: list[_Group] = []
        for group in groups:
            if portion and (len(portion) + 1) * len(self._prompts[portion[0].request]) > _PREFILL_TOKENS:
                yield portion
                portion = []
            portion.append(group)
        if portion:
            yield portion

    def _read_prompts(self, groups: Sequence[_Group]) -> None:
        """Prefill: keep the keys and values of these groups' prompts, and the last hidden state of each."""
        lengths = [len(self._prompts[group.request]) for group in groups]
        padded_BT = np.zeros((len(groups), max(lengths)), np.int64)
        for row, group in zip(padded_BT, groups, strict=True):
            row[: len(self._prompts[group.request])] = self._prompts[group.request]
        tokens_BT = torch.from_numpy(padded_BT).to(self._model.device)
        rooms_B, length_B = self._tensor([group.room for group in groups]), self._tensor(lengths)
        self._cache.prompt_lengths[rooms_B] = length_B
        trunk = self._model.model
        rotation = trunk.rotation(torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT))

        def attend_with(layer: int) -> Attend:
            def attend(qkv_BTW: Tensor) -> Tensor:
                query, key, value = self._heads_of(qkv_BTW, rotation)
                self._cache.remember_prompts(layer, rooms_B, key, value)
                # padding stands last, so no token of a prompt sees it
                mixed = attend_rows(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), None)
                return mixed.transpose(1, 2).flatten(2)

            return attend

        hidden_BTD = self._run(tokens_BT, attend_with)
        self._last_hidden[rooms_B] = hidden_BTD[torch.arange(len(groups), device=rooms_B.device), length_B - 1]

    def _heads_of(self, qkv_BTW: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (B, T, H, K), rotated keys and values (B, T, J, K)."""
        heads, kv_heads = self._model.shape.heads, self._model.shape.kv_heads
        all_heads = qkv_BTW.view(*qkv_BTW.shape[:2], -1, self._model.shape.head_width)
        turned = rotate(all_heads[:, :, : heads + kv_heads], rotation)
        return turned[:, :, :heads], turned[:, :, heads:], all_heads[:, :, heads + kv_heads :]

    def _run(self, tokens: Tensor, attend_with: Callable[[int], Attend]) -> Tensor:
        """Tokens through all layers: (...) -> (..., D)."""
        trunk, shape = self._model.model, self._model.shape
        attends = [attend_with(layer) for layer in range(shape.layers)]
        return run_layers(trunk.embed_tokens(tokens), self._weights, trunk.norm.weight, shape.norm_eps, attends)

    def _write(self) -> None:
        """A few tokens in every row, and no more than the newest row has room for."""
        working = self._in_work()
        for _ in range(min(_LOOK_EVERY if self._static else 1, self._room - int(self._length_of_row[working].min()))):
            extent = self._cache.whole if self._static else self._extent(working)
            if self._graphs is None:
                self._step(self._num_rows, extent)
            else:
                self._graphs.run(self._num_rows, partial(self._step, self._num_rows, extent))
            self._length_of_row[working] += 1

    def _extent(self, working: Sequence[int]) -> Extent:
        groups = [group for group in self._group_of_row if group is not None]
        longest = max(len(self._prompts[group.request]) for group in groups)
        return Extent(1 + max(group.room for group in groups), longest, int(self._length_of_row[working].max()))

    def _step(self, num_rows: int, extent: Extent) -> None:
        """Read the last token of each of the first rows, and write the next: this is what a graph holds."""
        rows = _Rows(*self._rows_4R[:, :num_rows])
        reading = self._cache.reading(rows.place, rows.length, extent)
        hidden_ND = self._run(rows.token, self._attends_of(reading))
        self._rows_4R[:, :num_rows] = self._note(hidden_ND, rows)

    def _attends_of(self, reading: Reading) -> Callable[[int], Attend]:
        rotation = self._model.model.rotation(reading.position_R[:, None])

        def attend_with(layer: int) -> Attend:
            def attend(qkv_NW: Tensor) -> Tensor:
                query, key, value = (part[:, 0] for part in self._heads_of(qkv_NW[:, None], rotation))
                return reading.attend(layer, query, key, value).flatten(1)

            return attend

        return attend_with

    def _note(self, hidden_ND: Tensor, rows: _Rows) -> Tensor:
        """Choose a token for each row, note it for its sample: what the rows do next, (4, N)."""
        uniforms_N = self._uniforms[rows.sample, rows.length]
        token_N, logprob_N = self._choose(self._model.head(hidden_ND), uniforms_N)
        self._tokens[rows.sample, rows.length] = token_N
        self._logprobs[rows.sample, rows.length] = logprob_N
        length_N, ended_N = rows.length + 1, self._ends_V[token_N]
        self._lengths[rows.sample] = length_N
        self._finished[rows.sample] = ended_N
        goes_on_N = ~ended_N & (length_N < self._room) & (rows.sample < self._total)
        return torch.where(goes_on_N, torch.stack((rows.sample, rows.place, length_N, token_N)), self._idle_41)

    def _look(self) -> None:
        """Find the rows that have ended, free them and their rooms, and hand on the requests that are done."""
        goes_on_R = (self._rows_4R[0] < self._total).tolist()
        requests = []
        for row in self._in_work():
            group = self._group_of_row[row]
            if group is None or goes_on_R[row]:
                continue
            self._group_of_row[row] = None
            group.done += 1
            if group.done == len(group.samples):
                heapq.heappush(self._free_rooms, group.room)
            self._missing[group.request] -= 1
            if not self._missing[group.request]:
                requests.append(group.request)
        if requests:
            self._fetch(requests)
            for request in requests:
                self._on_request(request)

    def _fetch(self, requests: Sequence[int]) -> None:
        """Copy what was written for these requests to the host."""
        samples = np.concatenate([np.arange(self._begins[one], self._begins[one + 1]) for one in requests])
        samples_N = torch.from_numpy(samples).to(self._model.device)
        self.written.tokens[samples] = self._tokens[samples_N].cpu().numpy()
        self.written.logprobs[samples] = self._logprobs[samples_N].cpu().numpy()
        self.written.lengths[samples] = self._lengths[samples_N].cpu().numpy()
        self.written.finished[samples] = self._finished[samples_N].cpu().numpy()

    def _drop_rows(self, num_writing: int) -> None:
        """When nobody waits, go on with fewer rows; those behind move to the front."""
        fewer = self._num_rows
        if not self._static:
            if num_writing * _TIGHTEN_AT <= fewer:
                fewer = num_writing
        else:
            while num_writing * _FEWER_ROWS <= fewer and fewer > _FEWEST_ROWS:
                fewer = max(_FEWEST_ROWS, fewer // _FEWER_ROWS)
        if fewer == self._num_rows:
            return
        behind = [row for row in self._in_work() if row >= fewer]
        free = [row for row in range(fewer) if self._group_of_row[row] is None][: len(behind)]
        if behind:
            from_rows, to_rows = self._tensor(behind), self._tensor(free)
            self._cache.move(from_rows, to_rows)
            self._rows_4R[:, to_rows] = self._rows_4R[:, from_rows]
        for old, new in zip(behind, free, strict=True):
            self._group_of_row[new] = self._group_of_row[old]
            self._length_of_row[new] = self._length_of_row[old]
        self._rows_4R[:, fewer:] = self._idle_41  # they come back with the next samples, maybe more than there are
        del self._group_of_row[fewer:]
        self._num_rows = fewer
        if not self._queue and not self._static:
            self._drop_rooms()

    def _drop_rooms(self) -> None:
        """When no prompt waits, move those still in use into the first rooms, the only ones that products read then."""
        groups = {group.room: group for group in self._group_of_row if group is not None}
        behind = [room for room in groups if room > len(groups)]
        free = [room for room in range(1, len(groups) + 1) if room not in groups]
        if not behind:
            return
        self._cache.move_rooms(self._tensor(behind), self._tensor(free))
        for old, new in zip(behind, free, strict=True):
            rows = [row for row, group in enumerate(self._group_of_row) if group is groups[old]]
            self._rows_4R[1, rows] += (new - old) * self._seats
            groups[old].room = new


class _Graphs:
    """A step for each number of rows, captured when it comes up for the second time.

    The first time it runs as it is, on the side stream: that loads kernels and takes workspaces, which is not allowed
    while a graph is captured. All graphs share one pool of memory, for only one of them runs at a time.
    """

    def __init__(self) -> None:
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self.captured: dict[int, torch.cuda.CUDAGraph | None] = {}
        """By number of rows; None after the first step."""

    def run(self, num_rows: int, step: Callable[[], None]) -> None:
        """Do the step for so many rows, which is the same every time."""
        if num_rows not in self.captured:
            self.captured[num_rows] = None
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                step()
            torch.cuda.current_stream().wait_stream(self._side)
            return
        graph = self.captured[num_rows]
        if graph is None:
            graph = self.captured[num_rows] = torch.cuda.CUDAGraph()
            # other threads may use the GPU meanwhile
            with torch.cuda.graph(graph, self._pool, self._side, capture_error_mode="thread_local"):
                step()
        graph.replay()


def seats_of_room(counts: Sequence[int], max_rows: int) -> int:
    """How many samples of a prompt share a room: as many as can be, without leaving many seats empty."""
    allowed = _WASTE_IN_SEATS * sum(counts)
    largest = min(max(counts), max_rows)
    return next(s for s in range(largest, 0, -1) if sum(-(-count // s) * s for count in counts) <= allowed)
