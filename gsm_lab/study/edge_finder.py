"""The edge finder on a trained stage: which ops are ID, edge and hard for its weights, in as few samples as it takes.

The search is `gsm_lab.evaluation.edge`; here its attempts are completions that the model writes and our grader judges,
as the recipe's evaluation would have them written. Problems come from the test split, or that of validation, by random
streams that no training and no evaluation uses; they may repeat, for they are draws and no list.

edge-<id>/
  config.json       the settings, and the checksum of the weights
  op-007.parquet    every completion of an op; an op that is there is not sampled again
  edge.json         the result, with the checksum of the weights and of every op's file; written last
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from gsm_lab.data import ExerciseSource, Tokenizer
from gsm_lab.errors import RunError
from gsm_lab.evaluation import edge
from gsm_lab.files import sha256_of, whole_file, write_json
from gsm_lab.model import Transformer, load_checkpoint, sample
from gsm_lab.problems import Exercise, grade
from gsm_lab.seeds import stream_seed
from gsm_lab.study.evaluate import SCHEMA
from gsm_lab.study.options import QUIET, RunOptions
from gsm_lab.study.preflight import check_room
from gsm_lab.study.ranks import by_first
from gsm_lab.study.recipe import INSTRUMENT, Blend, Recipe
from gsm_lab.study.rewarding import rollout_columns
from gsm_lab.study.runs import StageFolder, clear_remnants, read_json
from gsm_lab.study.sources import mixture_of, tokenizer_of
from gsm_lab.training import World

KEPT = pa.schema([("problem", pa.int32()), *SCHEMA])
"""What is kept of every completion; `problem` is its number in the op's stream."""
LOOKED_AT = 50
"""Problems of each op whose lengths are looked at before anything is sampled."""


@dataclass(frozen=True, kw_only=True)
class FinderSettings:
    """Which ops are tested on which problems, and how sure the result must be."""

    ops: tuple[int, ...] = ()
    """The ops to name; those of the recipe's evaluation if none are given."""
    search: edge.EdgeSettings = field(default_factory=edge.EdgeSettings)
    split: Literal["test", "validation"] = "test"
    """Whose problems are asked; no problem of either was trained on."""
    seed: int = 0
    """Chooses problems and completions, with the recipe's seed."""

    def identity(self, recipe: Recipe) -> dict[str, Any]:
        """All that can change the result, beside the weights."""
        evaluation = recipe.evaluation
        return {
            "instrument": INSTRUMENT,
            "ops": sorted(self.ops or evaluation.ops),
            "search": asdict(self.search),
            "split": self.split,
            "seed": self.seed,
            "contexts": list(evaluation.contexts),
            "temperature": evaluation.temperature,
            "max_new_tokens": evaluation.max_new_tokens,
        }


def edge_folder(folder: StageFolder, settings: FinderSettings) -> Path:
    """Where the result of these settings is kept."""
    text = json.dumps(settings.identity(folder.recipe), sort_keys=True)
    return folder.path / f"edge-{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"


def find_edge(
    folder: StageFolder, settings: FinderSettings | None = None, options: RunOptions = QUIET
) -> edge.Edge | None:
    """The edge of a trained stage, searched for if it is not known yet; None on ranks other than the first.

    Raises:
        RunError: the stage is not trained, or what is there was found with other weights.
        RecipeError: a problem does not fit the model or the length limit of the recipe's evaluation.
    """
    settings = settings or FinderSettings()
    world = options.world or World.alone()
    by_first(world, lambda: _find_if_missing(folder, settings, options, world.device))
    return read_edge(folder, settings) if world.is_first else None


def read_edge(folder: StageFolder, settings: FinderSettings) -> edge.Edge:
    """The edge that was found for a stage, checked against its weights and its completions.

    Raises:
        RunError: it has not been searched for, or something has changed since.
    """
    place = edge_folder(folder, settings)
    found = read_json(place / "edge.json")
    _check_same_weights(folder, place, found)
    for name, checksum in found["files"].items():
        file = place / name
        if not file.is_file() or sha256_of(file) != checksum:
            raise RunError(f"{file} is missing or has changed: remove {place} and find the edge again.")
    return edge.Edge.from_dict(found["edge"])


def _find_if_missing(folder: StageFolder, settings: FinderSettings, options: RunOptions, device: torch.device) -> None:
    if not folder.is_done:
        raise RunError(f"{folder.path} is not trained to its end: run the recipe first.")
    place = edge_folder(folder, settings)
    if (place / "edge.json").is_file():
        return
    folder.check_done()
    _check_lengths(folder.recipe, settings)
    with folder.locked(options.on_notice):
        clear_remnants(place)
        if (place / "config.json").exists():
            _check_same_weights(folder, place, read_json(place / "config.json"))
        config = {"settings": settings.identity(folder.recipe), "checkpoint": _weights_of(folder)}
        write_json(place / "config.json", config)
        _find(folder, settings, place, options, device)


def _find(
    folder: StageFolder, settings: FinderSettings, place: Path, options: RunOptions, device: torch.device
) -> None:
    """Search, keeping the completions of every op that is done; then write the result."""
    model = load_checkpoint(folder.checkpoint).to(device)
    solver = _Solver(model, Tokenizer.load(folder.checkpoint), folder.recipe, settings, place)
    ops = settings.identity(folder.recipe)["ops"]
    name = f"edge of {folder.recipe.stages[folder.number].name}"
    began, done = time.perf_counter(), set[int]()

    def on_op(one: edge.OpCompetence) -> None:
        done.add(one.op)
        solver.keep(one.op)
        speed = solver.tokens / (time.perf_counter() - began)
        figures = {"op": one.op, "range": one.decision, "samples": one.samples, "tokens_per_second": speed}
        options.on_progress(name, len(done), len(ops), figures)

    found = edge.search_edge(solver.attempt, ops, settings.search, on_op)
    files = {file.name: sha256_of(file) for file in map(solver.file, ops) if file.is_file()}
    config = {"settings": settings.identity(folder.recipe), "checkpoint": _weights_of(folder)}
    write_json(place / "edge.json", {**config, "edge": found.to_dict(), "files": files})


class _Solver:
    """Attempts of a model at problems, op by op; what an earlier search kept is not sampled again."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, recipe: Recipe, settings: FinderSettings, place: Path
    ) -> None:
        self.tokens = 0
        """Tokens sampled by this call."""
        self._model, self._tokenizer, self._recipe, self._settings = model, tokenizer, recipe, settings
        self._place = place
        self._op: int | None = None
        self._rows: dict[tuple[int, int], dict[str, Any]] = {}
        """Completions of the op that is being tested, by problem and sample."""

    def file(self, op: int) -> Path:
        """Where the completions of an op are kept."""
        return self._place / f"op-{op:03d}.parquet"

    def attempt(self, op: int, problems: Sequence[int], samples: range) -> NDArray[np.bool_]:
        """Whether each sample of each problem is verified."""
        if op != self._op:
            self._op, self._rows = op, {(row["problem"], row["sample"]): row for row in _rows_of(self.file(op))}
        if any((problem, number) not in self._rows for problem in problems for number in samples):
            for row in self._completions(op, problems, samples):
                self._rows[row["problem"], row["sample"]] = row
        return np.array([[self._rows[problem, number]["verified"] for number in samples] for problem in problems])

    def keep(self, op: int) -> None:
        """Write the completions of an op that is done, if there are any and they are not there."""
        if op == self._op and len(_rows_of(self.file(op))) != len(self._rows):
            rows = [self._rows[key] for key in sorted(self._rows)]
            with whole_file(self.file(op)) as temporary:
                pq.write_table(pa.Table.from_pylist(rows, schema=KEPT), temporary, compression="zstd")

    def _completions(self, op: int, problems: Sequence[int], samples: range) -> list[dict[str, Any]]:
        """Sampled and graded anew, with random numbers that belong to each sample alone."""
        recipe, limit = self._recipe, self._recipe.evaluation.max_new_tokens
        exercises = _exercises(recipe, self._settings, op, problems)
        _check_fit(recipe, self._tokenizer, op, exercises)
        groups = sample(
            self._model,
            [self._tokenizer.encode(exercise.prompt) for exercise in exercises],
            [_uniforms(recipe, self._settings, op, problem, samples) for problem in problems],
            max_new_tokens=limit,
            eos_id=self._tokenizer.eos_id,
            temperature=recipe.evaluation.temperature,
        )
        rows = []
        for problem, exercise, group in zip(problems, exercises, groups, strict=True):
            for number, one in zip(samples, group, strict=True):
                text = self._tokenizer.decode(one.ids)
                result = grade(exercise, text, one.finished)
                self.tokens += len(one.ids)
                rows.append(
                    {
                        "problem": problem,
                        "problem_id": exercise.problem_id,
                        "sample": number,
                        "verdict": result.verdict.value,
                        "verified": result.verified,
                        "tokens": len(one.ids),
                        **rollout_columns(exercise, text, result),
                    }
                )
        return rows


def _exercises(recipe: Recipe, settings: FinderSettings, op: int, problems: Sequence[int]) -> list[Exercise]:
    """Independent draws of problems of one op, all contexts of the evaluation alike."""
    source = _source(recipe, settings.split, settings.seed, op)
    return [source.at(problem) for problem in problems]


@lru_cache(maxsize=64)
def _source(recipe: Recipe, split: str, seed: int, op: int) -> ExerciseSource:
    contexts = recipe.evaluation.contexts
    blend = Blend(ops={op: 1.0}, contexts={context: 1 / len(contexts) for context in contexts})
    return ExerciseSource(mixture_of(recipe.task, blend), split, stream_seed(seed, "edge", op))


def _uniforms(recipe: Recipe, settings: FinderSettings, op: int, problem: int, samples: range) -> NDArray[np.float64]:
    """The random numbers of some completions of a problem, a stream for each, so that rounds do not matter."""
    seeds = [stream_seed(recipe.seed, "edge", settings.seed, op, problem, number) for number in samples]
    length = recipe.evaluation.max_new_tokens
    return np.stack([np.random.Generator(np.random.Philox(key=seed)).random(length) for seed in seeds])


def _check_lengths(recipe: Recipe, settings: FinderSettings) -> None:
    """Check that a perfect model could answer the first problems of every op.

    Raises:
        RecipeError: it could not; an op whose solutions are cut short would look hard.
    """
    tokenizer = tokenizer_of(recipe.task)
    for op in settings.identity(recipe)["ops"]:
        _check_fit(recipe, tokenizer, op, _exercises(recipe, settings, op, range(LOOKED_AT)))


def _check_fit(recipe: Recipe, tokenizer: Tokenizer, op: int, exercises: Sequence[Exercise]) -> None:
    prompts = [len(tokenizer.encode(exercise.prompt)) for exercise in exercises]
    completions = [len(tokenizer.encode(exercise.completion)) + 1 for exercise in exercises]
    check_room(f"edge finder, op {op}", recipe, prompts, completions, recipe.evaluation.max_new_tokens)


def _rows_of(file: Path) -> list[dict[str, Any]]:
    """The completions in an op's file; none if it is missing, and what is damaged is made again."""
    try:
        table = pq.read_table(file) if file.exists() else None
    except (pa.ArrowInvalid, OSError):
        return []
    return table.to_pylist() if table is not None and table.schema.equals(KEPT) else []


def _weights_of(folder: StageFolder) -> str:
    """The checksum of the weights that the stage ended with."""
    return folder.result()["model.safetensors"]


def _check_same_weights(folder: StageFolder, place: Path, kept: dict[str, Any]) -> None:
    if kept.get("checkpoint") != _weights_of(folder):
        raise RunError(
            f"{place} was made with other weights than {folder.checkpoint} has now: remove it and find the edge again."
        )
