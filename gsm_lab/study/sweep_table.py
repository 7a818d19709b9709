"""What people see of a sweep: the plan with its cost, and where every job is while it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsm_lab.study.sweep import Job, SweepState
from gsm_lab.study.sweep_costs import Cost, costs_of, past_of, wall_seconds
from gsm_lab.study.sweep_progress import TEST_SHARE, progress_of, seconds_left

ORDER = ("running", "elsewhere", "failed", "ready", "waiting", "done")
"""How rows are sorted: what a person looks for comes first."""


def plan_lines(jobs: Sequence[Job], home: Path, workers: int, threads: int) -> list[str]:
    """A line a job: what there is of it, how many recipes share it, what it will take; and what all will take."""
    costs = costs_of(jobs, past_of(home))
    states = {job.id: job.state(home) for job in jobs}
    left = _left(jobs, home, costs)
    width = max(len(job.label) for job in jobs)
    lines = []
    for job in jobs:
        cost = costs.get(job.id)
        is_open = states[job.id] != "done"
        known = f"{duration(left[job.id])} ({cost.source})" if is_open and cost else "unknown" if is_open else ""
        recipes = f"for {len(job.users)} recipe{'s' * (len(job.users) > 1)}"
        lines.append(f"{job.id}  {states[job.id]:<7}  {job.label:<{width}}  {recipes:<14}  {known}".rstrip())
    open_jobs = [job for job in jobs if states[job.id] != "done"]
    counts = Counter(states.values())
    total = ", ".join(f"{counts[word]} {word}" for word in ("done", "begun", "failed", "missing") if counts[word])
    lines.append(f"{len(jobs)} stages: {total}")
    if open_jobs:
        lines.append(_sum_of(open_jobs, left, workers, threads))
    return lines


def _sum_of(jobs: Sequence[Job], left: dict[str, float], workers: int, threads: int) -> str:
    known = {job.id: left.get(job.id, 0.0) for job in jobs}
    unknown = sum(job.id not in left for job in jobs)
    if unknown == len(jobs):
        return f"cost unknown: no stage with such a model is done in these runs ({workers} workers, {threads} threads)"
    hours = sum(known.values()) * threads / 3600
    wall = duration(wall_seconds(jobs, known, workers))
    text = f"{hours:.2f} core-hours; {wall} with {workers} workers of {threads} threads"
    return f"at least {text}, without {unknown} stages of unknown cost" if unknown else text


def _left(jobs: Sequence[Job], home: Path, costs: dict[str, Cost]) -> dict[str, float]:
    """Seconds that are left of every job whose cost is known."""
    return {
        job.id: costs[job.id].seconds * (1 - progress_of(job.folder(home)).share(costs[job.id].test_share))
        for job in jobs
        if job.id in costs
    }


def duration(seconds: float) -> str:
    """Seconds in the two units that matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass(frozen=True)
class Row:
    """Where a job is."""

    stage: str
    seed: int
    state: str
    """One of ORDER."""
    doing: str
    """Step or test; why it failed; who else is at it."""
    share: float
    """Of its time, 0 to 1."""
    left: float | None
    """Seconds."""

    @property
    def text(self) -> str:
        """For a line of progress."""
        known = "" if self.left is None else f", {duration(self.left)} left"
        return f"{self.stage}, seed {self.seed}: {self.doing}, {self.share:.0%}{known}"


class SweepWatch:
    """Follows a sweep: a row a job, and the time that is left."""

    def __init__(self, home: Path, workers: int, now: Callable[[], float] = time.time) -> None:
        self._home = home
        self._workers = workers
        self._now = now
        self._costs: dict[str, Cost] | None = None
        self._first: dict[str, tuple[float, float]] = {}
        """Of jobs that run: their share when they were first looked at, and when that was."""

    def look(self, state: SweepState) -> tuple[list[Row], float | None]:
        """Rows in the order of ORDER, and seconds until all is done; None if a job's are unknown."""
        if self._costs is None:
            self._costs = costs_of(state.jobs, past_of(self._home))
        left = {job.id: 0.0 for job in state.jobs if job.id in {*state.done, *state.failed}}
        rows = []
        for job in state.jobs:
            row = self._row(job, state)
            rows.append(row)
            if row.left is not None:
                left[job.id] = row.left
        lost = _lost(state)
        open_jobs = [job for job in state.jobs if job.id not in lost and job.id not in {*state.done, *state.failed}]
        is_known = all(job.id in left for job in open_jobs)
        total = (
            wall_seconds(open_jobs, {job.id: left[job.id] for job in open_jobs}, self._workers) if is_known else None
        )
        return sorted(rows, key=lambda row: ORDER.index(row.state)), total

    def _row(self, job: Job, state: SweepState) -> Row:
        stage = job.recipe.stages[job.number].name
        if job.id in state.done:
            return Row(stage, job.recipe.seed, "done", "", 1.0, 0.0)
        if job.id in state.failed:
            return Row(stage, job.recipe.seed, "failed", state.failed[job.id].error, 0.0, None)
        assert self._costs is not None
        cost = self._costs.get(job.id)
        progress = progress_of(job.folder(self._home))
        share = progress.share(cost.test_share if cost else TEST_SHARE)
        seconds = cost.seconds if cost else None
        if job.id in state.running or job.id in state.elsewhere:
            now = self._now()
            at_first, since = self._first.setdefault(job.id, (share, now))
            doing = progress.text
            word = "running"
            if job.id in state.elsewhere:
                word, doing = "elsewhere", f"{progress.text} ({state.elsewhere[job.id]})"
            return Row(stage, job.recipe.seed, word, doing, share, seconds_left(share, seconds, at_first, now - since))
        word = "ready" if job.needs is None or job.needs in state.done else "waiting"
        return Row(stage, job.recipe.seed, word, "", share, seconds_left(share, seconds, share, 0.0))


def _lost(state: SweepState) -> set[str]:
    """Jobs that will not run, for one that they need failed."""
    lost = {*state.failed}
    for job in state.jobs:
        if job.needs in lost:
            lost.add(job.id)
    return lost - {*state.failed}
