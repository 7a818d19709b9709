"""The transformer: Qwen2's mathematics, so that a checkpoint of ours opens in every tool that knows Qwen2.

Parameters carry their Hugging Face names, so the checkpoint needs no translation. One block of code serves training,
prefill and decoding: they differ only in the function that attends. Float32 in, float32 out; under autocast the
rotation, the norms and the head stay in float32.

Shapes: B rows, T tokens, D width, V vocabulary, H query heads, J key-value heads, K head width; for decoding also
R rows in N blocks of S, see `cache.py`. Sources: Qwen2, arXiv:2407.10671; rotary positions, arXiv:2104.09864;
SwiGLU, arXiv:2002.05202; RMSNorm, arXiv:1910.07467; grouped queries, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsm_lab.errors import TokenError
from gsm_lab.model.cache import KeyValueCache
from gsm_lab.model.shape import ModelShape
from gsm_lab.seeds import stream_seed

INITIAL_STD = 0.02
STRIP = 64
"""Queries in one strip of masked attention on the CPU."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, H, T, K) queries, (B, J, T, K) keys and values -> (B, H, T, K)."""


class Rotation(NamedTuple):
    """Cosines and sines of each token's angles, for all heads and layers: (B, T, 1, K), both halves alike."""

    cosine: Tensor
    sine: Tensor


def rotate(vectors_BTHK: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (i, i + K/2) of every head by the token's angle: the half-split convention of Hugging Face."""
    first, second = vectors_BTHK.chunk(2, dim=-1)
    return vectors_BTHK * rotation.cosine + torch.cat((-second, first), dim=-1) * rotation.sine


def document_mask(documents_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """What may be seen, as a number added to the scores: (B, T) -> (B, 1, T, T), 0 or minus infinity.

    A token sees itself and what stands before it in the same document. Padding (-1) counts as a document of its own:
    every row of the mask then has a zero, so no softmax is empty and no gradient is NaN.
    """
    length = documents_BT.shape[1]
    before_TT = torch.ones(length, length, dtype=torch.bool, device=documents_BT.device).tril()
    seen_BTT = (documents_BT[:, :, None] == documents_BT[:, None, :]) & before_TT
    mask_BTT = torch.zeros(seen_BTT.shape, dtype=dtype, device=documents_BT.device)
    return mask_BTT.masked_fill_(~seen_BTT, float("-inf"))[:, None]


def document_positions(documents_BT: Tensor) -> Tensor:
    """Each token's distance from the beginning of its document: (B, T) -> (B, T)."""
    index_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return index_T - torch.where(begins_BT, index_T, 0).cummax(dim=1).values


def attend_rows(query_BHTK: Tensor, key_BJTK: Tensor, value_BJTK: Tensor, mask_B1TT: Tensor | None) -> Tensor:
    """Attention within each row: by `mask_B1TT`, or causal without one.

    On the CPU a masked row is done in strips of queries, each with the keys up to its end: the kernel would multiply
    the future too before it is masked, which is half of the work.
    """
    group = query_BHTK.shape[1] // key_BJTK.shape[1]
    if group > 1:
        key_BJTK = key_BJTK.repeat_interleave(group, dim=1)
        value_BJTK = value_BJTK.repeat_interleave(group, dim=1)
    if mask_B1TT is None:
        return F.scaled_dot_product_attention(query_BHTK, key_BJTK, value_BJTK, is_causal=True)
    length = query_BHTK.shape[2]
    strip = STRIP if query_BHTK.device.type == "cpu" else length
    mixed = [
        F.scaled_dot_product_attention(
            query_BHTK[:, :, begin : begin + strip],
            key_BJTK[:, :, : begin + strip],
            value_BJTK[:, :, : begin + strip],
            attn_mask=mask_B1TT[:, :, begin : begin + strip, : begin + strip],
        )
        for begin in range(0, length, strip)
    ]
    return torch.cat(mixed, dim=2)


class Linear(nn.Linear):
    """`nn.Linear` that is born with zeros: the usual birth would draw from the global random stream."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Embedding(nn.Embedding):
    """`nn.Embedding` that is born with zeros, for the same reason."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is when it is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class RMSNorm(nn.Module):
    """Each vector divided by its root mean square, then scaled by learned weights; float32 at least."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        return F.rms_norm(widened(hidden_BTD), self.weight.shape, widened(self.weight), self.eps).to(hidden_BTD.dtype)


class Attention(nn.Module):
    """Projections around the function that attends."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        key_value_width = shape.kv_heads * shape.head_width
        self.head_width = shape.head_width
        self.q_proj = Linear(shape.width, shape.width)
        self.k_proj = Linear(shape.width, key_value_width)
        self.v_proj = Linear(shape.width, key_value_width)
        self.o_proj = Linear(shape.width, shape.width, bias=False)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        by_head = (*hidden_BTD.shape[:2], -1, self.head_width)
        query_BTHK = rotate(self.q_proj(hidden_BTD).view(by_head), rotation)
        key_BTJK = rotate(self.k_proj(hidden_BTD).view(by_head), rotation)
        value_BTJK = self.v_proj(hidden_BTD).view(by_head)
        mixed_BHTK = attend(query_BTHK.transpose(1, 2), key_BTJK.transpose(1, 2), value_BTJK.transpose(1, 2))
        return self.o_proj(mixed_BHTK.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = Linear(shape.ffn, shape.width, bias=False)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        gated = F.silu(self.gate_proj(hidden_BTD)) * self.up_proj(hidden_BTD)
        return self.down_proj(gated)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: attention, then the feed-forward network, each added to the residual vector."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        hidden_BTD = hidden_BTD + self.self_attn(self.input_layernorm(hidden_BTD), rotation, attend)
        return hidden_BTD + self.mlp(self.post_attention_layernorm(hidden_BTD))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Everything below the head; a module of its own because Hugging Face's names begin with `model.`."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embed_tokens = Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        pairs = torch.arange(0, shape.head_width, 2, dtype=torch.float32)
        frequencies = 1.0 / shape.rope_theta ** (pairs / shape.head_width)
        angles = torch.arange(shape.max_positions, dtype=torch.float32)[:, None] * frequencies
        angles = torch.cat((angles, angles), dim=1)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, tokens_BT: Tensor, positions_BT: Tensor, attends: list[Attend]) -> Tensor:
        rotation = Rotation(self.cosines[positions_BT].unsqueeze(2), self.sines[positions_BT].unsqueeze(2))
        hidden_BTD = self.embed_tokens(tokens_BT)
        for block, attend in zip(self.layers, attends, strict=True):
            hidden_BTD = block(hidden_BTD, rotation, attend)
        return self.norm(hidden_BTD)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A Qwen2 language model. `Transformer(shape)` has zero weights: see `initial` and `load_checkpoint`."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        self.lm_head = None if shape.tied_embeddings else Linear(shape.width, shape.vocab_size, bias=False)

    @classmethod
    def initial(cls, shape: ModelShape, seed: int, std: float = INITIAL_STD) -> Transformer:
        """An untrained model: normal weights of deviation `std`, zero biases, unit norms; a function of its arguments.

        What is added to the residual vector starts smaller, by sqrt(2 x layers), as in GPT-2: the sum over all layers
        then begins at the size of one.
        """
        model = cls(shape)
        generator = torch.Generator().manual_seed(stream_seed(seed, "model"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 2:
                    is_added = name.endswith(("o_proj.weight", "down_proj.weight"))
                    scale = (2 * shape.layers) ** -0.5 if is_added else 1.0
                    parameter.normal_(std=std * scale, generator=generator)
        return model

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.model.embed_tokens.weight.device

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Logits of the next token at every position: (B, T) -> (B, T, V). Arguments as in `hidden`."""
        return self.head(self.hidden(tokens_BT, positions_BT, documents_BT))

    def hidden(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Final hidden states, for a loss that needs the head at some positions only: (B, T) -> (B, T, D).

        Args:
            tokens_BT: token ids, whole numbers of any width.
            positions_BT: each token's place in its document; counted from `documents_BT` when not given.
            documents_BT: which document of its row a token belongs to, -1 for padding; one document a row when not
                given. Documents do not see one another.

        Raises:
            TokenError: a document is longer than the model has positions.
        """
        length = tokens_BT.shape[1]
        if positions_BT is None:
            positions_BT = (
                torch.arange(length, device=tokens_BT.device).expand_as(tokens_BT)
                if documents_BT is None
                else document_positions(documents_BT)
            )
        self._check_room(positions_BT)
        mask = None if documents_BT is None else document_mask(documents_BT, self.model.embed_tokens.weight.dtype)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend_rows(query, key, value, mask)

        return self.model(  # type: ignore[no-any-return]
            tokens_BT.long(), positions_BT.long(), [attend] * self.shape.layers
        )

    def head(self, hidden: Tensor) -> Tensor:
        """Logits in float32 at least, also under autocast: (..., D) -> (..., V)."""
        weight_VD = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(widened(hidden), widened(weight_VD))

    def prefill(self, prompts_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, KeyValueCache]:
        """Read prompts, padded on the right: last hidden states (B, D), and a cache with one row a prompt."""
        keys: list[Tensor] = []
        values: list[Tensor] = []

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys.append(key.contiguous())
            values.append(value.contiguous())
            return attend_rows(query, key, value, None)  # padding stands last, so no token of a prompt sees it

        positions_BT = torch.arange(prompts_BT.shape[1], device=prompts_BT.device).expand_as(prompts_BT)
        hidden_BTD = self.model(prompts_BT, positions_BT, [attend] * self.shape.layers)
        last_BD = hidden_BTD[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]
        return last_BD, KeyValueCache(keys, values, lengths_B)

    def step(self, tokens_R: Tensor, cache: KeyValueCache) -> Tensor:
        """Read one more token in every row of the cache: (R,) -> last hidden states (R, D)."""
        shape = self.shape
        blocks = (-1, cache.rows_per_block)

        def attend_with(layer: int) -> Attend:
            def attend(query_RH1K: Tensor, key_RJ1K: Tensor, value_RJ1K: Tensor) -> Tensor:
                grouped = (*blocks, shape.kv_heads, shape.queries_per_kv_head, shape.head_width)
                query_NJSGK = query_RH1K.reshape(grouped).transpose(1, 2)
                key_NJSK = key_RJ1K.view(*blocks, shape.kv_heads, shape.head_width).transpose(1, 2)
                value_NJSK = value_RJ1K.view(*blocks, shape.kv_heads, shape.head_width).transpose(1, 2)
                mixed_NJSGK = cache.attend(layer, query_NJSGK, key_NJSK, value_NJSK)
                return mixed_NJSGK.transpose(1, 2).reshape(query_RH1K.shape)

            return attend

        attends = [attend_with(layer) for layer in range(shape.layers)]
        hidden_R1D = self.model(tokens_R[:, None], cache.positions_R()[:, None], attends)
        cache.advance()
        return hidden_R1D[:, 0]  # type: ignore[no-any-return]

    def _check_room(self, positions_BT: Tensor) -> None:
        """Rows that are short enough need no look at the numbers, which would make the CPU wait for a GPU."""
        if positions_BT.shape[1] <= self.shape.max_positions:
            return
        longest = int(positions_BT.max()) + 1
        if longest > self.shape.max_positions:
            raise TokenError(
                f"a document of {longest} tokens does not fit into {self.shape.max_positions} positions: "
                f"shorten it, or give the model's shape a larger max_positions."
            )
