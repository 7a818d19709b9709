"""Laws of executors that cannot do the work: one error, with the remedy."""

import sys
from types import SimpleNamespace

import pytest

from gsm_lab.data.executors import check_executor, results
from gsm_lab.errors import DataError, RunError, StorageError


class RayError(Exception):
    """What Ray calls its errors."""


class RayTaskError(RayError):
    """The error of a task, which Ray hands on with a traceback for a message."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback\nof many lines")
        self.cause = cause


class FakeRay:
    """As much of Ray as the executor uses; tasks run when they are waited for, in this process."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, fails: Exception | None = None, is_lost: bool = False) -> None:
        self.fails, self.is_lost, self.is_on = fails, is_lost, False

    def is_initialized(self):
        return self.is_on

    def init(self, **settings):
        if self.fails:
            raise self.fails
        self.is_on = True

    def shutdown(self):
        self.is_on = False

    def remote(self, num_cpus):
        return lambda work: SimpleNamespace(remote=lambda common, piece: (work, common, piece))

    def put(self, common):
        return common

    def cluster_resources(self):
        return {"CPU": 1.0}

    def wait(self, tasks):
        return tasks[:1], tasks[1:]

    def cancel(self, task):
        pass

    def get(self, task):
        if self.is_lost:
            raise RayError("the node died")
        work, common, piece = task
        try:
            return work(common, piece)
        except Exception as error:
            raise RayTaskError(error) from error


@pytest.fixture
def ray(monkeypatch):
    """Puts a fake in Ray's place."""

    def put(**fields) -> FakeRay:
        fake = FakeRay(**fields)
        monkeypatch.setitem(sys.modules, "ray", fake)
        return fake

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return put


def added(common: int, piece: int) -> int:
    return common + piece


def unwritable(common: int, piece: int) -> int:
    raise StorageError(f"shard {piece} could not be written: free some space.")


def divided(common: int, piece: int) -> float:
    return common / piece


def test_a_cluster_gives_every_result_and_is_ended(ray):
    fake = ray()
    assert sorted(results(added, 10, range(9), 2, "ray")) == [*range(10, 19)]
    assert not fake.is_on


def test_without_ray_its_executor_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"needs Ray \(.*\): `pip install 'gsm-lab\[ray\]'`, or use executor='local'"):
        check_executor("ray")


def test_ray_that_does_not_start_is_one_line(ray):
    ray(fails=ConnectionError("no room\nat all"))
    with pytest.raises(RunError, match=r"^Ray did not start on this machine \(no room\): .* or use executor='local'.$"):
        list(results(added, 10, range(9), 2, "ray"))


def test_a_cluster_that_does_not_answer_is_named(ray, monkeypatch):
    ray(fails=ConnectionError())
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(
        RunError, match=r"at '10.0.0.1:6379' \(ConnectionError\): start one with `ray start.*unset RAY_ADDRESS"
    ):
        list(results(added, 10, range(9), 2, "ray"))


def test_the_error_of_a_task_is_told_as_it_was(ray):
    fake = ray()
    with pytest.raises(StorageError, match=r"^shard 0 could not be written: free some space.$"):
        list(results(unwritable, 10, range(9), 2, "ray"))
    assert not fake.is_on


def test_our_own_slip_in_a_task_keeps_its_traceback(ray):
    ray()
    with pytest.raises(RayTaskError, match="a traceback"):
        list(results(divided, 10, range(9), 2, "ray"))


def test_a_lost_worker_says_that_the_work_can_go_on(ray):
    ray(is_lost=True)
    with pytest.raises(DataError, match=r"Ray lost a worker or the cluster \(RayError\). Run the same command again"):
        list(results(added, 10, range(9), 2, "ray"))
