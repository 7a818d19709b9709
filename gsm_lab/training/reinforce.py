"""Reinforcement learning with verifiable rewards: groups of rollouts, credit within the group, one clipped update.

The algorithm is GRPO (arXiv:2402.03300) with today's defaults: advantages centred and not divided, the loss a mean
over tokens, no KL, one on-policy update a step. Layers work in float32, in sampling and training alike: else the two
give a token different probabilities. `reinforce` knows no problems: prompts are ids, and the reward is a function. A
loss near 0 is expected on policy (the ratio is 1 and advantages sum to 0): look at the reward.
"""

import copy
import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.losses import group_advantages, token_weights
from gsm_lab.training.optimizer import Optimizer
from gsm_lab.training.policy import (
    Measurements,
    PolicyObjective,
    Trajectory,
    accumulate_policy_gradient,
    micro_batches,
    reference_logprobs,
)
from gsm_lab.training.reinforce_settings import ReinforceSettings
from gsm_lab.training.rollouts import (
    Prompt,
    Reward,
    Rollout,
    drop_rollouts_from,
    rollouts_path,
    sample_groups,
    score_groups,
    write_rollouts,
)
from gsm_lab.training.run_folder import RunFolder
from gsm_lab.training.schedule import learning_rate_scale
from gsm_lab.training.state import fingerprint_of

PromptsAt = Callable[[int], Sequence[Prompt]]
"""The prompts of a step: a pure function of the step's number."""
OnMetrics = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class ReinforceSummary:
    """Where a call of `reinforce` ended."""

    step: int
    """Steps done."""
    rollouts: int
    """Completions sampled since step 0, whether a gradient came of them or not."""
    tokens: int
    """Tokens sampled since step 0."""
    finished: bool
    """False when `should_stop` ended it before the last step; the same call goes on."""


@dataclass
class _Progress:
    """All that changes from step to step beside weights and optimiser; JSON-ready, so that it is saved exactly."""

    step: int = 0
    rollouts: int = 0
    tokens: int = 0
    updates: int = 0
    skipped_updates: int = 0
    unused_rollouts: int = 0
    lowest_reward: float | None = None
    highest_reward: float | None = None


@dataclass(frozen=True)
class _Update:
    """What the updates of one step did."""

    first: Measurements
    last: Measurements
    gradient_norm: float
    """Of the last update, before clipping."""


class _Clock:
    """Seconds spent in each phase of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[f"{phase}_seconds"] = round(now - self._since, 6)
        self._since = now


def reinforce(
    model: Transformer,
    prompts_at: PromptsAt,
    reward: Reward,
    settings: ReinforceSettings,
    folder: Path,
    *,
    on_metrics: OnMetrics | None = None,
    should_stop: Callable[[], bool] | None = None,
    identity: str = "",
) -> ReinforceSummary:
    """Train `model` in place, or go on where an earlier call with the same arguments was cut off.

    Args:
        model: with the weights to begin from, also when resuming: they are part of the run's identity, and the
            reference of the KL.
        prompts_at: the prompts of each step.
        reward: scores the completions of a step; what it raises ends the run.
        folder: gets `metrics.jsonl`, `timings.jsonl`, `state/` and `rollouts/step-00012.parquet`.
        on_metrics: called with every step's metrics; must leave the model's weights alone.
        should_stop: asked after every step; a True saves the state and returns.
        identity: a name for prompts and reward; another name in the same folder is refused.

    Raises:
        TrainingError: prompts that do not fit the model, a reward that is not finite (or constant, when that is to be
            refused), a loss that is not finite.
        CheckpointError: the folder's state is damaged, or another run's.
    """
    optimizer = Optimizer(model, settings.optimizer)
    run = RunFolder(folder, _fingerprint(model, settings, identity), settings.keep_states)
    reference = _frozen_copy(model) if settings.kl_coefficient > 0 else None
    progress = _Progress(**(run.resume(model, optimizer) or {}))
    drop_rollouts_from(folder / "rollouts", progress.step)
    optimizer.forget_gradient()
    model.train()
    while progress.step < settings.steps:
        metrics, clock = _one_step(model, reference, optimizer, prompts_at, reward, settings, folder, progress)
        run.log(metrics, {"step": metrics["step"], **clock.seconds})
        if on_metrics is not None:
            on_metrics(metrics)
        stopping = should_stop is not None and should_stop()
        if stopping or progress.step % settings.save_every == 0 or progress.step == settings.steps:
            run.save(progress.step, dataclasses.asdict(progress), model, optimizer)
        if stopping:
            break
    finished = progress.step == settings.steps
    return ReinforceSummary(progress.step, progress.rollouts, progress.tokens, finished)


def _one_step(
    model: Transformer,
    reference: Transformer | None,
    optimizer: Optimizer,
    prompts_at: PromptsAt,
    reward: Reward,
    settings: ReinforceSettings,
    folder: Path,
    progress: _Progress,
) -> tuple[dict[str, Any], _Clock]:
    """Sample, score, keep, learn: the step's metrics and timings."""
    clock = _Clock()
    prompts = prompts_at(progress.step)
    _check_room(prompts, model, settings, progress.step)
    groups = _sampled(model, prompts, settings, progress.step)
    clock.lap("sample")
    rollouts = score_groups(prompts, groups, reward)
    clock.lap("reward")
    advantages = _advantages(rollouts, settings)
    write_rollouts(rollouts_path(folder / "rollouts", progress.step), progress.step, rollouts, advantages)
    clock.lap("write")
    _watch_reward(rollouts, settings, progress)
    scale = learning_rate_scale(settings.schedule, progress.step, settings.steps)
    trajectories = _trajectories(rollouts, advantages, settings)
    update = _updates(model, reference, optimizer, trajectories, settings, scale)
    clock.lap("train")
    progress.step += 1
    progress.rollouts += len(rollouts)
    progress.tokens += sum(len(one.sample.ids) for one in rollouts)
    progress.unused_rollouts += len(rollouts) - len(trajectories)
    progress.updates += settings.updates_per_rollout if trajectories else 0
    progress.skipped_updates += 0 if trajectories else settings.updates_per_rollout
    return _metrics(progress, rollouts, advantages, update, settings, scale), clock


def _sampled(model: Transformer, prompts: Sequence[Prompt], settings: ReinforceSettings, step: int) -> Any:
    return sample_groups(
        model,
        prompts,
        seed=settings.seed,
        stage=settings.stage,
        step=step,
        group_size=settings.group_size,
        max_new_tokens=settings.max_new_tokens,
        eos_id=settings.eos_id,
        temperature=settings.temperature,
        max_rows=settings.rollout_rows,
    )


def _advantages(rollouts: Sequence[Rollout], settings: ReinforceSettings) -> list[float]:
    rewards_R = torch.tensor([one.scored.reward for one in rollouts], dtype=torch.float64)
    groups_R = torch.tensor([one.group for one in rollouts])
    advantages_R = group_advantages(rewards_R, groups_R, divide_by_std=settings.divide_by_std)
    return [float(value) for value in advantages_R]


def _trajectories(
    rollouts: Sequence[Rollout], advantages: Sequence[float], settings: ReinforceSettings
) -> list[Trajectory]:
    """The rollouts that have a gradient, weighted by denominators of ALL rollouts of the step.

    A rollout with advantage 0 adds 0 to the gradient unless there is a KL: leaving it out is exact, and saves time.
    """
    weights = token_weights([len(one.sample.ids) for one in rollouts], settings.normaliser, settings.max_new_tokens)
    return [
        Trajectory(one.prompt.ids, one.sample.ids, one.sample.logprobs, advantage, weight)
        for one, advantage, weight in zip(rollouts, advantages, weights, strict=True)
        if advantage != 0.0 or settings.kl_coefficient > 0
    ]


def _updates(
    model: Transformer,
    reference: Transformer | None,
    optimizer: Optimizer,
    trajectories: Sequence[Trajectory],
    settings: ReinforceSettings,
    scale: float,
) -> _Update:
    """The step's updates; none when no rollout has a gradient (a momentum alone must not move the weights)."""
    if not trajectories:
        return _Update(Measurements(), Measurements(), 0.0)
    objective = PolicyObjective(settings.clip_low, settings.clip_high, settings.kl_coefficient, settings.temperature)
    micros = micro_batches(trajectories, settings.micro_batch_tokens, model.device)
    references = None if reference is None else reference_logprobs(reference, micros, settings.temperature)
    measured, norm = [], 0.0
    for _ in range(settings.updates_per_rollout):
        measured.append(accumulate_policy_gradient(model, micros, objective, references))
        norm = optimizer.step(scale)
    return _Update(measured[0], measured[-1], norm)


def _check_room(prompts: Sequence[Prompt], model: Transformer, settings: ReinforceSettings, step: int) -> None:
    if not prompts:
        raise TrainingError(f"step {step} has no prompts: give at least one.")
    longest = max(prompts, key=lambda prompt: len(prompt.ids))
    room = model.shape.max_positions
    if len(longest.ids) + settings.max_new_tokens > room:
        raise TrainingError(
            f"prompt {longest.key!r} of step {step} has {len(longest.ids)} tokens; with max_new_tokens "
            f"{settings.max_new_tokens} that is more than the model's {room} positions: lower max_new_tokens to "
            f"{room - len(longest.ids)}, leave long prompts out, or train a model with more positions."
        )


def _watch_reward(rollouts: Sequence[Rollout], settings: ReinforceSettings, progress: _Progress) -> None:
    """Note the range of rewards; give up on a constant one if that is asked for."""
    rewards = [one.scored.reward for one in rollouts]
    low, high = progress.lowest_reward, progress.highest_reward
    progress.lowest_reward = min(rewards) if low is None else min(low, *rewards)
    progress.highest_reward = max(rewards) if high is None else max(high, *rewards)
    constant = progress.lowest_reward == progress.highest_reward
    if settings.refuse_constant_reward and progress.step + 1 == min(settings.probe_steps, settings.steps) and constant:
        raise TrainingError(
            f"every reward of the first {progress.step + 1} steps is {progress.lowest_reward}: there is nothing to "
            f"learn from. Choose problems that the model solves sometimes, or set refuse_constant_reward to False."
        )


def _metrics(
    progress: _Progress,
    rollouts: Sequence[Rollout],
    advantages: Sequence[float],
    update: _Update,
    settings: ReinforceSettings,
    scale: float,
) -> dict[str, Any]:
    """One line of metrics. Null means that nothing was there to measure, which is not 0.

    `step` is the number that `prompts_at` was given and the rollouts' file bears: how many steps the policy that is
    measured had been trained. Entropy, mismatch and KL are of the rollouts that had a gradient, surprisal of all.
    """
    count = len(rollouts)
    lengths = [len(one.sample.ids) for one in rollouts]
    live_groups = {one.group for one, advantage in zip(rollouts, advantages, strict=True) if advantage != 0.0}
    num_groups = len({one.group for one in rollouts})
    verdicts = Counter(one.scored.verdict for one in rollouts)
    surprisal = -sum(sum(one.sample.logprobs) for one in rollouts)
    first, last = update.first, update.last
    return {
        "step": progress.step - 1,
        "reward_mean": statistics.fmean(one.scored.reward for one in rollouts),
        "verified_share": sum(one.scored.verified for one in rollouts) / count,
        "zero_variance_share": 1.0 - len(live_groups) / num_groups,
        "truncated_share": sum(not one.sample.finished for one in rollouts) / count,
        "verdict_shares": {name: number / count for name, number in sorted(verdicts.items())},
        "length_mean": sum(lengths) / count,
        "length_max": max(lengths),
        "surprisal": surprisal / sum(lengths) if sum(lengths) else None,
        "entropy": first.mean(first.entropy),
        "mismatch": first.mismatch if first.tokens else None,
        "kl": first.mean(first.kl) if settings.kl_coefficient > 0 else None,
        "clipped_share": last.mean(last.clipped),
        "loss": first.loss if first.tokens else None,
        "gradient_norm": update.gradient_norm if last.tokens else None,
        "learning_rate": settings.optimizer.learning_rate * scale,
        "updates": progress.updates,
        "skipped_updates": progress.skipped_updates,
        "rollouts": progress.rollouts,
        "unused_rollouts": progress.unused_rollouts,
        "tokens": progress.tokens,
    }


def _frozen_copy(model: Transformer) -> Transformer:
    """The policy as it is now, never to be trained."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def _fingerprint(model: Transformer, settings: ReinforceSettings, identity: str) -> str:
    names = {"loop": "reinforce", "identity": identity, "settings": settings.identity_fields()}
    return fingerprint_of(model, names)
