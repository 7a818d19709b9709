"""Attention under document masks on a GPU: one fused kernel that skips the blocks nobody sees.

Rows are packed with many documents, so most of a T x T square is masked. Three ways were weighed:

- `scaled_dot_product_attention` with a dense mask computes the whole square, reads a mask as large for every layer,
  and cannot use its flash kernel, which takes no mask.
- `torch.nn.attention.varlen` computes what is needed and no more, but in 16 bits only, and its list of bounds has
  another length in every batch: a compiled graph would be compiled again, and float32 and tf32 would need another way.
- `flex_attention` works in every precision, on fixed shapes, inside a compiled graph, shares key-value heads without
  copying them, and skips each block of 128 x 128 that no query of it may see. It is the one that is used.

The kernel's products of float32 numbers follow the precision of the process, like every other product (tf32 or exact).
Source: FlexAttention, arXiv:2412.05496.

Shapes: B rows, T tokens, H query heads, J key-value heads, K head width; N blocks of S tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Queries, and keys, of one block: the kernel's own unit. A shorter row has no block to skip."""

AttendRows = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, H, T, K) queries, (B, J, T, K) keys and values -> (B, H, T, K)."""


def attend(query_BHTK: Tensor, key_BJTK: Tensor, value_BJTK: Tensor, documents_BT: Tensor) -> Tensor:
    """Attention within each document of each row; several layers share one mask through `document_attention`."""
    return document_attention(documents_BT)(query_BHTK, key_BJTK, value_BJTK)


def document_attention(documents_BT: Tensor) -> AttendRows:
    """The function that attends within documents, its mask made once for all layers.

    A token sees itself and what stands before it in the same document. Padding (-1) counts as a document of its own,
    so no token sees nothing. Queries and keys are taken to the dtype of the values: under autocast the rotation leaves
    them in float32. On a GPU there are gradients; on the CPU the kernel has none, and only serves to compare.
    """
    if documents_BT.shape[1] < BLOCK:
        return _dense(documents_BT)
    mask = block_mask(documents_BT)
    fused = _fused(documents_BT.is_cuda)

    def attend_rows(query_BHTK: Tensor, key_BJTK: Tensor, value_BJTK: Tensor) -> Tensor:
        query_BHTK, key_BJTK = query_BHTK.to(value_BJTK.dtype), key_BJTK.to(value_BJTK.dtype)
        shared = query_BHTK.shape[1] != key_BJTK.shape[1]
        return fused(query_BHTK, key_BJTK, value_BJTK, block_mask=mask, enable_gqa=shared)  # type: ignore[no-any-return]

    return attend_rows


def block_mask(documents_BT: Tensor) -> BlockMask:
    """Which blocks of each row's square the kernel computes, and which of those it need not mask.

    A block of keys is left out when it lies after the queries, or when its documents are all before or all after
    theirs; within the others the kernel looks at each pair. So no order of documents is taken for granted: where the
    numbers grow along the row, as packing has them, just the blocks that are seen are left. PyTorch's own
    `create_block_mask` finds the same blocks by way of the whole (B, T, T) square.
    """
    length = documents_BT.shape[1]

    def is_seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents_BT[row, query] == documents_BT[row, key]) & (query >= key)

    computed_BNN, whole_BNN = _blocks(documents_BT)
    partial_counts, partial_blocks = _in_order(computed_BNN & ~whole_BNN)
    whole_counts, whole_blocks = _in_order(whole_BNN)
    return BlockMask.from_kv_blocks(
        partial_counts,
        partial_blocks,
        whole_counts,
        whole_blocks,
        BLOCK_SIZE=BLOCK,
        mask_mod=is_seen,
        seq_lengths=(length, length),
    )


def _blocks(documents_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks (queries x keys) that hold a pair that may be seen, and those of which every pair is: (B, N, N) each."""
    rows, length = documents_BT.shape
    padding, beyond = length, length + 1  # greater than any document's number
    numbers_BT = torch.where(documents_BT < 0, padding, documents_BT)
    blocks_BNS = F.pad(numbers_BT, (0, -length % BLOCK), value=beyond).view(rows, -1, BLOCK)
    low_BN, high_BN = blocks_BNS.amin(dim=2), blocks_BNS.amax(dim=2)
    meet_BNN = (low_BN[:, None, :] <= high_BN[:, :, None]) & (low_BN[:, :, None] <= high_BN[:, None, :])
    square_NN = torch.ones(low_BN.shape[1], low_BN.shape[1], dtype=torch.bool, device=documents_BT.device)
    one_document_BN = low_BN == high_BN
    whole_BNN = meet_BNN & one_document_BN[:, :, None] & one_document_BN[:, None, :] & square_NN.tril(-1)
    return meet_BNN & square_NN.tril(), whole_BNN


def _in_order(blocks_BNN: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, (B, 1, N), and which, those first: (B, 1, N, N)."""
    counts_BN = blocks_BNN.sum(dim=2, dtype=torch.int32)
    order_BNN = blocks_BNN.to(torch.int32).argsort(dim=2, descending=True, stable=True).to(torch.int32)
    return counts_BN[:, None], order_BNN[:, None]


def _dense(documents_BT: Tensor) -> AttendRows:
    length = documents_BT.shape[1]
    before_TT = torch.ones(length, length, dtype=torch.bool, device=documents_BT.device).tril()
    seen_B1TT = ((documents_BT[:, :, None] == documents_BT[:, None, :]) & before_TT)[:, None]

    def attend_rows(query_BHTK: Tensor, key_BJTK: Tensor, value_BJTK: Tensor) -> Tensor:
        query_BHTK, key_BJTK = query_BHTK.to(value_BJTK.dtype), key_BJTK.to(value_BJTK.dtype)
        shared = query_BHTK.shape[1] != key_BJTK.shape[1]
        return F.scaled_dot_product_attention(query_BHTK, key_BJTK, value_BJTK, attn_mask=seen_B1TT, enable_gqa=shared)

    return attend_rows


def _fused(on_gpu: bool) -> Callable[..., Any]:
    """The kernel: within a graph that is being compiled it becomes part of it, else it is compiled by itself."""
    plain: Callable[..., Any] = flex_attention
    return _compiled_kernel() if on_gpu and not torch.compiler.is_compiling() else plain


@lru_cache(maxsize=1)
def _compiled_kernel() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)
