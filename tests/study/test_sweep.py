"""Laws of sweeps: every shared stage once, in order; what is done is not done again; what failed twice is given up."""

import json
import re
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

import gsm_lab.study.sweep
from gsm_lab.errors import RecipeError
from gsm_lab.files import write_json
from gsm_lab.study import Evaluation, Job, plan, run_sweep
from gsm_lab.study.sweep_executors import ExecutorSettings, Exit, crowding
from gsm_lab.study.sweep_local import LocalExecutor

FAST = ["--help"]
"""The quickest command that ends well."""
BROKEN = ["run", "no-such-experiment:recipe"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(gsm_lab.study.sweep, "POLL_SECONDS", 0.01)


def finish(job: Job, home: Path) -> None:
    """Leave what a trained and evaluated stage leaves, as far as a sweep looks at it."""
    folder = job.folder(home)
    write_json(folder.path / "done.json", {})
    write_json(folder.evaluation / "done.json", {})


def local() -> LocalExecutor:
    """Forks from a process that has imported little."""
    return LocalExecutor(1, ("gsm_lab.cli",))


class FakeHandle:
    """A command that ends at the second look."""

    def __init__(self, exit: Exit) -> None:
        self.exit = exit
        self.looks = 0
        self.cancelled = False

    def ended(self) -> Exit | None:
        self.looks += 1
        return self.exit if self.looks > 1 else None

    def cancel(self) -> None:
        self.cancelled = True


class FakeExecutor:
    """Commands that print a line and end."""

    name = "fake"

    def __init__(self, exit: Exit = Exit(1), line: str = "") -> None:  # noqa: B008 (a frozen value)
        self.exit = exit
        self.line = line
        self.handles: list[FakeHandle] = []
        self.most = 0
        """Commands that ran at the same time."""
        self.closed = False

    def submit(self, arguments, log: Path) -> FakeHandle:
        with open(log, "a") as printed:
            printed.write(self.line)
        handle = FakeHandle(Exit(0) if arguments == FAST else self.exit)
        self.handles.append(handle)
        self.most = max(self.most, sum(one.looks < 2 for one in self.handles))
        return handle

    def close(self) -> None:
        self.closed = True


class FakeRuns:
    """Commands that do nothing; a job is finished when its command is asked for, unless it is to break."""

    def __init__(self, home: Path, breaks: dict[str, int] | None = None) -> None:
        self.home = home
        self.breaks = breaks or {}
        """How often the stage of that name breaks before it works."""
        self.begun: list[str] = []
        self.finished: list[Job] = []

    def __call__(self, job: Job) -> list[str]:
        name = job.recipe.stages[job.number].name
        assert job.needs is None or any(other.id == job.needs for other in self.finished), "begun too early"
        self.begun.append(name)
        if self.begun.count(name) <= self.breaks.get(name, 0):
            return BROKEN
        finish(job, self.home)
        self.finished.append(job)
        return FAST

    def sweep(self, recipes, workers=2, executor=None):
        self.finished = [job for job in plan(recipes) if job.is_done(self.home)]
        return run_sweep(recipes, self.home, self, workers=workers, threads=1, executor=executor or FakeExecutor())


def test_a_plan_names_every_shared_stage_once_and_after_what_it_needs(small):
    jobs = plan(small.recipes)
    assert [job.label for job in jobs] == ["base, seed 0", "mid, seed 0", "RL alone, seed 0", "RL, seed 0"]
    assert [job.users for job in jobs] == [("mid-rl", "rl"), ("mid-rl",), ("rl",), ("mid-rl",)]
    known = {None}
    for job in jobs:
        assert job.needs in known
        known.add(job.id)


def test_another_seed_shares_nothing(small_recipe):
    other = small_recipe.model_copy(update={"seed": 1, "name": "other"})
    assert len(plan([small_recipe, other])) == 2 * len(plan([small_recipe]))


def test_one_stage_under_two_names_is_refused(small_recipe):
    base, *rest = small_recipe.stages
    renamed = small_recipe.model_copy(
        update={"name": "other", "stages": (base.model_copy(update={"name": "foundation"}), *rest)}
    )
    with pytest.raises(RecipeError, match="'mid-rl' and 'other' share a stage, but call it 'base' and 'foundation'"):
        plan([small_recipe, renamed])


def test_one_stage_under_two_evaluations_is_refused(small_recipe):
    other = small_recipe.model_copy(update={"name": "other", "evaluation": Evaluation(ops=(2,))})
    with pytest.raises(RecipeError, match="or evaluate it differently"):
        plan([small_recipe, other])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_runs_every_stage_once_and_again_does_nothing(workers, small, tmp_path):
    runs, executor = FakeRuns(tmp_path), FakeExecutor()
    state = runs.sweep(small.recipes, workers, executor)
    assert Counter(runs.begun) == Counter(["base", "mid", "RL alone", "RL"])
    assert state.done == {job.id for job in plan(small.recipes)}
    assert not state.failed
    assert executor.most == workers
    assert executor.closed
    again = FakeRuns(tmp_path)
    assert again.sweep(small.recipes).done == state.done
    assert again.begun == []


def test_twelve_arms_share_one_base(small, tmp_path):
    base, rl = small.recipe("rl").stages
    arms = [
        small.recipe("rl").model_copy(
            update={
                "name": f"arm-{number}",
                "stages": (base, rl.model_copy(update={"name": f"RL {number}", "temperature": 1 + number / 100})),
            }
        )
        for number in range(12)
    ]
    assert len(plan(arms)) == 13
    runs = FakeRuns(tmp_path)
    runs.sweep(arms)
    assert runs.begun[0] == "base"
    assert Counter(runs.begun) == Counter(["base", *(f"RL {number}" for number in range(12))])


def test_a_sweep_does_only_what_is_missing(small, tmp_path):
    base, mid, *_ = plan(small.recipes)
    finish(base, tmp_path)
    finish(mid, tmp_path)
    (mid.folder(tmp_path).evaluation / "done.json").unlink()
    runs = FakeRuns(tmp_path)
    runs.sweep(small.recipes)
    assert Counter(runs.begun) == Counter(["mid", "RL alone", "RL"])


def test_what_failed_once_is_tried_again(small, tmp_path):
    runs = FakeRuns(tmp_path, {"RL": 1})
    state = runs.sweep(small.recipes)
    assert runs.begun.count("RL") == 2
    assert not state.failed
    assert len(state.done) == 4


def test_what_failed_twice_is_given_up_with_its_traceback_and_what_needs_it_is_not_run(small, tmp_path):
    line = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such thing\n'
    runs = FakeRuns(tmp_path, {"mid": 99})
    state = runs.sweep(small.recipes, executor=FakeExecutor(line=line))
    assert Counter(runs.begun) == Counter({"base": 1, "mid": 2, "RL alone": 1})
    mid = plan(small.recipes)[1]
    assert [*state.failed] == [mid.id]
    assert [job.label for job in state.not_run] == ["RL, seed 0"]
    failure = state.failed[mid.id]
    assert failure.text == (
        f"mid, seed 0 (2 attempts, exit code 1): ValueError: no such thing; see {tmp_path}/logs/{mid.id}.log"
    )
    mark = json.loads((tmp_path / "logs" / f"{mid.id}.failed.json").read_text())
    assert mark["traceback"] == line.splitlines()
    assert mid.state(tmp_path) == "failed"
    log = (tmp_path / "logs" / f"{mid.id}.log").read_text()
    assert log.count("mid, seed 0: run no-such-experiment:recipe\n") == 2  # the second attempt leaves the first one's


def test_the_mark_of_a_failure_is_of_its_last_attempt_and_goes_when_it_works(small, tmp_path):
    base = plan(small.recipes)[0]
    mark = tmp_path / "logs" / f"{base.id}.failed.json"
    FakeRuns(tmp_path, {"base": 99}).sweep(small.recipes, executor=FakeExecutor(Exit(-9), "step 3\n"))
    assert json.loads(mark.read_text())["error"] == "killed by SIGKILL, after: step 3"
    assert json.loads(mark.read_text())["traceback"] == ["step 3"]  # the first attempt's line is not repeated
    again = FakeRuns(tmp_path, {"base": 1})
    state = again.sweep(small.recipes)
    assert again.begun.count("base") == 2  # the same command tries twice again
    assert base.id in state.done
    assert not mark.exists()


def test_a_command_that_ends_well_without_a_result_has_failed(small_recipe, tmp_path):
    state = run_sweep(
        [small_recipe.until(0)], tmp_path, lambda job: FAST, workers=1, threads=1, executor=FakeExecutor()
    )
    assert [failure.error for failure in state.failed.values()] == ["the command ended well and left no result"]
    assert state.done == set()


def test_a_command_that_fails_after_its_job_is_done_has_not_failed(small, tmp_path):
    """As one does whose tracker broke: what needs the job is run."""

    def command(job: Job) -> list[str]:
        finish(job, tmp_path)
        return BROKEN

    state = run_sweep(small.recipes, tmp_path, command, workers=2, threads=1, executor=FakeExecutor())
    assert state.done == {job.id for job in plan(small.recipes)}
    assert not state.failed


def test_a_sweep_that_is_interrupted_ends_its_runs(small, tmp_path):
    def interrupt(state) -> None:
        raise KeyboardInterrupt

    executor = FakeExecutor()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(
            small.recipes, tmp_path, lambda job: FAST, workers=1, threads=1, executor=executor, on_change=interrupt
        )
    assert [handle.cancelled for handle in executor.handles] == [True]
    assert executor.closed


# ------------------------------------------------------------------------------------ beside other sweeps


def test_a_stage_that_somebody_else_is_at_is_waited_for_and_not_run(small, tmp_path):
    base = plan(small.recipes)[0]
    seen: list[str] = []

    def leave() -> None:
        deadline = time.monotonic() + 10
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
        finish(base, tmp_path)
        lock.release()

    folder = base.folder(tmp_path).path
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock", thread_local=False)
    lock.acquire()
    (folder / ".lock").write_text("process 7 on another machine\n")
    other = threading.Thread(target=leave)
    other.start()
    runs = FakeRuns(tmp_path)
    runs.finished = [base]
    state = run_sweep(
        small.recipes, tmp_path, runs, workers=2, threads=1, executor=FakeExecutor(),
        on_change=lambda state: seen.extend(state.elsewhere.values()),
    )  # fmt: skip
    other.join()
    assert {*seen} == {"process 7 on another machine"}
    assert Counter(runs.begun) == Counter(["mid", "RL alone", "RL"])
    assert len(state.done) == 4


def test_a_stage_that_somebody_finishes_while_it_is_looked_at_is_not_run(small, tmp_path, monkeypatch):
    base = plan(small.recipes)[0]

    def leaves(folder):
        if folder.path == base.folder(tmp_path).path:
            finish(base, tmp_path)

    monkeypatch.setattr(gsm_lab.study.sweep, "holder_of", leaves)
    runs = FakeRuns(tmp_path)
    runs.finished = [base]
    state = run_sweep(small.recipes, tmp_path, runs, workers=2, threads=1, executor=FakeExecutor())
    assert Counter(runs.begun) == Counter(["mid", "RL alone", "RL"])
    assert len(state.done) == 4


def test_a_stage_that_somebody_else_has_left_is_run(small, tmp_path):
    base = plan(small.recipes)[0]
    folder = base.folder(tmp_path).path
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("process 7 on another machine\n")  # whose lock died with it
    runs = FakeRuns(tmp_path)
    assert len(runs.sweep(small.recipes).done) == 4
    assert runs.begun.count("base") == 1


def test_a_stage_that_failed_here_while_somebody_else_is_at_it_has_not_failed(small, tmp_path):
    """As when its process was lost, but lives: it holds the stage, and finishes it."""
    base = plan(small.recipes)[0]
    folder = base.folder(tmp_path).path
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock", thread_local=False)
    begun: list[str] = []

    def command(job: Job) -> list[str]:
        begun.append(job.label)
        if job.id == base.id and begun.count(job.label) == 2:
            lock.acquire()
        elif job.id != base.id:
            finish(job, tmp_path)
        return BROKEN

    def release(state) -> None:
        if state.elsewhere:
            finish(base, tmp_path)
            lock.release()

    state = run_sweep(
        small.recipes, tmp_path, command, workers=1, threads=1, executor=FakeExecutor(), on_change=release
    )
    assert begun.count("base, seed 0") == 2
    assert not state.failed
    assert len(state.done) == 4


# ------------------------------------------------------------------------------------ processes on this machine


def test_local_runs_are_processes_whose_output_and_exit_are_kept(small_recipe, tmp_path):
    state = run_sweep([small_recipe.until(0)], tmp_path, lambda job: BROKEN, workers=1, threads=1, executor=local())
    (failure,) = state.failed.values()
    assert (failure.attempts, failure.exit) == (2, "exit code 1")
    assert failure.error.startswith("error: there is no experiment 'no-such-experiment'")
    assert Path(failure.log).read_text().count("error: there is no experiment") == 2


def wait_for(handle) -> Exit:
    for _ in range(1000):
        if (exit := handle.ended()) is not None:
            return exit
        time.sleep(0.01)
    raise AssertionError("it does not end")


@pytest.fixture
def endless(tmp_path) -> list[str]:
    """A command that does not end by itself."""
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / "recipes.py").write_text("import time\ntime.sleep(600)\n")
    return ["run", f"{tmp_path}/endless:recipe"]


def test_a_local_run_that_is_cancelled_ends(endless, tmp_path):
    executor = local()
    handle = executor.submit(endless, tmp_path / "log")
    assert handle.ended() is None
    handle.cancel()
    assert wait_for(handle) == Exit(-15)
    executor.close()


def test_a_starter_that_was_killed_is_replaced_and_its_runs_go_on(endless, tmp_path):
    executor = local()
    first = executor.submit(endless, tmp_path / "log")
    executor._starter._process.kill()
    executor._starter._process.wait()
    assert first.ended() is None
    assert wait_for(executor.submit(FAST, tmp_path / "log")) == Exit(0)
    assert first.ended() is None
    first.cancel()
    assert wait_for(first).text == "the process that started it was killed, and later it ended itself"
    executor.close()


# ------------------------------------------------------------------------------------ settings


def test_a_sweep_has_a_worker(small, tmp_path):
    with pytest.raises(RecipeError, match="workers=0 and threads=1: give 1 or more of each"):
        run_sweep(small.recipes, tmp_path, lambda job: FAST, workers=0, threads=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cloud"}, "executor='cloud': give one of local, ray, submitit"),
        ({"kind": "submitit", "cluster": "moon"}, "cluster='moon': give one of slurm, local"),
        ({"threads": 0}, "workers=2 and threads=0: give 1 or more of each"),
        ({"gpus": 1}, "divide this machine's GPUs with executor='ray'"),
        ({"kind": "submitit", "gpus": 0.5}, "give 0, 1, 2"),
        ({"minutes": 0}, "1 or more minutes"),
    ],
)
def test_settings_that_no_executor_has_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        ExecutorSettings(**settings)


def test_more_threads_than_cores_are_noticed_where_runs_are_local():
    assert "10000 workers with 2 threads each want 20000 cores" in crowding(ExecutorSettings(workers=10_000, threads=2))
    assert crowding(ExecutorSettings(workers=1, threads=1)) is None
    assert crowding(ExecutorSettings(kind="ray", workers=10_000)) is None


# ------------------------------------------------------------------------------------ through the command line


def test_a_sweep_finishes_what_was_begun_elsewhere_with_the_same_bytes(
    small, small_place, small_runs, tmp_path, gsm_lab, bytes_below
):
    """Base and mid-training are there; both arms of reinforcement learning are missing."""
    for job in plan(small.recipes)[:2]:
        shutil.copytree(small_runs / job.id, tmp_path / job.id, copy_function=shutil.copy2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    dry = gsm_lab("sweep", small_place, "--runs", tmp_path, "--dry-run")
    assert re.findall(r"  (done|missing) +(.*?),", dry.out) == [
        ("done", "base"),
        ("done", "mid"),
        ("missing", "RL alone"),
        ("missing", "RL"),
    ]
    done = gsm_lab("sweep", small_place, "--runs", tmp_path, "--workers", "2")
    assert (done.code, done.out) == (0, "4 of 4 runs done\n")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for job in plan(small.recipes)[2:]:
        ours, theirs = (bytes_below(home / job.id / "checkpoint") for home in (tmp_path, small_runs))
        assert ours == theirs


def test_a_sweep_with_a_failure_exits_with_1_and_names_the_log(small, small_place, copied_runs, gsm_lab):
    """The checkpoint of mid-training is damaged: reinforcement learning on it refuses to begin."""
    _, mid, _, last = plan(small.recipes)
    (copied_runs / mid.id / "checkpoint" / "model.safetensors").write_bytes(b"damaged")
    shutil.rmtree(copied_runs / last.id)
    failed = gsm_lab("sweep", small_place, "--runs", copied_runs, "--workers", "1")
    assert failed.code == 1
    assert failed.out == "3 of 4 runs done\n"
    assert "failed: RL, seed 0 (2 attempts, exit code 1): error: " in failed.err
    assert f"see {copied_runs}/logs/{last.id}.log" in failed.err
    assert "model.safetensors is missing or has changed" in (copied_runs / "logs" / f"{last.id}.log").read_text()


def test_a_sweep_of_no_recipe_is_refused(small_place, tmp_path, gsm_lab):
    refused = gsm_lab("sweep", small_place, "--only", "nano", "--runs", tmp_path, "--dry-run")
    assert refused.code == 2
    assert "the names are mid-rl, rl" in " ".join(refused.err.replace("│", " ").split())
    kept = gsm_lab("sweep", small_place, "--only", "mid", "--runs", tmp_path, "--dry-run")
    assert kept.out.count("  missing  ") == 3
