"""Measured figures: rounds in which every contestant has its turn, their medians and spreads, and how they are written.

A machine that is shared slows down and speeds up by the minute. So contestants alternate round by round, each of them
first in turn, and a ratio is taken within a round and never between medians.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gsm_lab.errors import TrainingError

COLUMNS = ("section", "name", "unit", "median", "lowest", "highest", "rounds", "asked for")
"""The last is empty where nothing is asked for, and begins with < where the figure must stay below it."""


@dataclass(frozen=True)
class Measured:
    """One figure, with its value in every round.

    Raises:
        TrainingError: it was measured in no round.
    """

    section: str
    """What it belongs to: "training", "sampling" ..."""
    name: str
    unit: str
    """What the values count: "tokens/s", "times", "share" ..."""
    values: tuple[float, ...]
    bar: float | None = None
    """What the project asks of itself, in the same unit: the least value, or the greatest if `below`."""
    below: bool = False

    def __post_init__(self) -> None:
        if not self.values:
            raise TrainingError(f"{self.section}, {self.name}: measured in no round: give 1 round or more.")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def row(self) -> tuple[str, ...]:
        """The cells of `COLUMNS`."""
        numbers = (self.median, min(self.values), max(self.values))
        bar = "" if self.bar is None else f"{'<' * self.below}{self.bar:.6g}"
        return (self.section, self.name, self.unit, *(f"{one:.6g}" for one in numbers), str(len(self.values)), bar)

    def __str__(self) -> str:
        """For a person: the median, with the lowest and the highest of its rounds."""
        low, high = min(self.values), max(self.values)
        spread = f" [{self._shown(low)}, {self._shown(high)}]" if len(self.values) > 1 else ""
        bar = "" if self.bar is None else f"; asked for: {'below ' * self.below}{self._shown(self.bar)}"
        return f"{self.section}, {self.name}: {self._shown(self.median)}{self._suffix()}{spread}{bar}"

    def _shown(self, value: float) -> str:
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    def _suffix(self) -> str:
        return {"share": "", "times": " times"}.get(self.unit, f" {self.unit}")


def alternate(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """What every work returns, round by round, after one round that does not count; each is first in turn."""
    names = list(works)
    for name in names:
        works[name]()
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(works[name]())
    return {name: tuple(numbers) for name, numbers in values.items()}


def quotients(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Round by round, one over the other."""
    return tuple(one / other for one, other in zip(above, below, strict=True))


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes; a GPU has to be done with it, too."""
    _wait_for_gpu()
    began = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - began


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def csv_of(measured: Sequence[Measured]) -> str:
    """All figures as one table for programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(one.row() for one in measured)
    return text.getvalue()


def markdown_of(measured: Sequence[Measured]) -> str:
    """All figures as one table a section, for people."""
    sections = list(dict.fromkeys(one.section for one in measured))
    return "\n".join(_section(name, [one for one in measured if one.section == name]) for name in sections)


def _section(name: str, measured: Sequence[Measured]) -> str:
    columns = COLUMNS[1:]
    lines = [f"## {name}", "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(one.row()[1:])} |" for one in measured]
    return "\n".join([*lines, ""])
