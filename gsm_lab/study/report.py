"""Reports: the tables and figures of an experiment, recomputed from the rollouts of its runs.

results/<experiment>/
  table.parquet, table.csv    every number: stage, op or band, metric, k, value, interval, counts
  differences.csv             each stage against the baseline, paired over problems
  edge_of_competence.svg/.png the figure
  training_*.svg              loss, and reward, over steps
  runs.json                   which runs the numbers come from, with their checksums and timings
  report.html                 one page that holds all of it
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from gsm_lab.errors import RunError
from gsm_lab.evaluation import ALL, PASS, differences, powers_of_two, tabulate
from gsm_lab.files import sha256_of, whole_file, write_json, write_text
from gsm_lab.seeds import stream_seed
from gsm_lab.study.evaluate import read_rollouts
from gsm_lab.study.experiment import Experiment
from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure
from gsm_lab.study.ledger import stage_cost
from gsm_lab.study.runs import StageFolder, read_json, read_lines
from gsm_lab.study.sweep import Job, plan

DRAWS = 1000
"""Resamplings behind every interval."""


@dataclass(frozen=True)
class Report:
    """Where a report was written, and its main table."""

    folder: Path
    figure: Path
    page: Path
    summary: pd.DataFrame
    """Stages x bands: verified pass@1 and pass@k with intervals."""


def write_report(experiment: Experiment, home: Path, folder: Path) -> Report:
    """Compute tables, figures and page of all runs of an experiment; nothing is trained.

    Raises:
        RunError: a run is missing or incomplete.
    """
    jobs = plan(experiment.recipes)
    missing = [job.label for job in jobs if not job.is_done(home)]
    if missing:
        raise RunError(
            f"{len(missing)} of {len(jobs)} runs of {experiment.name!r} are not complete ({', '.join(missing[:5])}): "
            f"run `gsm-lab sweep` first."
        )
    rollouts = pd.concat([read_rollouts(job.folder(home)) for job in jobs], ignore_index=True)
    provenance, logs = _provenance(jobs, home), _logs(jobs, home)  # all is read before anything is written
    ks = powers_of_two(experiment.recipes[0].evaluation.samples)
    rng = np.random.Generator(np.random.Philox(key=stream_seed(0, "report", experiment.name)))
    table = tabulate(rollouts, rng, bands=experiment.bands, ks=ks, draws=DRAWS)
    others = [name for name in experiment.stage_names if name != experiment.baseline]
    gains = differences(
        rollouts, [(name, experiment.baseline) for name in others], rng, bands=experiment.bands, ks=ks, draws=DRAWS
    )
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "table.parquet") as temporary:
        table.to_parquet(temporary, compression="zstd")
    write_text(folder / "table.csv", _bands_only(table).to_csv(index=False, float_format="%.4f"))
    write_text(folder / "differences.csv", _bands_only(gains).to_csv(index=False, float_format="%.4f"))
    write_json(folder / "runs.json", provenance)
    figures = [
        edge_of_competence_figure(
            table,
            experiment.bands,
            folder / f"edge_of_competence{suffix}",
            experiment.title,
            stages=list(experiment.stage_names),
        )
        for suffix in (".svg", ".png")
    ]
    training = _training_figures(experiment, logs, folder)
    summary = summarise(table, experiment, max(ks))
    page = folder / "report.html"
    write_text(page, _page(experiment, summary, summarise(gains, experiment, max(ks)), [figures[0], *training]))
    return Report(folder, figures[1], page, summary)


def _bands_only(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of bands, all contexts together: what a person reads; the Parquet file has all rows."""
    return table[table["band"].notna() & (table["context"] == ALL)]


def summarise(table: pd.DataFrame, experiment: Experiment, most: int) -> pd.DataFrame:
    """One row a stage, with "value [low, high]" of pass@1 and pass@`most` in each band, all seeds together."""
    rows = _bands_only(table)
    rows = rows[(rows["seed"] == ALL) & (rows["metric"] == PASS) & rows["k"].isin([1, most])]
    stages = [name for name in experiment.stage_names if name in set(rows["stage"])]
    summary = pd.DataFrame({"stage": stages}).set_index("stage")
    for band in experiment.bands:
        for k in (1, most):
            chosen = rows[(rows["band"] == band) & (rows["k"] == k)].set_index("stage")
            summary[f"{band} pass@{k}"] = [
                f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in chosen.loc[stages].itertuples()
            ]
    return summary


def _provenance(jobs: Sequence[Job], home: Path) -> dict[str, Any]:
    """Where the numbers come from: every run, its recipes, its checksums and its seconds, and the machine."""
    packages = ("torch", "transformers", "numpy", "pandas", "matplotlib")
    return {
        "machine": {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()},
        "packages": {name: metadata.version(name) for name in packages},
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


def _logs(jobs: Sequence[Job], home: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The logs with a loss and those with a reward, by stage; the lowest seed stands for all."""
    logs: dict[str, dict[str, pd.DataFrame]] = {"loss": {}, "reward_mean": {}}
    for job in sorted(jobs, key=lambda job: -job.recipe.seed):
        log = pd.DataFrame(read_lines(job.folder(home).metrics()))
        column = "reward_mean" if "reward_mean" in log else "loss"
        logs[column][job.recipe.stages[job.number].name] = log
    return logs


def _training_figures(experiment: Experiment, logs: dict[str, dict[str, pd.DataFrame]], folder: Path) -> list[Path]:
    """One figure of losses, one of rewards."""
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
            drawn.append(training_curve_figure(in_order, path, columns=columns, labels=labels, title=title))
    return drawn


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ experiment.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1250px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left }
td { white-space: nowrap }
img { max-width: 100%; height: auto; margin: 1rem 0; display: block }
</style>
<h1>{{ experiment.title }}</h1>
<p>{{ experiment.recipes | length }} recipe{{ "s" if experiment.recipes | length > 1 }}; bands of op:
{% for name, range in experiment.bands.items() %}{{ name }} {{ range[0] }} to {{ range[1] }}{{ ", " if not loop.last }}
{%- endfor %}. Brackets hold 95 % intervals. pass@k counts verified solutions only: the right answer by right steps.</p>
{% for image in images %}<img alt="{{ image.alt }}" src="{{ image.source }}">
{% endfor %}
{% for table in tables %}
<h2>{{ table.title }}</h2>
<table><thead><tr><th>stage</th>{% for name in table.frame.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for stage, row in table.frame.iterrows() %}<tr><td>{{ stage }}</td>
{%- for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% endfor %}
</html>
"""


def _page(experiment: Experiment, summary: pd.DataFrame, gains: pd.DataFrame, figures: Sequence[Path]) -> str:
    """A page that holds its figures itself and asks for nothing from outside."""
    images = [
        {"alt": path.stem, "source": "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()}
        for path in figures
    ]
    tables = [
        {"title": "Verified pass@k", "frame": summary},
        {"title": f"Gain over {experiment.baseline}, paired over problems", "frame": gains},
    ]
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_PAGE).render(experiment=experiment, images=images, tables=tables)
