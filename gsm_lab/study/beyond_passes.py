"""Two more tables of an experiment: how likely a stage finds gold solutions, and whether what it solves is new.

Neither needs another completion. The likelihood of gold is measured in every evaluation. Structures are compared by
their canonical identity (`gsm_lab.problems.identities`): a test problem is new to a stage when no problem that the
stage, or one before it, was trained on has its structure. Test problems as wholes are never trained on; structures are
shared where few exist, so that low ops are hardly ever new and high ops nearly always.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gsm_lab.evaluation import bootstrap_interval
from gsm_lab.problems import Exercise, identity_at
from gsm_lab.study.evaluate import context_labels, read_gold, test_problems
from gsm_lab.study.moving_edge import History, moving_source_of
from gsm_lab.study.recipe import Blend, Evaluation, Recipe, Supervised, Task
from gsm_lab.study.runs import StageFolder, read_json
from gsm_lab.study.sources import source_of, tokenizer_of
from gsm_lab.study.sweep import Job


def gold_table(
    jobs: Sequence[Job], home: Path, rng: np.random.Generator, by: Sequence[str] = ("stage", "op")
) -> pd.DataFrame:
    """Stages x ops: the negative log-likelihood of a gold token in nats, the mean over problems, with intervals.

    `by` may name "context", too.
    """
    gold = pd.concat([read_gold(job.folder(home)) for job in jobs], ignore_index=True)
    rows = []
    for group, own in gold.groupby(list(by), sort=False):
        nats = (own["nll"] / own["tokens"]).to_numpy()
        names = own["problem_id"]
        # the interval is that of the mean of nats, brought to 0 to 1 by the greatest of them
        scale = max(1.0, float(nats.max()))
        found = bootstrap_interval(nats / scale, rng, problems=names.tolist(), seeds=own["seed"].tolist())
        rows.append(
            {
                **dict(zip(by, group, strict=True)),
                "nll": found.value * scale,
                "low": found.low * scale,
                "high": found.high * scale,
                "num_problems": names.nunique(),
                "num_seeds": own["seed"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def novelty_table(jobs: Sequence[Job], home: Path, rollouts: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Stages x ops: how many test structures are new to the stage, and verified pass@1 on new and on known ones.

    Op by op, for deeper problems are newer and harder both. `rollouts` are those of all the jobs, as `read_rollouts`
    gives them; `num_tested` counts a problem once for every seed and context.
    """
    trained: dict[str, frozenset[str]] = {}
    tested: dict[tuple[Task, Evaluation], dict[tuple[str, str], str]] = {}
    passes = rollouts.groupby(["stage", "seed", "op", "context", "problem_id"])["verified"].mean()
    parts = []
    for job in jobs:
        recipe, name = job.recipe, job.recipe.stages[job.number].name
        known = trained_structures(job.folder(home), trained)
        settings = (recipe.task, recipe.evaluation)
        if settings not in tested:
            tested[settings] = _test_structures(recipe)
        structures = tested[settings]
        own = passes.loc[(name, recipe.seed)].reset_index()
        keys = zip(own["context"], own["problem_id"], strict=True)
        own["new"] = [structures[key] not in known for key in keys]
        parts.append(own.assign(stage=name, seed=recipe.seed))
    table = pd.concat(parts, ignore_index=True)
    rows = []
    for stage, of_stage in table.groupby("stage", sort=False):
        for op, inside in of_stage.groupby("op"):
            row = {"stage": stage, "op": int(op), "num_tested": len(inside), "share_new": inside["new"].mean()}
            for word, is_new in (("new", True), ("known", False)):
                chosen = inside[inside["new"] == is_new]
                names, seeds = chosen["problem_id"].tolist(), chosen["seed"].tolist()
                found = bootstrap_interval(chosen["verified"].to_numpy(), rng, problems=names, seeds=seeds)
                row |= {f"pass_{word}": found.value, f"low_{word}": found.low, f"high_{word}": found.high}
            rows.append(row)
    return pd.DataFrame(rows)


def trained_structures(folder: StageFolder, found: dict[str, frozenset[str]]) -> frozenset[str]:
    """The structures of all problems that a finished stage, and those before it, were trained on.

    `found` remembers them by the stage's identity, for arms that share a beginning. The problems are drawn again from
    their streams, in supervised training as many as have the tokens that it read.
    """
    key = folder.recipe.stage_id(folder.number)
    if key not in found:
        before = frozenset() if folder.before is None else trained_structures(folder.before, found)
        found[key] = before | {identity_at(exercise.problem, "structure_id") for exercise in _trained_on(folder)}
    return found[key]


def _trained_on(folder: StageFolder) -> list[Exercise]:
    """The problems of a stage."""
    recipe, number = folder.recipe, folder.number
    stage = recipe.stages[number]
    tokenizer = tokenizer_of(recipe.task)
    source = source_of(recipe, number, tokenizer)
    if isinstance(stage, Supervised):
        left = read_json(folder.path / "done.json")["tokens"]
        found: list[Exercise] = []
        while left > 0:
            exercise = source.at(len(found))
            left -= len(tokenizer.encode(exercise.prompt)) + len(tokenizer.encode(exercise.completion)) + 1
            found.append(exercise)
        return found
    if stage.moving is not None:
        assert isinstance(stage.blend, Blend)
        moving = moving_source_of(recipe, number)
        states = History(stage.moving, stage.blend, folder.path / "rollouts")
        return [one.exercise for step in range(stage.steps) for one in moving.posed_at(states.before(step))]
    return [source.at(index) for index in range(stage.steps * stage.prompts_per_step)]


def _test_structures(recipe: Recipe) -> dict[tuple[str, str], str]:
    """The structure of every test problem, by the label of its context and its own identity."""
    return {
        (label, exercise.problem_id): identity_at(exercise.problem, "structure_id")
        for op in recipe.evaluation.ops
        for label, exercise in zip(context_labels(recipe), test_problems(recipe, op), strict=True)
    }
