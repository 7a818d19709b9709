"""Texts laid end to end without padding: what attention needs to know of them.

Shapes: N tokens of all texts, B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Texts:
    """Trees of texts that stand one behind the other. A tree is a text alone, or a prompt with completions behind it.

    A token sees the tokens of its own segment up to itself, and the first `seen` tokens of its tree: 0 for a text or a
    prompt, the prompt's length for a completion. So a prompt that many completions share is computed once.
    """

    positions_N: Tensor
    """Each token's position: of a completion, it goes on from the prompt's."""
    trees: Tensor
    """The first token of each tree, and the number of tokens: (trees + 1) of int64."""
    segment_ends: Tensor
    """The first segment of each tree, and the number of segments: (trees + 1) of int64."""
    segments: Tensor
    """(segments, 3) of int64: first token (counted from the tree's), length, `seen`."""

    @classmethod
    def of_lengths(cls, lengths: Tensor, positions_N: Tensor | None = None) -> Texts:
        """Texts that share nothing; positions count from 0 in each when not given."""
        lengths = lengths.to(torch.int64)
        trees = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
        if positions_N is None:
            positions_N = torch.arange(int(trees[-1])) - trees[:-1].repeat_interleave(lengths)
        segments = torch.stack((torch.zeros_like(lengths), lengths, torch.zeros_like(lengths)), dim=1)
        return cls(positions_N.to(torch.int64), trees, torch.arange(len(lengths) + 1), segments)

    @classmethod
    def of_trees(cls, trees: Sequence[tuple[int, Sequence[int]]]) -> Texts:
        """Prompts with their completions: the prompt's length, and that of each completion (which may be 0)."""
        begins, ends, segments, positions = [0], [0], [], []
        for prompt, completions in trees:
            segments.append((0, prompt, 0))
            positions.append(torch.arange(prompt))
            begin = prompt
            for length in completions:
                segments.append((begin, length, prompt))
                positions.append(torch.arange(prompt, prompt + length))
                begin += length
            begins.append(begins[-1] + begin)
            ends.append(len(segments))
        return cls(torch.cat(positions), torch.tensor(begins), torch.tensor(ends), torch.tensor(segments))

    @property
    def shares_prompts(self) -> bool:
        """Whether any token sees another segment than its own."""
        return bool((self.segments[:, 2] > 0).any())

    def places_in_rows(self) -> tuple[Tensor, int, int]:
        """Where each token stands when every text has a row of its own, padded on the right: (N,), rows, length."""
        lengths = self.trees.diff()
        longest = int(lengths.max())
        row_N = torch.arange(len(lengths)).repeat_interleave(lengths)
        in_row_N = torch.arange(int(self.trees[-1])) - self.trees[:-1].repeat_interleave(lengths)
        return row_N * longest + in_row_N, len(lengths), longest

    def mask_NN(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What may be seen, as a number added to the scores: 0 or minus infinity."""
        sizes = self.trees.diff()
        tree_N = torch.arange(len(sizes)).repeat_interleave(sizes)
        segment_N = torch.arange(len(self.segments)).repeat_interleave(self.segments[:, 1])
        seen_N = self.segments[:, 2].repeat_interleave(self.segments[:, 1])
        index_N = torch.arange(len(segment_N))
        in_tree_N = index_N - self.trees[tree_N]
        own_NN = (segment_N[:, None] == segment_N) & (index_N[:, None] >= index_N)
        shared_NN = (tree_N[:, None] == tree_N) & (in_tree_N < seen_N[:, None])
        mask_NN = torch.zeros(own_NN.shape, dtype=dtype).masked_fill_(~(own_NN | shared_NN), float("-inf"))
        return mask_NN.to(device)
