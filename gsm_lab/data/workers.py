"""Documents drawn ahead of their use by worker processes, without files: the same that this process would draw."""

import itertools
import os
import signal
import traceback
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread
from types import TracebackType

from gsm_lab.data.documents import Block, Document, DrawnDocuments, Exercises
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import DataError

BLOCK = 256
"""Documents that a worker draws at a time."""
AHEAD = 8
"""Blocks that every worker draws ahead of their use."""


class DocumentWorkers:
    """A provider for `Packer` that draws with `workers` processes; to be used in a `with` statement.

    Block b, of 256 documents, is drawn by worker b modulo the number of workers, each ahead of its use. The processes
    start with the first document that is asked for, whichever that is; from there documents are asked for in increasing
    order, which may skip some and go back within a block.

    Raises:
        DataError: no workers.
    """

    def __init__(self, source: Exercises, tokenizer: Tokenizer, workers: int = 1) -> None:
        if workers < 1:
            raise DataError(f"workers={workers}: give at least 1.")
        self._documents = DrawnDocuments(source, tokenizer)
        self._num_workers = workers
        self._crew: list[_Worker] = []
        self._first = self._next = 0
        """The block that the workers began with, and the one that comes next."""
        self._block: Block | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Whose ids the documents are made of."""
        return self._documents.tokenizer

    def __enter__(self) -> "DocumentWorkers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a document that is asked for later starts new ones."""
        for worker in self._crew:
            worker.stop()
        self._crew = []
        self._block = None

    def document(self, index: int) -> Document:
        """Document `index`, not before those of the block that was asked for last.

        Raises:
            DataError: a worker was killed, or the document lies behind.
        """
        number = index // BLOCK
        if not self._crew:
            self._start(number)
        if number < self._next - (self._block is not None):
            raise DataError(
                f"document {index} is wanted and the workers are past document {(self._next - 1) * BLOCK - 1}: ask in "
                f"increasing order, or close these workers first."
            )
        while self._block is None or self._next <= number:
            self._block = self._crew[(self._next - self._first) % len(self._crew)].receive()
            self._next += 1
        return self._block.document(index % BLOCK)

    def _start(self, number: int) -> None:
        """Start the workers with this block."""
        self._first = self._next = number
        for first in range(number, number + self._num_workers):
            self._crew.append(_Worker(self._documents, first, self._num_workers))


class _Worker:
    """A process that draws every `step`-th block from `first` on, and our end of the pipe from it.

    It outlives us by one block at most: the pipe breaks when we are gone, and then it ends.
    """

    def __init__(self, documents: DrawnDocuments, first: int, step: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_draw_blocks, args=(theirs, first, step), daemon=True)
        self.process.start()
        theirs.close()
        with suppress(OSError):  # it is gone already: `receive` will say so
            self.pipe.send(documents)  # among the arguments, a process that fails to start would never be noticed

    def receive(self) -> Block:
        """Its next block; an exception that it met is raised.

        Raises:
            DataError: the process is gone.
        """
        try:
            block: Block | Exception = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise DataError(
                f"a worker that draws documents ended with exit code {self.process.exitcode}: it was killed, for want "
                f'of memory perhaps, or started from a script without `if __name__ == "__main__":`. '
                f"Start again, with fewer workers; the documents will be the same."
            ) from error
        if isinstance(block, Exception):
            raise block
        return block

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        self.process.close()


def _draw_blocks(pipe: Connection, first: int, step: int) -> None:
    """In a worker: draw some blocks ahead, until nobody listens. Ctrl-C is for the process that started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waiting: Queue[Block | Exception] = Queue(maxsize=AHEAD)
    sender = Thread(target=_send_all, args=(pipe, waiting), daemon=True)
    sender.start()
    try:
        documents: DrawnDocuments = pipe.recv()
        for number in itertools.count(first, step):
            waiting.put(documents.block(number * BLOCK, (number + 1) * BLOCK))
    except Exception as error:  # raised again by `_Worker.receive`, after the blocks before it
        error.add_note("".join(traceback.format_exception(error)))
        waiting.put(error)
        sender.join()


def _send_all(pipe: Connection, waiting: "Queue[Block | Exception]") -> None:
    """In a thread of a worker, so that drawing does not wait for the reader until it is far ahead."""
    while True:
        block = waiting.get()
        try:
            pipe.send(block)
        except OSError:  # the process that started us is gone or done
            os._exit(0)
        if isinstance(block, Exception):
            return
