"""Training: losses as pure functions, one optimiser, a supervised and a reinforcement loop, exact state on disk.

Knows token ids, batches and a `reward` function; knows no problems, no words and no tokenizer. Names are imported when
they are asked for: what a reward is needs no torch, so that processes that only grade start quickly. The names are
written once, as imports that type checkers carry out; at run time they are read as a list of where every name lives.
"""
# mypy: implicit-reexport
# ruff: noqa: F401 (the names are for whoever imports them from here)

from typing import TYPE_CHECKING, Any

from gsm_lab.lazy import imported, rooms_of

if TYPE_CHECKING:
    from gsm_lab.training.batches import NextBatch
    from gsm_lab.training.distributed import World
    from gsm_lab.training.fit_settings import FitSettings
    from gsm_lab.training.losses import (
        LossSum,
        Normaliser,
        aggregate,
        clipped_surrogate,
        group_advantages,
        kl_penalty,
        kl_values,
        next_token_loss,
        step_advantages,
        token_entropy,
        token_logprobs,
        token_weights,
    )
    from gsm_lab.training.memory import TrainingMemory, suggested_micro_batch_rows, training_memory
    from gsm_lab.training.optimizer import Optimizer, OptimizerSettings
    from gsm_lab.training.policy import completion_logprobs
    from gsm_lab.training.precision import Precision
    from gsm_lab.training.reinforce_settings import ReinforceSettings
    from gsm_lab.training.reinforcement import PromptsAt, ReinforceSummary, reinforce
    from gsm_lab.training.reward import Completion, Reward, Scored
    from gsm_lab.training.reward_workers import RewardWorkers
    from gsm_lab.training.rollouts import GroupName, OnDone, Prompt, Sampler, TorchSampler, rollout_uniforms
    from gsm_lab.training.run_folder import OnMetrics
    from gsm_lab.training.schedule import Schedule, learning_rate_scale
    from gsm_lab.training.state import StateFolder, TrainingState, fingerprint_of
    from gsm_lab.training.supervised import FitSummary, batch_loss, fit
    from gsm_lab.training.vllm_sampler import VllmSampler, VllmSettings

_ROOM_OF = rooms_of(__name__, __file__)


def __getattr__(name: str) -> Any:
    """The public name, from the module that holds it."""
    return imported(__name__, _ROOM_OF, name)
