"""The sampler: many completions of many prompts, from randomness that the caller hands in.

A token is the inverse cumulative distribution of softmax(logits / temperature) at a uniform number of the caller's, so
a completion depends on its prompt and its uniforms only: not on what else is in the batch, not on the order, not on
how many rows fit at once. (Matrix products of other sizes round differently in the seventh digit; that changes a token
only when a uniform falls within that distance of a boundary between two tokens.) The log-probabilities are those of
the distribution that was sampled, and equal those of a full forward pass.

Two writers do the work: `decode.py` on a CPU with the compiled kernels, `cuda_decode.py` everywhere else.

Shapes: R rows, V vocabulary, X new tokens at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsm_lab.errors import TokenError, TrainingError
from gsm_lab.model import cuda_decode, decode, kernels
from gsm_lab.model.decode import Written
from gsm_lab.model.transformer import Transformer

Uniforms = npt.NDArray[np.floating] | Tensor

_NOT_FINITE = (
    "the model's log-probabilities are not finite: its weights are damaged or diverged; "
    "go back to an earlier checkpoint, or train with a lower learning rate."
)


@dataclass(frozen=True)
class Sample:
    """One completion of one prompt."""

    ids: tuple[int, ...]
    """The sampled tokens, with the end token when there is one."""
    logprobs: tuple[float, ...]
    """For each token, its log-probability (nats) in the distribution it was drawn from; of a greedy completion, in
    the model's own distribution, temperature 1."""
    finished: bool
    """Whether it wrote an end token; False means cut at the length limit."""


@dataclass(frozen=True)
class _Request:
    """A number of samples of one prompt."""

    prompt: int
    """Its place among the caller's prompts."""
    ids: Sequence[int]
    uniforms: Tensor
    """(samples, X) float64."""


def sample(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[Uniforms],
    *,
    max_new_tokens: int,
    eos_id: int | Sequence[int],
    temperature: float = 1.0,
    max_rows: int = 256,
    on_done: Callable[[int, list[Sample]], None] | None = None,
) -> list[list[Sample]]:
    """Complete every prompt as often as `uniforms` has rows for it; results in the order of the prompts.

    Args:
        model: left as it was; the work is done on its device.
        prompts: token ids, at least one for each prompt.
        uniforms: for each prompt an array (samples, max_new_tokens) of numbers in [0, 1); only its number of rows
            counts when the temperature is 0.
        max_new_tokens: where a completion without an end token is cut.
        eos_id: the token, or any of the tokens, that ends a completion.
        temperature: divides the logits; 0 takes the likeliest token.
        max_rows: completions written at the same time; bounds memory, changes no result.
        on_done: called with the number of a prompt and its samples as soon as they are all written, in any order.

    Raises:
        TokenError: a prompt is empty, too long or has an unknown token, or the uniforms do not fit.
        TrainingError: the model's numbers are not finite.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise TokenError(f"temperature is {temperature}: give 0 (greedy) or a finite number above 0.")
    if max_new_tokens < 1 or max_rows < 1:
        raise TokenError(f"max_new_tokens is {max_new_tokens} and max_rows {max_rows}: give 1 or more of each.")
    if len(uniforms) != len(prompts):
        raise TokenError(f"{len(prompts)} prompts but uniforms for {len(uniforms)}: give one array for each prompt.")
    ends_V = _end_table(model, eos_id)
    requests = [
        _checked_request(model, number, prompt, numbers, max_new_tokens)
        for number, (prompt, numbers) in enumerate(zip(prompts, uniforms, strict=True))
    ]
    results: list[list[Sample]] = [[] for _ in prompts]

    def written(prompt: int, samples: list[Sample]) -> None:
        results[prompt] = samples
        if on_done is not None:
            on_done(prompt, samples)

    with torch.inference_mode(), torch.autocast(model.device.type, enabled=False), _exact_products(model.device):
        _write(model, requests, ends_V, temperature, max_rows, written)
    return results


def _write(
    model: Transformer,
    requests: list[_Request],
    ends_V: Tensor,
    temperature: float,
    max_rows: int,
    on_done: Callable[[int, list[Sample]], None],
) -> None:
    """Requests with samples, rows refilled as they finish."""
    asked = [request for request in requests if len(request.uniforms)]
    for request in requests:
        if not len(request.uniforms):
            on_done(request.prompt, [])
    if not asked:
        return
    begins = np.cumsum([0, *(len(request.uniforms) for request in asked)])

    def finished(number: int) -> None:
        on_done(asked[number].prompt, _samples_of(written, slice(begins[number], begins[number + 1])))

    work = (
        model,
        [request.ids for request in asked],
        [len(request.uniforms) for request in asked],
        torch.cat([request.uniforms for request in asked]).numpy(),
        ends_V.numpy(),
    )
    writer: decode.Writer | cuda_decode.Writer
    if kernels.suit(model.model.embed_tokens.weight):
        writer = decode.Writer(*work, temperature, max_rows, finished)
    else:
        writer = cuda_decode.Writer(*work, partial(choose, temperature=temperature), max_rows, finished)
    # were `finished` to hold the writer, which holds it, the writer's memory would wait for the garbage collector
    written = writer.written
    writer.finish()


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """A context in which a GPU multiplies float32 numbers without rounding to tf32, whatever the process asked for."""
    before = torch.get_float32_matmul_precision() if device.type == "cuda" else "highest"
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _samples_of(written: Written, rows: slice) -> list[Sample]:
    """The samples in some rows of what was written.

    Raises:
        TrainingError: the model's numbers are not finite.
    """
    lengths = written.lengths[rows].tolist()
    if not np.isfinite(written.logprobs[rows]).all():
        raise TrainingError(_NOT_FINITE)
    parts = zip(written.tokens[rows], written.logprobs[rows], lengths, written.finished[rows].tolist(), strict=True)
    return [
        Sample(tuple(ids[:length].tolist()), tuple(logprobs[:length].tolist()), finished)
        for ids, logprobs, length, finished in parts
    ]


def _end_table(model: Transformer, eos_id: int | Sequence[int]) -> Tensor:
    """Which tokens end a completion: (V,) of bool, on the CPU."""
    ends_V = torch.zeros(model.shape.vocab_size, dtype=torch.bool)
    for end in [eos_id] if isinstance(eos_id, int) else eos_id:
        if not 0 <= end < len(ends_V):
            raise TokenError(f"end token {end} is outside the vocabulary of {len(ends_V)}: give the tokenizer's own.")
        ends_V[end] = True
    return ends_V


def _checked_request(model: Transformer, number: int, ids: Sequence[int], numbers: Uniforms, room: int) -> _Request:
    """The request for prompt `number`, or the reason why there is none."""
    shape = model.shape
    if not len(ids):
        raise TokenError(f"prompt {number} is empty: the first token needs something to follow.")
    if len(ids) + room > shape.max_positions:
        raise TokenError(
            f"prompt {number} has {len(ids)} tokens; with {room} new ones it does not fit into "
            f"{shape.max_positions} positions: lower max_new_tokens, or use a model with more positions."
        )
    if min(ids) < 0 or max(ids) >= shape.vocab_size:
        raise TokenError(
            f"prompt {number} has ids from {min(ids)} to {max(ids)}, the vocabulary from 0 to "
            f"{shape.vocab_size - 1}: use the tokenizer that was saved with the model."
        )
    uniforms = torch.as_tensor(numbers).detach().to("cpu", torch.float64)
    if uniforms.dim() != 2 or uniforms.shape[1] != room:
        raise TokenError(
            f"the uniforms of prompt {number} have shape {tuple(uniforms.shape)}: give (samples, {room}), "
            f"a number for each token that may be written."
        )
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise TokenError(f"the uniforms of prompt {number} leave [0, 1): draw them with numpy's Generator.random.")
    return _Request(number, ids, uniforms)


def choose(logits_RV: Tensor, uniforms_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens at `uniforms_R` of the cumulative distributions, and their log-probabilities: (R,) and (R,).

    Token v is chosen by the uniforms in [P(0..v-1), P(0..v)), so v comes up with probability P(v), and a token of
    probability 0 never does. Temperature 0 takes the likeliest token.
    """
    logprobs_RV = torch.log_softmax(logits_RV / temperature if temperature > 0 else logits_RV, dim=1)
    if temperature == 0:
        chosen_R = logits_RV.argmax(dim=1)  # log-probabilities may be rounded to the same number
    else:
        cumulative_RV = logprobs_RV.exp().cumsum(dim=1, dtype=torch.float64)
        total_R = cumulative_RV[:, -1]
        points_R = torch.minimum(uniforms_R * total_R, total_R.nextafter(torch.zeros_like(total_R)))
        chosen_R = torch.searchsorted(cumulative_RV, points_R[:, None], right=True).squeeze(1)
        chosen_R = chosen_R.clamp_(max=logits_RV.shape[1] - 1)  # only NaN goes past the end
    return chosen_R, logprobs_RV.gather(1, chosen_R[:, None]).squeeze(1)
