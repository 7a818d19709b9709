"""What a sweep writes down about a job, in the folder `logs` of the runs.

logs/<stage id>.log           what the job's commands printed, one attempt after the other
logs/<stage id>.json          seconds from its beginning to its end, from which later sweeps know what it costs
logs/<stage id>.failed.json   why it was given up; removed when it works
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsm_lab.files import write_json
from gsm_lab.study.sweep_executors import Exit

TAIL_LINES = 30
"""Of a log, in the mark of a failure."""
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Failure:
    """A job that was given up."""

    id: str
    label: str
    attempts: int
    exit: str
    """How the last attempt ended."""
    error: str
    """One line that says what broke."""
    traceback: tuple[str, ...]
    """The last lines that the last attempt printed."""
    log: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.label} ({self.attempts} attempts, {self.exit}): {self.error}; see {self.log}"


@dataclass(frozen=True)
class Taken:
    """What a job took."""

    label: str
    seconds: float
    """On the wall, from its submission to its end."""
    evaluation: str
    """The id of its evaluation's settings."""
    threads: int
    executor: str


def log_of(home: Path, job: str) -> Path:
    return home / "logs" / f"{job}.log"


def _mark_of(home: Path, job: str) -> Path:
    return home / "logs" / f"{job}.failed.json"


def begin_log(log: Path, line: str) -> int:
    """Add a line before what an attempt prints; where in the log that will be.

    Nothing is rewritten: an earlier attempt whose sweep was killed may still print.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as end:
        end.write(f"{line}\n".encode())
        return end.tell()


def failure_of(home: Path, job: str, label: str, attempts: int, exit: Exit, begin: int) -> Failure:
    """What is to be said of an attempt whose lines begin there in the log."""
    log = log_of(home, job)
    lines = tail_of(log, begin)
    named = [line for line in lines if line.startswith("error: ")]
    if exit.code == 0:
        error = "the command ended well and left no result"
    elif exit.code is None or exit.code < 0:
        error = f"{exit.text}, after: {lines[-1]}" if lines else exit.text
    else:
        error = (named or lines or ["it printed nothing"])[-1]
    return Failure(job, label, attempts, exit.text, error, tuple(lines[-TAIL_LINES:]), str(log))


def tail_of(path: Path, begin: int = 0) -> list[str]:
    """The last lines of a file that are not empty, of those behind byte `begin`; none if there is no file."""
    try:
        with open(path, "rb") as content:
            size = content.seek(0, 2)
            start = max(begin, size - _TAIL_BYTES)
            content.seek(start)
            lines = content.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    whole = lines[1:] if start > begin else lines
    return [line.rstrip() for line in whole if line.strip()]


def mark_failed(home: Path, failure: Failure) -> None:
    write_json(_mark_of(home, failure.id), asdict(failure))


def failed(home: Path, job: str) -> Failure | None:
    """Why a job was given up by the last sweep that tried it; None if it was not."""
    found = _read(_mark_of(home, job))
    try:
        return None if found is None else Failure(**{**found, "traceback": tuple(found["traceback"])})
    except (TypeError, KeyError):
        return None


def unmark(home: Path, job: str) -> None:
    _mark_of(home, job).unlink(missing_ok=True)


def note_taken(home: Path, job: str, taken: Taken) -> None:
    """Write down what a job took that was computed in one go; the first to say so is believed."""
    path = home / "logs" / f"{job}.json"
    if not path.exists():
        write_json(path, asdict(taken))


def taken(home: Path, job: str) -> Taken | None:
    """What a job took; None if it was cut, or no sweep saw it."""
    found = _read(home / "logs" / f"{job}.json")
    try:
        return None if found is None else Taken(**found)
    except TypeError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """The value of a note; None if there is none, or nobody can read it: it is about the past, and no result."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
