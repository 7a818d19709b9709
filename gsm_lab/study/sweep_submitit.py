"""Jobs of a sweep as jobs of SLURM, through submitit; or, for trials, through submitit on this machine.

submitit keeps its own scripts and pickles in the folder `logs/submitit` of the runs, which all machines have to see.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from gsm_lab.errors import RunError
from gsm_lab.study.sweep_executors import ExecutorSettings, Exit, run_command


class SubmititExecutor:
    """Submits a job of SLURM for every job."""

    name = "submitit"

    def __init__(self, settings: ExecutorSettings, folder: Path) -> None:
        try:
            submitit: Any = import_module("submitit")  # only here, and Any whether it is installed or not
        except ImportError as error:
            raise RunError(
                "executor='submitit' needs submitit: `pip install gsm-lab[submitit]`, or use executor='local'."
            ) from error
        self._threads = settings.threads
        try:
            self._executor = submitit.AutoExecutor(folder=folder.resolve(), cluster=settings.cluster)
        except RuntimeError as error:
            raise RunError(
                f"this machine submits nothing to SLURM ({error}): go to one that has sbatch, or try with "
                f"--cluster local."
            ) from error
        self._executor.update_parameters(
            name="gsm-lab",
            timeout_min=settings.minutes,
            cpus_per_task=settings.threads,
            gpus_per_node=int(settings.gpus),
            stderr_to_stdout=True,
        )
        if settings.partition is not None:
            self._executor.update_parameters(slurm_partition=settings.partition)

    def submit(self, arguments: Sequence[str], log: Path) -> _SubmititHandle:
        job = self._executor.submit(run_command, list(arguments), str(log.resolve()), self._threads, os.getcwd())
        return _SubmititHandle(job)

    def close(self) -> None:
        """Nothing is held: jobs of SLURM need no one who waits for them."""


class _SubmititHandle:
    def __init__(self, job: Any) -> None:
        self._job = job

    def ended(self) -> Exit | None:
        if not self._job.done():
            return None
        if not self._job.paths.result_pickle.exists():  # asking for it would wait
            return Exit(None, f"the job {self._job.job_id} left no result (state {self._job.state})")
        error = self._job.exception()
        if error is not None:
            return Exit(None, f"the job {self._job.job_id} broke: {str(error).strip().splitlines()[-1]}")
        return Exit(self._job.result())

    def cancel(self) -> None:
        self._job.cancel(check=False)
