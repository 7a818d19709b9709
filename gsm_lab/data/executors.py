"""Where pieces of work are done: in this process, in a pool of processes on this machine, or as Ray tasks on a cluster.

The work is a pure function of what all pieces have in common and of the piece, so that executors cannot change what
comes out, only in which order and how soon.
"""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing.connection import wait
from typing import Any, TypeVar

from gsm_lab.errors import DataError, GsmLabError, RunError

Common = TypeVar("Common")
Piece = TypeVar("Piece")
Result = TypeVar("Result")
Work = Callable[[Common, Piece], Result]
EXECUTORS = ("local", "ray")
WAITING = 4
"""Ray tasks submitted ahead, for each that can run."""


def check_executor(executor: str) -> None:
    """Refuse what is none of `EXECUTORS`, or not installed.

    Raises:
        DataError: it is none of them.
        RunError: it is not installed.
    """
    if executor not in EXECUTORS:
        raise DataError(f"executor={executor!r}: give one of {', '.join(EXECUTORS)}.")
    if executor == "ray":
        ray_module()


def results(
    work: Work[Common, Piece, Result], common: Common, pieces: Sequence[Piece], workers: int, executor: str = "local"
) -> Iterator[Result]:
    """`work(common, piece)` for every piece, as soon as each is done.

    Args:
        work: a function of a module, with results that can be sent between processes.
        common: what every piece needs; sent once to a cluster.
        pieces: the pieces of work.
        workers: "local": processes, of which 1 means this one. "ray": CPUs of a cluster started here; a cluster that is
            connected, or that RAY_ADDRESS names, has its own number.
        executor: one of `EXECUTORS`.

    Raises:
        DataError: an unknown executor, or a worker that was killed.
        RunError: one that is not installed or does not start.
    """
    check_executor(executor)
    if executor == "ray":
        return _on_ray(work, common, pieces, workers)
    if workers == 1 or len(pieces) < 2:
        return (work(common, piece) for piece in pieces)
    return _in_pool(work, common, pieces, workers)


def _in_pool(
    work: Work[Common, Piece, Result], common: Common, pieces: Sequence[Piece], workers: int
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(pieces)), mp_context=context, initializer=end_with_parent)
    try:
        for done in as_completed([pool.submit(work, common, piece) for piece in pieces]):
            yield done.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker of {workers} was killed, for want of memory perhaps, or started from a script without "
            f'`if __name__ == "__main__":`. Run the same command again, with fewer workers: whole files are kept.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """End this process when its parent is gone: a parent that is killed cannot tell its pool to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ray_module() -> Any:
    """Ray, imported only here; Any, whether it is installed or not.

    Raises:
        RunError: it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise RunError(
            f"executor='ray' needs Ray ({error}): `pip install 'gsm-lab[ray]'`, or use executor='local'."
        ) from error


def start_ray(cpus: int, address: str | None = None, *, instead: str) -> Any:
    """Ray, connected to a cluster, or started on this machine with so many CPUs.

    The cluster is at `address`, or where RAY_ADDRESS says; `instead` tells a user how to start one here.

    Raises:
        RunError: it is not installed, no cluster answers, or it does not start.
    """
    ray = ray_module()
    address = address or os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": cpus}
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises that class itself, among others
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if address:
            raise RunError(
                f"no Ray cluster answers at {address!r} ({reason}): start one with `ray start --head`, or {instead}."
            ) from error
        raise RunError(
            f"Ray did not start on this machine ({reason}): try again when it is less busy, or use executor='local'."
        ) from error
    return ray


def _on_ray(
    work: Work[Common, Piece, Result], common: Common, pieces: Sequence[Piece], workers: int
) -> Iterator[Result]:
    ray = ray_module()
    is_ours = not ray.is_initialized()
    if is_ours:
        start_ray(workers, instead="unset RAY_ADDRESS to start one on this machine")
    running: list[Any] = []
    try:
        remote, shared = ray.remote(num_cpus=1)(work), ray.put(common)
        limit = WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
        for piece in pieces:
            running.append(remote.remote(shared, piece))
            if len(running) >= limit:
                done, running = ray.wait(running)
                yield ray.get(done[0])
        while running:
            done, running = ray.wait(running)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GsmLabError):  # the task's own error, without the traceback that Ray makes of it
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise DataError(
            f"Ray lost a worker or the cluster ({type(error).__name__}). Run the same command again: whole files are "
            f"kept."
        ) from error
    finally:
        for task in running:
            ray.cancel(task)
        if is_ours:
            ray.shutdown()
