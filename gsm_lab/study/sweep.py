"""Sweeps: all stages of many recipes, each trained and evaluated once, as subprocesses on this machine.

The run folders are the only truth: a job is done when its folder says so. So a sweep can be killed at any moment, and
the same command goes on with what is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsm_lab.errors import RecipeError
from gsm_lab.files import write_text
from gsm_lab.study.recipe import Recipe
from gsm_lab.study.runs import StageFolder

ATTEMPTS = 2
"""What failed once is tried once more: it resumes where it was."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One stage to train and evaluate."""

    recipe: Recipe
    number: int
    users: tuple[str, ...]
    """The names of the recipes that share it."""

    @property
    def id(self) -> str:
        return self.recipe.stage_id(self.number)

    @property
    def needs(self) -> str | None:
        """The job that must be done before."""
        return self.recipe.stage_id(self.number - 1) if self.number else None

    @property
    def label(self) -> str:
        """For people: stage and seed."""
        return f"{self.recipe.stages[self.number].name}, seed {self.recipe.seed}"

    def folder(self, home: Path) -> StageFolder:
        return StageFolder(home, self.recipe, self.number)

    def is_done(self, home: Path) -> bool:
        folder = self.folder(home)
        return folder.is_done and folder.is_evaluated


@dataclass
class SweepState:
    """What a sweep is doing; given to whoever shows it."""

    jobs: tuple[Job, ...]
    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    """Job to the time it began, in seconds since the epoch."""
    failed: dict[str, Path] = field(default_factory=dict)
    """Job to the log that holds its traceback."""


def plan(recipes: Sequence[Recipe]) -> tuple[Job, ...]:
    """Every stage of every recipe once, each after the one it needs.

    Raises:
        RecipeError: two recipes share a stage but not its name or its evaluation.
    """
    found: dict[str, tuple[Recipe, int, list[str]]] = {}
    for recipe in recipes:
        for number, stage in enumerate(recipe.stages):
            first, first_number, users = found.setdefault(recipe.stage_id(number), (recipe, number, []))
            users.append(recipe.name)
            if first.stages[first_number].name != stage.name or first.evaluation != recipe.evaluation:
                raise RecipeError(
                    f"recipes {first.name!r} and {recipe.name!r} share a stage, but call it "
                    f"{first.stages[first_number].name!r} and {stage.name!r} or evaluate it differently: "
                    f"give it one name and one evaluation."
                )
    jobs = [Job(recipe, number, tuple(users)) for recipe, number, users in found.values()]
    return tuple(sorted(jobs, key=lambda job: job.number))


def run_sweep(
    recipes: Sequence[Recipe],
    home: Path,
    command: Callable[[Job], list[str]],
    *,
    workers: int,
    threads: int,
    on_change: Callable[[SweepState], None] = lambda state: None,
) -> SweepState:
    """Run what is missing, `workers` jobs at a time with `threads` threads each; the state at the end.

    `command` gives the command line that trains and evaluates a job. A job whose predecessor failed is not run.
    """
    if workers < 1 or threads < 1:
        raise RecipeError(f"workers={workers} and threads={threads}: give 1 or more of each.")
    state = SweepState(plan(recipes))
    attempts: dict[str, int] = {}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    state.done = {job.id for job in state.jobs if job.is_done(home)}
    try:
        while True:
            for job in list(_ended(state, processes)):
                del processes[job.id]
                if job.is_done(home):  # a tracker that broke makes the command fail, but not the job
                    state.done.add(job.id)
                elif attempts[job.id] >= ATTEMPTS:
                    state.failed[job.id] = _log_of(job, home)
                del state.running[job.id]
                on_change(state)
            for job in _ready(state)[: workers - len(processes)]:
                attempts[job.id] = attempts.get(job.id, 0) + 1
                processes[job.id] = _start(job, home, command(job), threads)
                state.running[job.id] = time.time()
                on_change(state)
            if not processes:
                return state
            time.sleep(POLL_SECONDS)
            on_change(state)
    finally:
        for process in processes.values():
            process.terminate()


def _ended(state: SweepState, processes: dict[str, subprocess.Popen[bytes]]) -> Iterator[Job]:
    for job in state.jobs:
        if job.id in processes and processes[job.id].poll() is not None:
            yield job


def _ready(state: SweepState) -> list[Job]:
    """Jobs that can begin now."""
    closed = {*state.done, *state.running, *state.failed}
    return [job for job in state.jobs if job.id not in closed and (job.needs is None or job.needs in state.done)]


def _log_of(job: Job, home: Path) -> Path:
    return home / "logs" / f"{job.id}.log"


def _start(job: Job, home: Path, arguments: list[str], threads: int) -> subprocess.Popen[bytes]:
    """Begin an attempt; its log goes on where that of the attempt before ended."""
    log = _log_of(job, home)
    before = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    write_text(log, f"{before}{job.label}: {' '.join(arguments)}\n")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "CI": "1"}
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gsm_lab", *arguments], stdout=output, stderr=output, env=environment
        )
