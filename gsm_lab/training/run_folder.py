"""The folder of one training run: its exact states and its logs, always telling the same story.

`metrics.jsonl` holds what the run computed and is part of its identity: a run that was killed and resumed leaves the
same bytes as one that was not. `timings.jsonl` holds how long it took, which is nobody's identity. A state remembers
length and checksum of the metrics when it was saved; resuming cuts off what was logged after that, and does it again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gsm_lab.errors import CheckpointError, StorageError
from gsm_lab.files import write_bytes
from gsm_lab.training.optimizer import Optimizer
from gsm_lab.training.state import StateFolder, TrainingState

OnMetrics = Callable[[Mapping[str, Any]], None]
"""Called with every line of metrics."""

METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
_NOTHING = hashlib.sha256().hexdigest()


class RunFolder:
    """States and logs below `folder`."""

    def __init__(self, folder: Path, fingerprint: str, keep_states: int) -> None:
        self.folder = folder
        self._states = StateFolder(folder / "state", fingerprint, keep_states)
        self._saved_step: int | None = None
        self._logged = hashlib.sha256()
        """Of all bytes of the metrics."""

    def resume(self, model: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
        """Go back to the newest state: its counters, or None and empty logs when nothing was saved yet.

        Raises:
            CheckpointError: the state is damaged or another run's, or the metrics are not those that it remembers.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._states.load(model, optimizer)
        length, checksum = (0, _NOTHING) if state is None else state.counters["metrics"]
        self._logged = _keep_bytes(self.folder / METRICS, length, checksum)
        _keep_lines(self.folder / TIMINGS, _num_lines(self.folder / METRICS))
        if state is None:
            return None
        self._saved_step = state.step
        return dict(state.counters["progress"])

    def log(self, metrics: Mapping[str, Any], timings: Mapping[str, Any]) -> None:
        """Append one line to each log."""
        for name, line in ((METRICS, metrics), (TIMINGS, timings)):
            text = json.dumps(line, allow_nan=False) + "\n"
            try:
                with open(self.folder / name, "a", encoding="utf-8") as log:
                    log.write(text)
            except OSError as error:
                raise StorageError(
                    f"{self.folder / name} could not be written ({error}): free some space, then run the same "
                    f"command again; it goes on from the last state."
                ) from error
            if name == METRICS:
                self._logged.update(text.encode())

    def save(self, step: int, progress: Mapping[str, Any], model: nn.Module, optimizer: Optimizer) -> None:
        """Save the state after `step` steps, unless it is the one that was saved or loaded last."""
        if step == self._saved_step:
            return
        metrics = (_flushed_length(self.folder / METRICS), self._logged.hexdigest())
        counters = {"progress": dict(progress), "metrics": metrics}
        self._states.save(TrainingState(step, counters), model, optimizer)
        self._saved_step = step


def _flushed_length(path: Path) -> int:
    """Bytes in the file, all of them on the disk."""
    if not path.exists():
        return 0
    with open(path, "rb+") as log:
        os.fsync(log.fileno())
        return os.fstat(log.fileno()).st_size


def _keep_bytes(path: Path, length: int, checksum: str) -> "hashlib._Hash":
    """Cut the file off after `length` bytes; the running checksum of what is left, which is `checksum`."""
    content = path.read_bytes() if path.exists() else b""
    if len(content) < length:
        raise CheckpointError(
            f"{path} has {len(content)} bytes, but had {length} when the state beside it was saved: lines are gone. "
            f"Put the file back, or remove the run's folder to begin anew."
        )
    kept = hashlib.sha256(content[:length])
    if kept.hexdigest() != checksum:
        raise CheckpointError(
            f"{path} is not what it was when the state beside it was saved: lines were changed. "
            f"Put the file back, or remove the run's folder to begin anew."
        )
    if len(content) > length:
        os.truncate(path, length)
    return kept


def _num_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def _keep_lines(path: Path, count: int) -> None:
    if _num_lines(path) > count:
        write_bytes(path, b"".join(path.read_bytes().splitlines(keepends=True)[:count]))
