"""The pipeline: the only place where problems, data, model, training and evaluation meet.

Every stage is a pure function of its identity that fills one folder (`runs.py`); what is there already is not computed
again. A stage that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gsm_lab.data import DocumentWorkers, Packer, Tokenizer
from gsm_lab.model import Transformer, load_checkpoint, save_checkpoint
from gsm_lab.study.moving_edge import History, moving_source_of
from gsm_lab.study.options import QUIET, RunOptions
from gsm_lab.study.preflight import lines_of, preflight
from gsm_lab.study.ranks import by_first, held
from gsm_lab.study.recipe import Blend, Reinforce, Supervised
from gsm_lab.study.rewarding import Posed, reward_of
from gsm_lab.study.runs import StageFolder, clear_remnants
from gsm_lab.study.settings import fit_settings_of, jumps_of, reinforce_settings_of, shape_of
from gsm_lab.study.sources import Curriculum, source_of, tokenizer_of
from gsm_lab.study.trackers import check_trackers
from gsm_lab.study.tracking import Record, Tracking, fill_records
from gsm_lab.training import FitSummary, Prompt, PromptsAt, ReinforceSummary, World, fit, reinforce


def train_stage(folder: StageFolder, options: RunOptions = QUIET) -> Path:
    """Train stage `folder.number` if that is not done, after the stages before it; the checkpoint's folder.

    Raises:
        RunError: the folder belongs to another recipe, a result in it is damaged, or a tracker is not installed.
        RecipeError, TrainingError: preflight found that the stage cannot work, or that it cannot teach anything.
    """
    world = options.world or World.alone()
    check_trackers(options.trackers)
    if not by_first(world, lambda: _is_finished(folder)):
        if folder.before is not None:
            train_stage(folder.before, options)
        with held(folder, world, options.on_notice):
            if not by_first(world, lambda: _is_done(folder)):
                records = [Record(kind, folder) for kind in options.trackers if world.is_first]
                with Tracking(folder, records, options.on_notice) as tracking:
                    _train(folder, options, world, tracking)
                    tracking.finish()
    by_first(world, lambda: fill_records(folder, options.trackers, options.on_notice))
    return folder.checkpoint


def _is_finished(folder: StageFolder) -> bool:
    """Whether the stage is trained; if it is, what is there is checked."""
    if folder.is_done:
        folder.check_done()
    return folder.is_done


def _is_done(folder: StageFolder) -> bool:
    """Whether the stage is trained; if it is not, its folder is ready to be."""
    if not folder.is_done:
        folder.open()
    return folder.is_done


def _train(folder: StageFolder, options: RunOptions, world: World, tracking: Tracking) -> None:
    recipe, number = folder.recipe, folder.number
    stage = recipe.stages[number]
    began = time.perf_counter()
    tokenizer = tokenizer_of(recipe.task)
    source = source_of(recipe, number, tokenizer)
    model = _model_before(folder, tokenizer).to(world.device)
    found = by_first(world, lambda: preflight(folder, tokenizer, source, model))
    for line in lines_of(recipe, number, found):
        options.on_notice(line)

    def on_metrics(metrics: Mapping[str, Any]) -> None:
        done = int(metrics["step"]) + isinstance(stage, Reinforce)  # rollouts are numbered from 0
        options.on_progress(stage.name, done, stage.steps, metrics)
        tracking.catch_up()

    if isinstance(stage, Supervised):
        jumps = jumps_of(recipe, stage)
        workers = options.data_workers
        with DocumentWorkers(source, tokenizer, workers) if workers else nullcontext(source) as documents:
            packer = Packer(documents, tokenizer, stage.rows, stage.row_length, stage.loss_on, jumps)
            summary: FitSummary | ReinforceSummary = fit(
                model,
                packer.batch,
                fit_settings_of(recipe, stage),
                folder.path,
                on_metrics=on_metrics,
                identity=folder.path.name,
                world=world,
            )
    else:
        summary = reinforce(
            model,
            _prompts_at(folder, stage, source, tokenizer, world),
            reward_of(recipe, number, tokenizer),
            reinforce_settings_of(recipe, number, tokenizer, options.reward_workers),
            folder.path,
            on_metrics=on_metrics,
            identity=folder.path.name,
            world=world,
        )
    figures = {"tokens": summary.tokens, "last_call_seconds": round(time.perf_counter() - began, 3)}
    by_first(world, lambda: _keep(folder, model, tokenizer, figures))


def _keep(folder: StageFolder, model: Transformer, tokenizer: Tokenizer, figures: dict[str, Any]) -> None:
    """Write the result of a stage, and mark it as done."""
    tokenizer_folder = folder.path / "tokenizer"
    clear_remnants(tokenizer_folder)  # they would be taken into the checkpoint
    tokenizer.save(tokenizer_folder)
    save_checkpoint(folder.checkpoint, model, tokenizer_folder, tokenizer.eos_id, tokenizer.pad_id)
    folder.finish(figures)


def _model_before(folder: StageFolder, tokenizer: Tokenizer) -> Transformer:
    """The weights that the stage begins from."""
    if folder.before is not None:
        return load_checkpoint(folder.before.checkpoint)
    scale = folder.recipe.scale
    return Transformer.initial(shape_of(scale, tokenizer.vocab_size), folder.recipe.seed, scale.initial_std)


def _prompts_at(
    folder: StageFolder, stage: Reinforce, source: Curriculum, tokenizer: Tokenizer, world: World
) -> PromptsAt:
    """The prompts of each step; every step has new problems."""
    if stage.moving is None:
        return lambda step: prompts_of(stage, source, tokenizer, step)
    assert isinstance(stage.blend, Blend)
    moving = moving_source_of(folder.recipe, folder.number)
    states = History(stage.moving, stage.blend, folder.path / "rollouts")

    def prompts_at(step: int) -> list[Prompt]:
        world.barrier()  # rank 0 has written the rollouts of the step before
        return [_prompt(posed, tokenizer) for posed in moving.posed_at(states.before(step))]

    return prompts_at


def prompts_of(stage: Reinforce, source: Curriculum, tokenizer: Tokenizer, step: int) -> list[Prompt]:
    """The prompts of one step of a stage whose shares do not move."""
    first = step * stage.prompts_per_step
    posed = [Posed(index, source.at(index)) for index in range(first, first + stage.prompts_per_step)]
    return [_prompt(one, tokenizer) for one in posed]


def _prompt(posed: Posed, tokenizer: Tokenizer) -> Prompt:
    return Prompt(tuple(tokenizer.encode(posed.exercise.prompt)), posed.exercise.problem_id, posed)
