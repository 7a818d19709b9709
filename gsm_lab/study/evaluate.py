"""Evaluation of a stage: many completions of the same test problems for every stage and seed, all of them kept.

One file an op, written whole and skipped when it is there, so that an evaluation can be cut anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gsm_lab.data import ExerciseSource, Mixture, Slice, Tokenizer
from gsm_lab.errors import RecipeError, RunError
from gsm_lab.evaluation import STRUCTURAL
from gsm_lab.files import sha256_of, whole_file, write_json
from gsm_lab.model import Transformer, load_checkpoint, sample
from gsm_lab.problems import Exercise, Grade, grade, is_structural
from gsm_lab.seeds import stream_seed
from gsm_lab.study.options import QUIET, OnProgress, RunOptions
from gsm_lab.study.preflight import arithmetic_of, check_room
from gsm_lab.study.ranks import by_first
from gsm_lab.study.recipe import Recipe
from gsm_lab.study.rewarding import COLUMN_TYPES, rollout_columns
from gsm_lab.study.runs import StageFolder, clear_remnants, read_json
from gsm_lab.study.sources import source_of, tokenizer_of
from gsm_lab.training import World, completion_logprobs

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("verdict", pa.string()),
        ("verified", pa.bool_()),
        ("tokens", pa.int32()),
        *COLUMN_TYPES.items(),
    ]
)


GOLD_SCHEMA = pa.schema(
    [
        ("op", pa.int32()),
        ("context", pa.string()),
        ("problem_id", pa.string()),
        ("tokens", pa.int32()),
        ("nll", pa.float64()),
    ]
)
"""What a model makes of the gold solution of every test problem: `nll` is minus its log-probability, in nats."""
GOLD = "gold.parquet"


def test_problems(recipe: Recipe, op: int) -> list[Exercise]:
    """The test problems of one op, context by context; the same for every stage, seed and arm; no two are the same.

    Raises:
        RecipeError: the test split holds fewer than are asked for.
    """
    settings, task = recipe.evaluation, recipe.task
    exercises: list[Exercise] = []
    for context in settings.contexts:
        mixture = Mixture((Slice(task.spec(op), *task.template(context), 1.0, task.style),), "problems")
        source = ExerciseSource(mixture, "test", stream_seed(settings.seed, "evaluation", op, context))
        seen: dict[str, Exercise] = {}
        for index in range(20 * settings.problems_per_op):
            exercise = source.at(index)
            seen.setdefault(exercise.problem_id, exercise)
            if len(seen) == settings.problems_per_op:
                break
        if len(seen) < settings.problems_per_op:
            raise RecipeError(
                f"evaluation: op {op} in {context!r} has {len(seen)} test problems (in {20 * settings.problems_per_op} "
                f"draws), problems_per_op is {settings.problems_per_op}: lower it, leave the op out, or widen the task."
            )
        exercises += seen.values()
    return exercises


def context_labels(recipe: Recipe) -> list[str]:
    """What tables call the context of each problem of `test_problems`: with frames where they are not the task's."""
    labels = []
    for context in recipe.evaluation.contexts:
        nouns, colon, frames = context.partition(":")
        labels += [f"{Path(nouns).stem}{colon}{Path(frames).stem}"] * recipe.evaluation.problems_per_op
    return labels


def preflight_all(folders: Sequence[StageFolder]) -> None:
    """Check what is not done of these stages of one recipe, so that nothing is trained if a later part cannot work.

    Raises:
        RecipeError: a problem does not fit the model, the packed row or the length limit.
        TrainingError, TokenError: a setting outside its range.
    """
    recipe = folders[0].recipe
    tokenizer = tokenizer_of(recipe.task)
    for folder in folders:
        if not folder.is_done:
            arithmetic_of(recipe, folder.number, tokenizer, source_of(recipe, folder.number, tokenizer))
    if not all(folder.is_evaluated for folder in folders):
        exercises = [exercise for op in recipe.evaluation.ops for exercise in test_problems(recipe, op)]
        prompts = [len(tokenizer.encode(exercise.prompt)) for exercise in exercises]
        completions = [len(tokenizer.encode(exercise.completion)) + 1 for exercise in exercises]
        check_room("evaluation", recipe, prompts, completions, recipe.evaluation.max_new_tokens)


def evaluate_stage(folder: StageFolder, options: RunOptions = QUIET) -> Path:
    """Evaluate a trained stage by its recipe's settings, if that is not done; the folder of the evaluation.

    Raises:
        RunError: the stage is not trained, or what was evaluated are other weights.
    """
    world = options.world or World.alone()
    by_first(world, lambda: _evaluate_if_missing(folder, options, world.device))
    return folder.evaluation


def _evaluate_if_missing(folder: StageFolder, options: RunOptions, device: torch.device) -> None:
    if not folder.is_done:
        raise RunError(f"{folder.path} is not trained to its end: run the recipe first.")
    if folder.is_evaluated:
        _check_same_weights(folder)
        return
    folder.check_done()
    with folder.locked(options.on_notice):
        if folder.is_evaluated:  # by whoever held the folder until now
            _check_same_weights(folder)
            return
        clear_remnants(folder.evaluation)
        if (folder.evaluation / "config.json").exists():
            _check_same_weights(folder)
        config = {
            "settings": folder.recipe.evaluation.model_dump(mode="json"),
            "checkpoint": _weights_of(folder),
        }
        write_json(folder.evaluation / "config.json", config)
        _evaluate(folder, options.on_progress, device)


def _evaluate(folder: StageFolder, on_progress: OnProgress, device: torch.device) -> None:
    """Every op that is missing, one file each; then the mark that all are there."""
    recipe, settings = folder.recipe, folder.recipe.evaluation
    model = load_checkpoint(folder.checkpoint).to(device)
    tokenizer = Tokenizer.load(folder.checkpoint)
    began, tokens = time.perf_counter(), 0
    for number, op in enumerate(settings.ops):
        path = folder.evaluation / f"op-{op:03d}.parquet"
        if not _is_whole(path):
            rows = _rollouts(model, tokenizer, recipe, op)
            tokens += sum(row["tokens"] for row in rows)
            with whole_file(path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")
        speed = tokens / (time.perf_counter() - began)
        name = f"test {recipe.stages[folder.number].name}"
        on_progress(name, number + 1, len(settings.ops), {"op": op, "tokens_per_second": speed})
    with whole_file(folder.evaluation / GOLD) as temporary:
        pq.write_table(_gold(model, tokenizer, recipe), temporary, compression="zstd")
    files = [*sorted(folder.evaluation.glob("op-*.parquet")), folder.evaluation / GOLD]
    write_json(folder.evaluation / "done.json", {file.name: sha256_of(file) for file in files})


def _weights_of(folder: StageFolder) -> str:
    """The checksum of the weights that the stage ended with."""
    return folder.result()["model.safetensors"]


def _check_same_weights(folder: StageFolder) -> None:
    if read_json(folder.evaluation / "config.json").get("checkpoint") != _weights_of(folder):
        raise RunError(
            f"{folder.evaluation} was made with other weights than {folder.checkpoint} has now: "
            f"remove it and evaluate again."
        )


def _is_whole(path: Path) -> bool:
    """Whether the rollouts of an op are there and can be read; what is damaged is made again."""
    try:
        return path.exists() and pq.read_table(path).schema.equals(SCHEMA)
    except (pa.ArrowInvalid, OSError):
        return False


def _rollouts(model: Transformer, tokenizer: Tokenizer, recipe: Recipe, op: int) -> list[dict[str, Any]]:
    """Every completion of every test problem of one op, graded."""
    settings = recipe.evaluation
    exercises, labels = test_problems(recipe, op), context_labels(recipe)
    uniforms = [_uniforms(recipe, exercise, label) for exercise, label in zip(exercises, labels, strict=True)]
    groups = sample(
        model,
        [tokenizer.encode(exercise.prompt) for exercise in exercises],
        uniforms,
        max_new_tokens=settings.max_new_tokens,
        eos_id=tokenizer.eos_id,
        temperature=settings.temperature,
    )
    rows = []
    for exercise, label, group in zip(exercises, labels, groups, strict=True):
        grades: dict[tuple[str, bool], Grade] = {}
        for number, one in enumerate(group):
            text = tokenizer.decode(one.ids)
            if (text, one.finished) not in grades:  # a model often says the same: that is read once
                grades[text, one.finished] = grade(exercise, text, one.finished)
            result = grades[text, one.finished]
            rows.append(
                {
                    "problem_id": exercise.problem_id,
                    "sample": number,
                    "verdict": result.verdict.value,
                    "verified": result.verified,
                    "tokens": len(one.ids),
                    **rollout_columns(exercise, text, result),
                    "context": label,
                }
            )
    return rows


def _gold(model: Transformer, tokenizer: Tokenizer, recipe: Recipe) -> pa.Table:
    """The negative log-likelihood of every test problem's gold solution."""
    rows = []
    for op in recipe.evaluation.ops:
        for exercise, label in zip(test_problems(recipe, op), context_labels(recipe), strict=True):
            ids = [*tokenizer.encode(exercise.completion), tokenizer.eos_id]
            logprobs_N = completion_logprobs(model, tokenizer.encode(exercise.prompt), ids)
            nll = -float(logprobs_N.double().sum())
            rows.append({"op": op, "context": label, "problem_id": exercise.problem_id, "tokens": len(ids), "nll": nll})
    return pa.Table.from_pylist(rows, schema=GOLD_SCHEMA)


def _uniforms(recipe: Recipe, exercise: Exercise, context: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random numbers of one problem's completions, a stream of its own."""
    settings = recipe.evaluation
    key = stream_seed(recipe.seed, "evaluate", context, exercise.problem_id)
    return np.random.Generator(np.random.Philox(key=key)).random((settings.samples, settings.max_new_tokens))


def read_rollouts(folder: StageFolder) -> pd.DataFrame:
    """The rollouts of an evaluation, checked, with their stage and seed, and whether structure was the first error.

    Raises:
        RunError: the evaluation is incomplete or damaged.
    """
    parts = [
        pq.read_table(file).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        for file in _evaluated_files(folder)
        if file.name != GOLD
    ]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    errors = table["first_error"]
    table[STRUCTURAL] = [isinstance(error, str) and is_structural(error) for error in errors]
    return _named(folder, table)


def read_gold(folder: StageFolder) -> pd.DataFrame:
    """What the stage makes of the gold solutions (the columns of `GOLD_SCHEMA`), checked, with its stage and seed.

    Raises:
        RunError: the evaluation is incomplete or damaged.
    """
    files = [file for file in _evaluated_files(folder) if file.name == GOLD]
    return _named(folder, pq.read_table(files[0]).to_pandas())


def _evaluated_files(folder: StageFolder) -> list[Path]:
    """The files of an evaluation, all of them as they were written."""
    if not folder.is_evaluated:
        raise RunError(f"{folder.evaluation} is not complete: run the recipe, or `gsm-lab evaluate`.")
    _check_same_weights(folder)
    files = []
    for name, checksum in folder.evaluated().items():
        file = folder.evaluation / name
        if not file.is_file() or sha256_of(file) != checksum:
            raise RunError(f"{file} is missing or has changed: remove {folder.evaluation} and evaluate again.")
        files.append(file)
    return files


def _named(folder: StageFolder, table: pd.DataFrame) -> pd.DataFrame:
    table.insert(0, "stage", folder.recipe.stages[folder.number].name)
    table.insert(1, "seed", folder.recipe.seed)
    return table
