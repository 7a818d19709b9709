"""What a transformer remembers while it writes: keys and values of prompts, and of the tokens each row wrote itself.

Everything has its place from the beginning and never moves, so a step can be a captured CUDA graph. A prompt is kept
once, in a room with S seats; the rows that complete it sit there and share it. A row's place is `room * S + seat`.
What a row wrote itself is kept by row. Rows without work sit in room 0, where nothing is kept.

One new token of each row attends to its room's prompt and to the row's own tokens. On a GPU one kernel does it, see
`cuda_row_attention.py`; elsewhere, and in float64, matrix products do: queries are put into their seats, so that each
room is one product for all rows in it, and what lies beyond the `Extent` in use is not read.

Own tokens are kept in pages. On a CPU a page is contiguous over the rows, so a product reads it at the full speed of
the memory, three times that of a slice of one long tensor. On a GPU there is one page: the kernel reads what is there.

Bytes: layers x 2 x J x K x (rooms x P + rows x X) x bytes of a number, X rounded up to whole pages.

Shapes: R rows, S seats, J key-value heads, G query heads for each of them, H = J G, K head width, P positions of the
longest prompt, X most new tokens, C own tokens in a page, L places for scores, B prompts, T positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gsm_lab.model.shape import ModelShape

_TOKENS_IN_PAGE_ON_CPU = 32
NOWHERE = 0
"""The room, and the place, of rows without work."""


class Extent(NamedTuple):
    """How much of the cache is in use: what lies beyond is not read by products."""

    rooms: int
    prompt: int
    """Tokens of the longest prompt."""
    own: int
    """Tokens of the row that has written most."""


class KeyValueCache:
    """Keys and values of each layer.

    Args:
        rows: completions that are written at the same time.
        rooms: prompts that are kept at the same time, room 0 included.
        seats: S, the most rows that share a room.
        longest_prompt: P.
        most_new: X.
        like: a tensor of the device and the type of the keys and values.
    """

    def __init__(
        self, shape: ModelShape, rows: int, rooms: int, seats: int, longest_prompt: int, most_new: int, like: Tensor
    ) -> None:
        self.shape, self.seats = shape, seats
        self.page = _TOKENS_IN_PAGE_ON_CPU if like.device.type == "cpu" else most_new
        self.by_kernel = like.is_cuda and like.dtype != torch.float64
        self.whole = Extent(rooms, longest_prompt, most_new)
        prompts = (rooms, shape.kv_heads, longest_prompt, shape.head_width)
        own = (-(-most_new // self.page), rows, shape.kv_heads, self.page, shape.head_width)
        layers = range(shape.layers)
        self.prompt_keys = [like.new_zeros(prompts) for _ in layers]
        self.prompt_values = [like.new_zeros(prompts) for _ in layers]
        self.own_keys = [like.new_zeros(own) for _ in layers]
        """(pages, R, J, C, K)."""
        self.own_values = [like.new_zeros(own) for _ in layers]
        self.prompt_lengths = torch.ones(rooms, dtype=torch.long, device=like.device)

    def remember_prompts(self, layer: int, rooms_B: Tensor, key_BTJK: Tensor, value_BTJK: Tensor) -> None:
        """Keep prompts, padded on the right; their lengths are set by the caller."""
        length = key_BTJK.shape[1]
        self.prompt_keys[layer][rooms_B, :, :length] = key_BTJK.transpose(1, 2)
        self.prompt_values[layer][rooms_B, :, :length] = value_BTJK.transpose(1, 2)

    def move(self, from_rows: Tensor, to_rows: Tensor) -> None:
        """Let rows go on where other rows were."""
        for own in (*self.own_keys, *self.own_values):
            own[:, to_rows] = own[:, from_rows]

    def move_rooms(self, from_rooms: Tensor, to_rooms: Tensor) -> None:
        """Put prompts where other prompts were."""
        for kept in (self.prompt_lengths, *self.prompt_keys, *self.prompt_values):
            kept[to_rooms] = kept[from_rooms]

    def reading(self, place_R: Tensor, length_R: Tensor, extent: Extent) -> Reading:
        """What the first R rows need to read one token each; `length_R` counts a row's own tokens, this one too."""
        return Reading(self, place_R, length_R, extent)


class Reading:
    """One token of each row on its way through the layers."""

    def __init__(self, cache: KeyValueCache, place_R: Tensor, length_R: Tensor, extent: Extent) -> None:
        self._cache, self._place_R, self._length_R, self._extent = cache, place_R, length_R, extent
        self._room_R, self._seat_R = place_R // cache.seats, place_R % cache.seats
        self._row_R = torch.arange(len(place_R), device=place_R.device)
        self._page_R, self._in_page_R = (length_R - 1) // cache.page, (length_R - 1) % cache.page
        self._pages = range(-(-extent.own // cache.page))
        prompt_length_R = cache.prompt_lengths[self._room_R]
        self.position_R = prompt_length_R + length_R - 1
        """The position of each row's token."""
        if not cache.by_kernel:
            self._mask_R11L = self._mask(prompt_length_R)[:, None, None]

    def attend(self, layer: int, query_RHK: Tensor, key_RJK: Tensor, value_RJK: Tensor) -> Tensor:
        """Remember the token's key and value, then attend to the prompt and to all own tokens: (R, H, K)."""
        cache = self._cache
        cache.own_keys[layer][self._page_R, self._row_R, :, self._in_page_R] = key_RJK
        cache.own_values[layer][self._page_R, self._row_R, :, self._in_page_R] = value_RJK
        return self._by_kernel(layer, query_RHK) if cache.by_kernel else self._by_products(layer, query_RHK)

    def _by_kernel(self, layer: int, query_RHK: Tensor) -> Tensor:
        from gsm_lab.model.cuda_row_attention import row_attention  # needs Triton, which comes with torch for CUDA

        cache = self._cache
        prompts = (cache.prompt_keys[layer], cache.prompt_values[layer], cache.prompt_lengths)
        own = (cache.own_keys[layer][0], cache.own_values[layer][0], self._length_R)
        return row_attention(query_RHK, prompts, own, self._place_R, cache.seats)

    def _by_products(self, layer: int, query_RHK: Tensor) -> Tensor:
        cache, extent = self._cache, self._extent
        rows, heads, width = query_RHK.shape
        kv_heads, group = cache.shape.kv_heads, cache.shape.queries_per_kv_head
        by_row = (rows * kv_heads, group, -1)
        prompt_keys, prompt_values = (
            kept[layer][: extent.rooms, :, : extent.prompt].flatten(0, 1)
            for kept in (cache.prompt_keys, cache.prompt_values)
        )
        own_keys, own_values = (
            [kept[layer][page, :rows].flatten(0, 1) for page in self._pages]
            for kept in (cache.own_keys, cache.own_values)
        )
        query_RJGK = query_RHK.reshape(rows, kv_heads, group, width) * width**-0.5
        in_seats = torch.bmm(self._to_seats(query_RJGK), prompt_keys.transpose(1, 2))
        query = query_RJGK.view(by_row)
        own = [torch.bmm(query, keys.transpose(1, 2)).view(rows, kv_heads, group, -1) for keys in own_keys]
        scores_RJGL = torch.cat((self._from_seats(in_seats), *own), dim=3).add_(self._mask_R11L)
        widths = [extent.prompt] + [cache.page] * len(own)
        prompt_weights, *own_weights = torch.split_with_sizes(torch.softmax(scores_RJGL, dim=3), widths, dim=3)
        mixed = self._from_seats(torch.bmm(self._to_seats(prompt_weights), prompt_values)).view(by_row)
        for weights, values in zip(own_weights, own_values, strict=True):
            mixed = mixed.baddbmm_(weights.reshape(by_row), values)
        return mixed.view(rows, heads, width)

    def _mask(self, prompt_length_R: Tensor) -> Tensor:
        """What may be seen, as a number added to the scores: (R, L), 0 or minus infinity."""
        prompt, own = self._extent.prompt, len(self._pages) * self._cache.page
        index_L = torch.arange(prompt + own, device=prompt_length_R.device)
        seen_RL = torch.where(
            index_L < prompt, index_L < prompt_length_R[:, None], index_L - prompt < self._length_R[:, None]
        )
        mask_RL = torch.zeros(seen_RL.shape, dtype=self._cache.own_keys[0].dtype, device=seen_RL.device)
        return mask_RL.masked_fill_(~seen_RL, float("-inf"))

    def _to_seats(self, of_rows: Tensor) -> Tensor:
        """(R, J, G, any) -> (rooms J, S G, any), 0 where nobody sits."""
        _, kv_heads, group, width = of_rows.shape
        rooms, seats = self._extent.rooms, self._cache.seats
        placed = of_rows.new_zeros(rooms, kv_heads, seats, group, width)
        placed[self._room_R, :, self._seat_R] = of_rows
        return placed.view(rooms * kv_heads, seats * group, width)

    def _from_seats(self, placed: Tensor) -> Tensor:
        """(rooms J, S G, any) -> (R, J, G, any)."""
        shape, seats = self._cache.shape, self._cache.seats
        by_place = placed.view(-1, shape.kv_heads, seats, shape.queries_per_kv_head, placed.shape[2])
        return by_place[self._room_R, :, self._seat_R]
