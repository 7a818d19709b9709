"""The transformer: Qwen2's mathematics, so that a checkpoint of ours opens in every tool that knows Qwen2.

Parameters carry their Hugging Face names, so the checkpoint needs no translation. One function, `run_layers`, serves
training, prefill and decoding: they differ only in the functions that attend. Float32 in, float32 out; under autocast
the rotation, the norms and the head stay in float32. On a CPU in float32 the compiled `kernels` do what stands between
the matrix products, or half a layer in one go, and no padding is computed; everywhere else PyTorch's own operations do.

Shapes: B rows, T tokens, N tokens of all texts laid end to end, D width, V vocabulary, H query heads, J key-value
heads, K head width, W = (H + 2 J) K, F hidden width of the feed-forward network. Sources: Qwen2, arXiv:2407.10671;
rotary positions, arXiv:2104.09864; SwiGLU, arXiv:2002.05202; RMSNorm, arXiv:1910.07467; grouped queries,
arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsm_lab.errors import TokenError
from gsm_lab.model import kernels
from gsm_lab.model.cuda_attention import document_attention
from gsm_lab.model.shape import ModelShape
from gsm_lab.model.texts import Texts
from gsm_lab.seeds import stream_seed

INITIAL_STD = 0.02
STRIP = 64
"""Queries in one strip of masked attention on the CPU."""

Attend = Callable[[Tensor], Tensor]
"""Projected queries, keys and values, not yet rotated -> what the heads mix: (..., W) -> (..., H K)."""

AttendHeads = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rotated (B, H, T, K) queries, (B, J, T, K) keys and values -> (B, H, T, K)."""


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
    """The learned weights of a norm; `add_norm` computes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Attention(nn.Module):
    """The projections around the function that attends."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        key_value_width = shape.kv_heads * shape.head_width
        self.q_proj = Linear(shape.width, shape.width)
        self.k_proj = Linear(shape.width, key_value_width)
        self.v_proj = Linear(shape.width, key_value_width)
        self.o_proj = Linear(shape.width, shape.width, bias=False)


class FeedForward(nn.Module):
    """SwiGLU's matrices."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = Linear(shape.ffn, shape.width, bias=False)


class LayerWeights(NamedTuple):
    """The weights of one layer as they are multiplied: matrices that read the same vector are one matrix."""

    norm: Tensor
    qkv: Tensor
    """(W, D): queries, keys, values."""
    qkv_bias: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    """(2 F, D): gates, ups."""
    down: Tensor


class Block(nn.Module):
    """The parameters of one layer."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.width)
        self.mlp = FeedForward(shape)

    def weights(self) -> LayerWeights:
        """The weights as they are now, with gradients to the parameters."""
        attention, mlp = self.self_attn, self.mlp
        readers = (attention.q_proj, attention.k_proj, attention.v_proj)
        return LayerWeights(
            norm=self.input_layernorm.weight,
            qkv=torch.cat([reader.weight for reader in readers]),
            qkv_bias=torch.cat([reader.bias for reader in readers]),
            out=attention.o_proj.weight,
            mlp_norm=self.post_attention_layernorm.weight,
            gate_up=torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)),
            down=mlp.down_proj.weight,
        )


def add_norm(x: Tensor, added: Tensor | None, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + added, and that divided by its root mean square, times the weight; the norm in float32 at least."""
    if x.dim() == 2 and kernels.suit(x):
        return kernels.add_norm(x, added, weight_D, eps)
    total = x if added is None else x + added
    return total, F.rms_norm(widened(total), weight_D.shape, widened(weight_D), eps).to(total.dtype)


def swiglu(both: Tensor) -> Tensor:
    """silu(gate) * up, the gates standing before the ups: (..., 2 F) -> (..., F)."""
    if both.dim() == 2 and kernels.suit(both):
        return kernels.swiglu(both)
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate) * up


def project(x: Tensor, added: Tensor | None, weights: LayerWeights, eps: float) -> tuple[Tensor, Tensor]:
    """x + added, and the queries, keys and values of its norm: (..., D) and (..., W)."""
    if kernels.suit_halves(x):
        return kernels.project(x, added, weights.norm, weights.qkv, weights.qkv_bias, eps)
    total, normed = add_norm(x, added, weights.norm, eps)
    return total, F.linear(normed, weights.qkv, weights.qkv_bias)


def feed_forward(x: Tensor, mixed: Tensor, weights: LayerWeights, eps: float) -> tuple[Tensor, Tensor]:
    """x plus what the heads mixed, and what the feed-forward network adds to that: (..., D) and (..., D)."""
    if kernels.suit_halves(x):
        matrices = (weights.out, weights.mlp_norm, weights.gate_up, weights.down)
        return kernels.feed_forward(x, mixed, *matrices, eps)
    total, normed = add_norm(x, F.linear(mixed, weights.out), weights.mlp_norm, eps)
    return total, F.linear(swiglu(F.linear(normed, weights.gate_up)), weights.down)


def run_layers(
    hidden: Tensor, layers: Sequence[LayerWeights], norm_D: Tensor, eps: float, attends: Sequence[Attend]
) -> Tensor:
    """Embedded tokens through all layers and the last norm: (..., D) -> (..., D)."""
    added: Tensor | None = None
    for weights, attend in zip(layers, attends, strict=True):
        hidden, projected = project(hidden, added, weights, eps)
        hidden, added = feed_forward(hidden, attend(projected), weights, eps)
    return add_norm(hidden, added, norm_D, eps)[1]


class Trunk(nn.Module):
    """Everything below the head; a module of its own because Hugging Face's names begin with `model.`."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.eps = shape.norm_eps
        self.embed_tokens = Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width)
        pairs = torch.arange(0, shape.head_width, 2, dtype=torch.float32)
        frequencies = 1.0 / shape.rope_theta ** (pairs / shape.head_width)
        angles = torch.arange(shape.max_positions, dtype=torch.float32)[:, None] * frequencies
        angles = torch.cat((angles, angles), dim=1)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def weights(self) -> list[LayerWeights]:
        """The weights of every layer as they are now."""
        return [block.weights() for block in self.layers if isinstance(block, Block)]

    def forward(self, tokens: Tensor, attends: Sequence[Attend]) -> Tensor:
        """Token ids of any shape through all layers: (...) -> (..., D)."""
        return run_layers(self.embed_tokens(tokens), self.weights(), self.norm.weight, self.eps, attends)

    def rotation(self, positions_BT: Tensor) -> Rotation:
        """The rotation of each token."""
        return Rotation(self.cosines[positions_BT].unsqueeze(2), self.sines[positions_BT].unsqueeze(2))


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
        if kernels.suit(self.model.embed_tokens.weight):
            return self._hidden_without_padding(tokens_BT, positions_BT, documents_BT)
        attend = self._attend_rows(positions_BT.long(), self._within(documents_BT))
        return self.model(tokens_BT.long(), [attend] * self.shape.layers)  # type: ignore[no-any-return]

    def hidden_of(self, tokens_N: Tensor, texts: Texts) -> Tensor:
        """Final hidden states of texts laid end to end: (N,) -> (N, D).

        Raises:
            TokenError: a text is longer than the model has positions.
        """
        self._check_room(texts.positions_N[None])
        shape, model = self.shape, self.model
        if kernels.suit(model.embed_tokens.weight):
            heads = self.heads_for(texts)
            return model(tokens_N.long(), [lambda qkv: kernels.attention(qkv, heads)] * shape.layers)  # type: ignore[no-any-return]
        if texts.shares_prompts:
            mask = texts.mask_NN(model.embed_tokens.weight.dtype, self.device)[None, None]
            attend = self._attend_rows(texts.positions_N[None].to(self.device), partial(attend_rows, mask_B1TT=mask))
            return model(tokens_N[None].long(), [attend] * shape.layers)[0]  # type: ignore[no-any-return]
        return self._hidden_in_rows(tokens_N, texts)

    def _hidden_in_rows(self, tokens_N: Tensor, texts: Texts) -> Tensor:
        """`hidden_of` by way of `hidden`, a row for each text: for a GPU, which wants few large products."""
        places, rows, length = texts.places_in_rows()
        places_N = places.to(self.device)
        tokens_BT = tokens_N.new_zeros(rows * length).index_copy(0, places_N, tokens_N).view(rows, length)
        positions_BT = places_N.new_zeros(rows * length)
        positions_BT[places_N] = texts.positions_N.to(self.device)
        return self.hidden(tokens_BT, positions_BT.view(rows, length)).flatten(0, 1).index_select(0, places_N)

    def heads_for(self, texts: Texts) -> kernels.Heads:
        """What the kernel of attention has to know."""
        shape, layout = self.shape, (texts.trees, texts.segment_ends, texts.segments, texts.positions_N)
        tables = (self.model.cosines, self.model.sines)
        return kernels.Heads(shape.heads, shape.kv_heads, shape.head_width, *layout, *tables)

    def _hidden_without_padding(self, tokens_BT: Tensor, positions_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """`hidden` by way of `hidden_of`; 0 where there is padding."""
        rows, length = tokens_BT.shape
        if documents_BT is None:
            texts = Texts.of_lengths(torch.full((rows,), length), positions_BT.reshape(-1).long())
            return self.hidden_of(tokens_BT.reshape(-1), texts).view(rows, length, -1)
        kept_N = (documents_BT >= 0).flatten().nonzero().squeeze(1)
        row_N = torch.arange(rows).repeat_interleave(length)[kept_N]
        document_N = documents_BT.reshape(-1)[kept_N]
        begins_N = torch.ones_like(kept_N, dtype=torch.bool)
        begins_N[1:] = (document_N[1:] != document_N[:-1]) | (row_N[1:] != row_N[:-1])
        begins = begins_N.nonzero().squeeze(1)
        lengths = torch.cat((begins, torch.tensor([len(kept_N)]))).diff()
        texts = Texts.of_lengths(lengths, positions_BT.reshape(-1)[kept_N].long())
        hidden_ND = self.hidden_of(tokens_BT.reshape(-1)[kept_N], texts)
        hidden_BTD = hidden_ND.new_zeros(rows * length, hidden_ND.shape[1]).index_copy(0, kept_N, hidden_ND)
        return hidden_BTD.view(rows, length, -1)

    def _within(self, documents_BT: Tensor | None) -> AttendHeads:
        """Attention within the documents of rows, or within whole rows."""
        if documents_BT is None:
            return partial(attend_rows, mask_B1TT=None)
        if documents_BT.is_cuda:
            return document_attention(documents_BT)
        return partial(attend_rows, mask_B1TT=document_mask(documents_BT, self.model.embed_tokens.weight.dtype))

    def _attend_rows(self, positions_BT: Tensor, attend_heads: AttendHeads) -> Attend:
        """Attention within rows by PyTorch's operations."""
        rotation = self.model.rotation(positions_BT)

        def attend(qkv_BTW: Tensor) -> Tensor:
            return attend_heads(*self._heads_of(qkv_BTW, rotation)).transpose(1, 2).flatten(2)

        return attend

    def _heads_of(self, qkv_BTW: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (B, H, T, K), rotated keys and values (B, J, T, K)."""
        shape = self.shape
        counts = (shape.heads, shape.kv_heads, shape.kv_heads)
        query, key, value = torch.split_with_sizes(qkv_BTW.view(*qkv_BTW.shape[:2], -1, shape.head_width), counts, 2)
        return rotate(query, rotation).transpose(1, 2), rotate(key, rotation).transpose(1, 2), value.transpose(1, 2)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits in float32 at least, also under autocast: (..., D) -> (..., V)."""
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(widened(hidden), widened(self.head_weight()))

    def head_weight(self) -> Tensor:
        """(V, D)."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

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
