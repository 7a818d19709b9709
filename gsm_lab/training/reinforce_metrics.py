"""The figures of a step of reinforcement learning: what they mean, and how they are found.

Every line of `metrics.jsonl` has all of them. They are a function of the run alone, so that a run that was killed and
resumed writes the same lines; seconds are in `timings.jsonl`. Null means that there was nothing to measure, which is
not 0.

- `step`: the number that `prompts_at` was given and the file of rollouts bears: how many steps the policy that is
  measured here had been trained.

Of all the step's rollouts:

- `reward_mean`, `reward_std`: of what training raises; the standard deviation over all rollouts, groups or not.
- `column_means`: of every number that the reward gave under a name that begins with `reward_` or `process_`: the parts
  of the reward, the reward without noise, the process accuracy.
- `verified_share`: rollouts that are successes, whatever their reward.
- `verdict_shares`: rollouts of each verdict: right by luck, wrong, unreadable, truncated ... An outcome that is not
  there had none.
- `truncated_share`: rollouts without an end token.
- `zero_variance_share`: groups whose rewards agree (with credit for steps: those of their steps, too), so that nothing
  is learnt from them.
- `zero_variance_outcomes`: the same, split into groups that are `all_solved` (too easy), `none_solved` (too hard) and
  `some_solved` (a reward that does not see the difference).
- `length_mean`, `length_max`: sampled tokens of a rollout, the end token among them; and `length_verified_mean`,
  `length_verified_max`, `length_unverified_mean`, `length_unverified_max`.
- `surprisal`: mean of -log-probability over sampled tokens, in nats: an estimate of the entropy.

Of the rollouts with a gradient, at the first update, when the policy is still the one that sampled:

- `entropy`: mean over tokens of the entropy of the distribution each was drawn from, in nats.
- `mismatch`: largest |ratio - 1| of a token, the ratio being its probability in training over that in sampling. It
  should be rounding: below 1e-5 in float32 when the model itself samples.
- `kl`: mean over tokens of the KL to the reference, in nats; null without one.
- `loss`: what is minimised; near 0 on policy, where the ratio is 1 and the advantages of a group sum to 0 (not those of
  steps): look at the reward.

At the last update, which differs when there are several a step:

- `ratio_mean`, `ratio_deviation`: the mean over tokens of the ratio, and the largest |ratio - 1|.
- `clipped_low_share`, `clipped_high_share`, `clipped_share`: tokens whose ratio is below the clip, above it, or either;
  without a gradient only where the advantage pushes the same way.
- `gradient_norm`: the gradient's length before it is cut to the optimiser's limit.

And:

- `learning_rate`: of AdamW, at this step.

Sums since step 0, this step among them:

- `updates`: optimiser steps; `skipped_updates`: those that were not made because no rollout had a gradient.
- `rollouts`: completions sampled, whether a gradient came of them or not; `unused_rollouts`: those without a gradient.
- `tokens`: tokens sampled; `trained_tokens`: those with a gradient, once each, however many updates were made.
- `prompt_tokens`: tokens of prompts, once for all rollouts of a prompt.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from gsm_lab.training.learner import Update
from gsm_lab.training.rollouts import Rollout

AVERAGED = ("reward_", "process_")
"""How the names of columns begin whose means are logged."""


def rollout_figures(rollouts: Sequence[Rollout], advantages: Sequence[float]) -> dict[str, Any]:
    """The figures of what was sampled, of one rollout or more; of advantages only counts which are 0."""
    count = len(rollouts)
    rewards = [one.scored.reward for one in rollouts]
    lengths = [len(one.sample.ids) for one in rollouts]
    reward_mean = math.fsum(rewards) / count
    return {
        "reward_mean": reward_mean,
        "reward_std": math.sqrt(math.fsum((reward - reward_mean) ** 2 for reward in rewards) / count),
        "column_means": column_means(rollouts),
        "verified_share": sum(one.scored.verified for one in rollouts) / count,
        "verdict_shares": _shares(one.scored.verdict for one in rollouts),
        "truncated_share": sum(not one.sample.finished for one in rollouts) / count,
        **_zero_variance(rollouts, advantages),
        **_lengths("length", lengths),
        **_lengths("length_verified", [len(one.sample.ids) for one in rollouts if one.scored.verified]),
        **_lengths("length_unverified", [len(one.sample.ids) for one in rollouts if not one.scored.verified]),
        "surprisal": -math.fsum(value for one in rollouts for value in one.sample.logprobs) / sum(lengths),
    }


def update_figures(update: Update, *, has_reference: bool) -> dict[str, Any]:
    """The figures of the step's updates; null when none was made."""
    first, last = update.first, update.last
    return {
        "entropy": first.mean(first.entropy),
        "mismatch": first.mismatch if first.tokens else None,
        "kl": first.mean(first.kl) if has_reference else None,
        "loss": first.loss if first.tokens else None,
        "ratio_mean": last.mean(last.ratio),
        "ratio_deviation": last.mismatch if last.tokens else None,
        "clipped_low_share": last.mean(last.clipped_low),
        "clipped_high_share": last.mean(last.clipped_high),
        "clipped_share": last.mean(last.clipped),
        "gradient_norm": update.gradient_norm if last.tokens else None,
    }


def column_means(rollouts: Sequence[Rollout]) -> dict[str, float | None]:
    """The mean of each averaged column over the rollouts that have a value in it; None when none has."""
    names = {name for one in rollouts for name in one.scored.columns if name.startswith(AVERAGED)}
    return {name: _mean(_number(one.scored.columns.get(name)) for one in rollouts) for name in sorted(names)}


def _number(value: object) -> float | None:
    """A column's value as a number; None if it is none."""
    plain = value.as_py() if isinstance(value, pa.Scalar) else value
    return float(plain) if isinstance(plain, int | float) else None


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def _shares(names: Iterable[str]) -> dict[str, float]:
    counts = Counter(names)
    return {name: number / counts.total() for name, number in sorted(counts.items())}


def _zero_variance(rollouts: Sequence[Rollout], advantages: Sequence[float]) -> Mapping[str, Any]:
    """The share of groups without an advantage, and what became of their problems."""
    solved: dict[int, list[bool]] = {}
    for one in rollouts:
        solved.setdefault(one.group, []).append(one.scored.verified)
    live = {one.group for one, advantage in zip(rollouts, advantages, strict=True) if advantage != 0.0}
    outcomes = Counter(_outcome(verified) for group, verified in solved.items() if group not in live)
    return {
        "zero_variance_share": outcomes.total() / len(solved),
        "zero_variance_outcomes": {
            name: outcomes[name] / len(solved) for name in ("all_solved", "none_solved", "some_solved")
        },
    }


def _outcome(verified: Sequence[bool]) -> str:
    if all(verified):
        return "all_solved"
    return "some_solved" if any(verified) else "none_solved"


def _lengths(name: str, lengths: Sequence[int]) -> dict[str, float | None]:
    return {
        f"{name}_mean": sum(lengths) / len(lengths) if lengths else None,
        f"{name}_max": max(lengths, default=None),
    }
