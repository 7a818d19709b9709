"""From the scored rollouts of a step to its update: credit within the group, a gradient, an optimiser step.

With several ranks, each computes the gradient of its share of the rollouts, with the denominators of all of them: the
sum of the ranks' gradients is the gradient, and every rank makes the same step.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer
from gsm_lab.training.distributed import World
from gsm_lab.training.losses import group_advantages, step_advantages, token_weights
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
from gsm_lab.training.rollouts import Rollout

_PEAKS = ("mismatch",)
"""Measurements that are the largest of a token's, not a sum over tokens."""


@dataclass(frozen=True)
class Update:
    """What the updates of one step did, seen over all ranks."""

    first: Measurements
    last: Measurements
    gradient_norm: float
    """Of the last update, before clipping."""


def advantages_of(rollouts: Sequence[Rollout], settings: ReinforceSettings) -> list[float]:
    """How much better each rollout did than its group, see `group_advantages`; or, without groups, its reward."""
    if settings.credit == "none":
        return [one.scored.reward for one in rollouts]
    rewards_R = torch.tensor([one.scored.reward for one in rollouts], dtype=torch.float64)
    groups_R = torch.tensor([one.group for one in rollouts])
    advantages_R = group_advantages(rewards_R, groups_R, divide_by_std=settings.divide_by_std)
    return [float(value) for value in advantages_R]


def token_advantages_of(rollouts: Sequence[Rollout], settings: ReinforceSettings) -> list[tuple[float, ...]]:
    """What the tokens of each rollout get beside its advantage: nothing, or by its steps, see `step_advantages`.

    Raises:
        TrainingError: the credit is that of steps, and the reward tells none.
    """
    if settings.credit != "steps":
        return [()] * len(rollouts)
    if any(one.scored.steps is None for one in rollouts):
        raise TrainingError(
            'credit is "steps" and the reward gives none: fill `Scored.steps`, or choose another credit.'
        )
    return step_advantages(
        [one.scored.steps or () for one in rollouts],
        [len(one.sample.ids) for one in rollouts],
        [one.group for one in rollouts],
        divide_by_std=settings.divide_by_std,
    )


def trajectories_of(
    rollouts: Sequence[Rollout],
    advantages: Sequence[float],
    token_advantages: Sequence[tuple[float, ...]],
    settings: ReinforceSettings,
) -> list[Trajectory]:
    """The rollouts that have a gradient, weighted by denominators of ALL rollouts of the step.

    A rollout whose tokens all have advantage 0 adds 0 to the gradient unless there is a KL: leaving it out is exact,
    and saves time.
    """
    weights = token_weights([len(one.sample.ids) for one in rollouts], settings.normaliser, settings.max_new_tokens)
    return [
        Trajectory(one.prompt.ids, one.sample.ids, one.sample.logprobs, advantage, weight, further)
        for one, advantage, weight, further in zip(rollouts, advantages, weights, token_advantages, strict=True)
        if advantage != 0.0 or any(further) or settings.kl_coefficient > 0
    ]


@dataclass(frozen=True)
class Learner:
    """All that an update needs beside the rollouts."""

    model: Transformer
    reference: Transformer | None
    optimizer: Optimizer
    settings: ReinforceSettings
    world: World

    def update(self, trajectories: Sequence[Trajectory], scale: float) -> Update:
        """The step's updates; none when no rollout has a gradient (a momentum alone must not move the weights)."""
        if not trajectories:
            return Update(Measurements(), Measurements(), 0.0)
        settings = self.settings
        objective = PolicyObjective(
            settings.clip_low, settings.clip_high, settings.kl_coefficient, settings.temperature
        )
        micros = micro_batches(_share(trajectories, self.world), settings.micro_batch_tokens, self.model.device)
        references = (
            None if self.reference is None else reference_logprobs(self.reference, micros, settings.temperature)
        )
        measured, norm = [], 0.0
        for _ in range(settings.updates_per_rollout):
            part = accumulate_policy_gradient(self.model, micros, objective, references)
            self.world.sum_gradients(self.model.parameters())
            measured.append(_joined(self.world.gather(part)))
            norm = self.optimizer.step(scale)
        return Update(measured[0], measured[-1], norm)


def _share(trajectories: Sequence[Trajectory], world: World) -> list[Trajectory]:
    """A rank's part of the trajectories: whole prompts, whose computation they share, and every rank has large ones."""
    prompts: dict[tuple[int, ...], list[Trajectory]] = {}
    for one in trajectories:
        prompts.setdefault(one.prompt, []).append(one)
    by_size = sorted(prompts.values(), key=lambda group: sum(len(one.ids) for one in group), reverse=True)
    return [one for group in by_size[world.own] for one in group]


def _joined(parts: Sequence[Measurements]) -> Measurements:
    """The measurements of all ranks' tokens together: sums add up, of peaks the highest counts."""
    joined = {}
    for field in dataclasses.fields(Measurements):
        values = [getattr(part, field.name) for part in parts]
        joined[field.name] = max(values) if field.name in _PEAKS else sum(values)
    return Measurements(**joined)
