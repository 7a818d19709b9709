"""Trackers: TensorBoard, Weights & Biases and trackio behind one thin interface; each imported when it is opened.

All of them keep their records on this machine, below a folder that they are given. What goes into a record, and what
happens to one that breaks, is in `tracking.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from gsm_lab.errors import RunError

PROJECT = "gsm_lab"
"""What trackers that sort runs into projects call ours."""


class Tracker(Protocol):
    """A record of one stage that somebody looks at."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the figures of a step; steps only grow."""

    def finish(self) -> None:
        """Write all that is left to write."""


class _TensorBoard:
    """Event files in a folder of the record's name: `tensorboard --logdir <runs>/tracking/tensorboard`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / name, ignore_errors=True)
        self._writer = SummaryWriter(str(folder / name), flush_secs=10)
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        self._writer.add_text("settings", f"```\n{text}\n```")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(key, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Wandb:
    """A run that is kept offline: `wandb sync <runs>/tracking/wandb/wandb/offline-run-*` sends it, if you want."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb: Any = import_module("wandb")
        for old in (folder / "wandb").glob(f"offline-run-*-{name}"):
            shutil.rmtree(old)
        folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = wandb.init(
            project=PROJECT, id=name, name=name, dir=folder, mode="offline", config=dict(settings), settings=quiet
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self) -> None:
        self._run.finish()


class _Trackio:
    """A run in one local database of all runs: `TRACKIO_DIR=<runs>/tracking/trackio trackio show`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        os.environ["TRACKIO_DIR"] = str(folder.resolve())  # read when trackio is imported
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(StringIO()):  # it is talkative, and stdout is for results
            self._trackio: Any = import_module("trackio")
            if folder.resolve() != self._trackio.utils.TRACKIO_DIR:
                raise RunError(
                    f"trackio writes to {self._trackio.utils.TRACKIO_DIR} as long as this process lives: "
                    f"start another one for {folder}."
                )
            for run in _trackio_runs(self._trackio, name):
                run.delete()
            self._run = self._trackio.init(
                project=PROJECT, name=name, config=dict(settings), embed=False, auto_log_gpu=False, auto_log_cpu=False
            )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self) -> None:
        with redirect_stdout(StringIO()):
            self._trackio.finish()  # its run is the current one; `self._run.finish()` would be repeated at exit


def _trackio_runs(trackio: Any, name: str) -> list[Any]:
    """The runs of that name in our project; none if there is no project yet."""
    if not trackio.sqlite_storage.SQLiteStorage.get_project_db_path(PROJECT).exists():
        return []
    return [run for run in trackio.Api().runs(PROJECT) if run.name == name]


_SEND_AWAY = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables with which trackio would keep its records elsewhere."""
KINDS: Mapping[str, Callable[[Path, str, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}
"""Every tracker by its name, which is also the name of the package that it needs."""


def check_trackers(kinds: Sequence[str]) -> None:
    """Check that each tracker is known and its package installed, without importing it.

    Raises:
        RunError: it is not.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise RunError(f"there is no tracker {kind!r}: give one of {', '.join(KINDS)}.")
        away = [name for name in _SEND_AWAY if kind == "trackio" and os.environ.get(name)]
        if away:
            raise RunError(f"{away[0]} is set, and our records stay on this machine: unset it to use trackio.")
        if find_spec(kind) is None:
            raise RunError(
                f"the tracker {kind} needs the package {kind}, which is not installed: `pip install {kind}`, or "
                f"`pip install gsm-lab[track]` for all trackers; metrics.jsonl is written without it."
            )


def open_tracker(kind: str, folder: Path, name: str, settings: Mapping[str, Any]) -> Tracker:
    """A new, empty record of that name below `folder`; what was there of that name is thrown away.

    Raises:
        RunError: there is no such tracker, or its package is not installed.
    """
    check_trackers([kind])
    return KINDS[kind](folder, name, settings)
