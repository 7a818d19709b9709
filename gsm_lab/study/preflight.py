"""Preflight: what a stage is about to do, in numbers, and whether it can work at all; before its first step.

`arithmetic_of` needs no model, so that a whole recipe is looked through before its first stage is trained. `probe`
needs one: it samples from the weights that reinforcement learning begins with, on random streams of its own, so that
training is the same with and without it. Both are pure functions of the stage's identity, written to `preflight.json`;
a stage that goes on is not probed again, but judged by what stands there.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gsm_lab.data import Tokenizer
from gsm_lab.errors import RecipeError, TrainingError
from gsm_lab.files import write_json
from gsm_lab.model import Transformer, sample
from gsm_lab.seeds import stream_seed
from gsm_lab.study.recipe import Recipe, Reinforce, Supervised
from gsm_lab.study.rewarding import Posed, reward_of
from gsm_lab.study.runs import StageFolder, read_json
from gsm_lab.study.settings import fit_settings_of, jumps_of, reinforce_settings_of, shape_of
from gsm_lab.study.sources import Curriculum
from gsm_lab.training import Scored

LOOKED_AT = 200
"""Problems of each phase whose lengths are looked at."""
PROBED = 64
"""Problems that the model is asked to solve."""
MOST_SAMPLES = 16
"""Completions of each of them: a whole group of the training's, but no more than these."""


def preflight(folder: StageFolder, tokenizer: Tokenizer, source: Curriculum, model: Transformer) -> dict[str, Any]:
    """What the stage's `preflight.json` holds from now on; `model` has the weights that the stage begins with.

    Raises:
        RecipeError: a problem does not fit the model, the packed row or the length limit.
        TrainingError: the probe found that there is nothing to learn; a setting outside its range.
    """
    recipe, number = folder.recipe, folder.number
    stage = recipe.stages[number]
    path = folder.path / "preflight.json"
    found = arithmetic_of(recipe, number, tokenizer, source)
    if isinstance(stage, Reinforce):
        before = read_json(path) if path.exists() else {}
        found["probe"] = before.get("probe") or probe(recipe, number, tokenizer, source, model)
    write_json(path, found)
    if isinstance(stage, Reinforce):
        judge(stage, found)
    return found


# ---------------------------------------------------------------------------------------------- arithmetic


def arithmetic_of(recipe: Recipe, number: int, tokenizer: Tokenizer, source: Curriculum) -> dict[str, Any]:
    """The arithmetic of a stage, from the first problems of each phase; all its settings are made once.

    Raises:
        RecipeError: a problem does not fit the model, the packed row or the length limit.
        TrainingError, TokenError: a setting outside its range.
    """
    stage = recipe.stages[number]
    exercises = [source.at(first + index) for first in (0, *source.ends) for index in range(LOOKED_AT)]
    prompts = [len(tokenizer.encode(exercise.prompt)) for exercise in exercises]
    completions = [len(tokenizer.encode(exercise.completion)) + 1 for exercise in exercises]
    longest = max(prompt + completion for prompt, completion in zip(prompts, completions, strict=True))
    if longest > recipe.scale.max_positions:
        raise RecipeError(
            f"stage {stage.name!r}: a problem has {longest} tokens and the model {recipe.scale.max_positions} "
            f"positions: raise scale.max_positions, or ask for smaller problems."
        )
    found = {
        "problems looked at": len(exercises),
        "mean prompt tokens": statistics.fmean(prompts),
        "mean completion tokens": statistics.fmean(completions),
        "longest problem tokens": longest,
        "longest completion tokens": max(completions),
        "steps": stage.steps,
        "vocabulary": tokenizer.vocab_size,
        "parameters": shape_of(recipe.scale, tokenizer.vocab_size).parameters,
    }
    if isinstance(stage, Supervised):
        fit_settings_of(recipe, stage)
        jumps_of(recipe, stage)
        if longest > stage.row_length:
            raise RecipeError(
                f"stage {stage.name!r}: a problem has {longest} tokens and a packed row {stage.row_length}: "
                f"raise row_length, or ask for smaller problems."
            )
        return found | _of_rows(stage, found)
    reinforce_settings_of(recipe, number, tokenizer)
    check_room(f"stage {stage.name!r}", recipe, prompts, completions, stage.max_new_tokens)
    return found | _of_rollouts(stage)


def _of_rows(stage: Supervised, found: dict[str, Any]) -> dict[str, Any]:
    """Problems and tokens of training on texts; a step is one update, and full rows are full of whole problems."""
    tokens = stage.rows * stage.row_length
    scored = found["mean completion tokens"]
    length = found["mean prompt tokens"] + scored
    return {
        "rows a step": stage.rows,
        "tokens a row": stage.row_length,
        "tokens a step": tokens,
        "problems a step, about": tokens / length,
        "scored tokens a step, about": tokens * (1.0 if stage.loss_on == "all" else scored / length),
        "updates": stage.steps,
        "tokens": tokens * stage.steps,
    }


def _of_rollouts(stage: Reinforce) -> dict[str, Any]:
    """Problems, completions and updates of reinforcement learning."""
    rollouts = stage.prompts_per_step * stage.samples_per_prompt
    return {
        "prompts a step": stage.prompts_per_step,
        "samples a prompt": stage.samples_per_prompt,
        "rollouts a step": rollouts,
        "tokens an update, at most": rollouts * stage.max_new_tokens,
        "updates a step": stage.updates_per_rollout,
        "updates": stage.updates_per_rollout * stage.steps,
        "rollouts": rollouts * stage.steps,
        "tokens, at most": rollouts * stage.max_new_tokens * stage.steps,
    }


def check_room(
    place: str, recipe: Recipe, prompts: Sequence[int], completions: Sequence[int], max_new_tokens: int
) -> None:
    """Check that a perfect model could answer, from the numbers of tokens of prompts and gold solutions.

    Raises:
        RecipeError: a gold solution would be cut short, or a prompt leaves too few positions for the answer.
    """
    if max(completions) > max_new_tokens:
        raise RecipeError(
            f"{place}: a gold solution has {max(completions)} tokens and max_new_tokens is {max_new_tokens}: "
            f"raise it, or a perfect model would be cut short."
        )
    if max(prompts) + max_new_tokens > recipe.scale.max_positions:
        raise RecipeError(
            f"{place}: a prompt has {max(prompts)} tokens, max_new_tokens is {max_new_tokens}, and the model has "
            f"{recipe.scale.max_positions} positions: raise scale.max_positions, or lower max_new_tokens."
        )


# ---------------------------------------------------------------------------------------------- probe


def probe(recipe: Recipe, number: int, tokenizer: Tokenizer, source: Curriculum, model: Transformer) -> dict[str, Any]:
    """What the first problems of stage `number`, one of reinforcement, give with the weights that it begins with."""
    stage = recipe.stages[number]
    assert isinstance(stage, Reinforce)
    samples = min(stage.samples_per_prompt, MOST_SAMPLES)
    name = f"stage {number} preflight"  # training's streams are called "stage {number}"
    posed = [Posed(index, source.at(index)) for index in range(PROBED)]
    groups = sample(
        model,
        [tokenizer.encode(one.exercise.prompt) for one in posed],
        [_uniforms(recipe.seed, name, one, samples, stage.max_new_tokens) for one in posed],
        max_new_tokens=stage.max_new_tokens,
        eos_id=tokenizer.eos_id,
        temperature=stage.temperature,
    )
    reward = replace(reward_of(recipe, number, tokenizer), stage=name)
    asked = [(one, each) for one, group in zip(posed, groups, strict=True) for each in group]
    scored = reward([(one, each.ids, each.finished) for one, each in asked])
    rewards = [one.reward for one in scored]
    by_group = [rewards[first : first + samples] for first in range(0, len(rewards), samples)]
    return {
        "problems": PROBED,
        "samples a problem": samples,
        "mean reward": statistics.fmean(rewards),
        "lowest reward": min(rewards),
        "highest reward": max(rewards),
        **({"steps differ": _steps_differ(scored, samples)} if stage.credit == "steps" else {}),
        "verified share": statistics.fmean(one.verified for one in scored),
        "truncated share": statistics.fmean(not each.finished for _, each in asked),
        "zero-variance share": statistics.fmean(min(group) == max(group) for group in by_group),
        "mean completion tokens": statistics.fmean(len(each.ids) for _, each in asked),
    }


def _steps_differ(scored: Sequence[Scored], samples: int) -> bool:
    """Whether the steps of any problem's completions earn different rewards, so that they give credit."""
    groups = (scored[first : first + samples] for first in range(0, len(scored), samples))
    return any(len({reward for one in group for _, reward in one.steps or ()}) > 1 for group in groups)


def _uniforms(seed: int, name: str, posed: Posed, samples: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random numbers of one problem's completions, a stream of its own."""
    key = stream_seed(seed, name, posed.index, posed.exercise.problem_id)
    return np.random.Generator(np.random.Philox(key=key)).random((samples, length))


def judge(stage: Reinforce, found: dict[str, Any]) -> None:
    """Check that the stage has something to learn from, by what its probe gave.

    Raises:
        TrainingError: all rewards are the same, or more completions are cut than the stage allows.
    """
    probed = found["probe"]
    asked = f"stage {stage.name!r}: of {probed['problems']} problems x {probed['samples a problem']} completions"
    if probed["truncated share"] > stage.most_truncated:
        raise TrainingError(
            f"{asked}, {_percent(probed['truncated share'])} were cut at max_new_tokens {stage.max_new_tokens}, and "
            f"most_truncated allows {_percent(stage.most_truncated)} (gold solutions have at most "
            f"{found['longest completion tokens']} tokens): raise max_new_tokens, train the model longer before, so "
            f"that it learns to end, or raise most_truncated."
        )
    is_constant = probed["lowest reward"] == probed["highest reward"] and not probed.get("steps differ")
    if stage.refuse_constant_reward and is_constant:
        raise TrainingError(
            f"{asked}, every single one was rewarded with {probed['mean reward']:g} "
            f"({_percent(probed['verified share'])} verified): there is nothing to learn from. Choose problems that "
            f"the model solves sometimes, mid-train it on them first, give a reward that tells more apart, or set "
            f"refuse_constant_reward=False to run the stage all the same."
        )


# ---------------------------------------------------------------------------------------------- for people


def lines_of(recipe: Recipe, number: int, found: dict[str, Any]) -> list[str]:
    """What preflight found about stage `number`, in two or three lines."""
    stage = recipe.stages[number]
    if isinstance(stage, Supervised):
        work = (
            f"{stage.steps:,} updates of {stage.rows} rows x {stage.row_length} tokens = {found['tokens a step']:,} "
            f"tokens (about {found['problems a step, about']:,.0f} problems); {found['tokens']:,} tokens in all"
        )
    else:
        each = "1 update" if stage.updates_per_rollout == 1 else f"{stage.updates_per_rollout} updates"
        work = (
            f"{stage.steps:,} steps of {stage.prompts_per_step} problems x {stage.samples_per_prompt} samples = "
            f"{found['rollouts a step']:,} completions of at most {stage.max_new_tokens} tokens, {each} a step; "
            f"{found['rollouts']:,} completions in all"
        )
    sizes = (
        f"{found['parameters']:,} parameters, {found['vocabulary']} token ids; a problem has "
        f"{found['mean prompt tokens']:.0f} + {found['mean completion tokens']:.0f} tokens on average and "
        f"{found['longest problem tokens']} at most"
    )
    further = [_probe_line(stage, found)] if isinstance(stage, Reinforce) else []
    return [f"{stage.name}: {line}" for line in (work, sizes, *further)]


def _probe_line(stage: Reinforce, found: dict[str, Any]) -> str:
    """What the probe gave; a group of fewer samples than the training's varies less often, so its share is a bound."""
    probed = found["probe"]
    samples = probed["samples a problem"]
    bound = "at most " if samples < stage.samples_per_prompt else ""
    tokens = probed["mean completion tokens"] * found["rollouts a step"]
    rewards = f"{probed['mean reward']:.3f} ({probed['lowest reward']:g} to {probed['highest reward']:g})"
    verified, truncated, without_variance = (
        _percent(probed[f"{name} share"]) for name in ("verified", "truncated", "zero-variance")
    )
    return (
        f"probe of {probed['problems']} problems x {samples} samples: reward {rewards}, {verified} verified, "
        f"{truncated} truncated; expect {bound}{without_variance} of groups without variance, and {tokens:,.0f} "
        f"tokens an update"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
