"""The pipeline: the only place where problems, data, model, training and evaluation meet.

Every stage is a pure function of its identity that fills one folder (`runs.py`); what is there already is not computed
again. A stage that was killed goes on where it was.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gsm_lab.data import DocumentWorkers, ExerciseSource, Jumps, Mixture, Packer, Slice, Tokenizer
from gsm_lab.errors import RecipeError
from gsm_lab.files import write_json
from gsm_lab.model import ModelShape, Transformer, load_checkpoint, save_checkpoint
from gsm_lab.problems import MOST_OP, Exercise, Grade, grade, load_template, rewards
from gsm_lab.seeds import stream_seed
from gsm_lab.study.recipe import Blend, Optimization, Recipe, Reinforce, Scale, Span, Supervised, Task
from gsm_lab.study.runs import StageFolder
from gsm_lab.training import (
    FitSettings,
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    fit,
    reinforce,
)

OnProgress = Callable[[str, int, int, Mapping[str, Any]], None]
"""Called with the stage's name, steps done, all steps, and the latest figures."""
EXAMPLES = 200
"""Problems of each phase that preflight looks at."""


COLUMN_TYPES = {
    "op": pa.int32(),
    "context": pa.string(),
    "answer_correct": pa.bool_(),
    "answer": pa.int64(),
    "process_accuracy": pa.float64(),
    "first_error": pa.string(),
    "completion": pa.string(),
}
"""What is kept of every completion, in training and in tests."""
REWARD_COLUMN = "reward_true"
"""The reward of a rollout as it would be without noise; each term of the reward has a column, too."""


def no_progress(name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
    """Shows nothing."""


def tokenizer_of(task: Task) -> Tokenizer:
    """The closed vocabulary of all of a task's contexts, with all the places that its problems may speak of."""
    places = task.places or task.spec(op=MOST_OP).num_places
    return Tokenizer.for_templates(
        [load_template(context, task.frames).limited(places, task.items) for context in task.contexts]
    )


def mixture_of(task: Task, blend: Blend, facts: Span | None = None) -> Mixture:
    """The slices of a blend: every op in every context."""
    return Mixture(
        tuple(
            Slice(task.spec(op, facts), context, task.frames, op_share * context_share, task.style)
            for op, op_share in sorted(blend.ops.items())
            for context, context_share in sorted(blend.contexts.items())
        ),
        blend.unit,
    )


def shape_of(scale: Scale, vocab_size: int) -> ModelShape:
    """The model's shape for a vocabulary."""
    return ModelShape(vocab_size=vocab_size, **scale.model_dump(exclude={"initial_std"}))


@dataclass(frozen=True)
class Curriculum:
    """Exercises phase by phase, then those of the last source without end."""

    ends: tuple[int, ...]
    """The index after the last exercise of each phase."""
    sources: tuple[ExerciseSource, ...]

    def at(self, index: int) -> Exercise:
        """Exercise `index`, from the phase that it falls into."""
        return self.sources[bisect.bisect_right(self.ends, index)].at(index)


def source_of(recipe: Recipe, number: int, tokenizer: Tokenizer) -> Curriculum:
    """The stream of problems of stage `number`."""
    stage = recipe.stages[number]
    seed = stream_seed(recipe.seed, "stage", number)
    phases = stage.curriculum if isinstance(stage, Supervised) else ()
    split = stage.split if isinstance(stage, Supervised) else "rl"
    mixtures = [mixture_of(recipe.task, phase.blend, phase.facts) for phase in phases]
    mixtures.append(mixture_of(recipe.task, stage.blend))
    return Curriculum(
        tuple(itertools.accumulate(phase.problems for phase in phases)),
        tuple(ExerciseSource(mixture, split, seed, tokenizer=tokenizer) for mixture in mixtures),
    )


def train_stage(folder: StageFolder, on_progress: OnProgress = no_progress, data_workers: int = 0) -> Path:
    """Train stage `folder.number` if that is not done, after the stages before it; the checkpoint's folder.

    `data_workers` processes draw the problems of supervised stages ahead of their use; 0 draws them in this one. It
    changes no weight.

    Raises:
        RunError: the folder belongs to another recipe, or a result in it is damaged.
        RecipeError: preflight found that the stage cannot work.
    """
    if folder.is_done:
        folder.check_done()
        return folder.checkpoint
    if folder.before is not None:
        train_stage(folder.before, on_progress, data_workers)
    with folder.locked():
        if not folder.is_done:
            folder.open()
            _train(folder, on_progress, data_workers)
    return folder.checkpoint


def _train(folder: StageFolder, on_progress: OnProgress, data_workers: int) -> None:
    recipe, stage = folder.recipe, folder.recipe.stages[folder.number]
    began = time.perf_counter()
    tokenizer = tokenizer_of(recipe.task)
    source = source_of(recipe, folder.number, tokenizer)
    write_json(folder.path / "preflight.json", preflight(recipe, folder.number, tokenizer, source))
    model = _model_before(folder, tokenizer)

    def on_metrics(metrics: Mapping[str, Any]) -> None:
        done = int(metrics["step"]) + isinstance(stage, Reinforce)  # rollouts are numbered from 0
        on_progress(stage.name, done, stage.steps, metrics)

    if isinstance(stage, Supervised):
        jumps = _jumps(recipe, stage)
        with DocumentWorkers(source, tokenizer, data_workers) if data_workers else nullcontext(source) as documents:
            packer = Packer(documents, tokenizer, stage.rows, stage.row_length, stage.loss_on, jumps)
            summary: Any = fit(
                model,
                packer.batch,
                _fit_settings(recipe, stage),
                folder.path,
                on_metrics=on_metrics,
                identity=folder.path.name,
            )
    else:
        summary = reinforce(
            model,
            lambda step: prompts_of(stage, source, tokenizer, step),
            reward_of(recipe, folder.number, tokenizer),
            _reinforce_settings(recipe, stage, folder.number, tokenizer),
            folder.path,
            on_metrics=on_metrics,
            identity=folder.path.name,
        )
    tokenizer_folder = folder.path / "tokenizer"
    tokenizer.save(tokenizer_folder)
    save_checkpoint(folder.checkpoint, model, tokenizer_folder, tokenizer.eos_id, tokenizer.pad_id)
    folder.finish({"tokens": summary.tokens, "last_call_seconds": round(time.perf_counter() - began, 3)})


def _model_before(folder: StageFolder, tokenizer: Tokenizer) -> Transformer:
    """The weights that the stage begins from."""
    if folder.before is not None:
        return load_checkpoint(folder.before.checkpoint)
    scale = folder.recipe.scale
    return Transformer.initial(shape_of(scale, tokenizer.vocab_size), folder.recipe.seed, scale.initial_std)


def preflight(recipe: Recipe, number: int, tokenizer: Tokenizer, source: Curriculum) -> dict[str, Any]:
    """The arithmetic of a stage, from the first problems of each phase; all its settings are made once.

    Raises:
        RecipeError: a problem does not fit the model, the packed row or the length limit.
        TrainingError, TokenError: a setting outside its range.
    """
    stage = recipe.stages[number]
    if isinstance(stage, Supervised):
        _fit_settings(recipe, stage)
        _jumps(recipe, stage)
    else:
        _reinforce_settings(recipe, stage, number, tokenizer)
    exercises = [source.at(first + index) for first in (0, *source.ends) for index in range(EXAMPLES)]
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
        "mean prompt tokens": sum(prompts) / len(exercises),
        "mean completion tokens": sum(completions) / len(exercises),
        "longest problem tokens": longest,
        "steps": stage.steps,
        "vocabulary": tokenizer.vocab_size,
        "parameters": shape_of(recipe.scale, tokenizer.vocab_size).parameters,
    }
    if isinstance(stage, Supervised):
        if longest > stage.row_length:
            raise RecipeError(
                f"stage {stage.name!r}: a problem has {longest} tokens and a packed row {stage.row_length}: "
                f"raise row_length, or ask for smaller problems."
            )
        return found | {
            "tokens a step": stage.rows * stage.row_length,
            "tokens": stage.rows * stage.row_length * stage.steps,
        }
    check_room(f"stage {stage.name!r}", recipe, prompts, completions, stage.max_new_tokens)
    return found | {
        "prompts a step": stage.prompts_per_step,
        "rollouts a step": stage.prompts_per_step * stage.samples_per_prompt,
        "updates a step": stage.updates_per_rollout,
        "rollouts": stage.prompts_per_step * stage.samples_per_prompt * stage.steps,
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


@dataclass(frozen=True)
class Posed:
    """An exercise and its number: completions are compared within a number, also if two exercises are the same."""

    index: int
    """Its place in the stage's stream of problems."""
    exercise: Exercise


def prompts_of(stage: Reinforce, source: Curriculum, tokenizer: Tokenizer, step: int) -> list[Prompt]:
    """The prompts of one step; every step has new problems."""
    first = step * stage.prompts_per_step
    posed = [Posed(index, source.at(index)) for index in range(first, first + stage.prompts_per_step)]
    return [Prompt(tuple(tokenizer.encode(one.exercise.prompt)), one.exercise.problem_id, one) for one in posed]


@dataclass(frozen=True)
class RewardOf:
    """Decodes, grades and rewards completions."""

    tokenizer: Tokenizer
    composition: rewards.Composition
    seed: int
    """With `stage`, names the random streams of a verifier's noise."""
    stage: str

    def __call__(self, completions: Sequence[tuple[object, tuple[int, ...], bool]]) -> list[Scored]:
        groups: dict[int, list[int]] = {}
        attempts = []
        for place, (posed, ids, finished) in enumerate(completions):
            assert isinstance(posed, Posed)
            group = groups.setdefault(posed.index, [])
            attempts.append(self._attempt(posed, len(group), ids, finished))
            group.append(place)
        scored: dict[int, Scored] = {}
        for group in groups.values():
            members = [attempts[place] for place in group]
            scores = self.composition.scores(members, self.seed, self.stage)
            scored |= dict(zip(group, map(self._scored, members, scores), strict=True))
        return [scored[place] for place in range(len(attempts))]

    def _attempt(self, posed: Posed, sample: int, ids: tuple[int, ...], finished: bool) -> rewards.Attempt:
        text = self.tokenizer.decode(ids)
        result = grade(posed.exercise, text, finished)
        return rewards.Attempt(posed.exercise, text, len(ids), result, (posed.index, sample))

    def _scored(self, attempt: rewards.Attempt, score: rewards.Score) -> Scored:
        result = attempt.grade
        columns = rollout_columns(attempt.exercise, attempt.text, result)
        typed = {name: pa.scalar(value, COLUMN_TYPES[name]) for name, value in columns.items()}
        typed[REWARD_COLUMN] = pa.scalar(score.reward_true, pa.float64())
        typed |= {f"reward_{name}": pa.scalar(value, pa.float64()) for name, value in score.parts.items()}
        return Scored(score.reward, result.verdict.value, result.verified, typed)


def reward_of(recipe: Recipe, number: int, tokenizer: Tokenizer) -> RewardOf:
    """The reward that stage `number`, one of reinforcement, names."""
    stage = recipe.stages[number]
    assert isinstance(stage, Reinforce)
    return RewardOf(tokenizer, stage.composition, recipe.seed, f"stage {number}")


def rollout_columns(exercise: Exercise, text: str, result: Grade) -> dict[str, Any]:
    """The values of `COLUMN_TYPES` for one completion."""
    return {
        "op": exercise.op,
        "context": exercise.context,
        "answer_correct": result.answer_correct,
        "answer": result.answer,
        "process_accuracy": result.process_accuracy,
        "first_error": result.first_error,
        "completion": text,
    }


def _jumps(recipe: Recipe, stage: Supervised) -> Jumps | None:
    if not stage.jumping_documents:
        return None
    return Jumps(
        stage.jumping_documents, stage.jump_share, stage.longest_jump, recipe.scale.max_positions, seed=recipe.seed
    )


def _optimizer_settings(optimization: Optimization) -> OptimizerSettings:
    return OptimizerSettings(**optimization.model_dump(exclude={"warmup_steps", "schedule", "min_share"}))


def _schedule(optimization: Optimization) -> Schedule:
    return Schedule(
        kind=optimization.schedule, warmup_steps=optimization.warmup_steps, min_share=optimization.min_share
    )


def _fit_settings(recipe: Recipe, stage: Supervised) -> FitSettings:
    return FitSettings(
        steps=stage.steps,
        optimizer=_optimizer_settings(stage.optimization),
        schedule=_schedule(stage.optimization),
        save_every=recipe.save_every,
    )


def _reinforce_settings(recipe: Recipe, stage: Reinforce, number: int, tokenizer: Tokenizer) -> ReinforceSettings:
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
        divide_by_std=stage.divide_by_std,
        normaliser=stage.normaliser,
        clip_low=stage.clip_low,
        clip_high=stage.clip_high,
        kl_coefficient=stage.kl_weight,
        save_every=max(1, recipe.save_every // 20),
        micro_batch_tokens=recipe.micro_batch_tokens,
    )
