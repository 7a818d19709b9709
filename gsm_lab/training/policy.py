"""One gradient of the reinforcement loop: scored rollouts in, gradient and measurements out.

Because every token's weight was fixed from the whole step beforehand, how rollouts are put together changes memory and
speed only. On a CPU, rollouts of one prompt share its computation: the prompt goes through the model once, with all its
completions behind it, and the gradients of the completions meet in it.

Shapes: M tokens that go through the model, texts laid end to end; N sampled tokens, in the same order; V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsm_lab.errors import TrainingError
from gsm_lab.model import Texts, Transformer
from gsm_lab.training.losses import (
    aggregate,
    clipped_surrogate,
    kl_penalty,
    kl_values,
    token_logprobs,
    token_logprobs_and_entropy,
)


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
    token_advantages: tuple[float, ...] = ()
    """What single tokens have beside `advantage`, one number for each; none where they have nothing."""

    @property
    def length(self) -> int:
        """Tokens that go through the model for it alone: the last is predicted, but predicts nothing."""
        return len(self.prompt) + len(self.ids) - 1


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Rollouts that pass through the model together."""

    tokens_M: Tensor
    texts: Texts
    places_N: Tensor
    """Which of the M tokens predicts each sampled token."""
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
    ratio: float = 0.0
    clipped_low: int = 0
    """Tokens whose ratio is below the clip, whatever their advantage."""
    clipped_high: int = 0
    mismatch: float = 0.0
    """Largest |ratio - 1|."""

    @property
    def clipped(self) -> int:
        """Tokens whose ratio is outside the clip."""
        return self.clipped_low + self.clipped_high

    def mean(self, total: float) -> float | None:
        """`total` per token; None when there were no tokens."""
        return total / self.tokens if self.tokens else None


def micro_batches(
    trajectories: Sequence[Trajectory], max_tokens: int, device: torch.device | str = "cpu"
) -> list[MicroBatch]:
    """Rollouts in parts of at most `max_tokens` tokens (but always one rollout), the longest first."""
    share = torch.device(device).type == "cpu"
    return [_micro_batch(trees, share, device) for trees in _parts(_trees(trajectories, max_tokens, share), max_tokens)]


_Tree = list[Trajectory]
"""Rollouts of the same prompt that go through the model together."""


def _num_tokens(tree: Sequence[Trajectory]) -> int:
    """The last token of a completion is predicted, but predicts nothing."""
    return len(tree[0].prompt) + sum(len(one.ids) - 1 for one in tree)


def _trees(trajectories: Sequence[Trajectory], max_tokens: int, share: bool) -> list[_Tree]:
    if not share:
        return [[one] for one in trajectories]
    trees: list[_Tree] = []
    open_tree: dict[tuple[int, ...], _Tree] = {}
    for one in trajectories:
        tree = open_tree.get(one.prompt)
        if tree is None or _num_tokens([*tree, one]) > max_tokens:
            tree = open_tree[one.prompt] = []
            trees.append(tree)
        tree.append(one)
    return trees


def _parts(trees: Iterable[_Tree], max_tokens: int) -> Iterator[list[_Tree]]:
    part: list[_Tree] = []
    size = 0
    for tree in sorted(trees, key=_num_tokens, reverse=True):
        if part and size + _num_tokens(tree) > max_tokens:
            yield part
            part, size = [], 0
        part.append(tree)
        size += _num_tokens(tree)
    if part:
        yield part


def _micro_batch(trees: Sequence[_Tree], share: bool, device: torch.device | str) -> MicroBatch:
    tokens: list[int] = []
    places: list[int] = []
    for tree in trees:
        prompt = tree[0].prompt
        last_of_prompt = len(tokens) + len(prompt) - 1
        tokens.extend(prompt)
        for one in tree:
            places.append(last_of_prompt)
            places.extend(range(len(tokens), len(tokens) + len(one.ids) - 1))
            tokens.extend(one.ids[:-1])
    rollouts = [one for tree in trees for one in tree]
    lengths = torch.tensor([len(one.ids) for one in rollouts])
    if share:
        texts = Texts.of_trees([(len(tree[0].prompt), [len(one.ids) - 1 for one in tree]) for tree in trees])
    else:
        texts = Texts.of_lengths(torch.tensor([_num_tokens(tree) for tree in trees]))

    def per_token(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values)).repeat_interleave(lengths).to(device)

    advantages_N = per_token(one.advantage for one in rollouts)
    if any(one.token_advantages for one in rollouts):
        further = (one.token_advantages or (0.0,) * len(one.ids) for one in rollouts)
        advantages_N = advantages_N + torch.tensor([value for values in further for value in values]).to(device)
    return MicroBatch(
        tokens_M=torch.tensor(tokens).to(device),
        texts=texts,
        places_N=torch.tensor(places).to(device),
        ids_N=torch.tensor([token for one in rollouts for token in one.ids]).to(device),
        old_logprobs_N=torch.tensor([value for one in rollouts for value in one.logprobs]).to(device),
        advantages_N=advantages_N,
        weights_N=per_token(one.weight for one in rollouts),
    )


def sampled_logits(model: Transformer, micro: MicroBatch) -> Tensor:
    """The logits from which each sampled token was, or would be, drawn: (N, V), float32."""
    hidden_MD = model.hidden_of(micro.tokens_M, micro.texts)
    return model.head(hidden_MD.index_select(0, micro.places_N))


def reference_logprobs(reference: Transformer, micros: Sequence[MicroBatch], temperature: float) -> list[Tensor]:
    """The log-probabilities of the same tokens under another model, outside any graph."""
    with torch.no_grad():
        return [token_logprobs(sampled_logits(reference, micro), micro.ids_N, temperature) for micro in micros]


def completion_logprobs(model: Transformer, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """The log-probability that a model gives each token of a completion, after the prompt: (N,), no gradient."""
    one = Trajectory(tuple(prompt), tuple(completion), (0.0,) * len(completion), advantage=0.0, weight=0.0)
    micros = micro_batches([one], max_tokens=1, device=model.device)
    return reference_logprobs(model, micros, temperature=1.0)[0]


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
        logprobs_N, entropy_N = token_logprobs_and_entropy(logits_NV, micro.ids_N, objective.temperature)
        losses_N = clipped_surrogate(
            logprobs_N, micro.old_logprobs_N, micro.advantages_N, objective.clip_low, objective.clip_high
        )
        if reference_N is not None:
            penalty_N = kl_penalty(logprobs_N, micro.old_logprobs_N, reference_N)
            losses_N = losses_N + objective.kl_coefficient * penalty_N
        loss = aggregate(losses_N, micro.weights_N)
        loss.backward()  # type: ignore[no-untyped-call]
        measured.loss += float(loss.detach())
        _measure(measured, micro, objective, entropy_N, logprobs_N.detach(), reference_N)
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
    entropy_N: Tensor,
    logprobs_N: Tensor,
    reference_N: Tensor | None,
) -> None:
    with torch.no_grad():
        moved_N = (logprobs_N - micro.old_logprobs_N).exp() - 1.0
        measured.tokens += len(logprobs_N)
        measured.entropy += float(entropy_N.sum())
        measured.ratio += float((moved_N + 1.0).sum())
        measured.clipped_low += int((moved_N < -objective.clip_low).sum())
        measured.clipped_high += int((moved_N > objective.clip_high).sum())
        measured.mismatch = max(measured.mismatch, float(moved_N.abs().max()))
        if reference_N is not None:
            measured.kl += float(kl_values(logprobs_N, reference_N, "k3").sum())
