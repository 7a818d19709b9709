"""Where the jobs of a sweep are carried out: processes on this machine, tasks of a Ray cluster, or jobs of SLURM.

All of them run the same command, `python -m gsm_lab run ...`, with the same number of threads; it fills its job's
folder, and that is all that a sweep looks at. So executors cannot change what comes out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gsm_lab.errors import RecipeError

EXECUTORS = ("local", "ray", "submitit")
CLUSTERS = ("slurm", "local")
"""What submitit is given; "local" are processes on this machine, for trials."""


@dataclass(frozen=True)
class Exit:
    """How a command ended."""

    code: int | None
    """As of a process: minus the number of the signal that killed it. None if nobody knows."""
    note: str = ""
    """What is known instead."""

    @property
    def text(self) -> str:
        """For people."""
        if self.code is None:
            return self.note
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


class Handle(Protocol):
    """A command that was submitted."""

    def ended(self) -> Exit | None:
        """How it ended; None as long as it waits or runs. Returns at once."""

    def cancel(self) -> None:
        """End it, or see that it does not begin; does not wait."""


class Executor(Protocol):
    """Carries out commands."""

    name: str

    def submit(self, arguments: Sequence[str], log: Path) -> Handle:
        """Begin `gsm-lab *arguments`, now or when there is room; what it prints is added to `log`."""

    def close(self) -> None:
        """Let go of what was started to run commands; those that run are not waited for."""


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """What `--executor` and its options say.

    Raises:
        RecipeError: there is no such executor, or it has no such setting.
    """

    kind: str = "local"
    workers: int = 2
    threads: int = 1
    gpus: float = 0
    """Of each run; on Ray a share of one is possible."""
    address: str | None = None
    """Of a Ray cluster; one is started here if there is none."""
    cluster: str = "slurm"
    partition: str | None = None
    minutes: int = 24 * 60
    """Longest time of a run on SLURM."""

    def __post_init__(self) -> None:
        if self.kind not in EXECUTORS:
            raise RecipeError(f"executor={self.kind!r}: give one of {', '.join(EXECUTORS)}.")
        if self.cluster not in CLUSTERS:
            raise RecipeError(f"cluster={self.cluster!r}: give one of {', '.join(CLUSTERS)}.")
        if self.workers < 1 or self.threads < 1:
            raise RecipeError(f"workers={self.workers} and threads={self.threads}: give 1 or more of each.")
        if self.gpus < 0 or self.minutes < 1:
            raise RecipeError(f"gpus={self.gpus} and minutes={self.minutes}: give 0 or more GPUs, 1 or more minutes.")
        if self.kind == "local" and self.gpus:
            raise RecipeError(
                f"gpus={self.gpus:g} with executor='local', whose runs all see the GPUs of CUDA_VISIBLE_DEVICES: leave "
                f"it out, or divide this machine's GPUs with executor='ray'."
            )
        if self.kind == "submitit" and self.gpus % 1:
            raise RecipeError(f"gpus={self.gpus:g} with executor='submitit', which has whole GPUs: give 0, 1, 2 ...")


def open_executor(settings: ExecutorSettings, home: Path) -> Executor:
    """The executor of these settings, for runs below `home`.

    Raises:
        RunError: it needs a package that is not installed, or a cluster that does not answer.
    """
    if settings.kind == "ray":
        from gsm_lab.study.sweep_ray import RayExecutor

        return RayExecutor(settings)
    if settings.kind == "submitit":
        from gsm_lab.study.sweep_submitit import SubmititExecutor

        return SubmititExecutor(settings, home / "logs" / "submitit")
    from gsm_lab.study.sweep_local import LocalExecutor

    return LocalExecutor(settings.threads)


def crowding(settings: ExecutorSettings) -> str | None:
    """What is to be said if the runs ask for more cores than this machine has; other machines look after theirs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = settings.workers * settings.threads
    if settings.kind != "local" or wanted <= cores:
        return None
    return (
        f"{settings.workers} workers with {settings.threads} threads each want {wanted} cores, and there are {cores}: "
        f"they will wait for one another. Give fewer with --workers or --threads."
    )


def environment_of(threads: int) -> dict[str, str]:
    """The variables of a run: this process's own, and the number of its threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "CI": "1"}


def run_command(arguments: Sequence[str], log: str, threads: int, place: str) -> int:
    """On the machine of an executor: run `gsm-lab *arguments` in the folder `place`; its exit code."""
    with open(log, "ab") as output:
        return subprocess.run(
            [sys.executable, "-m", "gsm_lab", *arguments],
            cwd=place, env=environment_of(threads), stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
        ).returncode  # fmt: skip
