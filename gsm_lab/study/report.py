"""Reports: the tables and figures of an experiment, recomputed from the rollouts of its runs.

results/<experiment>/
  table.parquet, table.csv    every number: stage, op or band, metric, k, value, interval, counts
  differences.csv             each stage against the baseline, and the pairs of claims, paired over problems
  gold_nll.csv, novelty.csv   how likely stages find gold solutions; what they solve of structures new to them
  claims.csv                  every claim of the experiment with its verdict
  ledger.csv                  what every stage took: tokens, operations and seconds by phase
  edge_of_competence.*        the figure; this and all figures as .svg, .png and .pdf
  factor_1.* ...              what each axis of the experiment does
  pass_and_majority.*         tries against votes
  training_*.*, verdicts.*    loss, reward and verdicts over steps, every seed
  runs.json                   which runs the numbers come from, with their checksums and timings
  report.html                 one page that holds all of it, and rollouts to read
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsm_lab.errors import RunError
from gsm_lab.evaluation import ALL, PASS, differences, tabulate
from gsm_lab.files import sha256_of, whole_file, write_json, write_text
from gsm_lab.seeds import stream_seed
from gsm_lab.study.beyond_passes import gold_table, novelty_table
from gsm_lab.study.claims import judge, ks_of, pairs_of
from gsm_lab.study.evaluate import read_rollouts
from gsm_lab.study.experiment import Experiment
from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure, verdicts_figure
from gsm_lab.study.figures_arms import factor_figure, pass_and_majority_figure
from gsm_lab.study.ledger import Ledger, ledger_of, stage_cost, write_ledger
from gsm_lab.study.recipe import INSTRUMENT, Recipe
from gsm_lab.study.report_page import Page, PageFigure, PageRecipe, PageTable, page_text
from gsm_lab.study.report_samples import chosen_rollouts, read_problems
from gsm_lab.study.runs import StageFolder, read_json, read_lines
from gsm_lab.study.sweep import Job, plan

DRAWS, DRAWS_OF_DIFFERENCES = 1000, 4000
"""Resamplings behind every interval; verdicts rest on differences."""
MOST_ROLLOUTS = 300
"""How many rollouts the page shows, all stages together."""
LEAST_ROLLOUTS = 6
"""How many it shows of a stage at least."""
_UNREAD = ["completion", "first_error"]
_ALSO = (".png", ".pdf")


@dataclass(frozen=True)
class Report:
    """Where a report was written, and its main tables."""

    folder: Path
    figure: Path
    page: Path
    summary: pd.DataFrame
    """Stages x bands: verified pass@1 and pass@k with intervals."""
    claims: pd.DataFrame
    """One row a claim; see `gsm_lab.study.claims`."""


def write_report(experiment: Experiment, home: Path, folder: Path) -> Report:
    """Compute tables, figures and page of all runs of an experiment; nothing is trained.

    Raises:
        RunError: a run is missing or incomplete.
        DataError: a claim or an axis is about what no run was tested on.
    """
    jobs = plan(experiment.recipes)
    missing = [job.label for job in jobs if not job.is_done(home)]
    if missing:
        more = f"; and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise RunError(
            f"{len(missing)} of {len(jobs)} runs of {experiment.name!r} are not complete in {home} "
            f"({'; '.join(missing[:5])}{more}): run `gsm-lab sweep {experiment.name}` first."
        )
    rollouts, chosen = _read(experiment, jobs, home)
    provenance, logs = _provenance(jobs, home), _logs(jobs, home)  # all is read before anything is written
    ledger = ledger_of(experiment.recipes, home)
    rng = np.random.Generator(np.random.Philox(key=stream_seed(0, "report", experiment.name)))
    ks = ks_of(experiment)
    table = tabulate(rollouts, rng, bands=experiment.bands, ks=ks, draws=DRAWS)
    gains = differences(rollouts, pairs_of(experiment), rng, bands=experiment.bands, ks=ks, draws=DRAWS_OF_DIFFERENCES)
    gold = gold_table(jobs, home, rng)
    gold_by_context = gold_table(jobs, home, rng, ("stage", "context", "op"))
    novelty = novelty_table(jobs, home, rollouts, rng)
    del rollouts
    claims = judge(experiment, gains)
    problems = read_problems(_recipe_of_stages(experiment, jobs), chosen)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "table.parquet") as temporary:
        table.to_parquet(temporary, compression="zstd")
    write_text(folder / "table.csv", _bands_only(table).to_csv(index=False, float_format="%.4f"))
    write_text(folder / "differences.csv", _bands_only(gains).to_csv(index=False, float_format="%.4f"))
    write_text(folder / "gold_nll.csv", gold.to_csv(index=False, float_format="%.4f"))
    write_text(folder / "gold_nll_by_context.csv", gold_by_context.to_csv(index=False, float_format="%.4f"))
    write_text(folder / "novelty.csv", novelty.to_csv(index=False, float_format="%.4f"))
    write_text(folder / "claims.csv", claims.to_csv(index=False, float_format="%.4f"))
    write_ledger(ledger, folder)
    write_json(folder / "runs.json", provenance)
    figures = [*_figures(experiment, table, folder), *_training_figures(experiment, logs, folder)]
    most = max(ks)
    summary = summarise(table, experiment, most)
    tables = [
        PageTable("Verified pass@k", summary),
        PageTable(
            f"Gain over {experiment.baseline}, paired over problems",
            summarise(gains[gains["baseline"] == experiment.baseline], experiment, most, "+"),
        ),
        _cost_table(ledger),
        _gold_table(gold),
        _novelty_table(novelty),
    ]
    shown = tuple(PageFigure(title, path.read_bytes()) for title, path in figures)
    recipes = _page_recipes(experiment, jobs, ledger)
    page = folder / "report.html"
    write_text(page, page_text(Page(experiment, claims, shown, tuple(tables), recipes, tuple(problems))))
    return Report(folder, folder / "edge_of_competence.png", page, summary, claims)


def _gold_table(gold: pd.DataFrame) -> PageTable:
    """Stages x ops."""
    shown = [f"{row.nll:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in gold.itertuples()]
    frame = gold.assign(nll=shown).pivot(index="stage", columns="op", values="nll").loc[gold["stage"].unique()]
    frame.columns = pd.Index([f"op {op}" for op in frame.columns])
    return PageTable("Negative log-likelihood of gold", frame, "Nats a token of the gold solution, mean over problems.")


def _novelty_table(novelty: pd.DataFrame) -> PageTable:
    """Stages x ops at which a stage met both: the share of new structures, and pass@1 on new and on known ones."""
    rows: dict[str, dict[str, str]] = {}
    has_both = novelty["share_new"].between(0, 1, inclusive="neither").groupby(novelty["op"]).transform("any")
    for row in novelty[has_both].itertuples():
        cells = rows.setdefault(str(row.stage), {})
        cells[f"op {row.op}, new"] = f"{row.share_new:.2f}"
        for word in ("new", "known"):
            value, low, high = (getattr(row, f"{part}_{word}") for part in ("pass", "low", "high"))
            cells[f"op {row.op}, pass@1 of {word}"] = "" if pd.isna(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
    frame = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="stage"))
    note = (
        "New: no problem that the stage, or one before it, was trained on has the structure of the test problem. Only "
        "ops are shown of which a stage met new and known ones; novelty.csv has all."
    )
    return PageTable("Is what is solved new?", frame, note)


def _read(experiment: Experiment, jobs: Sequence[Job], home: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rollouts without their texts, and some with them: the texts of all may be more than fits into memory."""
    most = max(LEAST_ROLLOUTS, MOST_ROLLOUTS // len(experiment.stage_names))
    parts, some = [], []
    for job in jobs:
        rollouts = read_rollouts(job.folder(home))
        some.append(chosen_rollouts(rollouts, most))
        parts.append(rollouts.drop(columns=_UNREAD))
    candidates = pd.concat(some, ignore_index=True)
    chosen = [chosen_rollouts(candidates[candidates["stage"] == stage], most) for stage in experiment.stage_names]
    return pd.concat(parts, ignore_index=True), pd.concat(chosen, ignore_index=True)


def _recipe_of_stages(experiment: Experiment, jobs: Sequence[Job]) -> dict[str, Recipe]:
    """A recipe of each stage, of whichever seed: the tests of all are the same."""
    found = {job.recipe.stages[job.number].name: job.recipe for job in jobs}
    return {name: found[name] for name in experiment.stage_names}


def _bands_only(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of bands, all contexts together: what a person reads; the Parquet file has all rows."""
    return table[table["band"].notna() & (table["context"] == ALL)]


def summarise(table: pd.DataFrame, experiment: Experiment, most: int, sign: str = "") -> pd.DataFrame:
    """One row a stage, with "value [low, high]" of pass@1 and pass@`most` in each band, all seeds together.

    With the sign "+" numbers above 0 have theirs, too.
    """
    rows = _bands_only(table)
    rows = rows[(rows["seed"] == ALL) & (rows["metric"] == PASS) & rows["k"].isin([1, most])]
    stages = [name for name in experiment.stage_names if name in set(rows["stage"])]
    summary = pd.DataFrame({"stage": stages}).set_index("stage")
    for band in experiment.bands:
        for k in (1, most):
            chosen = rows[(rows["band"] == band) & (rows["k"] == k)].set_index("stage")
            summary[f"{band} pass@{k}"] = [
                f"{row.value:{sign}.3f} [{row.low:{sign}.3f}, {row.high:{sign}.3f}]"
                for row in chosen.loc[stages].itertuples()
            ]
    return summary


def _provenance(jobs: Sequence[Job], home: Path) -> dict[str, Any]:
    """Where the numbers come from: every run, its recipes, its checksums and its seconds, and the machine."""
    packages = ("torch", "transformers", "numpy", "pandas", "matplotlib")
    return {
        "machine": {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()},
        "packages": {name: metadata.version(name) for name in packages},
        "instrument": INSTRUMENT,
        "runs": [_run_record(job, job.folder(home)) for job in jobs],
    }


def _run_record(job: Job, folder: StageFolder) -> dict[str, Any]:
    return {
        "id": job.id,
        "stage": job.recipe.stages[job.number].name,
        "seed": job.recipe.seed,
        "recipes": list(job.users),
        "training_seconds": round(stage_cost(folder).seconds.total, 1),
        "preflight": read_json(folder.path / "preflight.json"),
        "checkpoint": folder.result(),
        "metrics_sha256": sha256_of(folder.metrics()),
        "evaluation": folder.evaluation.name,
    }


# ---------------------------------------------------------------------------------------------- figures


def _figures(experiment: Experiment, table: pd.DataFrame, folder: Path) -> list[tuple[str, Path]]:
    """The figures of what was reached, each with its title."""
    title, stages, bands = experiment.title, list(experiment.stage_names), experiment.bands
    near = {name: bands[name] for name in ("ID", "edge")} if {"ID", "edge"} <= {*bands} else bands
    edge, majority = folder / "edge_of_competence.svg", folder / "pass_and_majority.svg"
    edge_of_competence_figure(table, bands, edge, title, stages=stages, baseline=experiment.baseline, also=_ALSO)
    drawn = [(title, edge)]
    for number, axis in enumerate(experiment.axes, 1):
        path = folder / f"factor_{number}.svg"
        drawn.append((axis.label, factor_figure(table, axis, bands, path, f"{title}: {axis.label}", also=_ALSO)))
    words = "Tries against votes: verified pass@k and maj@k"
    pass_and_majority_figure(table, near, stages, majority, words, baseline=experiment.baseline, also=_ALSO)
    return [*drawn, (words, majority)]


def _logs(jobs: Sequence[Job], home: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The logs with a loss and those with a reward, by stage; a column tells the seeds apart."""
    logs: dict[str, dict[str, list[pd.DataFrame]]] = {"loss": {}, "reward_mean": {}}
    for job in sorted(jobs, key=lambda job: job.recipe.seed):
        log = pd.DataFrame(read_lines(job.folder(home).metrics())).assign(seed=job.recipe.seed)
        column = "reward_mean" if "reward_mean" in log else "loss"
        logs[column].setdefault(job.recipe.stages[job.number].name, []).append(log)
    return {
        column: {stage: pd.concat(parts, ignore_index=True) for stage, parts in by_stage.items()}
        for column, by_stage in logs.items()
    }


def _training_figures(
    experiment: Experiment, logs: dict[str, dict[str, pd.DataFrame]], folder: Path
) -> list[tuple[str, Path]]:
    """One figure of losses, one of rewards, one of verdicts."""
    labels = {
        "loss": "loss (nats a token)",
        "reward_mean": "mean reward of a step's rollouts",
        "zero_variance_share": "share of groups without variance",
        "length_mean": "mean tokens of a completion",
    }
    drawn = []
    for column, by_stage in logs.items():
        if by_stage:
            columns = ["loss"] if column == "loss" else ["reward_mean", "zero_variance_share", "length_mean"]
            title = "Supervised training" if column == "loss" else "Reinforcement learning"
            path = folder / f"training_{column}.svg"
            in_order = {name: by_stage[name] for name in experiment.stage_names if name in by_stage}
            training_curve_figure(
                in_order,
                path,
                columns=columns,
                labels=labels,
                title=title,
                logarithmic=["loss"],
                among=experiment.stage_names,
                also=_ALSO,
            )
            drawn.append((title, path))
            if column == "reward_mean":
                title = "Verdicts of the rollouts in training"
                drawn.append((title, verdicts_figure(in_order, folder / "verdicts.svg", title, also=_ALSO)))
    return drawn


# ---------------------------------------------------------------------------------------------- costs and recipes


def _cost_table(ledger: Ledger) -> PageTable:
    """Tokens by phase, operations and seconds of every stage, the mean of its seeds."""
    rows = {}
    for stage, lines in ledger.table().groupby("stage", sort=False):
        row = {"seeds": str(len(lines)), **{name: f"{lines[name].iloc[0]:,}" for name in ("steps", "parameters")}}
        for phase in ("prompt", "generated", "trained", "reference"):
            row[f"{phase} tokens"] = f"{lines[f'{phase}_tokens'].mean():,.0f}"
        row["FLOPs"] = f"{lines['flops'].mean():.3g}"
        row["FLOPs with all before it"] = f"{lines['run_flops'].mean():.3g}"
        row["seconds"] = f"{lines['seconds'].mean():,.1f}"
        rows[str(stage)] = row
    frame = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="stage"))
    return PageTable("What every stage took", frame, "The mean of a stage's seeds; ledger.csv has every phase of each.")


def _page_recipes(experiment: Experiment, jobs: Sequence[Job], ledger: Ledger) -> tuple[PageRecipe, ...]:
    """How every stage was made: its settings, those before it by name, and what all its runs took."""
    by_stage: dict[str, list[Job]] = {name: [] for name in experiment.stage_names}
    for job in jobs:
        by_stage[job.recipe.stages[job.number].name].append(job)
    found = []
    for name, own in by_stage.items():
        recipe, stage = own[0].recipe, own[0].recipe.stages[own[0].number]
        costs = ledger.costs(name)
        tokens, flops, seconds = (sum(cost.total(what) for cost in costs) for what in ("tokens", "flops", "seconds"))
        summary = (
            f"{stage.kind}, {stage.steps:,} steps, {costs[0].parameters:,} parameters; {len(own)} "
            f"seed{'s' if len(own) > 1 else ''} together: {tokens:,.0f} tokens, {flops:.3g} FLOPs, {seconds:,.0f} s"
        )
        settings = {
            "goes on from": [one.name for one in recipe.stages[: own[0].number]],
            "runs": {str(job.recipe.seed): job.id for job in own},
            "stage": stage.model_dump(mode="json"),
            "task": recipe.task.model_dump(mode="json"),
            "scale": recipe.scale.model_dump(mode="json"),
            "evaluation": recipe.evaluation.model_dump(mode="json"),
        }
        text = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _flat(settings))
        found.append(PageRecipe(name, summary, text))
    return tuple(found)


def _flat(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """One line a setting: what a group holds is named behind the group's name."""
    return [
        (f"{group}.{name}" if isinstance(values, dict) else group, value)
        for group, values in settings.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
