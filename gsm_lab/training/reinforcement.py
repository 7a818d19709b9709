"""Reinforcement learning with verifiable rewards: groups of rollouts, credit within the group, one clipped update.

The algorithm is GRPO (arXiv:2402.03300) with today's defaults: advantages centred and not divided, the loss a mean
over tokens, no KL, one on-policy update a step. Layers work in float32, in sampling and training alike: else the two
give a token different probabilities. `reinforce` knows no problems: prompts are ids, and the reward is a function. A
loss near 0 is expected on policy (the ratio is 1 and advantages of groups sum to 0): look at the reward.

With several ranks, each samples and grades its share of the prompts, is told of all rollouts, and computes its share
of the gradient; weights stay equal on all of them, and rank 0 writes the files.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.collect import Clock, Collector
from gsm_lab.training.distributed import World
from gsm_lab.training.learner import Learner, advantages_of, token_advantages_of, trajectories_of
from gsm_lab.training.optimizer import Optimizer
from gsm_lab.training.policy import Trajectory
from gsm_lab.training.reinforce_metrics import rollout_figures, update_figures
from gsm_lab.training.reinforce_settings import ReinforceSettings
from gsm_lab.training.reward import Reward
from gsm_lab.training.reward_workers import RewardWorkers
from gsm_lab.training.rollouts import (
    Prompt,
    Rollout,
    Sampler,
    TorchSampler,
    drop_rollouts_from,
    rollouts_path,
    write_rollouts,
)
from gsm_lab.training.run_folder import OnMetrics, RunFolder
from gsm_lab.training.schedule import learning_rate_scale
from gsm_lab.training.state import fingerprint_of

PromptsAt = Callable[[int], Sequence[Prompt]]
"""The prompts of a step: a pure function of the step's number."""


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
    """All that changes from step to step beside weights and optimiser; JSON-ready, so that it is saved exactly.

    Nothing else does: rollouts are used up within their step, random streams and prompts are functions of the step's
    number, and so is the schedule.
    """

    step: int = 0
    rollouts: int = 0
    unused_rollouts: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    prompt_tokens: int = 0
    updates: int = 0
    skipped_updates: int = 0


def reinforce(
    model: Transformer,
    prompts_at: PromptsAt,
    reward: Reward,
    settings: ReinforceSettings,
    folder: Path,
    *,
    sampler: Sampler | None = None,
    world: World | None = None,
    on_metrics: OnMetrics | None = None,
    should_stop: Callable[[], bool] | None = None,
    identity: str = "",
) -> ReinforceSummary:
    """Train `model` in place, or go on where an earlier call with the same arguments was cut off.

    Args:
        model: with the weights to begin from, also when resuming: they are part of the run's identity, and the
            reference of the KL. The same on every rank.
        prompts_at: the prompts of each step.
        reward: scores the completions of one prompt; what it raises ends the run.
        folder: gets `metrics.jsonl`, `timings.jsonl`, `state/` and `rollouts/step-00012.parquet`; all ranks see it.
        sampler: writes the completions; by default the model itself.
        world: the ranks that train together, each calling with the same arguments; alone by default. The number of
            ranks is not part of the run's identity: it changes the order of sums only.
        on_metrics: called with every step's metrics, on rank 0; must leave the model's weights alone.
        should_stop: asked after every step; a True, on any rank, saves the state and returns.
        identity: a name for prompts, reward and sampler; another name in the same folder is refused.

    Raises:
        TrainingError: prompts that do not fit the model, samples or rewards that make no sense, a loss that is not
            finite, or ranks that disagree.
        CheckpointError: the folder's state is damaged, or another run's.
    """
    world = world or World.alone(model.device)
    fingerprint = _fingerprint(model, settings, identity)
    world.same(fingerprint)
    optimizer = Optimizer(model, settings.optimizer)
    reference = _frozen_copy(model) if settings.kl_coefficient > 0 else None
    run = RunFolder(folder, fingerprint, settings.keep_states)
    progress = _Progress(**(world.in_turn(lambda: run.resume(model, optimizer)) or {}))
    world.same(dataclasses.asdict(progress))
    if world.is_first:
        drop_rollouts_from(folder / "rollouts", progress.step)
    optimizer.forget_gradient()
    model.train()
    learner = Learner(model, reference, optimizer, settings, world)
    with RewardWorkers(reward, settings.reward_workers) as workers:
        collector = Collector(sampler or TorchSampler(settings.rollout_rows), workers, settings, world)
        while progress.step < settings.steps:
            clock = Clock()
            metrics = _one_step(learner, prompts_at, collector, folder, progress, clock)
            if world.is_first:
                run.log(metrics, {"step": metrics["step"], **clock.seconds})
                if on_metrics is not None:
                    on_metrics(metrics)
            stopping = should_stop is not None and world.any(should_stop())
            saving = stopping or progress.step % settings.save_every == 0 or progress.step == settings.steps
            if saving and world.is_first:
                run.save(progress.step, dataclasses.asdict(progress), model, optimizer)
            if stopping:
                break
    world.barrier()  # nobody goes on to the next stage before rank 0 has written this one
    finished = progress.step == settings.steps
    return ReinforceSummary(progress.step, progress.rollouts, progress.tokens, finished)


def _one_step(
    learner: Learner,
    prompts_at: PromptsAt,
    collector: Collector,
    folder: Path,
    progress: _Progress,
    clock: Clock,
) -> dict[str, Any]:
    """Sample, score, keep, learn: the step's metrics."""
    settings, step = learner.settings, progress.step
    prompts = prompts_at(step)
    _check_room(prompts, learner.model, settings, step)
    clock.lap("prompts")
    rollouts = collector.rollouts(learner.model, prompts, step, clock)
    advantages, token_advantages = advantages_of(rollouts, settings), token_advantages_of(rollouts, settings)
    if learner.world.is_first:
        write_rollouts(rollouts_path(folder / "rollouts", step), step, rollouts, advantages)
    clock.lap("write")
    scale = learning_rate_scale(settings.schedule, step, settings.steps)
    trajectories = trajectories_of(rollouts, advantages, token_advantages, settings)
    update = learner.update(trajectories, scale)
    clock.lap("train")
    _count(progress, prompts, rollouts, trajectories, settings.updates_per_rollout)
    sums = dataclasses.asdict(progress)
    return {
        "step": step,
        **rollout_figures(rollouts, [one or any(own) for one, own in zip(advantages, token_advantages, strict=True)]),
        **update_figures(update, has_reference=settings.kl_coefficient > 0),
        "learning_rate": settings.optimizer.learning_rate * scale,
        **{name: sums[name] for name in _SUMS},
    }


_SUMS = ("updates", "skipped_updates", "rollouts", "unused_rollouts", "tokens", "trained_tokens", "prompt_tokens")


def _count(
    progress: _Progress,
    prompts: Sequence[Prompt],
    rollouts: Sequence[Rollout],
    trajectories: Sequence[Trajectory],
    updates: int,
) -> None:
    """Note that a step was made, and what it took."""
    progress.step += 1
    progress.rollouts += len(rollouts)
    progress.unused_rollouts += len(rollouts) - len(trajectories)
    progress.tokens += sum(len(one.sample.ids) for one in rollouts)
    progress.trained_tokens += sum(len(one.ids) for one in trajectories)
    progress.prompt_tokens += sum(len(prompt.ids) for prompt in prompts)
    progress.updates += updates if trajectories else 0
    progress.skipped_updates += 0 if trajectories else updates


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


def _frozen_copy(model: Transformer) -> Transformer:
    """The policy as it is now, never to be trained."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def _fingerprint(model: Transformer, settings: ReinforceSettings, identity: str) -> str:
    names = {"loop": "reinforce", "identity": identity, "settings": settings.identity_fields()}
    return fingerprint_of(model, names)
