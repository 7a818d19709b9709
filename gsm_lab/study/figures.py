"""Figures from tables: the edge of competence, and training step by step.

Nothing is computed here but means over seeds. Every other point, and every ribbon, is a row of the table that is given,
and the caption says how many seeds, problems and samples stand behind it. Where there are several seeds, each is drawn
behind the mean.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, PASS, Bands
from gsm_lab.problems import Verdict
from gsm_lab.study.figures_style import (
    GREY,
    caption,
    counts,
    draw_lines,
    drawing,
    handles_of,
    head,
    head_inches,
    looks,
    rows_of_panels,
    scale_by_doubling,
    thin_line,
)

BAND_SHADES = ("#ffffff", "#f0f0f0", "#e2e2e2")
VERDICT_COLOURS = {
    Verdict.CORRECT: "#0072B2",
    Verdict.LUCKY: "#D55E00",
    Verdict.WRONG: "#7f7f7f",
    Verdict.UNREADABLE: "#CC79A7",
    Verdict.TRUNCATED: "#E69F00",
}
"""Luck, which a reward for answers alone pays for, stands out."""


def edge_of_competence_figure(
    table: pd.DataFrame,
    bands: Bands,
    path: Path,
    title: str,
    *,
    curve_band: str = "edge",
    stages: Sequence[str] | None = None,
    baseline: str | None = None,
    also: Sequence[str] = (),
) -> Path:
    """Verified pass@1 by op, verified pass@k by op, and pass@k against k on one band, a line for each stage.

    `table` is made by `gsm_lab.evaluation.tabulate` with these `bands`; the stages come in the given order. Of more
    than seven stages each row of panels shows some, and the `baseline` if it is given. `also` are further suffixes
    that the same drawing is written under.

    Raises:
        DataError: the table lacks a stage or the band of the curve, or a suffix is unknown.
    """
    rows = table[(table["metric"] == PASS) & (table["context"] == ALL)]
    shown = list(stages) if stages is not None else rows["stage"].drop_duplicates().tolist()
    by_op, by_k = rows[rows["op"].notna()], rows[rows["band"] == curve_band]
    missing = [stage for stage in shown if not ((by_k["stage"] == stage) & by_k["value"].notna()).any()]
    if curve_band not in bands or not shown or missing:
        raise DataError(
            f"The table has no verified pass@k of {missing or 'any stage'} on the band {curve_band!r}: tabulate the "
            f"rollouts with bands {dict(bands)}, of which one is {curve_band!r}, and choose among its stages."
        )
    by_op, by_k = by_op[by_op["stage"].isin(shown)], by_k[by_k["stage"].isin(shown)]
    largest = int(by_op.loc[by_op["value"].notna(), "k"].max())
    styles, groups, width = looks(shown), rows_of_panels(shown, always=baseline), 10.2
    low, high = bands[curve_band]
    with drawing(path, (width, 0.25 + head_inches(shown, width) + 2.9 * len(groups)), also) as figure:
        panels = figure.subplots(len(groups), 3, sharey=True, squeeze=False)
        for group, (first, reach, curve) in zip(groups, panels, strict=True):
            own = {stage: styles[stage] for stage in group}
            for axes, k, letter in ((first, 1, "a"), (reach, largest, "b")):
                _shade_bands(axes, by_op, bands)
                draw_lines(axes, by_op[by_op["k"] == k], "op", own)
                axes.set_title(f"({letter}) verified pass@{k}")
            draw_lines(curve, by_k, "k", own)
            scale_by_doubling(curve, sorted(by_k["k"].dropna().astype(int).unique().tolist()))
            curve.set_title(f"(c) verified pass@k, {curve_band} (op {low} to {high})")
            curve.set_xlabel("k, tries a problem")
            first.set_ylabel("share of problems")
            first.set_ylim(-0.02, 1.02)
        head(figure, title, handles_of(styles))
        together = by_op[(by_op["k"] == 1) & (by_op["seed"] == ALL)]
        caption(figure, counts(together, "Each point by op") + _on_seeds(together))
    return path


def training_curve_figure(
    metrics_by_stage: Mapping[str, pd.DataFrame],
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "Training curves",
    step: str = "step",
    seed: str = "seed",
    logarithmic: Collection[str] = (),
    among: Sequence[str] = (),
    also: Sequence[str] = (),
) -> Path:
    """A panel for each metric, with a line for each stage that logged it, against the stage's own steps.

    `columns` are all numeric ones unless given; `labels` gives the axis label (name and unit) of a column. A log of
    several seeds tells them apart by a column `seed`: each is a thin line, and the thick one their mean. The columns of
    `logarithmic` are drawn so. Each stage looks as in a figure of all those `among` which it is.

    Raises:
        DataError: no stage logged one of the columns, a log lacks its steps, or a suffix is unknown.
    """
    logs = {stage: log.select_dtypes("number") for stage, log in metrics_by_stage.items()}
    found = dict.fromkeys(column for log in logs.values() for column in log.columns if column not in (step, seed))
    wanted = list(columns) if columns is not None else list(found)
    if not wanted or not set(wanted) <= set(found) or any(step not in log.columns for log in logs.values()):
        raise DataError(
            f"The logs of {list(logs)} have the numbers {list(found)} and need {step!r} and {wanted}: "
            f"name columns that at least one stage logged, and give every row its step."
        )
    everywhere = looks([*among, *(stage for stage in logs if stage not in among)])
    styles, groups = {stage: everywhere[stage] for stage in logs}, rows_of_panels(list(logs))
    across = min(len(wanted), 3)
    down = -(-len(wanted) // across) * len(groups)
    width = max(3.4 * across, 7.0)
    with drawing(path, (width, 0.1 + head_inches(list(logs), width) + 2.4 * down), also) as figure:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        wanted_rows = -(-len(wanted) // across) * across
        for place, group in enumerate(groups):
            own = panels[place * wanted_rows : (place + 1) * wanted_rows]
            for axes, column in zip(own, wanted, strict=False):
                for stage in group:
                    if column in logs[stage]:
                        _draw_log(axes, logs[stage], column, step, seed, styles[stage])
                if column in logarithmic:
                    axes.set_yscale("log")
                    axes.yaxis.set_major_formatter("{x:g}")
                    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.7)))
                axes.set_title((labels or {}).get(column, column.replace("_", " ")), pad=6)
                axes.set_xlabel("optimiser step of the stage")
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            for spare in own[len(wanted) :]:
                spare.set_axis_off()
        head(figure, title, handles_of(styles))
    return path


def verdicts_figure(
    metrics_by_stage: Mapping[str, pd.DataFrame],
    path: Path,
    title: str = "Verdicts of the rollouts in training",
    *,
    also: Sequence[str] = (),
) -> Path:
    """The share of each verdict among a step's rollouts, a panel for each stage of reinforcement learning.

    The logs are those of `gsm_lab.training`, with a column `seed`: `step` and `verdict_shares`. Lucky rollouts have the
    right answer by wrong steps: where their share grows, the reward is being earned without the work.

    Raises:
        DataError: a log has no shares of verdicts, or a suffix is unknown.
    """
    bare = [stage for stage, log in metrics_by_stage.items() if not {"step", "verdict_shares"} <= set(log.columns)]
    if bare or not metrics_by_stage:
        raise DataError(
            f"The logs of {bare or 'no stage'} lack step or verdict_shares: give the logs of reinforcement learning."
        )
    across = min(len(metrics_by_stage), 4)
    down = -(-len(metrics_by_stage) // across)
    styles: dict[str, dict[str, Any]] = {
        verdict.value: {"color": colour, "linewidth": 2.0 if verdict is Verdict.LUCKY else 1.4}
        for verdict, colour in VERDICT_COLOURS.items()
    }
    width = max(2.6 * across, 7.0)
    with drawing(path, (width, 0.35 + head_inches(list(styles), width) + 2.2 * down), also) as figure:
        panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes, (stage, log) in zip(panels, metrics_by_stage.items(), strict=False):
            shares = pd.DataFrame(log["verdict_shares"].tolist()).reindex(columns=list(styles)).fillna(0.0)
            shares = shares.assign(step=log["step"].to_numpy(), seed=log["seed"].to_numpy() if "seed" in log else 0)
            for verdict, look in styles.items():
                _draw_log(axes, shares, verdict, "step", "seed", look)
            axes.set_title(stage, pad=6, fontsize=9 if len(stage) < 30 else 7.5)
            axes.set_ylim(-0.02, 1.02)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in panels[::across]:
            axes.set_ylabel("share of rollouts")
        for axes in panels[len(metrics_by_stage) :]:
            axes.set_axis_off()
        head(figure, title, handles_of(styles))
        caption(
            figure,
            "Against the step of training; thin lines are single seeds, thick ones their mean. Lucky: the right answer "
            "by wrong or missing steps.",
        )
    return path


def _on_seeds(rows: pd.DataFrame) -> str:
    return " Thin lines: single seeds." if int(rows["num_seeds"].max()) > 1 else ""


def _draw_log(axes: Axes, log: pd.DataFrame, column: str, step: str, seed: str, look: Mapping[str, Any]) -> None:
    """The mean over seeds at those steps that all of them logged and, if there are several, each seed."""
    names = [step, column, *([seed] if seed in log else [])]
    line = log[names].dropna()
    seeds = sorted(line[seed].unique().tolist()) if seed in log else []
    if len(seeds) > 1:
        for one in seeds:
            own = line[line[seed] == one]
            thin_line(axes, own[step].to_numpy(), own[column].to_numpy(), str(look["color"]), str(one))
        grouped = line.groupby(step, sort=True)[column]
        line = grouped.mean()[grouped.size() == len(seeds)].reset_index()
    axes.plot(line[step], line[column], **look, markevery=max(len(line) // 8, 1))


def _shade_bands(axes: Axes, rows: pd.DataFrame, bands: Bands) -> None:
    """The bands behind a panel by op, with their names above it."""
    lowest, highest = int(rows["op"].min()), int(rows["op"].max())
    for (name, (low, high)), shade in zip(bands.items(), cycle(BAND_SHADES), strict=False):
        left, right = max(low, lowest) - 0.5, min(high, highest) + 0.5
        if left < right:
            axes.axvspan(left, right, color=shade, linewidth=0, zorder=0)
            axes.axvline(right, color="#b0b0b0", linewidth=0.6, zorder=0.5)
            where: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            axes.text((left + right) / 2, 1.015, name, **where, fontsize=8, color=GREY)
    axes.set_xlim(lowest - 0.5, highest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("op, difficulty of the problem")
