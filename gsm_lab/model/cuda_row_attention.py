"""Attention of one new token a row on a GPU: one program for each row and head reads just what the row may see.

With matrix products the shapes of a captured step would have to be those of the longest row and prompt, and the rows of
a prompt would have to stand together; here each row's lengths and room are read from the device's memory. The rows of
one prompt run side by side, so its keys come from memory once and then from the GPU's cache. The softmax is summed up
block by block, in float32 and without tensor cores: no rounding to tf32. Source: online softmax, arXiv:1805.02867.

The same in matrix products, which it is compared with: `Reading` in `cache.py`. Imported on a GPU only: needs Triton.

Shapes: R rows, H query heads, J key-value heads, K head width, P positions of the longest prompt, X most new tokens.
"""

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]  # comes with torch for CUDA only
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

_BLOCK = 64
"""Keys that a program reads at once."""


def row_attention(
    query_RHK: Tensor,
    prompts: tuple[Tensor, Tensor, Tensor],
    own: tuple[Tensor, Tensor, Tensor],
    place_R: Tensor,
    seats: int,
) -> Tensor:
    """What each head of each row mixes from the row's prompt and its own tokens: (R, H, K).

    Args:
        query_RHK: rotated queries; heads and width contiguous.
        prompts: keys and values (rooms, J, P, K), and the length of each room's prompt, one at least.
        own: keys and values (rows, J, X, K), and how many of them each row sees, one at least.
        place_R: the room of row r is `place_R[r] // seats`.
    """
    rows, heads, width = query_RHK.shape
    (prompt_keys, prompt_values, prompt_lengths), (own_keys, own_values, length_R) = prompts, own
    assert query_RHK.stride()[1:] == (width, 1)
    assert all(kept.is_contiguous() for kept in (prompt_keys, prompt_values, own_keys, own_values))
    mixed_RHK = torch.empty((rows, heads, width), dtype=query_RHK.dtype, device=query_RHK.device)
    _attend[(rows, heads)](
        query_RHK, prompt_keys, prompt_values, own_keys, own_values, mixed_RHK,
        prompt_lengths, length_R, place_R,
        query_RHK.stride(0), prompt_keys.shape[2], own_keys.shape[2], seats, width**-0.5,
        HEADS=heads, GROUP=heads // prompt_keys.shape[1], WIDTH=width, LANES=triton.next_power_of_2(width),
        BLOCK=_BLOCK,
    )  # fmt: skip
    return mixed_RHK


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _attend(  # type: ignore[no-untyped-def]  # a kernel's arguments are Triton's
    query, prompt_keys, prompt_values, own_keys, own_values, mixed,
    prompt_lengths, lengths, places,
    query_stride, prompt_size, own_size, seats, scale,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lane = tl.arange(0, LANES)
    asked = tl.load(query + row * query_stride + head * WIDTH + lane, mask=lane < WIDTH, other=0.0)
    asked = asked.to(tl.float32) * scale
    best, total = tl.full([1], float("-inf"), tl.float32), tl.zeros([1], tl.float32)
    sums = tl.zeros([LANES], tl.float32)
    room = tl.load(places + row) // seats
    begin = (room * (HEADS // GROUP) + head // GROUP) * prompt_size * WIDTH
    length = tl.load(prompt_lengths + room).to(tl.int32)
    best, total, sums = _add(
        asked, prompt_keys + begin, prompt_values + begin, length, best, total, sums, WIDTH, LANES, BLOCK
    )
    begin = (row * (HEADS // GROUP) + head // GROUP) * own_size * WIDTH
    length = tl.load(lengths + row).to(tl.int32)
    best, total, sums = _add(
        asked, own_keys + begin, own_values + begin, length, best, total, sums, WIDTH, LANES, BLOCK
    )
    tl.store(mixed + (row * HEADS + head) * WIDTH + lane, sums / total, mask=lane < WIDTH)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _add(  # type: ignore[no-untyped-def]
    asked, keys, values, length, best, total, sums, WIDTH: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr
):
    """The running softmax of scores, and the values it weighs, with `length` keys more."""
    lane = tl.arange(0, LANES)
    for first in range(0, length, BLOCK):
        token = first + tl.arange(0, BLOCK)
        inside = (token[:, None] < length) & (lane[None, :] < WIDTH)
        where = token[:, None] * WIDTH + lane[None, :]
        key = tl.load(keys + where, mask=inside, other=0.0).to(tl.float32)
        scores = tl.where(token < length, tl.sum(key * asked[None, :], axis=1), float("-inf"))
        highest = tl.maximum(best, tl.max(scores, axis=0))
        weights, shrink = tl.exp(scores - highest), tl.exp(best - highest)
        value = tl.load(values + where, mask=inside, other=0.0).to(tl.float32)
        sums = sums * shrink + tl.sum(weights[:, None] * value, axis=0)
        total = total * shrink + tl.sum(weights, axis=0)
        best = highest
    return best, total, sums
