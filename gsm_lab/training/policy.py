"""One gradient of the reinforcement loop: scored rollouts in, gradient and measurements out.

Rows of like length go through the model together; because every token's weight was fixed from the whole step
beforehand, how they are put together changes memory and speed only.

Shapes: B rows, T positions, D width, V vocabulary, N sampled tokens of the B rows, laid end to end.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.losses import aggregate, clipped_surrogate, kl_penalty, kl_values, token_entropy, token_logprobs


@dataclass(frozen=True)
class Trajectory:
    """A rollout with its credit: all that the gradient needs of it."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    """The sampled tokens themselves, never read back from text."""
    logprobs: tuple[float, ...]
    """Of the policy that sampled."""
    advantage: float
    weight: float
    """Of each of its tokens, from `token_weights` over the whole step."""

    @property
    def length(self) -> int:
        """Positions that go through the model: the last token is predicted, but predicts nothing."""
        return len(self.prompt) + len(self.ids) - 1


@dataclass(frozen=True)
class MicroBatch:
    """Rows that pass through the model together, padded on the right, where a causal model does not look."""

    tokens_BT: Tensor
    places_N: Tensor
    """Where in the flattened rows the prediction of each sampled token stands."""
    ids_N: Tensor
    old_logprobs_N: Tensor
    advantages_N: Tensor
    weights_N: Tensor


@dataclass(frozen=True)
class PolicyObjective:
    """What is minimised: the clipped surrogate, plus `kl_coefficient` times the KL to the reference."""

    clip_low: float
    clip_high: float
    kl_coefficient: float
    temperature: float


@dataclass
class Measurements:
    """Sums over the scored tokens of one gradient."""

    loss: float = 0.0
    tokens: int = 0
    entropy: float = 0.0
    kl: float = 0.0
    clipped: int = 0
    mismatch: float = 0.0
    """Largest |ratio - 1|."""

    def mean(self, total: float) -> float | None:
        """`total` per token; None when there were no tokens."""
        return total / self.tokens if self.tokens else None


def micro_batches(
    trajectories: Sequence[Trajectory], max_tokens: int, device: torch.device | str = "cpu"
) -> list[MicroBatch]:
    """Rows of like length together, at most `max_tokens` positions with padding (but always one row)."""
    return [_micro_batch(rows, device) for rows in _by_length(trajectories, max_tokens)]


def _by_length(trajectories: Sequence[Trajectory], max_tokens: int) -> Iterator[list[Trajectory]]:
    rows: list[Trajectory] = []
    for trajectory in sorted(trajectories, key=lambda one: one.length):
        if rows and (len(rows) + 1) * trajectory.length > max_tokens:
            yield rows
            rows = []
        rows.append(trajectory)
    if rows:
        yield rows


def _micro_batch(rows: Sequence[Trajectory], device: torch.device | str) -> MicroBatch:
    longest = max(row.length for row in rows)
    tokens_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    places: list[int] = []
    for number, row in enumerate(rows):
        tokens_BT[number, : row.length] = torch.tensor((row.prompt + row.ids)[:-1])
        first = number * longest + len(row.prompt) - 1
        places.extend(range(first, first + len(row.ids)))
    lengths_B = torch.tensor([len(row.ids) for row in rows])

    def per_token(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values)).repeat_interleave(lengths_B).to(device)

    return MicroBatch(
        tokens_BT=tokens_BT.to(device),
        places_N=torch.tensor(places).to(device),
        ids_N=torch.tensor([token for row in rows for token in row.ids]).to(device),
        old_logprobs_N=torch.tensor([value for row in rows for value in row.logprobs]).to(device),
        advantages_N=per_token(row.advantage for row in rows),
        weights_N=per_token(row.weight for row in rows),
    )


def sampled_logits(model: Transformer, micro: MicroBatch) -> Tensor:
    """The logits from which each sampled token was, or would be, drawn: (N, V), float32."""
    hidden_BTD = model.hidden(micro.tokens_BT)
    return model.head(hidden_BTD.flatten(0, 1).index_select(0, micro.places_N))


def reference_logprobs(reference: Transformer, micros: Sequence[MicroBatch], temperature: float) -> list[Tensor]:
    """The log-probabilities of the same tokens under another model, outside any graph."""
    with torch.no_grad():
        return [token_logprobs(sampled_logits(reference, micro), micro.ids_N, temperature) for micro in micros]


def accumulate_policy_gradient(
    model: Transformer,
    micros: Sequence[MicroBatch],
    objective: PolicyObjective,
    references: Sequence[Tensor] | None = None,
) -> Measurements:
    """Add the gradient of the objective to the parameters, and measure on the way.

    Raises:
        TrainingError: the loss is not finite.
    """
    measured = Measurements()
    for index, micro in enumerate(micros):
        reference_N = None if references is None else references[index]
        logits_NV = sampled_logits(model, micro)
        logprobs_N = token_logprobs(logits_NV, micro.ids_N, objective.temperature)
        losses_N = clipped_surrogate(
            logprobs_N, micro.old_logprobs_N, micro.advantages_N, objective.clip_low, objective.clip_high
        )
        if reference_N is not None:
            penalty_N = kl_penalty(logprobs_N, micro.old_logprobs_N, reference_N)
            losses_N = losses_N + objective.kl_coefficient * penalty_N
        loss = aggregate(losses_N, micro.weights_N)
        loss.backward()  # type: ignore[no-untyped-call]
        measured.loss += float(loss.detach())
        _measure(measured, micro, objective, logits_NV.detach(), logprobs_N.detach(), reference_N)
    if not math.isfinite(measured.loss):
        raise TrainingError(
            f"the policy loss is {measured.loss}: training stopped, the last saved state is whole. "
            f"Lower the learning rate, or make fewer updates a rollout."
        )
    return measured


def _measure(
    measured: Measurements,
    micro: MicroBatch,
    objective: PolicyObjective,
    logits_NV: Tensor,
    logprobs_N: Tensor,
    reference_N: Tensor | None,
) -> None:
    with torch.no_grad():
        moved_N = (logprobs_N - micro.old_logprobs_N).exp() - 1.0
        measured.tokens += len(logprobs_N)
        measured.entropy += float(token_entropy(logits_NV, objective.temperature).sum())
        measured.clipped += int(((moved_N < -objective.clip_low) | (moved_N > objective.clip_high)).sum())
        measured.mismatch = max(measured.mismatch, float(moved_N.abs().max()))
        if reference_N is not None:
            measured.kl += float(kl_values(logprobs_N, reference_N, "k3").sum())
