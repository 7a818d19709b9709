"""Rollouts to read: a small sample of what every stage wrote, with the problems made again and the marks of a teacher.

The sample takes every op and every verdict alike, so rare verdicts are more frequent in it than they are. It prefers
the same problems for all stages, so that their solutions stand beside each other. It is a function of the rollouts
alone: no random numbers, no order of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gsm_lab.errors import RunError
from gsm_lab.problems import Exercise, Verdict, examine, marking
from gsm_lab.study.evaluate import context_labels, test_problems
from gsm_lab.study.recipe import Recipe
from gsm_lab.study.report_graph import graph_svg

SAMPLE_COLUMNS = ["stage", "seed", "op", "context", "problem_id", "sample", "verdict", "completion"]


@dataclass(frozen=True)
class ReadRollout:
    """A completion with its marks."""

    stage: str
    seed: int
    sample: int
    verdict: str
    marked: str
    """HTML; what the model wrote is escaped."""


@dataclass(frozen=True)
class ReadProblem:
    """A test problem, and what stages wrote to it."""

    op: int
    context: str
    problem_id: str
    exercise: Exercise
    graph: str
    """SVG; all text is escaped."""
    rollouts: tuple[ReadRollout, ...]


def chosen_rollouts(rollouts: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rollouts of one stage, every pair of op and verdict alike, with the columns of `SAMPLE_COLUMNS`.

    Applied to seeds one by one and then to what it gave, it gives nearly the same as applied to all: so that not all
    completions need be held.
    """
    if most <= 0 or rollouts.empty:
        return rollouts.head(0)[SAMPLE_COLUMNS]
    found = rollouts[SAMPLE_COLUMNS]
    problem = found["context"].astype(str) + "\0" + found["problem_id"].astype(str)
    rank = {name: _hash(name) for name in problem.unique()}
    ordered = found.assign(by_problem=problem.map(rank)).sort_values(
        ["by_problem", "seed", "sample", "completion"], kind="stable"
    )
    cell = ordered.groupby(["op", "verdict"], observed=True)
    ordered = ordered.assign(
        turn=cell.cumcount(),
        by_cell=[_hash(f"{op}\0{verdict}") for op, verdict in zip(ordered["op"], ordered["verdict"], strict=True)],
    )
    return ordered.sort_values(["turn", "by_cell"], kind="stable").head(most)[SAMPLE_COLUMNS]


def read_problems(recipe_of: Mapping[str, Recipe], chosen: pd.DataFrame) -> list[ReadProblem]:
    """The problems of these rollouts in order of op, each with its rollouts in the order of the stages, all marked.

    `recipe_of` gives a recipe of every stage: its task and its evaluation are those that the problems were made with.

    Raises:
        RunError: a rollout is of a problem that this evaluation does not have.
    """
    rank = {stage: number for number, stage in enumerate(recipe_of)}
    tasks = list(dict.fromkeys(recipe.task for recipe in recipe_of.values()))
    task_of = {stage: tasks.index(recipe.task) for stage, recipe in recipe_of.items()}
    ordered = chosen.assign(rank=chosen["stage"].map(rank), task=chosen["stage"].map(task_of))
    ordered = ordered.sort_values(["rank", "seed", "sample"], kind="stable")
    made: dict[tuple[int, int], dict[tuple[str, str], Exercise]] = {}
    found = []
    for key, rows in ordered.groupby(["op", "task", "context", "problem_id"], sort=True):
        op, task, context, name = _key(key)
        recipe = recipe_of[rows["stage"].iloc[0]]
        if (op, task) not in made:
            made[op, task] = _exercises(recipe, op)
        exercise = made[op, task].get((context, name))
        if exercise is None:
            raise RunError(
                f"the rollouts are of problem {name} (op {op}, context {context!r}), which the evaluation of recipe "
                f"{recipe.name!r} does not have: remove the evaluation and make it again."
            )
        read = tuple(_read(exercise, rows))
        found.append(ReadProblem(op, context, name, exercise, graph_svg(exercise), read))
    return found


def _key(key: Any) -> tuple[int, int, str, str]:
    op, task, context, name = key
    return int(op), int(task), str(context), str(name)


def _exercises(recipe: Recipe, op: int) -> dict[tuple[str, str], Exercise]:
    pairs = zip(context_labels(recipe), test_problems(recipe, op), strict=True)
    return {(label, exercise.problem_id): exercise for label, exercise in pairs}


def _read(exercise: Exercise, rows: pd.DataFrame) -> Iterator[ReadRollout]:
    columns = [rows[name].tolist() for name in ("stage", "seed", "sample", "verdict", "completion")]
    for stage, seed, sample, verdict, text in zip(*columns, strict=True):
        examination = examine(exercise, text, finished=verdict != Verdict.TRUNCATED)
        yield ReadRollout(stage, seed, sample, verdict, marking.mark_html(examination, text))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
