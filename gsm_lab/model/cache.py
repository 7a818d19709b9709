"""What a transformer remembers while it writes: keys and values of the prompt, then of the tokens it wrote itself.

The samples of one prompt sit together in a block of `S` rows and share the prompt's keys and values, which are stored
once a block. That saves memory and, more important, time: the prompt is read by one matrix product for the whole
block instead of one thin product a row. All rows are at the same step, so their own tokens need no mask.

Own tokens are kept in pages. A page is contiguous, so a product reads it at the full speed of the memory, three times
that of a slice of one long tensor; and a full page is never copied again.

Shapes: N blocks, S rows a block, R = N * S rows in block order, J key-value heads, G query heads for each of them,
K head width, P positions of the longest prompt, C own tokens in a page, U own tokens so far; NJ, NJS and SG are
products: (NJS, G, K) has one matrix for each row and key-value head.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOKENS_IN_PAGE_ON_CPU = 32
_TOKENS_IN_PAGE = 256


class KeyValueCache:
    """Keys and values by layer: of a batch of prompts straight after prefill, then also of what each row wrote.

    Args:
        prompt_keys: for each layer (N, J, P, K), padded on the right.
        prompt_values: the same for the values.
        prompt_lengths_N: how many tokens each prompt really has, one at least.
        rows_per_block: S, rows that go on from the same prompt.
    """

    def __init__(
        self,
        prompt_keys: list[Tensor],
        prompt_values: list[Tensor],
        prompt_lengths_N: Tensor,
        rows_per_block: int = 1,
    ) -> None:
        self.prompt_keys = prompt_keys
        self.prompt_values = prompt_values
        self.prompt_lengths_N = prompt_lengths_N
        self.rows_per_block = rows_per_block
        self.own_length = 0
        """U: tokens that every row has written and read again."""
        self.key_pages: list[list[Tensor]] = [[] for _ in prompt_keys]
        """For each layer pages (NJS, C, K); places not yet written are zero."""
        self.value_pages: list[list[Tensor]] = [[] for _ in prompt_keys]
        on_cpu = prompt_lengths_N.device.type == "cpu"
        self._tokens_in_page = _TOKENS_IN_PAGE_ON_CPU if on_cpu else _TOKENS_IN_PAGE
        _, kv_heads, longest, _ = prompt_keys[0].shape
        padding_NP = torch.arange(longest, device=prompt_lengths_N.device) >= prompt_lengths_N[:, None]
        mask_NP = torch.zeros_like(padding_NP, dtype=prompt_keys[0].dtype).masked_fill_(padding_NP, float("-inf"))
        self._prompt_mask_NJ1P = mask_NP.repeat_interleave(kv_heads, dim=0)[:, None]

    def positions_R(self) -> Tensor:
        """The position of the token that each row reads next: (R,)."""
        return (self.prompt_lengths_N + self.own_length).repeat_interleave(self.rows_per_block)

    def blocks(self, prompts_N: Tensor, rows_per_block: int) -> KeyValueCache:
        """A fresh cache, straight after the prompts, with one block for each of `prompts_N`, which may repeat."""
        return KeyValueCache(
            [keys.index_select(0, prompts_N) for keys in self.prompt_keys],
            [values.index_select(0, prompts_N) for values in self.prompt_values],
            self.prompt_lengths_N[prompts_N],
            rows_per_block,
        )

    def adopt(self, other: KeyValueCache, rows_R: Tensor) -> None:
        """Take the own tokens of `other`: row r here goes on from row `rows_R[r]` there."""
        kv_heads = self.prompt_keys[0].shape[1]
        heads_J = torch.arange(kv_heads, device=rows_R.device)
        block_NS, place_NS = (
            part.view(-1, self.rows_per_block)
            for part in (rows_R // other.rows_per_block, rows_R % other.rows_per_block)
        )
        taken_NJS = (block_NS[:, None] * kv_heads + heads_J[:, None]) * other.rows_per_block + place_NS[:, None]
        taken = taken_NJS.flatten()
        self.key_pages = [[page.index_select(0, taken) for page in pages] for pages in other.key_pages]
        self.value_pages = [[page.index_select(0, taken) for page in pages] for pages in other.value_pages]
        self.own_length = other.own_length

    def attend(self, layer: int, query_NJSGK: Tensor, key_NJSK: Tensor, value_NJSK: Tensor) -> Tensor:
        """Remember this step's keys and values, then attend to the prompt and to all own tokens: (N, J, S, G, K)."""
        blocks, kv_heads, rows, group, width = query_NJSGK.shape
        by_block, by_row = (blocks * kv_heads, rows * group, -1), (blocks * kv_heads * rows, group, -1)
        self._write(layer, key_NJSK.reshape(-1, width), value_NJSK.reshape(-1, width))
        scaled_NJSGK = query_NJSGK.contiguous() * width**-0.5
        prompt_keys = self.prompt_keys[layer].flatten(0, 1)
        prompt_scores = torch.baddbmm(
            self._prompt_mask_NJ1P.expand(-1, rows * group, -1),
            scaled_NJSGK.view(by_block),
            prompt_keys.transpose(1, 2),
        )
        own_query = scaled_NJSGK.view(by_row)
        own_scores = [torch.bmm(own_query, page.transpose(1, 2)).view(by_block) for page in self.key_pages[layer]]
        scores = torch.cat((prompt_scores, *own_scores), dim=2)
        scores[:, :, prompt_keys.shape[1] + self.own_length + 1 :] = float("-inf")
        widths = [prompt_keys.shape[1]] + [self._tokens_in_page] * len(own_scores)
        prompt_weights, *own_weights = torch.split_with_sizes(torch.softmax(scores, dim=2), widths, dim=2)
        mixed = torch.bmm(prompt_weights, self.prompt_values[layer].flatten(0, 1)).view(by_row)
        for weights, page in zip(own_weights, self.value_pages[layer], strict=True):
            mixed.baddbmm_(weights.reshape(by_row), page)
        return mixed.view(query_NJSGK.shape)

    def advance(self) -> None:
        """All layers have seen this step's token."""
        self.own_length += 1

    def _write(self, layer: int, key_NJSxK: Tensor, value_NJSxK: Tensor) -> None:
        """Put this step's keys and values into their place on the last page; begin a page when it is full."""
        place = self.own_length % self._tokens_in_page
        for pages, new in ((self.key_pages[layer], key_NJSxK), (self.value_pages[layer], value_NJSxK)):
            if place == 0:
                pages.append(new.new_zeros(new.shape[0], self._tokens_in_page, new.shape[1]))
            pages[-1][:, place] = new
