"""Documents from worker processes are those of this process, in order, and no process outlives its use."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import types

import pytest

from gsm_lab.data import DocumentWorkers, DrawnDocuments, ExerciseSource, Mixture, Packer, Slice, Tokenizer
from gsm_lab.data.workers import BLOCK
from gsm_lab.errors import DataError, TokenError
from gsm_lab.problems import ProblemSpec, load_template


@pytest.fixture(scope="module")
def source(mixture):
    return ExerciseSource(mixture, "pretrain", 0)


def test_batches_of_two_workers_are_those_of_this_process_and_no_process_is_left(source, tokenizer):
    here = Packer(source, tokenizer, 40, 1000)
    with DocumentWorkers(source, tokenizer, 2) as workers:
        there = Packer(workers, tokenizer, 40, 1000)
        cursor = 0
        while cursor < 3 * BLOCK:
            packed, following = here.batch(cursor)
            copy, copy_following = there.batch(cursor)
            assert copy_following == following
            for name in ("tokens", "targets", "positions", "documents", "loss_mask"):
                assert (getattr(copy, name) == getattr(packed, name)).all()
            cursor = following
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_from_any_cursor_on_the_documents_are_the_same_and_may_skip(source, tokenizer):
    drawn = DrawnDocuments(source, tokenizer)
    with DocumentWorkers(source, tokenizer, 2) as workers:
        for index in (BLOCK - 1, BLOCK - 2, BLOCK, 4 * BLOCK + 3, 4 * BLOCK + 2):
            there, here = workers.document(index), drawn.document(index)
            assert there.ids.tolist() == here.ids.tolist()
            assert there.num_prompt == here.num_prompt
        with pytest.raises(
            DataError, match=f"document {BLOCK} is wanted and the workers are past document {4 * BLOCK - 1}"
        ):
            workers.document(BLOCK)
        workers.close()
        assert workers.document(5).ids.tolist() == drawn.document(5).ids.tolist()


def test_a_killed_worker_is_an_error_that_says_so(source, tokenizer):
    with DocumentWorkers(source, tokenizer, 1) as workers:
        workers.document(0)
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match="ended with exit code -9: it was killed"):
            workers.document(100 * BLOCK)  # after the blocks that were on their way
    assert not multiprocessing.active_children()


def test_an_error_of_a_document_comes_in_its_place_after_the_documents_before_it():
    """A tokenizer that lacks the words of a rare slice."""
    slices = (Slice(ProblemSpec(op=1), "zoo", "terse", 0.998), Slice(ProblemSpec(op=1), "school", "terse", 0.002))
    source = ExerciseSource(Mixture(slices), "pretrain", 0)
    tokenizer = Tokenizer.for_templates([load_template("zoo", "terse").limited(10, 10)])
    first = next(
        block for block in range(100) if not any(map(source.slice_of, range(block * BLOCK, block * BLOCK + BLOCK)))
    )
    faulty = next(index for index in range(first * BLOCK, 1 << 20) if source.slice_of(index) == 1)
    last = faulty // BLOCK * BLOCK - 1
    with DocumentWorkers(source, tokenizer, 1) as workers:
        workers.document(first * BLOCK)
        assert workers.document(last).ids.tolist() == DrawnDocuments(source, tokenizer).document(last).ids.tolist()
        with pytest.raises(TokenError, match="is not among the") as raised:
            workers.document(faulty)
    assert "in block" in raised.value.__notes__[0], "the note says where in the worker"


def test_no_workers_are_refused(source, tokenizer):
    with pytest.raises(DataError, match="workers=0: give at least 1"):
        DocumentWorkers(source, tokenizer, 0)


def test_a_source_that_workers_cannot_import_is_an_error(mixture, tokenizer, monkeypatch):
    module = types.ModuleType("only_here")
    module.Unknown = type("Unknown", (ExerciseSource,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", module)
    source = module.Unknown(mixture, "pretrain", 0)
    with DocumentWorkers(source, tokenizer, 2) as workers, pytest.raises(ModuleNotFoundError, match="only_here"):
        workers.document(0)


UNGUARDED = """
import pickle, sys

from gsm_lab.data import DocumentWorkers

source, tokenizer = pickle.load(open(sys.argv[1], "rb"))
with DocumentWorkers(source, tokenizer, 2) as workers:
    workers.document(0)
"""


def test_a_script_without_a_guard_ends_with_an_error_that_names_it(source, tokenizer, tmp_path):
    """The worker fails before it reads what it is sent, however much that is."""
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    vars(source)["padding"] = bytes(1 << 16)  # more than a pipe holds
    (tmp_path / "source").write_bytes(pickle.dumps((source, tokenizer)))
    command = [sys.executable, str(tmp_path / "unguarded.py"), str(tmp_path / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "DataError: a worker that draws documents ended with exit code 1" in done.stderr
    assert 'started from a script without `if __name__ == "__main__":`' in done.stderr


READER = """
import multiprocessing, pickle, sys

from gsm_lab.data import DocumentWorkers
if __name__ == "__main__":
    workers = DocumentWorkers(*pickle.load(open(sys.argv[1], "rb")), 1)
    workers.document(0)
    print(multiprocessing.active_children()[0].pid, flush=True)
    sys.stdin.readline()
"""


def test_workers_end_when_the_process_that_started_them_is_killed(source, tokenizer, tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "source").write_bytes(pickle.dumps((source, tokenizer)))
    command = [sys.executable, str(tmp_path / "reader.py"), str(tmp_path / "source")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        worker = int(reader.stdout.readline())
        os.kill(reader.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_running(worker):
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its entry in the table."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
