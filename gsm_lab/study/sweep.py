"""Sweeps: all stages of many recipes, each trained and evaluated once.

The run folders are the only truth: a job is done when its folder says so. So a sweep can be killed at any moment, and
the same command goes on with what is missing. Its jobs are killed with it only when it ends in order; after a kill -9
they go on, and a sweep that finds a stage's folder held waits for whoever holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from gsm_lab.errors import RecipeError
from gsm_lab.study.recipe import Recipe
from gsm_lab.study.runs import StageFolder
from gsm_lab.study.sweep_executors import Executor, Exit, Handle
from gsm_lab.study.sweep_local import LocalExecutor
from gsm_lab.study.sweep_notes import (
    Failure,
    Taken,
    begin_log,
    failed,
    failure_of,
    log_of,
    mark_failed,
    note_taken,
    unmark,
)
from gsm_lab.study.sweep_progress import progress_of

ATTEMPTS = 2
"""What failed once is tried once more, however it failed: it resumes where it was."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One stage to train and evaluate."""

    recipe: Recipe
    number: int
    users: tuple[str, ...]
    """The names of the recipes that share it."""
    _folders: dict[Path, StageFolder] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def id(self) -> str:
        return self.recipe.stage_id(self.number)

    @cached_property
    def needs(self) -> str | None:
        """The job that must be done before."""
        return self.recipe.stage_id(self.number - 1) if self.number else None

    @property
    def label(self) -> str:
        """For people: stage and seed."""
        return f"{self.recipe.stages[self.number].name}, seed {self.recipe.seed}"

    def folder(self, home: Path) -> StageFolder:
        if home not in self._folders:
            self._folders[home] = StageFolder(home, self.recipe, self.number)
        return self._folders[home]

    def is_done(self, home: Path) -> bool:
        folder = self.folder(home)
        return folder.is_done and folder.is_evaluated

    def state(self, home: Path) -> str:
        """done, failed, begun or missing, as the folders say."""
        if self.is_done(home):
            return "done"
        if failed(home, self.id) is not None:
            return "failed"
        return "begun" if (self.folder(home).path / "config.json").exists() else "missing"


@dataclass
class SweepState:
    """What a sweep is doing; given to whoever shows it."""

    jobs: tuple[Job, ...]
    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    """Job to the time it began, in seconds since the epoch."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Job that another sweep or command is at, to who that is."""
    failed: dict[str, Failure] = field(default_factory=dict)

    @property
    def not_run(self) -> list[Job]:
        """Jobs that were not tried, for one that they need failed."""
        return [job for job in self.jobs if job.id not in {*self.done, *self.running, *self.elsewhere, *self.failed}]


@dataclass
class _Attempts:
    """What is known of the attempts at one job."""

    is_fresh: bool
    """Whether there was nothing of it before."""
    number: int = 0
    began: float = 0.0
    log_begin: int = 0
    handle: Handle | None = None
    exit: Exit = field(default_factory=lambda: Exit(None, "not begun"))


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
    executor: Executor | None = None,
    on_change: Callable[[SweepState], None] = lambda state: None,
) -> SweepState:
    """Run what is missing, `workers` jobs at a time with `threads` threads each; the state at the end.

    `command` gives the command line that trains and evaluates a job. A job whose predecessor failed is not run; one
    that another process is at is waited for. `on_change` is called at every poll. Without an executor, jobs are
    processes on this machine.
    """
    if workers < 1 or threads < 1:
        raise RecipeError(f"workers={workers} and threads={threads}: give 1 or more of each.")
    return _Sweep(plan(recipes), home, command, workers, threads, executor or LocalExecutor(threads)).run(on_change)


class _Sweep:
    """A sweep at work."""

    def __init__(
        self,
        jobs: tuple[Job, ...],
        home: Path,
        command: Callable[[Job], list[str]],
        workers: int,
        threads: int,
        executor: Executor,
    ) -> None:
        self._home = home
        self._command = command
        self._workers = workers
        self._threads = threads
        self._executor = executor
        self._attempts: dict[str, _Attempts] = {}
        self._state = SweepState(jobs, {job.id for job in jobs if job.is_done(home)})

    def run(self, on_change: Callable[[SweepState], None]) -> SweepState:
        state = self._state
        for name in state.done:
            unmark(self._home, name)
        try:
            while True:
                for job in [job for job in state.jobs if job.id in state.running]:
                    self._look_at(job)
                for job in self._ready():
                    self._begin_or_close(job)
                on_change(state)
                if not state.running and not state.elsewhere and not self._ready():
                    return state
                time.sleep(POLL_SECONDS)
        finally:
            for attempts in self._attempts.values():
                if attempts.handle is not None:
                    attempts.handle.cancel()
            self._executor.close()

    def _ready(self) -> list[Job]:
        """Jobs that could begin now."""
        state = self._state
        closed = {*state.done, *state.running, *state.failed}
        return [job for job in state.jobs if job.id not in closed and (job.needs is None or job.needs in state.done)]

    def _look_at(self, job: Job) -> None:
        """Note the end of an attempt."""
        attempts = self._attempts[job.id]
        assert attempts.handle is not None
        exit = attempts.handle.ended()
        if exit is None:
            return
        attempts.handle, attempts.exit = None, exit
        del self._state.running[job.id]
        if not job.is_done(self._home):
            return
        self._close(job)  # also where the command failed afterwards, as one does whose tracker broke
        if attempts.is_fresh and attempts.number == 1:
            seconds = round(time.time() - attempts.began, 3)
            evaluation = job.recipe.evaluation.id
            note_taken(self._home, job.id, Taken(job.label, seconds, evaluation, self._threads, self._executor.name))

    def _close(self, job: Job) -> None:
        self._state.done.add(job.id)
        unmark(self._home, job.id)

    def _begin_or_close(self, job: Job) -> None:
        """Begin a job that could, if there is room; or say that it is done, failed, or somebody else's."""
        state = self._state
        was_elsewhere = state.elsewhere.pop(job.id, None) is not None
        if job.is_done(self._home):
            self._close(job)
            return
        attempts = self._attempts.get(job.id)
        has_failed = attempts is not None and attempts.number >= ATTEMPTS
        is_full = len(state.running) >= self._workers
        if is_full and not has_failed and not was_elsewhere:
            return
        if holder := holder_of(job.folder(self._home)):
            state.elsewhere[job.id] = holder
        elif job.is_done(self._home):  # somebody finished it after the first look, and left before the second
            self._close(job)
        elif attempts is not None and has_failed:
            failure = failure_of(self._home, job.id, job.label, attempts.number, attempts.exit, attempts.log_begin)
            mark_failed(self._home, failure)
            state.failed[job.id] = failure
        elif not is_full:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        attempts = self._attempts.setdefault(job.id, _Attempts(progress_of(job.folder(self._home)).share() == 0))
        arguments = self._command(job)
        log = log_of(self._home, job.id)
        attempts.number += 1
        attempts.log_begin = begin_log(log, f"{job.label}: {' '.join(arguments)}")
        attempts.began = time.time()
        attempts.handle = self._executor.submit(arguments, log)
        self._state.running[job.id] = attempts.began


def holder_of(folder: StageFolder) -> str | None:
    """Who trains or evaluates a stage now; None if nobody does. It holds the stage itself for no longer than a look."""
    path = folder.path / ".lock"
    if not path.exists():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        try:
            return path.read_text(encoding="utf-8").strip() or "another process"
        except (OSError, ValueError):
            return "another process"
