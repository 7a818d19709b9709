"""Figures from tables: the same table gives the same bytes, on any machine with the same matplotlib.

Nothing is computed here. Every point and every ribbon is a row of the table that is given, and the caption says how
many seeds, problems and samples stand behind it. No pyplot: no global figure, no display, no user settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, LEVEL, PASS, Bands
from gsm_lab.files import whole_file

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 17,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 3.2,
    "savefig.dpi": 200,
    "svg.hashsalt": "gsm_lab",
    "svg.fonttype": "path",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, told apart in every form of colour blindness; the faint yellow is left out."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)))
BAND_SHADES = ("#ffffff", "#f0f0f0", "#e2e2e2")
FORMATS = {".svg": {"Date": None, "Creator": "gsm_lab"}, ".png": {"Software": "gsm_lab"}}


def edge_of_competence_figure(
    table: pd.DataFrame,
    bands: Bands,
    path: Path,
    title: str,
    *,
    curve_band: str = "edge",
    stages: Sequence[str] | None = None,
) -> Path:
    """Verified pass@1 by op, verified pass@k by op, and pass@k against k on one band, a line for each stage.

    `table` is made by `gsm_lab.evaluation.tabulate` with these `bands`; the stages come in the given order.

    Raises:
        DataError: the table lacks a stage or the band of the curve, or the suffix is neither .svg nor .png.
    """
    rows = table[(table["metric"] == PASS) & (table["seed"] == ALL) & (table["context"] == ALL)]
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
    with _figure(path, (10.2, 3.75)) as figure:
        first, reach, curve = figure.subplots(1, 3, sharey=True)
        for axes, k, letter in ((first, 1, "a"), (reach, largest, "b")):
            _draw_by_op(axes, by_op[by_op["k"] == k], bands, shown)
            axes.set_title(f"({letter}) verified pass@{k}")
        low, high = bands[curve_band]
        _draw_lines(curve, by_k, "k", shown)
        _scale_by_doubling(curve, sorted(by_k["k"].dropna().astype(int).unique().tolist()))
        curve.set_title(f"(c) verified pass@k, {curve_band} (op {low} to {high})")
        curve.set_xlabel("k, tries a problem")
        first.set_ylabel("share of problems")
        first.set_ylim(-0.02, 1.02)
        _head(figure, title, shown)
        figure.supxlabel(_caption(by_op[by_op["k"] == 1]), fontsize=7.5, color="#444444", x=0.01, ha="left")
    return path


def training_curve_figure(
    metrics_by_stage: Mapping[str, pd.DataFrame],
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "Training curves",
    step: str = "step",
) -> Path:
    """A panel for each metric, with a line for each stage that logged it, against the stage's own steps.

    `columns` are all numeric ones unless given; `labels` gives the axis label (name and unit) of a column.

    Raises:
        DataError: no stage logged one of the columns, a log lacks its steps, or the suffix is unknown.
    """
    logs = {stage: log.select_dtypes("number") for stage, log in metrics_by_stage.items()}
    found = list(dict.fromkeys(column for log in logs.values() for column in log.columns if column != step))
    wanted = list(columns) if columns is not None else found
    if not wanted or not set(wanted) <= set(found) or any(step not in log.columns for log in logs.values()):
        raise DataError(
            f"The logs of {list(logs)} have the numbers {found} and need {step!r} and {wanted}: "
            f"name columns that at least one stage logged, and give every row its step."
        )
    across = min(len(wanted), 3)
    down = -(-len(wanted) // across)
    with _figure(path, (3.4 * across, 0.8 + 2.5 * down)) as figure:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, column in zip(panels, wanted, strict=False):
            for stage, look in _looks(list(logs)).items():
                if column in logs[stage]:
                    line = logs[stage][[step, column]].dropna()
                    axes.plot(line[step], line[column], **look, markevery=max(len(line) // 8, 1))
            axes.set_title((labels or {}).get(column, column.replace("_", " ")), pad=6)
            axes.set_xlabel("optimiser step of the stage")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for spare in panels[len(wanted) :]:
            spare.set_axis_off()
        _head(figure, title, list(logs))
    return path


@contextmanager
def _figure(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """An empty figure in our style; it is written to `path`, whole, when the block ends well."""
    if path.suffix not in FORMATS:
        raise DataError(f"A figure cannot be written as {path.name!r}: end the name in {' or '.join(FORMATS)}.")
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with whole_file(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], metadata=FORMATS[path.suffix])


def _looks(stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each stage: any one of the three tells neighbours apart."""
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False)
    return {
        stage: {"color": colour, "marker": marker, "linestyle": dashes}
        for stage, (colour, marker, dashes) in zip(stages, islice(looks, len(stages)), strict=True)
    }


def _draw_by_op(axes: Axes, rows: pd.DataFrame, bands: Bands, stages: Sequence[str]) -> None:
    lowest, highest = int(rows["op"].min()), int(rows["op"].max())
    for (name, (low, high)), shade in zip(bands.items(), cycle(BAND_SHADES), strict=False):
        left, right = max(low, lowest) - 0.5, min(high, highest) + 0.5
        if left < right:
            axes.axvspan(left, right, color=shade, linewidth=0, zorder=0)
            axes.axvline(right, color="#b0b0b0", linewidth=0.6, zorder=0.5)
            axes.text(
                (left + right) / 2,
                1.015,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8,
                color="#444444",
            )
    _draw_lines(axes, rows, "op", stages)
    axes.set_xlim(lowest - 0.5, highest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("op, difficulty of the problem")


def _draw_lines(axes: Axes, rows: pd.DataFrame, across: str, stages: Sequence[str]) -> None:
    """A line and its ribbon for each stage; points without data are left out."""
    for stage, look in _looks(stages).items():
        line = rows[(rows["stage"] == stage) & rows["value"].notna()].sort_values(across)
        where = line[across].to_numpy(dtype=float)
        axes.fill_between(where, line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(where, line["value"], **look, clip_on=False)


def _scale_by_doubling(axes: Axes, ks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(ks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(ks), [str(k) for k in ks])


def _head(figure: Figure, title: str, stages: Sequence[str]) -> None:
    """Title and, under it, one legend for all panels, in room taken from the panels: neither hides anything."""
    width, height = figure.get_size_inches()
    across = max(1, min(len(stages), int(width / (0.75 + 0.085 * max(map(len, stages))))))
    rows = -(-len(stages) // across)
    left, title_at, legend_at, panels_at = 0.08 / width, 0.08, 0.30, 0.38 + 0.19 * rows  # inches from the top
    figure.text(left, 1 - title_at / height, title, va="top", fontsize=11, fontweight="bold")
    figure.legend(
        handles=[Line2D([], [], **look, label=stage) for stage, look in _looks(stages).items()],
        loc="upper left",
        bbox_to_anchor=(0, 1 - legend_at / height),
        borderaxespad=0,
        ncols=across,
    )
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - panels_at / height))


def _caption(rows: pd.DataFrame) -> str:
    """What stands behind one point of the panels by op."""

    def span(column: str) -> str:
        low, high = int(rows[column].min()), int(rows[column].max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    seeds = span("num_seeds")
    over = "problems" if seeds == "1" else "problems and seeds"
    return (
        f"Each point by op: {seeds} seed{'' if seeds == '1' else 's'}, {span('num_problems')} problems, "
        f"{span('num_samples')} samples. Ribbons: {100 * LEVEL:g} % bootstrap intervals over "
        f"{over}, Wilson's where all problems agree."
    )
