"""Grading in worker processes: the scores of this process, in order; errors go through; no process outlives its use."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsm_lab.errors import TrainingError
from gsm_lab.training import RewardWorkers

ROOT = Path(__file__).parents[2]
GROUPS = [[(group, (number * 5 % 7, 1), number % 2 == 0) for number in range(6)] for group in range(5)]


@pytest.fixture(autouse=True, scope="module")
def graders():
    """The module of rewards, where worker processes find it, too."""
    sys.path.insert(0, str(Path(__file__).parent))
    import graders

    yield graders
    sys.path.remove(str(Path(__file__).parent))


def scores_with(reward, processes: int) -> list:
    with RewardWorkers(reward, processes) as workers:
        gradings = [workers.start(group) for group in GROUPS]
        return [list(grading().scores) for grading in gradings]


@pytest.mark.parametrize("processes", [1, 3])
def test_scores_are_those_of_this_process_in_the_order_of_the_groups(processes, graders):
    here = scores_with(graders.middle, 0)
    assert here == [graders.middle(group) for group in GROUPS]
    assert sum(scored.reward for scored in here[0]) == 1.0  # so a group was graded as a whole
    assert scores_with(graders.slow_at_first, processes) == here


def test_grading_goes_on_while_this_process_does_something_else(graders, tmp_path):
    with RewardWorkers(graders.Waits(tmp_path / "file"), 1) as workers:
        grading = workers.start(GROUPS[0])  # returns, though the file that the reward waits for is not there
        (tmp_path / "file").touch()
        assert list(grading().scores) == graders.middle(GROUPS[0])


def test_no_processes_are_started_for_none(graders):
    with RewardWorkers(graders.middle, 0) as workers:
        assert list(workers.start(GROUPS[0])().scores) == graders.middle(GROUPS[0])
        assert not multiprocessing.active_children()


def test_the_seconds_are_those_of_the_grading_and_not_of_waiting(graders):
    for processes in (0, 1):
        with RewardWorkers(graders.slow_at_first, processes) as workers:
            assert 0 < workers.start(GROUPS[0])().cpu_seconds < 0.1  # it slept for 0.2


def test_a_worker_needs_no_torch(graders):
    assert {scored.verdict for group in scores_with(graders.imported, 1) for scored in group} == {""}
    assert "torch" in scores_with(graders.imported, 0)[0][0].verdict


@pytest.mark.parametrize("processes", [0, 1])
def test_what_the_reward_raises_is_raised_here_and_not_a_reward_of_0(processes, graders):
    with RewardWorkers(graders.fails, processes) as workers:
        gradings = [workers.start(group) for group in GROUPS]
        assert [scored.reward for scored in gradings[2]().scores] == [0.5] * 6
        with pytest.raises(ZeroDivisionError) as raised:
            gradings[0]()  # the payload of the first group is 0
    if processes:
        assert 'in fails\n    return [Scored(1 / completions[0][0], "any"' in raised.value.__notes__[0]


def test_an_exception_that_would_be_lost_on_the_way_is_told(graders):
    with (
        RewardWorkers(graders.fails_oddly, 1) as workers,
        pytest.raises(TrainingError, match=r"(?s)raised SplitError in a process that grades.*one, two"),
    ):
        workers.start(GROUPS[0])()


def test_a_reward_that_cannot_be_loaded_says_why(graders):
    with RewardWorkers(graders.Unloadable(), 1) as workers:
        grading = workers.start(GROUPS[0])
        with pytest.raises(ValueError, match=r"invalid literal for int.*'no number'"):
            grading()


def test_a_reward_that_cannot_be_sent_is_refused_before_any_work():
    with pytest.raises(TrainingError, match=r"cannot be sent to another process .* or set reward_workers to 0"):
        RewardWorkers(lambda completions: [], 1)
    RewardWorkers(lambda completions: [], 0)  # the near miss: here it need not be sent


def test_a_killed_worker_ends_the_run_and_says_so(graders):
    with RewardWorkers(graders.endless, 1) as workers:
        grading = workers.start(GROUPS[0])
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"ended with exit code -9: it was killed.*with fewer reward_workers"):
            grading()


def test_leaving_ends_the_processes_whatever_they_do(graders):
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="something else broke"), RewardWorkers(graders.endless, 2) as workers:  # noqa: PT012
        for group in GROUPS:
            workers.start(group)
        assert len(multiprocessing.active_children()) == 2
        raise RuntimeError("something else broke")
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 30


def test_processes_do_not_outlive_a_parent_that_was_killed(graders):
    program = (
        "import multiprocessing, os, sys, time; import graders; from gsm_lab.training import RewardWorkers\n"
        "workers = RewardWorkers(graders.middle, 2)\n"
        "gradings = [workers.start([(0, (1,), True)] * 3) for _ in range(4)]\n"
        "[grading() for grading in gradings]\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "time.sleep(3600)"
    )
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while any(is_running(pid) for pid in children):
        assert time.monotonic() < until, "a worker is still there"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its entry in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
