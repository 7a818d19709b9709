"""The settings of the reinforcement loop: data, valid from birth, each with its unit."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from gsm_lab.errors import TrainingError
from gsm_lab.training.losses import CREDITS, NORMALISERS, Credit, Normaliser
from gsm_lab.training.optimizer import OptimizerSettings
from gsm_lab.training.schedule import Schedule

_NO_EFFECT_ON_RESULTS = ("save_every", "keep_states", "micro_batch_tokens", "rollout_rows", "reward_workers")


@dataclass(frozen=True, kw_only=True)
class ReinforceSettings:
    """How long and how to train on rewards.

    Raises:
        TrainingError: a group of one, a temperature of 0, or another setting outside its range.
    """

    steps: int
    """Batches of rollouts."""
    group_size: int
    """Rollouts of each prompt; their mean reward is the baseline."""
    max_new_tokens: int
    """Where a completion that does not end is cut."""
    eos_id: int | tuple[int, ...]
    """The token, or any of the tokens, that ends a completion; it is trained like every sampled token."""
    seed: int
    """Names the random streams of the rollouts."""
    stage: str = "reinforce"
    """Names them too, so that two stages of one run draw differently."""
    temperature: float = 1.0
    """Of sampling, and therefore of the log-probabilities that are trained."""
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(kind="adamw", learning_rate=1e-4, matrix_learning_rate=1e-3)
    )
    schedule: Schedule = field(default_factory=lambda: Schedule(kind="constant", warmup_steps=5))
    updates_per_rollout: int = 1
    """Optimiser steps on each batch of rollouts; above 1 the clip begins to matter."""
    credit: Credit = "group"
    """What a rollout's reward is held against: "group", the mean of its group; "none", nothing. With rewards of 0 and 1
    "none" is rejection sampling: what was accepted is made likelier, as in supervised training, and what was not is
    left out (RAFT, arXiv:2304.06767; beside GRPO: arXiv:2504.11343). "steps": as "group", and each token gets besides
    what its own step and later ones earned, see `step_advantages`; the reward has to give `Scored.steps`."""
    divide_by_std: bool = False
    """Whether advantages are divided by their group's standard deviation."""
    normaliser: Normaliser = "token_mean"
    """What the sum over tokens is divided by; `constant` divides by rollouts x max_new_tokens."""
    clip_low: float = 0.2
    clip_high: float = 0.28
    """How far a token's ratio may move below and above 1."""
    kl_coefficient: float = 0.0
    """Weight of the KL to the policy that training began with; 0 makes no reference model."""
    save_every: int = 5
    """Steps from one saved state to the next: what a kill can cost. No effect on the result."""
    keep_states: int = 2
    """Saved states left on disk. No effect on the result."""
    micro_batch_tokens: int = 2048
    """Padded tokens that pass through the model at once in training: memory and speed only. About 2,000 stay in a
    CPU's cache; a GPU wants as many as its memory holds."""
    rollout_rows: int = 256
    """Completions written at the same time: memory and speed only."""
    reward_workers: int = 0
    """Processes that grade while others are still being sampled; 0 grades in this one, afterwards. Speed only."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise TrainingError(
                f"group_size is {self.group_size}: a rollout is compared with its group, so give 2 or more."
            )
        counts = ("steps", "max_new_tokens", "updates_per_rollout", "save_every", "keep_states")
        for name in (*counts, "micro_batch_tokens", "rollout_rows"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)}: give 1 or more.")
        if self.reward_workers < 0:
            raise TrainingError(f"reward_workers is {self.reward_workers}: give 0 (grade in this process) or more.")
        for name in ("temperature", "clip_low", "clip_high"):
            if not 0 < getattr(self, name) < float("inf"):
                raise TrainingError(f"{name} is {getattr(self, name)}: give a finite number above 0.")
        if not 0 <= self.kl_coefficient < float("inf"):
            raise TrainingError(f"kl_coefficient is {self.kl_coefficient}: give 0 or a finite number above.")
        if self.credit not in CREDITS:
            raise TrainingError(f"credit is {self.credit!r}: choose one of {', '.join(CREDITS)}.")
        if self.credit == "none" and self.divide_by_std:
            raise TrainingError('credit is "none" and divide_by_std is set: without a group there is no deviation.')
        if self.normaliser not in NORMALISERS:
            raise TrainingError(f"normaliser is {self.normaliser!r}: choose one of {', '.join(NORMALISERS)}.")

    def identity_fields(self) -> dict[str, Any]:
        """Every setting that can change the result: a run is resumed only under the same ones."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in _NO_EFFECT_ON_RESULTS}
