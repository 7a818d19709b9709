"""The kernels as functions of tensors, with gradients: float32, on the CPU.

`suit` says whether they may be used. Each has a twin in PyTorch's own operations in `layers.py` or `texts.py`, to which
the tests compare it. Letters as in `kernels.c`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsm_lab.errors import TokenError
from gsm_lab.model.kernels.library import available, library


def suit(tensor: Tensor) -> bool:
    """Whether the kernels are there, and made for such tensors; what `torch.compile` reads is left to it."""
    return (
        not torch.compiler.is_compiling()
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and available()
    )


def suit_halves(tensor: Tensor) -> bool:
    """Whether `project` and `feed_forward`, a layer's halves, may be used for these rows, too, and are worth it.

    Rows have to be enough to be shared out among the threads: each reads all weights for the rows that it has, and adds
    up gradients of all of them; with few rows and many weights that takes longer than products whose weights are shared
    out.
    """
    if tensor.dim() != 2:
        return False
    rows, width = tensor.shape
    return rows >= max(2, torch.get_num_threads()) * width and suit(tensor)


def use_matrix_unit() -> bool:
    """Whether the kernels multiply on the processor's matrix unit; never where GSM_LAB_MATRIX_UNIT=0 is set."""
    return available() and bool(_asked(ctypes.c_int64, "uses_matrix_unit"))


class _TextsStruct(ctypes.Structure):
    """`Texts` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("heads", "kv_heads", "width", "num_trees")),
        *((name, ctypes.c_void_p) for name in ("tree_begin", "segment_begin", "segments", "positions")),
        *((name, ctypes.c_void_p) for name in ("cosines", "sines")),
        ("scale", ctypes.c_float),
    )


class Heads:
    """What attention over texts needs beside the projected tokens; keeps the arrays alive that C points to.

    Args:
        trees: (trees + 1), the first token of each tree, and the end.
        segment_ends: (trees + 1), the first segment of each tree, and the end.
        segments: (segments, 3): begin, length, seen; see kernels.c.
        positions_N: the position of each token.
        cosines_PK, sines_PK: the tables of the rotation.

    Raises:
        TokenError: a position that the tables do not have.
    """

    def __init__(
        self,
        heads: int,
        kv_heads: int,
        width: int,
        trees: Tensor,
        segment_ends: Tensor,
        segments: Tensor,
        positions_N: Tensor,
        cosines_PK: Tensor,
        sines_PK: Tensor,
    ) -> None:
        if len(positions_N) and not 0 <= positions_N.min() <= positions_N.max() < len(cosines_PK):
            raise TokenError(
                f"positions from {int(positions_N.min())} to {int(positions_N.max())} do not fit into "
                f"{len(cosines_PK)}: shorten the texts, or give the model's shape a larger max_positions."
            )
        layout = (_whole_numbers(array) for array in (trees, segment_ends, segments, positions_N))
        self._alive = (*layout, cosines_PK, sines_PK)
        addresses = [tensor.data_ptr() for tensor in self._alive]
        self.heads, self.mixed_width = heads, heads * width
        self.struct = _TextsStruct(heads, kv_heads, width, len(trees) - 1, *addresses, width**-0.5)


def _whole_numbers(tensor: Tensor) -> Tensor:
    """As C reads them: of 64 bits, side by side."""
    return tensor.to(torch.int64).contiguous()


def _call(name: str, *arguments: Any) -> None:
    """Call a kernel: tensors and structures by their address, whole numbers in 64 bits, None as no array."""
    loaded = library()
    assert loaded is not None
    getattr(loaded, name)(*map(_argument, arguments))


def _asked(kind: type[Any], name: str, *arguments: Any) -> Any:
    """What a kernel that gives a number of this kind says."""
    loaded = library()
    assert loaded is not None
    function = getattr(loaded, name)
    function.restype = kind
    return function(*map(_argument, arguments))


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_int64(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.byref(value)


def _once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to be differentiated again: autograd does not see into C, so parts would be missing in silence."""

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise NotImplementedError(  # finished on purpose: autograd's word for what an operation cannot do
                "the compiled kernels have no second derivatives: leave create_graph out, or work in float64, "
                "which PyTorch's own operations do."
            )
        return backward(ctx, *gradients)

    return checked


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, added_ND: Tensor | None, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        rows, width = x_ND.shape
        total_ND, out_ND, inverse_N = torch.empty_like(x_ND), torch.empty_like(x_ND), x_ND.new_empty(rows)
        _call("add_norm_forward", rows, width, x_ND, added_ND, weight_D, eps, total_ND, out_ND, inverse_N)
        ctx.save_for_backward(total_ND, weight_D, inverse_N)
        return total_ND, out_ND

    @staticmethod
    @_once
    def backward(ctx: Any, passed_ND: Tensor, dout_ND: Tensor) -> Any:
        total_ND, weight_D, inverse_N = ctx.saved_tensors
        dx_ND, dweight_D = torch.empty_like(total_ND), torch.empty_like(weight_D)
        dout_ND, passed_ND = dout_ND.contiguous(), passed_ND.contiguous()
        arrays = (dout_ND, total_ND, weight_D, inverse_N, passed_ND, dx_ND, dweight_D)
        _call("norm_backward", *total_ND.shape, *arrays)
        return dx_ND, dx_ND, dweight_D, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        out_ND, inverse_N = torch.empty_like(x_ND), x_ND.new_empty(len(x_ND))
        _call("add_norm_forward", *x_ND.shape, x_ND, None, weight_D, eps, None, out_ND, inverse_N)
        ctx.save_for_backward(x_ND, weight_D, inverse_N)
        return out_ND

    @staticmethod
    @_once
    def backward(ctx: Any, dout_ND: Tensor) -> Any:
        x_ND, weight_D, inverse_N = ctx.saved_tensors
        dx_ND, dweight_D = torch.empty_like(x_ND), torch.empty_like(weight_D)
        dout_ND = dout_ND.contiguous()
        _call("norm_backward", *x_ND.shape, dout_ND, x_ND, weight_D, inverse_N, None, dx_ND, dweight_D)
        return dx_ND, dweight_D, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both_NF: Tensor) -> Tensor:
        rows, both = both_NF.shape
        out_NF = both_NF.new_empty(rows, both // 2)
        _call("swiglu_forward", rows, both // 2, both_NF, out_NF)
        ctx.save_for_backward(both_NF)
        return out_NF

    @staticmethod
    @_once
    def backward(ctx: Any, dout_NF: Tensor) -> Tensor:
        (both_NF,) = ctx.saved_tensors
        dboth_NF, dout_NF = torch.empty_like(both_NF), dout_NF.contiguous()
        _call("swiglu_backward", len(both_NF), both_NF.shape[1] // 2, dout_NF, both_NF, dboth_NF)
        return dboth_NF


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, added_ND: Tensor | None, norm_D: Tensor, matrix_WD: Tensor, bias_W: Tensor, eps: float
    ) -> Any:
        rows, width = x_ND.shape
        total_ND = x_ND if added_ND is None else torch.empty_like(x_ND)
        inverse_N, out_NW = x_ND.new_empty(rows), x_ND.new_empty(rows, len(matrix_WD))
        made = (total_ND, inverse_N, out_NW)
        _call("project_forward", rows, width, len(matrix_WD), x_ND, added_ND, norm_D, eps, matrix_WD, bias_W, *made)
        ctx.save_for_backward(total_ND, inverse_N, norm_D, matrix_WD)
        return out_NW if added_ND is None else (total_ND, out_NW)

    @staticmethod
    @_once
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        total_ND, inverse_N, norm_D, matrix_WD = ctx.saved_tensors
        *passed, dout_NW = (gradient.contiguous() for gradient in gradients)
        dx_ND, dnorm_D, dmatrix_WD = map(torch.empty_like, (total_ND, norm_D, matrix_WD))
        dbias_W = dout_NW.new_empty(len(matrix_WD))
        arrays = (dout_NW, total_ND, inverse_N, norm_D, matrix_WD, passed[0] if passed else None)
        sizes = (*total_ND.shape, len(matrix_WD))
        _call("project_backward", *sizes, *arrays, dx_ND, dnorm_D, dmatrix_WD, dbias_W)
        return dx_ND, dx_ND if passed else None, dnorm_D, dmatrix_WD, dbias_W, None


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        mixed_NM: Tensor,
        out_DM: Tensor,
        norm_D: Tensor,
        gate_up_FD: Tensor,
        down_DF: Tensor,
        eps: float,
        goes_back: bool,
    ) -> tuple[Tensor, Tensor]:
        rows, width = x_ND.shape
        hidden = down_DF.shape[1]
        total_ND, added_ND, inverse_N = torch.empty_like(x_ND), torch.empty_like(x_ND), x_ND.new_empty(rows)
        both_NF = x_ND.new_empty(rows, 2 * hidden) if goes_back else None
        sizes = (rows, width, mixed_NM.shape[1], hidden)
        weights = (out_DM, norm_D, eps, gate_up_FD, down_DF)
        _call("feed_forward", *sizes, x_ND, mixed_NM, *weights, total_ND, inverse_N, both_NF, added_ND)
        ctx.save_for_backward(total_ND, inverse_N, both_NF, mixed_NM, out_DM, norm_D, gate_up_FD, down_DF)
        return total_ND, added_ND

    @staticmethod
    @_once
    def backward(ctx: Any, passed_ND: Tensor, dadded_ND: Tensor) -> Any:
        saved = ctx.saved_tensors
        total_ND, _, _, mixed_NM, out_DM, norm_D, gate_up_FD, down_DF = saved
        made = [torch.empty_like(like) for like in (total_ND, mixed_NM, out_DM, norm_D, gate_up_FD, down_DF)]
        sizes = (*total_ND.shape, mixed_NM.shape[1], down_DF.shape[1])
        _call("feed_forward_backward", *sizes, dadded_ND.contiguous(), passed_ND.contiguous(), *saved, *made)
        return *made, None, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv_NW: Tensor, heads: Heads) -> Tensor:
        out_ND = qkv_NW.new_empty(len(qkv_NW), heads.mixed_width)
        lse_NH = qkv_NW.new_empty(len(qkv_NW), heads.heads)
        _call("attention_forward", heads.struct, qkv_NW, out_ND, lse_NH)
        ctx.save_for_backward(qkv_NW, out_ND, lse_NH)
        ctx.heads = heads
        return out_ND

    @staticmethod
    @_once
    def backward(ctx: Any, dout_ND: Tensor) -> Any:
        qkv_NW, out_ND, lse_NH = ctx.saved_tensors
        dqkv_NW, dout_ND = torch.empty_like(qkv_NW), dout_ND.contiguous()
        _call("attention_backward", ctx.heads.struct, qkv_NW, out_ND, lse_NH, dout_ND, dqkv_NW)
        return dqkv_NW, None


class _Logprob(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_N: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        logprob_N, top_N, log_total_N, entropy_N = (logits_NV.new_empty(len(logits_NV)) for _ in range(4))
        _call("logprob_forward", *logits_NV.shape, logits_NV, ids_N, scale, logprob_N, top_N, log_total_N, entropy_N)
        ctx.save_for_backward(logits_NV, ids_N, top_N, log_total_N)
        ctx.scale = scale
        ctx.mark_non_differentiable(entropy_N)
        return logprob_N, entropy_N

    @staticmethod
    @_once
    def backward(ctx: Any, dlogprob_N: Tensor, _: Tensor) -> Any:
        logits_NV, ids_N, top_N, log_total_N = ctx.saved_tensors
        dlogits_NV, dlogprob_N = torch.empty_like(logits_NV), dlogprob_N.contiguous()
        arrays = (top_N, log_total_N, dlogprob_N, dlogits_NV)
        _call("logprob_backward", *logits_NV.shape, logits_NV, ids_N, ctx.scale, *arrays)
        return dlogits_NV, None, None


def add_norm(x_ND: Tensor, added_ND: Tensor | None, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + added, and its RMS norm times the weight: (N, D) and (N, D)."""
    eps = float(eps)  # in C, a whole number would arrive in the place of another argument
    assert (weight_D.dtype, weight_D.shape) == (x_ND.dtype, x_ND.shape[1:])
    if added_ND is None:
        return x_ND, _Norm.apply(x_ND.contiguous(), weight_D, eps)  # type: ignore[no-untyped-call]
    assert (added_ND.dtype, added_ND.shape) == (x_ND.dtype, x_ND.shape)
    return _AddNorm.apply(x_ND.contiguous(), added_ND.contiguous(), weight_D, eps)  # type: ignore[no-any-return, no-untyped-call]


def swiglu(both_NF: Tensor) -> Tensor:
    """silu(gate) * up, the gates standing before the ups: (N, 2 F) -> (N, F)."""
    return _SwiGLU.apply(both_NF.contiguous())  # type: ignore[no-any-return, no-untyped-call]


def project(
    x_ND: Tensor, added_ND: Tensor | None, norm_D: Tensor, matrix_WD: Tensor, bias_W: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """x + added, and its RMS norm times a matrix, plus a bias: (N, D) and (N, W)."""
    x_ND, matrix_WD, bias_W = x_ND.contiguous(), matrix_WD.contiguous(), bias_W.contiguous()
    if added_ND is None:
        return x_ND, _Project.apply(x_ND, None, norm_D, matrix_WD, bias_W, float(eps))  # type: ignore[no-untyped-call]
    added_ND = added_ND.contiguous()
    return _Project.apply(x_ND, added_ND, norm_D, matrix_WD, bias_W, float(eps))  # type: ignore[no-any-return, no-untyped-call]


def feed_forward(
    x_ND: Tensor,
    mixed_NM: Tensor,
    out_DM: Tensor,
    norm_D: Tensor,
    gate_up_FD: Tensor,
    down_DF: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """x plus what attention mixed times `out`, and the feed-forward network of that, not added: (N, D) and (N, D)."""
    arrays = [one.contiguous() for one in (x_ND, mixed_NM, out_DM, norm_D, gate_up_FD, down_DF)]
    goes_back = torch.is_grad_enabled() and any(one.requires_grad for one in arrays)
    return _FeedForward.apply(*arrays, float(eps), goes_back)  # type: ignore[no-any-return, no-untyped-call]


def attention(qkv_NW: Tensor, heads: Heads) -> Tensor:
    """Rotated attention over texts, from projected queries, keys and values: (N, W) -> (N, H K)."""
    return _Attention.apply(qkv_NW.contiguous(), heads)  # type: ignore[no-any-return, no-untyped-call]


def logprobs_and_entropy(logits_NV: Tensor, ids_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each id, and entropy (without a gradient), of softmax(logits / temperature), in nats.

    Raises:
        TokenError: an id outside the vocabulary, or not one for each row of logits.
    """
    rows, vocabulary = logits_NV.shape
    if ids_N.shape != (rows,) or (rows and not 0 <= ids_N.min() <= ids_N.max() < vocabulary):
        raise TokenError(
            f"ids of shape {tuple(ids_N.shape)} for logits of shape {(rows, vocabulary)}: "
            f"give one id for each row, from 0 to {vocabulary - 1}."
        )
    return _Logprob.apply(logits_NV.contiguous(), _whole_numbers(ids_N), 1.0 / temperature)  # type: ignore[no-any-return, no-untyped-call]


class _WritingStruct(ctypes.Structure):
    """`Writing` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("longest", "vocabulary", "num_rows", "num_ended", "takes_likeliest")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("uniforms", "ends", "tokens", "logprobs", "lengths", "finished")),
        *((name, ctypes.c_void_p) for name in ("rows", "ended", "groups")),
    )


class Writing:
    """Samples that are being written, token after token, and the rows in work.

    A row knows where its prompt is kept, and has a slot of its own; it leaves the work when its sample ends. Rows of
    one prompt that stand together read it together. Shapes: S samples, X tokens at most, V vocabulary.

    Args:
        uniforms_SX: of float64: what chooses each token.
        ends_V: of bool: which tokens end a sample.
        temperature: divides the logits; 0 takes the likeliest token.
        tokens_SX: of int64; the samples are written into this and the following.
        logprobs_SX: of float32: of each token, as `Sample` has it.
        lengths_S: of int64: of the samples that have ended.
        finished_S: of bool: whether with a token that ends one.
        most_rows: in work at a time.
    """

    _ROW = 5
    """Numbers of a row: place of its prompt, slot, sample, length, last token."""

    def __init__(
        self,
        uniforms_SX: NDArray[np.float64],
        ends_V: NDArray[np.bool_],
        temperature: float,
        tokens_SX: NDArray[np.int64],
        logprobs_SX: NDArray[np.float32],
        lengths_S: NDArray[np.int64],
        finished_S: NDArray[np.bool_],
        most_rows: int,
    ) -> None:
        self._rows = np.zeros((most_rows, self._ROW), np.int64)
        self._ended, groups = np.zeros_like(self._rows), np.zeros((most_rows, 3), np.int64)
        given = (np.ascontiguousarray(uniforms_SX, np.float64), np.ascontiguousarray(ends_V, np.bool_))
        self._alive = (*given, tokens_SX, logprobs_SX, lengths_S, finished_S, self._rows, self._ended, groups)
        assert all(array.flags.c_contiguous for array in self._alive)
        assert uniforms_SX.shape == tokens_SX.shape == logprobs_SX.shape
        assert (len(tokens_SX),) == lengths_S.shape == finished_S.shape
        assert tokens_SX.dtype == lengths_S.dtype == np.int64
        assert (logprobs_SX.dtype, finished_S.dtype) == (np.dtype(np.float32), np.dtype(np.bool_))
        scale = 1.0 / temperature if temperature else 1.0
        addresses = (array.ctypes.data for array in self._alive)
        self.struct = _WritingStruct(tokens_SX.shape[1], len(ends_V), 0, 0, temperature == 0, scale, *addresses)

    @property
    def num_rows(self) -> int:
        """How many rows are in work."""
        return int(self.struct.num_rows)

    def begin(
        self,
        prompts: Sequence[int] | NDArray[np.int64],
        slots: Sequence[int],
        samples: Sequence[int],
        logits_RV: Tensor,
    ) -> None:
        """Take rows into work, and write their first tokens from the logits of what follows their prompts.

        Of each row: where its prompt is kept, its slot, and its sample. Those that have ended have to be taken before.
        """
        assert not self.struct.num_ended
        assert self.num_rows + len(samples) <= len(self._rows)
        first, assigned = self.num_rows, np.array((prompts, slots, samples)).T
        self._rows[first : first + len(assigned)] = np.pad(assigned, ((0, 0), (0, self._ROW - 3)))
        self.struct.num_rows += len(assigned)
        _call("write_chosen", self.struct, first, logits_RV.contiguous())

    def take_ended(self) -> tuple[list[int], list[int]]:
        """The slots and the samples of the rows that have ended since this was asked last."""
        ended = self._ended[: self.struct.num_ended].copy()
        self.struct.num_ended = 0
        return ended[:, 1].tolist(), ended[:, 2].tolist()


class _MemoryStruct(ctypes.Structure):
    """`Memory` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("heads", "kv_heads", "width")),
        ("prompt_lengths", ctypes.c_void_p),
        ("prompt_room", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("prompt_keys", "prompt_values")),
        ("own_room", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("own_keys", "own_values", "cosines", "sines")),
        ("scale", ctypes.c_float),
    )


_spare: list[Tensor] = []
"""What rows' own keys and values were kept in, all layers' of the last who gave that back."""


class LayerMemory:
    """Keys and values that one layer remembers of prompts and of the tokens that rows wrote.

    Memory is taken from the system as it is written to, so rooms that stay empty cost nothing. As that is slow, what
    rows wrote to serves the next memory of the same size, once it is given back.
    """

    LANES = 16

    def __init__(
        self, heads: int, kv_heads: int, width: int, rooms: tuple[int, int, int, int], cosines: Tensor, sines: Tensor
    ) -> None:
        """`rooms`: prompts, places for each, rows, places for each."""
        prompts, prompt_room, rows, own_room = rooms
        prompt_room, own_room, depth = (-(-size // self.LANES) * self.LANES for size in (prompt_room, own_room, width))
        prompt_size, own_size = prompts * kv_heads * prompt_room * depth, rows * kv_heads * own_room * depth
        self._own = [_taken(own_size) for _ in range(2)]
        self._prompts = [torch.empty(prompt_size, dtype=torch.float32) for _ in range(2)]
        self._tables = (cosines, sines)
        self.lengths = torch.zeros(prompts, dtype=torch.int64)
        arrays = (*self._prompts, *self._own)
        prompt_keys, prompt_values, own_keys, own_values = (tensor.data_ptr() for tensor in arrays)
        self._struct = _MemoryStruct(
            heads=heads,
            kv_heads=kv_heads,
            width=width,
            prompt_lengths=self.lengths.data_ptr(),
            prompt_room=prompt_room,
            prompt_keys=prompt_keys,
            prompt_values=prompt_values,
            own_room=own_room,
            own_keys=own_keys,
            own_values=own_values,
            cosines=cosines.data_ptr(),
            sines=sines.data_ptr(),
            scale=width**-0.5,
        )

    def remember(self, rooms: Sequence[tuple[int, int, int]], qkv_NW: Tensor) -> None:
        """Keep prompts: (room, first token, length) of each among the projected tokens."""
        for room, _, length in rooms:
            self.lengths[room] = length
        _call("remember_prompts", self._struct, len(rooms), torch.tensor(rooms, dtype=torch.int64), qkv_NW)

    @staticmethod
    def give_back(memories: Sequence[LayerMemory]) -> None:
        """Leave what rows wrote to to others; nothing may be remembered any more."""
        _spare[:] = [array for memory in memories for array in memory._own]

    @property
    def address(self) -> int:
        """Of what C is told."""
        return ctypes.addressof(self._struct)


def _taken(size: int) -> Tensor:
    """An array of so many numbers, of any values."""
    number = next((number for number, array in enumerate(_spare) if array.numel() == size), None)
    return torch.empty(size, dtype=torch.float32) if number is None else _spare.pop(number)


class _Move(ctypes.Structure):
    """`Move` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("scale", "rate", "decay", "epsilon")),
        *((name, ctypes.c_float) for name in ("first_new", "second", "second_new", "first_left", "second_left")),
    )


def _addresses(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    for tensor in tensors:
        assert tensor.is_contiguous()
        assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


class _Quintic(ctypes.Structure):
    """`Quintic` of kernels.c."""

    _fields_ = tuple((name, ctypes.c_float) for name in ("a", "b", "c"))


def orthogonalised(matrices_MSL: Tensor, quintic: tuple[float, float, float], steps: int) -> Tensor:
    """Newton-Schulz on each matrix, short side first, divided by its length before: (M, S, L) -> (M, S, L)."""
    made_MSL = matrices_MSL.clone(memory_format=torch.contiguous_format)
    _call("orthogonalise", *made_MSL.shape, steps, _Quintic(*quintic), made_MSL)
    return made_MSL


def length_of(tensors: Sequence[Tensor]) -> float:
    """The Euclidean length of all numbers of some tensors together."""
    sizes = (ctypes.c_int64 * len(tensors))(*[tensor.numel() for tensor in tensors])
    squares = _asked(ctypes.c_double, "sum_of_squares", len(tensors), sizes, _addresses(tensors))
    return math.sqrt(squares)


def adamw_step(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    *,
    scale: float,
    step: int,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Move every value by its gradient times `scale` with AdamW, in place; `step` counts from 1."""
    first, second = betas
    averaging = (1.0 - first, second, 1.0 - second, 1.0 - first**step, math.sqrt(1.0 - second**step))
    move = _Move(scale, learning_rate, weight_decay, epsilon, *averaging)
    sets = zip(values, gradients, averages, squares, strict=True)
    assert all(len({tensor.numel() for tensor in each}) == 1 for each in sets)
    sizes = (ctypes.c_int64 * len(values))(*[value.numel() for value in values])
    _call("adamw_step", len(values), sizes, *map(_addresses, (values, gradients, averages, squares)), move)


class _StackStruct(ctypes.Structure):
    """`Stack` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_layers", "width", "hidden")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("weights", "panels", "memories", "last_norm", "head", "table")),
        *((name, ctypes.c_void_p) for name in ("work", "logits")),
    )


class Stack:
    """All layers for one new token a row, without a gradient. The weights are those of its birth.

    Args:
        weights: of each layer norm, queries-keys-values, their bias, what mixes the heads, norm, gates-ups, downs.
        memories: of each layer.
        norm_D: the last norm's weights.
        embedding_VD: what makes vectors of tokens.
        head_VD: what makes logits of hidden states.
        most_rows: in work at a time.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Tensor]],
        memories: Sequence[LayerMemory],
        norm_D: Tensor,
        eps: float,
        embedding_VD: Tensor,
        head_VD: Tensor,
        most_rows: int,
    ) -> None:
        matrices = [tensor.contiguous() for layer in weights for tensor in layer]
        pointers = _addresses(matrices)
        _, qkv_WD, _, out_DM, *_, down_DF = matrices[:7]
        sizes = (len(out_DM), out_DM.shape[1], len(qkv_WD), down_DF.shape[1])
        panels = qkv_WD.new_empty(len(memories) * _asked(ctypes.c_int64, "layer_panels_size", *sizes))
        _call("lay_layers", len(memories), *sizes, pointers, panels)
        self._vocabulary = len(head_VD)
        self._head_panels = head_VD.new_empty(_asked(ctypes.c_int64, "matrix_panels_size", *head_VD.shape))
        _call("lay_matrix", *head_VD.shape, head_VD.contiguous(), self._head_panels)
        addresses = (ctypes.c_void_p * len(memories))(*[memory.address for memory in memories])
        room = qkv_WD.new_empty(most_rows, 4 * len(out_DM) + len(qkv_WD) + out_DM.shape[1])
        arrays = (norm_D.contiguous(), self._head_panels, embedding_VD.contiguous())
        made = (*arrays, room, qkv_WD.new_empty(most_rows, self._vocabulary))
        self._alive = (matrices, pointers, panels, memories, addresses, made)
        self._most_rows = most_rows
        told = (ctypes.addressof(pointers), panels.data_ptr(), ctypes.addressof(addresses))
        ends = (tensor.data_ptr() for tensor in made)
        self._struct = _StackStruct(len(memories), len(out_DM), down_DF.shape[1], float(eps), *told, *ends)

    def head(self, hidden_RD: Tensor) -> Tensor:
        """Logits: (R, D) -> (R, V)."""
        logits_RV = hidden_RD.new_empty(len(hidden_RD), self._vocabulary)
        sizes = (*hidden_RD.shape, self._vocabulary)
        _call("multiply_laid", *sizes, hidden_RD.contiguous(), self._head_panels, logits_RV)
        return logits_RV

    def write(self, writing: Writing, most_tokens: int, enough: int) -> None:
        """Write on with all rows in work, for so many tokens or until so many rows have ended.

        Each row remembers the token that it reads, and attends to its prompt and to all its own.
        """
        assert writing.num_rows <= self._most_rows
        _call("write_on", self._struct, writing.struct, most_tokens, enough)
