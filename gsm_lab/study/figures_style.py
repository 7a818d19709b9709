"""What all figures share: style, files, the looks of lines, single seeds behind means, and the head with its legend.

No pyplot: no global figure, no display, no user settings. The same drawing gives the same bytes, on any machine with
the same matplotlib, as .svg, .png and .pdf.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, LEVEL
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
    "savefig.dpi": 120,
    "svg.hashsalt": "gsm_lab",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, told apart in every form of colour blindness; the faint yellow is left out."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)))
MOST_LINES = 7
"""More lines than this are hard to read in one panel, and colours come back: then figures have several rows."""
FORMATS: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None, "Creator": "gsm_lab"},
    ".png": {"Software": "gsm_lab"},
    ".pdf": {"CreationDate": None, "Creator": "gsm_lab", "Producer": "gsm_lab"},
}
GREY = "#444444"


@contextmanager
def drawing(path: Path, inches: tuple[float, float], also: Sequence[str] = ()) -> Iterator[Figure]:
    """An empty figure in our style; it is written to `path`, and under each suffix of `also`, when the block ends well.

    Raises:
        DataError: a suffix that is none of `FORMATS`.
    """
    paths = [path, *(path.with_suffix(suffix) for suffix in also)]
    for one in paths:
        if one.suffix not in FORMATS:
            *first, last = FORMATS
            raise DataError(
                f"A figure cannot be written as {one.name!r}: end the name in {', '.join(first)} or {last}."
            )
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: all formats show the same drawing
        for one in paths:
            with whole_file(one) as temporary:
                figure.savefig(temporary, format=one.suffix[1:], metadata=FORMATS[one.suffix])


def looks(names: Sequence[str], *, dashed: bool = True) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each line: any one of the three tells neighbours apart, with more names two do.

    No two of the first 98 names have the same colour, marker and filling. Without `dashed` all lines are whole.
    """
    found = {}
    for number, name in enumerate(names):
        turn = number // len(COLOURS)
        found[name] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[(number + turn) % len(MARKERS)],
            "markerfacecolor": "white" if turn % 2 else COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[number % len(DASHES)] if dashed else "-",
        }
    return found


def rows_of_panels(stages: Sequence[str], most: int = MOST_LINES, always: str | None = None) -> list[list[str]]:
    """The stages in groups of at most `most`, about as large as each other; `always` is in every one of them."""
    if len(stages) <= most:
        return [list(stages)]
    others = [stage for stage in stages if stage != always]
    room = most - (len(others) < len(stages))
    number = -(-len(others) // room)
    size = -(-len(others) // number)
    groups = [others[at : at + size] for at in range(0, len(others), size)]
    return [[stage for stage in stages if stage in group or stage == always] for group in groups]


def draw_lines(axes: Axes, rows: pd.DataFrame, across: str, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """For each stage a line, its ribbon, and a thin line for every single seed; points without data are left out."""
    together = rows[(rows["seed"] == ALL) & rows["value"].notna()]
    for stage, look in styles.items():
        draw_seeds(axes, rows[rows["stage"] == stage], across, look["color"])
        line = together[together["stage"] == stage].sort_values(across)
        where = line[across].to_numpy(dtype=float)
        axes.fill_between(where, line["low"], line["high"], color=look["color"], alpha=0.13, linewidth=0)
        axes.plot(where, line["value"], **look, clip_on=False)


def draw_seeds(axes: Axes, rows: pd.DataFrame, across: str, colour: str) -> None:
    """Every single seed of one stage as a thin pale line; none where there is only one."""
    single = rows[(rows["seed"] != ALL) & rows["value"].notna()]
    if single["seed"].nunique() < 2:
        return
    for seed, line in single.sort_values(across).groupby("seed", sort=True):
        where = line[across].to_numpy(dtype=float)
        thin_line(axes, where, line["value"].to_numpy(dtype=float), colour, str(seed))


def thin_line(axes: Axes, where: Any, values: Any, colour: str, seed: str, dashes: Any = "-") -> None:
    """One seed; its id in an .svg is `seed-`, the panel's number, the line's number, and the seed."""
    style = {"color": colour, "linewidth": 0.7, "alpha": 0.45, "linestyle": dashes, "zorder": 1.5}
    axes.plot(where, values, **style, gid=seed_id(axes, seed))


def seed_id(axes: Axes, seed: str) -> str:
    """A name for what is drawn next of one seed, of which there is no second in the figure."""
    figure = axes.get_figure()
    assert figure is not None
    return f"seed-{figure.axes.index(axes)}-{len(axes.lines)}-{seed}"


def scale_by_doubling(axes: Axes, ks: Sequence[int]) -> None:
    """A logarithmic axis with a tick at every k."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(ks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(ks), [str(k) for k in ks])


def handles_of(styles: Mapping[str, Mapping[str, Any]]) -> list[Line2D]:
    """What a legend shows of these lines; made within `drawing`, so that the style is ours."""
    return [Line2D([], [], **look, label=name) for name, look in styles.items()]


def head_inches(labels: Sequence[str], width: float) -> float:
    """The height of a title and its legend in a figure so many inches wide."""
    return 0.37 + 0.204 * -(-len(labels) // _across(labels, width))


def head(figure: Figure, title: str, handles: Sequence[Line2D]) -> None:
    """Title and, under it, one legend for all panels, in room taken from the panels: neither hides anything."""
    width, height = figure.get_size_inches()
    labels = [str(handle.get_label()) for handle in handles]
    left, title_at, legend_at = 0.08 / width, 0.08, 0.30  # inches from the top
    figure.text(left, 1 - title_at / height, title, va="top", fontsize=11, fontweight="bold")
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0, 1 - legend_at / height),
        borderaxespad=0,
        ncols=_across(labels, width),
    )
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - head_inches(labels, width) / height))


def _across(labels: Sequence[str], width: float) -> int:
    """How many labels stand beside each other."""
    return max(1, min(len(labels), int(width / (0.75 + 0.085 * max(map(len, labels))))))


def caption(figure: Figure, text: str) -> None:
    """Small print under all panels, in lines that fit the figure."""
    width = int(17.6 * figure.get_size_inches()[0])
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, width)]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=GREY, x=0.01, ha="left")


def counts(rows: pd.DataFrame, point: str, drawn: str = "Ribbons") -> str:
    """What stands behind one point, and what its interval is."""

    def span(column: str) -> str:
        low, high = int(rows[column].min()), int(rows[column].max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    seeds = span("num_seeds")
    over = "problems" if seeds == "1" else "problems and seeds"
    return (
        f"{point}: {seeds} seed{'' if seeds == '1' else 's'}, {span('num_problems')} problems, "
        f"{span('num_samples')} samples. {drawn}: {100 * LEVEL:g} % bootstrap intervals over "
        f"{over}, Wilson's where all problems agree."
    )
