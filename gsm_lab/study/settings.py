"""From a recipe to the settings of model, data and training: where the recipe's words meet theirs."""

from __future__ import annotations

from gsm_lab.data import Jumps, Tokenizer
from gsm_lab.model import ModelShape
from gsm_lab.study.recipe import Optimization, Recipe, Reinforce, Scale, Supervised
from gsm_lab.training import FitSettings, OptimizerSettings, ReinforceSettings, Schedule


def shape_of(scale: Scale, vocab_size: int) -> ModelShape:
    """The model's shape for a vocabulary."""
    return ModelShape(vocab_size=vocab_size, **scale.model_dump(exclude={"initial_std"}))


def jumps_of(recipe: Recipe, stage: Supervised) -> Jumps | None:
    """How positions jump in the stage's documents, if they do."""
    if not stage.jumping_documents:
        return None
    return Jumps(
        stage.jumping_documents, stage.jump_share, stage.longest_jump, recipe.scale.max_positions, seed=recipe.seed
    )


def fit_settings_of(recipe: Recipe, stage: Supervised) -> FitSettings:
    """How a supervised stage trains."""
    return FitSettings(
        steps=stage.steps,
        optimizer=_optimizer_settings(stage.optimization),
        schedule=_schedule(stage.optimization),
        save_every=recipe.save_every,
    )


def reinforce_settings_of(
    recipe: Recipe, number: int, tokenizer: Tokenizer, reward_workers: int = 0
) -> ReinforceSettings:
    """How stage `number`, one of reinforcement, trains; `reward_workers` processes grade."""
    stage = recipe.stages[number]
    assert isinstance(stage, Reinforce)
    return ReinforceSettings(
        steps=stage.steps,
        group_size=stage.samples_per_prompt,
        max_new_tokens=stage.max_new_tokens,
        eos_id=tokenizer.eos_id,
        seed=recipe.seed,
        stage=f"stage {number}",
        temperature=stage.temperature,
        optimizer=_optimizer_settings(stage.optimization),
        schedule=_schedule(stage.optimization),
        updates_per_rollout=stage.updates_per_rollout,
        credit=stage.credit,
        divide_by_std=stage.divide_by_std,
        normaliser=stage.normaliser,
        clip_low=stage.clip_low,
        clip_high=stage.clip_high,
        kl_coefficient=stage.kl_weight,
        save_every=max(1, recipe.save_every // 20),
        micro_batch_tokens=recipe.micro_batch_tokens,
        reward_workers=reward_workers,
    )


def _optimizer_settings(optimization: Optimization) -> OptimizerSettings:
    return OptimizerSettings(**optimization.model_dump(exclude={"warmup_steps", "schedule", "min_share"}))


def _schedule(optimization: Optimization) -> Schedule:
    return Schedule(
        kind=optimization.schedule, warmup_steps=optimization.warmup_steps, min_share=optimization.min_share
    )
