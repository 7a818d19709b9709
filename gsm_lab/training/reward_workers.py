"""Completions graded by worker processes while others are still being sampled; the scores are those of this process.

Imports no torch: neither does a worker, unless the reward does.
"""

import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple

from gsm_lab.errors import TrainingError
from gsm_lab.training.reward import Completion, Reward, Scored


class Graded(NamedTuple):
    """The scores of the completions of one prompt."""

    scores: Sequence[Scored]
    cpu_seconds: float
    """What it took to find them."""


Grading = Callable[[], Graded]
"""Called once, it waits until the scores are there; what the reward raised is raised here."""


class RewardWorkers:
    """Grades with `processes` processes, or in this one when there are none; to be used in a `with` statement.

    A group of completions goes to whichever process is free. Leaving the `with` statement ends all of them, whatever
    they are doing; and they end when this process is gone.

    Raises:
        TrainingError: a negative number of processes, or a reward that cannot be sent to one.
    """

    def __init__(self, reward: Reward, processes: int = 0) -> None:
        if processes < 0:
            raise TrainingError(f"{processes} processes to grade with: give 0 (grade in this one) or more.")
        self._reward = reward
        self._content = _pickled_reward(reward) if processes else b""
        self._processes = processes
        self._crew: list[_Worker] = []
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> "RewardWorkers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self, completions: Sequence[Completion]) -> Grading:
        """Begin to grade all completions of one prompt; returns at once.

        The grading raises what the reward raised, with the worker's traceback in its notes; or TrainingError when a
        worker was killed. Without processes, it grades when it is called.
        """
        if not self._processes:
            return partial(_graded, self._reward, completions)
        if self._threads is None:
            self._crew = [_Worker(self._content) for _ in range(self._processes)]
            self._free = SimpleQueue()
            for worker in self._crew:
                self._free.put(worker)
            self._threads = ThreadPoolExecutor(self._processes)
        return self._threads.submit(self._grade, completions).result

    def _grade(self, completions: Sequence[Completion]) -> Graded:
        """In one of as many threads as there are processes: let a free process grade, and wait for it."""
        worker = self._free.get()
        try:
            return worker.grade(completions)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes; what is graded later starts new ones."""
        for worker in self._crew:
            worker.end()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        for worker in self._crew:
            worker.forget()
        self._crew = []


class _Worker:
    """A process that grades, and our end of the pipe to it."""

    def __init__(self, content: bytes) -> None:
        context = get_context("spawn")
        self._unsent = content
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer_all, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def grade(self, completions: Sequence[Completion]) -> Graded:
        """Let the process grade, and wait for it.

        Raises:
            TrainingError: the process is gone.
        """
        content = pickle.dumps(completions)
        try:
            if self._unsent:
                self._pipe.send_bytes(self._unsent)
                self._unsent = b""
            self._pipe.send_bytes(content)
            answer: Graded | Exception = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise TrainingError(
                f"a process that grades ended with exit code {self._process.exitcode}: it was killed, for want of "
                f'memory perhaps, or started from a script without `if __name__ == "__main__":`. Run the same command '
                f"again, with fewer reward_workers: the run goes on from its last saved state."
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """End the process; who waits for it learns that it is gone."""
        self._process.terminate()

    def forget(self) -> None:
        """Free what belongs to a process that was ended."""
        self._process.join()
        self._process.close()
        self._pipe.close()


def _pickled_reward(reward: Reward) -> bytes:
    try:
        return pickle.dumps(reward)
    except Exception as error:
        raise TrainingError(
            f"the reward {reward!r} cannot be sent to another process ({error}): make it a function or a class of a "
            f"module, with values that can be pickled, or set reward_workers to 0."
        ) from error


def _graded(reward: Reward, completions: Sequence[Completion]) -> Graded:
    began = time.thread_time()
    scores = reward(completions)
    return Graded(scores, time.thread_time() - began)


def _answer_all(pipe: Connection) -> None:
    """In a worker: take a reward, then grade with it until nobody asks. Ctrl-C is for who started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # who started us is gone or done
        reward = _loaded_reward(pipe.recv_bytes())
        while True:
            pipe.send_bytes(_answer(reward, pipe.recv_bytes()))


def _loaded_reward(content: bytes) -> Reward:
    """The reward; or one that raises the reason why it could not be loaded, so that every question is answered."""
    try:
        reward: Reward = pickle.loads(content)
        return reward
    except Exception as error:
        reason = error

        def raises(completions: Sequence[Completion]) -> Sequence[Scored]:
            raise reason

        return raises


def _answer(reward: Reward, content: bytes) -> bytes:
    """The pickled scores of pickled completions, or the pickled exception that came of them."""
    try:
        return pickle.dumps(_graded(reward, pickle.loads(content)))
    except Exception as error:
        return _pickled_exception(error)


def _pickled_exception(error: Exception) -> bytes:
    """The exception with its traceback as a note; one that would be lost on the way is told by a TrainingError."""
    told = "".join(traceback.format_exception(error))
    error.add_note(told)
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:
        return pickle.dumps(
            TrainingError(f"the reward raised {type(error).__name__} in a process that grades:\n{told}")
        )
    return content
