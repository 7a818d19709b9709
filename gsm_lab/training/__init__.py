"""Training: losses as pure functions, one optimiser, a supervised and a reinforcement loop, exact state on disk.

Knows token ids, batches and a `reward` function; knows no problems, no words and no tokenizer.
"""

from gsm_lab.training.losses import (
    LossSum,
    Normaliser,
    aggregate,
    clipped_surrogate,
    group_advantages,
    kl_penalty,
    kl_values,
    next_token_loss,
    token_entropy,
    token_logprobs,
    token_weights,
)
from gsm_lab.training.optimizer import Optimizer, OptimizerSettings
from gsm_lab.training.precision import Precision
from gsm_lab.training.reinforce import PromptsAt, ReinforceSummary, reinforce
from gsm_lab.training.reinforce_settings import ReinforceSettings
from gsm_lab.training.rollouts import Prompt, Reward, Scored, rollout_uniforms
from gsm_lab.training.schedule import Schedule, learning_rate_scale
from gsm_lab.training.state import StateFolder, TrainingState, fingerprint_of
from gsm_lab.training.supervised import FitSettings, FitSummary, NextBatch, OnMetrics, batch_loss, fit

__all__ = [
    "FitSettings",
    "FitSummary",
    "LossSum",
    "NextBatch",
    "Normaliser",
    "OnMetrics",
    "Optimizer",
    "OptimizerSettings",
    "Precision",
    "Prompt",
    "PromptsAt",
    "ReinforceSettings",
    "ReinforceSummary",
    "Reward",
    "Schedule",
    "Scored",
    "StateFolder",
    "TrainingState",
    "aggregate",
    "batch_loss",
    "clipped_surrogate",
    "fingerprint_of",
    "fit",
    "group_advantages",
    "kl_penalty",
    "kl_values",
    "learning_rate_scale",
    "next_token_loss",
    "reinforce",
    "rollout_uniforms",
    "token_entropy",
    "token_logprobs",
    "token_weights",
]
