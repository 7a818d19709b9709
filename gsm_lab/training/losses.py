"""Losses and what they are made of: pure functions of tensors, each with its source.

Shapes: B rows, T positions, V words in the vocabulary, N scored tokens (rows laid end to end), R rollouts. Every loss
is a sum over tokens divided by a denominator that the caller took from the WHOLE batch; so a batch cut into
micro-batches gives the same gradient, whatever the cut (trl#5619, verl#7200: there it did not).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gsm_lab.errors import TrainingError
from gsm_lab.model import kernels

Normaliser = Literal["token_mean", "sequence_mean", "constant"]
NORMALISERS: tuple[Normaliser, ...] = ("token_mean", "sequence_mean", "constant")
Credit = Literal["group", "none", "steps"]
CREDITS: tuple[Credit, ...] = ("group", "none", "steps")
STD_EPSILON = 1e-6
"""Added to the standard deviation of a group, as verl does (TRL: 1e-4, open-instruct: 1e-8)."""


class LossSum(NamedTuple):
    """A loss before division: sums and counts of micro-batches add up exactly."""

    total: Tensor
    """Sum of the token losses, in nats."""
    tokens: int
    """How many tokens were summed."""


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor, mask_BT: Tensor) -> LossSum:
    """Cross-entropy summed where the mask is set; `logits[t]` predicts `targets[t]`, which is already the next token.

    Nothing is shifted here. The sum is taken in float32 or better; an empty mask gives 0 with a zero gradient.
    """
    kept = mask_BT.reshape(-1).nonzero().squeeze(1)
    logits_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1]).index_select(0, kept)
    return LossSum(-token_logprobs(logits_NV, targets_BT.reshape(-1)[kept]).sum(), len(kept))


def token_logprobs(logits_NV: Tensor, ids_N: Tensor, temperature: float = 1.0) -> Tensor:
    """The log-probability of each id under `softmax(logits / temperature)`, in nats: (N, V), (N,) -> (N,).

    With the temperature of the sampler, this is the distribution that was sampled from (trl#4159: there it was not).
    """
    if kernels.suit(logits_NV):
        return kernels.logprobs_and_entropy(logits_NV, ids_N, temperature)[0]
    return -functional.cross_entropy(at_temperature(logits_NV, temperature), ids_N, reduction="none")


def token_logprobs_and_entropy(logits_NV: Tensor, ids_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """`token_logprobs`, and `token_entropy` without a gradient, from one pass over the logits: (N,) and (N,)."""
    if kernels.suit(logits_NV):
        return kernels.logprobs_and_entropy(logits_NV, ids_N, temperature)
    return token_logprobs(logits_NV, ids_N, temperature), token_entropy(logits_NV.detach(), temperature)


def token_entropy(logits_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of `softmax(logits / temperature)` at each position, in nats: (N, V) -> (N,).

    Not the mean of `-logprob` of what was sampled, which only estimates it.
    """
    logprobs_NV = functional.log_softmax(at_temperature(logits_NV, temperature), dim=-1)
    return -(logprobs_NV.exp() * logprobs_NV).sum(dim=-1)


def at_temperature(logits_NV: Tensor, temperature: float) -> Tensor:
    """Logits over temperature, in float32 or better."""
    wide_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    return wide_NV if temperature == 1.0 else wide_NV / temperature


def group_advantages(rewards_R: Tensor, groups_R: Tensor, *, divide_by_std: bool = False) -> Tensor:
    """How much better each rollout did than its group's mean: (R,), (R,) -> (R,) in float64.

    `groups_R` holds an integer for each rollout: equal integers, same group, wherever the rows stand and whatever the
    prompts say. A group whose rewards agree gives exactly 0. Source: GRPO, arXiv:2402.03300, by default without the
    division by the standard deviation (arXiv:2503.20783, Dr. GRPO); with it, the deviation is that of a sample
    (n - 1 below the line, as TRL and verl) plus 1e-6.

    Raises:
        TrainingError: a group of one, which has nothing to be better than; or a reward that is not finite.
    """
    if rewards_R.ndim != 1 or rewards_R.shape != groups_R.shape:
        raise TrainingError(
            f"rewards of shape {tuple(rewards_R.shape)} and groups of shape {tuple(groups_R.shape)}: "
            f"give one reward and one group number for each rollout."
        )
    values_R = rewards_R.double()
    if not bool(torch.isfinite(values_R).all()):
        raise TrainingError("a reward is not finite: mend the reward function, a failure is not a reward.")
    _, members_R, sizes_P = torch.unique(groups_R, return_inverse=True, return_counts=True)
    if len(sizes_P) and int(sizes_P.min()) < 2:
        raise TrainingError("a group has one rollout, and nothing to compare it with: use group_size 2 or more.")
    zeros_P = torch.zeros(len(sizes_P), dtype=torch.float64)
    centred_R = values_R - (zeros_P.index_add(0, members_R, values_R) / sizes_P)[members_R]
    low_P = zeros_P.scatter_reduce(0, members_R, values_R, "amin", include_self=False)
    high_P = zeros_P.scatter_reduce(0, members_R, values_R, "amax", include_self=False)
    if divide_by_std:
        variance_P = zeros_P.index_add(0, members_R, centred_R.square()) / (sizes_P - 1)
        centred_R = centred_R / (variance_P.sqrt() + STD_EPSILON)[members_R]
    return torch.where((low_P == high_P)[members_R], 0.0, centred_R)


def step_advantages(
    steps_R: Sequence[Sequence[tuple[int, float]]],
    lengths_R: Sequence[int],
    groups_R: Sequence[int],
    *,
    divide_by_std: bool = False,
) -> list[tuple[float, ...]]:
    """What the rewards of single steps give each token of each rollout, beside what the whole rollout earns.

    A step is (place of the token that ends it, reward). It counts for as much as it is better than the mean step of its
    group, and a token gets what its own step and all later ones count for: what it could still change. In a group whose
    steps all earn the same, tokens get exactly 0. Source: GRPO with process supervision, arXiv:2402.03300,
    section 4.1.3; by default without its division by the standard deviation, as `group_advantages`.

    Places are from 0 to the rollout's length - 1, and rewards finite.
    """
    members: dict[int, list[float]] = {}
    for steps, group in zip(steps_R, groups_R, strict=True):
        members.setdefault(group, []).extend(reward for _, reward in steps)
    means = {group: math.fsum(values) / len(values) for group, values in members.items() if values}
    scales = dict.fromkeys(means, 1.0)
    for group, values in members.items() if divide_by_std else ():
        variance = math.fsum((value - means[group]) ** 2 for value in values) / max(1, len(values) - 1)
        scales[group] = 1.0 / (math.sqrt(variance) + STD_EPSILON)
    result = []
    for steps, length, group in zip(steps_R, lengths_R, groups_R, strict=True):
        flat = len(set(members[group])) <= 1
        tokens = [0.0] * length
        for place, reward in steps:
            tokens[place] += 0.0 if flat else (reward - means[group]) * scales[group]
        result.append(tuple(itertools.accumulate(reversed(tokens)))[::-1])
    return result


def clipped_surrogate(
    logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """The clipped policy loss of each token, to be minimised: (N,) x 3 -> (N,).

    Its gradient is 0 where the ratio has already moved past the clip in the direction the advantage pushes, and only
    there. On policy (ratio 1) it is the policy gradient. Sources: PPO, arXiv:1707.06347; two widths ("clip higher"):
    DAPO, arXiv:2503.14476.
    """
    ratio_N = (logprobs_N - old_logprobs_N).exp()
    clipped_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.maximum(-advantages_N * ratio_N, -advantages_N * clipped_N)


def kl_values(logprobs_N: Tensor, reference_logprobs_N: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Estimates of KL(policy || reference) at sampled tokens, in nats, as VALUES to log: (N,) x 2 -> (N,).

    k1 and k3 are unbiased (k3 is never negative); k2 is biased with low variance. Do not put them in a loss: there k1
    has gradient 0 in expectation, and k3 that of the other KL. Source: Schulman, "Approximating KL divergence", 2020.
    """
    gap_N = logprobs_N - reference_logprobs_N
    if estimator == "k1":
        return gap_N
    if estimator == "k2":
        return gap_N.square() / 2.0
    return torch.expm1(-gap_N) + gap_N


def kl_penalty(logprobs_N: Tensor, old_logprobs_N: Tensor, reference_logprobs_N: Tensor) -> Tensor:
    """The term whose mean over sampled tokens has value AND gradient of KL(policy || reference): (N,) x 3 -> (N,).

    It is k3 weighted with the ratio to the policy that sampled, the ratio inside the gradient: k3's mean under the
    policy is the KL, and importance weighting differentiates that mean on policy and off it. k1 in a loss gives
    gradient 0 and bare k3 that of KL(reference || policy); all four are enumerated in the tests. Discussion:
    trl#4637; DeepSeek-V3.2, arXiv:2512.02556.
    """
    return (logprobs_N - old_logprobs_N).exp() * kl_values(logprobs_N, reference_logprobs_N, "k3")


def token_weights(lengths_R: Sequence[int], normaliser: Normaliser, constant_length: int = 0) -> list[float]:
    """The weight of each token of each rollout, from the scored lengths of the WHOLE batch.

    - `token_mean`: 1 / all tokens: every token alike (DAPO, arXiv:2503.14476).
    - `sequence_mean`: 1 / (rollouts x own length): every rollout alike, tokens of long ones less (GRPO).
    - `constant`: 1 / (rollouts x `constant_length`): no length bias (Dr. GRPO, arXiv:2503.20783).

    A rollout without scored tokens has weight 0 and counts in no denominator (trl#6369: there it did).
    """
    if normaliser not in NORMALISERS:
        raise TrainingError(f"normaliser is {normaliser!r}: choose one of {', '.join(NORMALISERS)}.")
    if normaliser == "constant" and constant_length < 1:
        raise TrainingError(f"the constant normaliser divides by {constant_length}: give a length of 1 or more.")
    tokens = sum(lengths_R)
    rollouts = sum(1 for length in lengths_R if length > 0)

    def below(length: int) -> int:
        if normaliser == "token_mean":
            return tokens
        return rollouts * (length if normaliser == "sequence_mean" else constant_length)

    return [1.0 / below(length) if length > 0 else 0.0 for length in lengths_R]


def aggregate(losses_N: Tensor, weights_N: Tensor) -> Tensor:
    """The share of a micro-batch in the loss: token losses times their weights, summed.

    Shares of micro-batches add up to the loss of the batch because `token_weights` already holds its denominators.
    """
    return (losses_N * weights_N).sum()
