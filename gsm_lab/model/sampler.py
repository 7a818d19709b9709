"""The sampler: many completions of many prompts, from randomness that the caller hands in.

A token is the inverse cumulative distribution of softmax(logits / temperature) at a uniform number of the caller's, so
a completion depends on its prompt and its uniforms only: not on what else is in the batch, not on the order, not on
how many rows fit at once. (Matrix products of other sizes round differently in the seventh digit; that changes a token
only when a uniform falls within that distance of a boundary between two tokens.) The log-probabilities are those of
the distribution that was sampled, and equal those of a full forward pass.

Shapes: M prompts in a chunk, N blocks of S rows, R = N * S rows, V vocabulary, X new tokens at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsm_lab.errors import TokenError, TrainingError
from gsm_lab.model.cache import KeyValueCache
from gsm_lab.model.transformer import Transformer

Uniforms = npt.NDArray[np.floating] | Tensor

_PACK_ANEW_AT = 1.25
"""Rows computed for each row still being written, above which the rows are packed anew."""
_WASTE_IN_BLOCKS = 1.1
"""The same number, at most, straight after packing; lower, so that packing always pays."""


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
    with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
        for chunk in _chunks(requests, max_rows):
            for request, samples in zip(chunk, _Writing(model, chunk, ends_V, temperature).finish(), strict=True):
                results[request.prompt].extend(samples)
    return results


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


def _chunks(requests: list[_Request], max_rows: int) -> Iterator[list[_Request]]:
    """Requests of like length together, `max_rows` samples at a time; one prompt may be spread over several."""
    chunk: list[_Request] = []
    free = max_rows
    for request in sorted(requests, key=lambda one: len(one.ids)):
        first = 0
        while first < len(request.uniforms):
            taken = request.uniforms[first : first + free]
            chunk.append(_Request(request.prompt, request.ids, taken))
            first += len(taken)
            free -= len(taken)
            if free == 0:
                yield chunk
                chunk, free = [], max_rows
    if chunk:
        yield chunk


@dataclass(frozen=True)
class Blocks:
    """How rows are packed into blocks of one prompt each."""

    prompts_N: tuple[int, ...]
    """The prompt of each block."""
    rows_per_block: int
    items_R: tuple[int, ...]
    """What each row writes, as an index into the items that were packed; -1 in the rows that fill up a block."""


def pack(prompt_of_item: Sequence[int]) -> Blocks:
    """Blocks for items that come prompt by prompt: as large as they can be without wasting many rows.

    The rows of a block read the prompt's keys and values together, so large blocks are fast; a row that fills up a
    block is computed for nothing.
    """
    items: dict[int, list[int]] = {}
    for item, prompt in enumerate(prompt_of_item):
        items.setdefault(prompt, []).append(item)
    allowed = _WASTE_IN_BLOCKS * len(prompt_of_item)
    largest = max(len(own) for own in items.values())
    size = next(s for s in range(largest, 0, -1) if sum(-(-len(own) // s) * s for own in items.values()) <= allowed)
    prompts: list[int] = []
    rows: list[int] = []
    for prompt, own in items.items():
        num_blocks = -(-len(own) // size)
        prompts += [prompt] * num_blocks
        rows += own + [-1] * (num_blocks * size - len(own))
    return Blocks(tuple(prompts), size, tuple(rows))


class _Writing:
    """A chunk of completions while they are being written.

    Sample number `total` is a dustbin: the rows that fill up a block write there.
    """

    def __init__(self, model: Transformer, chunk: list[_Request], ends_V: Tensor, temperature: float) -> None:
        self.model = model
        self.device = model.device
        self.temperature = temperature
        self.ends_V = ends_V.to(self.device)
        self.counts = [len(request.uniforms) for request in chunk]
        self.prompts = [request.ids for request in chunk]
        self.prompt_of_sample = [number for number, count in enumerate(self.counts) for _ in range(count)]
        self.total, self.room = len(self.prompt_of_sample), chunk[0].uniforms.shape[1]
        dustbin = torch.zeros(1, self.room, dtype=torch.float64)
        self.uniforms = torch.cat([*(request.uniforms for request in chunk), dustbin]).to(self.device)
        self.tokens = torch.zeros(self.total + 1, self.room, dtype=torch.long, device=self.device)
        self.logprobs = torch.zeros(self.total + 1, self.room, device=self.device)
        self.lengths = torch.full((self.total + 1,), self.room, device=self.device)
        self.finished = torch.zeros(self.total + 1, dtype=torch.bool, device=self.device)
        self.finished[self.total] = True

    def finish(self) -> list[list[Sample]]:
        """Write until every sample is finished or at the limit; the samples of each request."""
        last_MD, prompt_cache = self._prefill()
        blocks = pack(self.prompt_of_sample)
        samples_R = self._tensor([self.total if item < 0 else item for item in blocks.items_R])
        prompts_N = self._tensor(blocks.prompts_N)
        cache = prompt_cache.blocks(prompts_N, blocks.rows_per_block)
        hidden_RD = last_MD[prompts_N.repeat_interleave(blocks.rows_per_block)]
        for step in range(self.room):
            chosen_R = self._write(step, self.model.head(hidden_RD), samples_R)
            writing_R = ~self.finished[samples_R]
            num_writing = int(writing_R.sum())
            if num_writing == 0 or step + 1 == self.room:
                break
            if num_writing * _PACK_ANEW_AT < len(samples_R):
                samples_R, rows_R, cache = self._pack_anew(samples_R, writing_R, prompt_cache, cache)
                chosen_R = chosen_R[rows_R]
            hidden_RD = self.model.step(chosen_R, cache)
        return self._samples()

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long).to(self.device)

    def _prefill(self) -> tuple[Tensor, KeyValueCache]:
        lengths = [len(ids) for ids in self.prompts]
        padded = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
        for row, ids in zip(padded, self.prompts, strict=True):
            row[: len(ids)] = torch.as_tensor(ids)
        return self.model.prefill(padded.to(self.device), self._tensor(lengths))

    def _write(self, step: int, logits_RV: Tensor, samples_R: Tensor) -> Tensor:
        """Choose the next token of every row, and note what was chosen for which sample."""
        chosen_R, logprobs_R = choose(logits_RV, self.uniforms[samples_R, step], self.temperature)
        self.tokens[samples_R, step] = chosen_R
        self.logprobs[samples_R, step] = logprobs_R
        before_R = self.finished[samples_R]
        ended_R = self.ends_V[chosen_R] & ~before_R
        self.lengths[samples_R] = torch.where(ended_R, step + 1, self.lengths[samples_R])
        self.finished[samples_R] = before_R | ended_R
        return chosen_R

    def _pack_anew(
        self, samples_R: Tensor, writing_R: Tensor, prompt_cache: KeyValueCache, cache: KeyValueCache
    ) -> tuple[Tensor, Tensor, KeyValueCache]:
        """Drop the finished rows: the new rows' samples, the old rows they go on from, and their cache."""
        old_rows = writing_R.nonzero().flatten().tolist()
        old_samples = samples_R[writing_R].tolist()
        blocks = pack([self.prompt_of_sample[number] for number in old_samples])
        rows_R = self._tensor([old_rows[max(item, 0)] for item in blocks.items_R])
        anew = prompt_cache.blocks(self._tensor(blocks.prompts_N), blocks.rows_per_block)
        anew.adopt(cache, rows_R)
        return self._tensor([self.total if item < 0 else old_samples[item] for item in blocks.items_R]), rows_R, anew

    def _samples(self) -> list[list[Sample]]:
        """What was written, by request, in order.

        Raises:
            TrainingError: the model's numbers are not finite.
        """
        if not bool(self.logprobs[: self.total].isfinite().all()):
            raise TrainingError(
                "the model's log-probabilities are not finite: its weights are damaged or diverged; "
                "go back to an earlier checkpoint, or train with a lower learning rate."
            )
        tokens, logprobs = self.tokens.tolist(), self.logprobs.tolist()
        lengths, finished = self.lengths.tolist(), self.finished.tolist()
        written = (
            Sample(tuple(tokens[n][: lengths[n]]), tuple(logprobs[n][: lengths[n]]), finished[n])
            for n in range(self.total)
        )
        return [list(islice(written, count)) for count in self.counts]


def choose(logits_RV: Tensor, uniforms_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens at `uniforms_R` of the cumulative distributions, and their log-probabilities: (R,) and (R,).

    Token v is chosen by the uniforms in [P(0..v-1), P(0..v)), so v comes up with probability P(v), and a token of
    probability 0 never does. Temperature 0 takes the likeliest token.
    """
    logprobs_RV = torch.log_softmax(logits_RV / temperature if temperature > 0 else logits_RV, dim=1)
    if temperature == 0:
        chosen_R = logprobs_RV.argmax(dim=1)
    else:
        cumulative_RV = logprobs_RV.exp().cumsum(dim=1, dtype=torch.float64)
        total_R = cumulative_RV[:, -1]
        points_R = torch.minimum(uniforms_R * total_R, total_R.nextafter(torch.zeros_like(total_R)))
        chosen_R = torch.searchsorted(cumulative_RV, points_R[:, None], right=True).squeeze(1)
        chosen_R = chosen_R.clamp_(max=logits_RV.shape[1] - 1)  # only NaN goes past the end
    return chosen_R, logprobs_RV.gather(1, chosen_R[:, None]).squeeze(1)
