"""Tracking: the records that trackers hold of a stage, each a copy of the stage's log to look at.

The log that counts is the stage's `metrics.jsonl`, which is exact and is cut back when a stage goes on that was killed.
A record is filled from it and from `timings.jsonl`, always from the first line on, and what an earlier process has
written of the stage is thrown away before. So no step comes twice and none is missing, however often a run was killed;
and a record that is asked for later is filled later, from the log of a stage that was done long ago.

A tracker that breaks ends no run, for nothing is lost with it: the run says so at once, goes on without it, and fills
the record again when the stage is done. If that fails too, the command ends with an error as soon as all else is done,
and the same command tries once more.

Records lie in `<runs>/tracking/<kind>/`, with the log's checksum in `<record>.sha256` beside a record that is whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gsm_lab.errors import RunError
from gsm_lab.files import sha256_of, write_text
from gsm_lab.study.options import OnNotice, no_notice
from gsm_lab.study.runs import StageFolder
from gsm_lab.study.trackers import Tracker, open_tracker


@dataclass(frozen=True)
class Record:
    """What one tracker holds of one stage."""

    kind: str
    stage: StageFolder

    @property
    def name(self) -> str:
        """Names the stage for people, and for trackers, which take letters, digits and few marks."""
        recipe = self.stage.recipe
        label = re.sub(r"[^a-zA-Z0-9]+", "-", recipe.stages[self.stage.number].name).strip("-")
        return f"{label}-seed{recipe.seed}-{recipe.stage_id(self.stage.number)}".lstrip("-")

    @property
    def folder(self) -> Path:
        """Where the tracker keeps the records of all stages."""
        return self.stage.home / "tracking" / self.kind

    @property
    def is_whole(self) -> bool:
        """Whether the record holds the stage's log as it is now."""
        return self._seal.is_file() and self._seal.read_text(encoding="utf-8") == self._checksum()

    def open(self) -> Tracker:
        """The record, empty."""
        self._seal.unlink(missing_ok=True)
        return open_tracker(self.kind, self.folder, self.name, self.stage.recipe.identity(self.stage.number))

    def seal(self) -> None:
        """Note that the record holds the whole log."""
        write_text(self._seal, self._checksum())

    @property
    def _seal(self) -> Path:
        return self.folder / f"{self.name}.sha256"

    def _checksum(self) -> str:
        return sha256_of(self.stage.metrics())


def missing_records(stages: Sequence[StageFolder], kinds: Sequence[str]) -> list[Record]:
    """The records of trained stages that are not whole."""
    records = [Record(kind, stage) for stage in stages for kind in kinds]
    return [record for record in records if not record.is_whole]


def fill_records(stage: StageFolder, kinds: Sequence[str], on_notice: OnNotice = no_notice) -> None:
    """Fill the records of a trained stage that are not whole; no record is touched while another process trains it."""
    if missing_records([stage], kinds):
        with stage.locked(on_notice):
            records = missing_records([stage], kinds)
            with Tracking(stage, records, on_notice) as tracking:
                tracking.finish()


class Tracking:
    """Fills some records of one stage from its log, as far as that is written; to be used in a `with` statement."""

    def __init__(self, stage: StageFolder, records: Sequence[Record], on_notice: OnNotice = no_notice) -> None:
        self._on_notice = on_notice
        self._metrics = _Lines(stage.path / "metrics.jsonl")
        self._timings = _Lines(stage.path / "timings.jsonl")
        self._open: dict[Record, Tracker] = {}
        for record in records:
            self._try(record, self._begin, record)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for record, tracker in [*self._open.items()]:  # the stage was cut off: its figures so far are shown
            self._try(record, tracker.finish)
        self._open.clear()

    def catch_up(self) -> None:
        """Give every tracker the lines that are new in the log; only once training has cut the log back."""
        if not self._open:
            return
        seconds = {line["step"]: line for line in self._timings.new()}
        for line in self._metrics.new():
            figures = figures_of({**seconds.get(line["step"], {}), **line})
            for record, tracker in [*self._open.items()]:
                self._try(record, tracker.log, line["step"], figures)

    def finish(self) -> None:
        """The stage is trained: give every tracker the rest, and note which records are whole."""
        self.catch_up()
        for record in [*self._open]:
            self._try(record, self._end, record)
        self._open.clear()

    def _begin(self, record: Record) -> None:
        self._open[record] = record.open()

    def _end(self, record: Record) -> None:
        self._open[record].finish()
        record.seal()

    def _try(self, record: Record, work: Callable[..., object], *arguments: object) -> None:
        """Do something with a tracker; one that breaks is said to be broken, and left."""
        try:
            work(*arguments)
        except Exception as error:
            self._open.pop(record, None)
            self._on_notice(
                f"the tracker {record.kind} of {record.name} broke ({type(error).__name__}: {error}): the run goes on "
                f"without it; metrics.jsonl has every line, from which the record is filled when the stage is done."
            )


class _Lines:
    """The lines of a log that is being written, each given once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        """Bytes of the lines that were given."""

    def new(self) -> list[dict[str, Any]]:
        """The whole lines that were written since the last time.

        Raises:
            RunError: one of them is not JSON.
        """
        if not self._path.exists():
            return []
        with open(self._path, "rb") as log:
            log.seek(self._read)
            *lines, _ = log.read().split(b"\n")
        self._read += sum(len(line) + 1 for line in lines)
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{self._path} is damaged ({error}): remove its folder and run the recipe again.") from error


def figures_of(line: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of a line of a log; those of a part are named `part/number`; what was not measured is left out."""
    figures: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            figures |= figures_of(value, f"{above}{name}/")
        elif isinstance(value, (int, float)) and math.isfinite(value) and name != "step":
            figures[above + name] = float(value)
    return figures
