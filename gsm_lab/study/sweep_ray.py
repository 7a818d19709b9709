"""Jobs of a sweep as tasks of a Ray cluster, each with its own cores and GPUs; all machines see the same folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsm_lab.data import start_ray
from gsm_lab.errors import RunError
from gsm_lab.study.sweep_executors import ExecutorSettings, Exit, run_command


class RayExecutor:
    """Submits a task a job, which Ray begins where there is room."""

    name = "ray"

    def __init__(self, settings: ExecutorSettings) -> None:
        self._threads = settings.threads
        self._cancelled: list[Any] = []
        instead = "leave --address out to start one for this sweep"
        self._ray = start_ray(settings.workers * settings.threads, settings.address, instead=instead)
        self._refuse_what_never_fits(settings)
        needs = {"num_cpus": settings.threads, "num_gpus": settings.gpus, "max_retries": 0}  # retries are the sweep's
        self._task = self._ray.remote(**needs)(run_command)

    def _refuse_what_never_fits(self, settings: ExecutorSettings) -> None:
        """A task that asks for more than the cluster has would wait for ever, without a word."""
        found = self._ray.cluster_resources()
        cores, gpus = found.get("CPU", 0), found.get("GPU", 0)
        if cores < settings.threads or gpus < settings.gpus:
            self.close()
            raise RunError(
                f"a run wants {settings.threads} cores and {settings.gpus:g} GPUs, and the whole cluster has {cores:g} "
                f"and {gpus:g}: lower --threads or --gpus-per-run, or give --address of a larger one."
            )

    def submit(self, arguments: Sequence[str], log: Path) -> _RayHandle:
        reference = self._task.remote(list(arguments), str(log.resolve()), self._threads, os.getcwd())
        return _RayHandle(self._ray, reference, self._cancelled)

    def close(self) -> None:
        if self._cancelled:  # a task that is given no time to end its command leaves it behind
            self._ray.wait(self._cancelled, num_returns=len(self._cancelled), timeout=10)
        self._ray.shutdown()


class _RayHandle:
    def __init__(self, ray: Any, reference: Any, cancelled: list[Any]) -> None:
        self._ray = ray
        self._reference = reference
        self._cancelled = cancelled

    def ended(self) -> Exit | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return Exit(self._ray.get(self._reference))
        except self._ray.exceptions.RayError as error:
            return Exit(None, f"Ray: {type(error).__name__}: {str(error).splitlines()[0]}")

    def cancel(self) -> None:
        self._ray.cancel(self._reference)
        self._cancelled.append(self._reference)
