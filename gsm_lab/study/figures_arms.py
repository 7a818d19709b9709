"""Figures of arms: what a factor does at each of its levels, and tries against votes.

As in `figures`, every point and every interval is a row of the table that is given.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, MAJ, PASS, Bands
from gsm_lab.study.experiment import Axis
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
    seed_id,
)

LEAST_SPAN = 0.1
"""The smallest range of shares that a panel's axis shows, so that noise does not fill it."""


def factor_figure(
    table: pd.DataFrame, axis: Axis, bands: Bands, path: Path, title: str, *, also: Sequence[str] = ()
) -> Path:
    """Verified pass@1 and pass@k over the levels of a factor: a column of panels for each band, a line for each series.

    Levels stand at equal distances, in the axis's order; where a series has none, its line goes on to its next.

    Raises:
        DataError: the table has no verified pass@k of a stage in the axis's context, or a suffix is unknown.
    """
    rows = table[(table["metric"] == PASS) & (table["context"] == axis.context) & table["band"].isin(list(bands))]
    rows = rows[rows["value"].notna()]
    wanted = {stage for line in axis.series.values() for stage in line.values()}
    if missing := sorted(wanted - set(rows.loc[rows["seed"] == ALL, "stage"])):
        contexts = sorted(table["context"].dropna().unique().tolist())
        raise DataError(
            f"The table has no verified pass@k of {missing} in the context {axis.context!r}: tabulate their rollouts "
            f"with bands {dict(bands)}, and give the axis {axis.label!r} one of the contexts {contexts}."
        )
    rows = rows[rows["stage"].isin(wanted)]
    levels = list(dict.fromkeys(level for line in axis.series.values() for level in line))
    styles = looks(list(axis.series))
    ks = sorted({1, int(rows["k"].max())})
    width = max(3.4 * len(bands), 7.0)
    is_long = max(map(len, levels)) * len(levels) > 42
    inches = 0.35 + head_inches(list(styles), width) + (2.5 + 0.3 * is_long) * len(ks)
    with drawing(path, (width, inches), also) as figure:
        panels = figure.subplots(len(ks), len(bands), squeeze=False, sharex=True)
        for k, line_of_panels in zip(ks, panels, strict=True):
            for (band, (low, high)), axes in zip(bands.items(), line_of_panels, strict=True):
                here = rows[(rows["band"] == band) & (rows["k"] == k)]
                for number, (name, series) in enumerate(axis.series.items()):
                    shift = (number - (len(axis.series) - 1) / 2) * min(0.08, 0.5 / len(axis.series))
                    _draw_series(axes, here, series, levels, shift, styles[name])
                _fit(axes, here)
                axes.set_title(f"{band} (op {low} to {high}), pass@{k}", pad=6)
                axes.set_xticks(range(len(levels)), levels)
                axes.set_xlim(-0.5, len(levels) - 0.5)
                axes.grid(visible=False, axis="x")
                if is_long:
                    axes.tick_params(axis="x", rotation=25)
                    for label in axes.get_xticklabels():
                        label.set_horizontalalignment("right")
            line_of_panels[0].set_ylabel(f"verified pass@{k}")
        for axes in panels[-1]:
            axes.set_xlabel(fill(axis.label, 40))
        head(figure, title, handles_of(styles))
        where = "" if axis.context == ALL else f" Context: {axis.context}."
        together = rows[rows["seed"] == ALL]
        dots = "Small dots: single seeds. " if int(together["num_seeds"].max()) > 1 else ""
        caption(figure, f"{counts(together, 'Each point', 'Bars')}\n{dots}Every panel has its own scale.{where}")
    return path


def _draw_series(
    axes: Axes,
    rows: pd.DataFrame,
    series: Mapping[str, str],
    levels: Sequence[str],
    shift: float,
    look: Mapping[str, Any],
) -> None:
    """A line over the levels with a bar for each interval, and a dot for every single seed."""
    points = []
    for level, stage in series.items():
        own = rows[rows["stage"] == stage]
        place = levels.index(level) + shift
        single = own[own["seed"] != ALL].sort_values("seed")
        if len(single) > 1:
            for seed, value in zip(single["seed"], single["value"], strict=True):
                dot = {"marker": ".", "markersize": 4, "alpha": 0.5, "linestyle": "", "color": look["color"]}
                axes.plot([place], [value], **dot, gid=seed_id(axes, seed), zorder=1.5)
        points += [(place, row.value, row.low, row.high) for row in own[own["seed"] == ALL].itertuples()]
    points.sort()
    if points:
        where, values, lows, highs = zip(*points, strict=True)
        axes.vlines(where, lows, highs, color=look["color"], linewidth=1.1, alpha=0.75)
        axes.plot(where, values, **look)


def _fit(axes: Axes, rows: pd.DataFrame) -> None:
    """An axis that shows what is there and a little more, never less than `LEAST_SPAN`, never far outside 0 to 1."""
    if rows.empty:
        return
    low = min(rows["low"].min(), rows["value"].min())
    high = max(rows["high"].max(), rows["value"].max())
    spare = max(0.08 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    low, high = low - spare, high + spare
    low, high = low - max(high - 1.02, 0), high - min(low + 0.02, 0)
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


def pass_and_majority_figure(
    table: pd.DataFrame,
    bands: Bands,
    stages: Sequence[str],
    path: Path,
    title: str,
    *,
    baseline: str | None = None,
    also: Sequence[str] = (),
) -> Path:
    """Verified pass@k (whole lines) and maj@k (dashed) against k: a column for each band, a colour for each stage.

    What is between the two is knowledge that a model has and does not rely on. Of more than four stages each row of
    panels shows some, and the `baseline` if it is given.

    Raises:
        DataError: the table has no pass@k or maj@k of a stage on a band, or a suffix is unknown.
    """
    rows = table[table["metric"].isin([PASS, MAJ]) & (table["context"] == ALL) & table["value"].notna()]
    rows = rows[rows["band"].isin(list(bands)) & rows["stage"].isin(list(stages))]
    there = {*rows.loc[rows["seed"] == ALL, ["stage", "band", "metric"]].itertuples(index=False, name=None)}
    wanted = [(stage, band, metric) for stage in stages for band in bands for metric in (PASS, MAJ)]
    if missing := [one for one in wanted if one not in there] or not wanted:
        raise DataError(f"The table has no values of {missing}: tabulate these stages with the bands {dict(bands)}.")
    styles = looks(stages, dashed=False)
    groups = rows_of_panels(stages, 4, baseline)
    kinds: dict[str, tuple[str, Any]] = {
        PASS: ("verified pass@k", "-"),
        MAJ: ("maj@k, the most frequent answer", (0, (3, 1.5))),
    }
    legend = styles | {label: {"color": GREY, "linestyle": dashes} for label, dashes in kinds.values()}
    width = max(4.2 * len(bands), 8.4)
    with drawing(path, (width, 0.35 + head_inches(list(legend), width) + 2.9 * len(groups)), also) as figure:
        panels = figure.subplots(len(groups), len(bands), squeeze=False, sharey=True)
        for group, line_of_panels in zip(groups, panels, strict=True):
            for (band, (low, high)), axes in zip(bands.items(), line_of_panels, strict=True):
                here = rows[rows["band"] == band]
                for metric, (_, dashes) in kinds.items():
                    own = {stage: {**styles[stage], "linestyle": dashes} for stage in group}
                    draw_lines(axes, here[here["metric"] == metric], "k", own)
                scale_by_doubling(axes, sorted(here["k"].dropna().astype(int).unique().tolist()))
                axes.set_title(f"{band} (op {low} to {high})", pad=6)
                axes.set_ylim(-0.02, 1.02)
            line_of_panels[0].set_ylabel("share of problems")
        for axes in panels[-1]:
            axes.set_xlabel("k, tries a problem")
        head(figure, title, handles_of(legend))
        together = rows[rows["seed"] == ALL]
        thin = " Thin lines: single seeds." if int(together["num_seeds"].max()) > 1 else ""
        caption(figure, counts(together, "Each point") + thin)
    return path
