"""How far a job is, from the last lines of its own files; cheap enough to ask every second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gsm_lab.study.recipe import Reinforce
from gsm_lab.study.runs import StageFolder

TEST_SHARE = 0.2
"""Of a job's time, for its evaluation, where nothing is known."""
_TAIL_BYTES = 65_536
"""More than a line of metrics has."""


@dataclass(frozen=True)
class Progress:
    """What there is of a job."""

    steps: int = 0
    all_steps: int = 1
    tests: int = 0
    all_tests: int = 1
    is_trained: bool = False

    @property
    def text(self) -> str:
        """For people."""
        return f"test {self.tests}/{self.all_tests}" if self.is_trained else f"step {self.steps}/{self.all_steps}"

    def share(self, test_share: float = TEST_SHARE) -> float:
        """Of the job's time, 0 to 1."""
        trained = 1.0 if self.is_trained else min(1.0, self.steps / self.all_steps)
        return (1 - test_share) * trained + test_share * self.tests / self.all_tests


def progress_of(folder: StageFolder) -> Progress:
    """How far the stage in this folder is."""
    stage = folder.recipe.stages[folder.number]
    all_tests = len(folder.recipe.evaluation.ops)
    if folder.is_done:
        tests = all_tests if folder.is_evaluated else len([*folder.evaluation.glob("op-*.parquet")])
        return Progress(stage.steps, stage.steps, tests, all_tests, True)
    step = _last_step(folder.path / "metrics.jsonl")
    done = 0 if step is None else step + isinstance(stage, Reinforce)  # rollouts are numbered from 0
    return Progress(done, stage.steps, 0, all_tests)


def _last_step(path: Path) -> int | None:
    """The step of the last whole line of metrics."""
    try:
        with open(path, "rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _TAIL_BYTES))
            lines = log.read().split(b"\n")
        return int(json.loads(lines[-2])["step"])
    except (OSError, ValueError, IndexError, KeyError):  # nothing yet, or it is being cut back
        return None


def seconds_left(share: float, cost: float | None, share_at_first: float, watched: float) -> float | None:
    """Of a job at `share` whose whole cost is known, or that was watched for so many seconds since another share."""
    if share - share_at_first > 0.02:
        return watched * (1 - share) / (share - share_at_first)
    return None if cost is None else cost * (1 - share)
