"""Laws of sweeps: every shared stage once, in order; what is done is not done again; what failed twice is given up."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from gsm_lab.errors import RecipeError
from gsm_lab.files import write_json
from gsm_lab.study import Evaluation, Job, plan, run_sweep

FAST = ["--help"]
"""The quickest command that ends well."""
BROKEN = ["run", "no-such-experiment:recipe"]


def finish(job: Job, home: Path) -> None:
    """Leave what a trained and evaluated stage leaves, as far as a sweep looks at it."""
    folder = job.folder(home)
    write_json(folder.path / "done.json", {})
    write_json(folder.evaluation / "done.json", {})


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

    def sweep(self, recipes, workers=2):
        self.finished = [job for job in plan(recipes) if job.is_done(self.home)]
        return run_sweep(recipes, self.home, self, workers=workers, threads=1)


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
    runs = FakeRuns(tmp_path)
    state = runs.sweep(small.recipes, workers)
    assert Counter(runs.begun) == Counter(["base", "mid", "RL alone", "RL"])
    assert state.done == {job.id for job in plan(small.recipes)}
    assert not state.failed
    again = FakeRuns(tmp_path)
    assert again.sweep(small.recipes).done == state.done
    assert again.begun == []


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


def test_what_failed_twice_is_given_up_with_its_log_and_what_needs_it_is_not_run(small, tmp_path):
    runs = FakeRuns(tmp_path, {"mid": 99})
    state = runs.sweep(small.recipes)
    assert Counter(runs.begun) == Counter({"base": 1, "mid": 2, "RL alone": 1})
    mid = plan(small.recipes)[1]
    assert [*state.failed] == [mid.id]
    log = state.failed[mid.id].read_text()
    assert log.startswith("mid, seed 0: run no-such-experiment:recipe\n")
    assert log.count("mid, seed 0: run") == 2  # the second attempt leaves the first one's log
    assert "error: there is no experiment 'no-such-experiment'" in log


def test_a_command_that_ends_well_without_a_result_has_failed(small_recipe, tmp_path):
    state = run_sweep([small_recipe.until(0)], tmp_path, lambda job: FAST, workers=1, threads=1)
    assert [*state.failed] == [small_recipe.stage_id(0)]
    assert state.done == set()


def test_a_command_that_fails_after_its_job_is_done_has_not_failed(small, tmp_path):
    """As one does whose tracker broke: what needs the job is run."""

    def command(job: Job) -> list[str]:
        finish(job, tmp_path)
        return BROKEN

    state = run_sweep(small.recipes, tmp_path, command, workers=2, threads=1)
    assert state.done == {job.id for job in plan(small.recipes)}
    assert not state.failed


def test_a_sweep_has_a_worker(small, tmp_path):
    with pytest.raises(RecipeError, match="workers=0 and threads=1: give 1 or more of each"):
        run_sweep(small.recipes, tmp_path, lambda job: FAST, workers=0, threads=1)


# ------------------------------------------------------------------------------------ through the command line


def test_a_sweep_finishes_what_was_begun_elsewhere_with_the_same_bytes(
    small, small_place, small_runs, tmp_path, gsm_lab, bytes_below
):
    """Base and mid-training are there; both arms of reinforcement learning are missing."""
    for job in plan(small.recipes)[:2]:
        shutil.copytree(small_runs / job.id, tmp_path / job.id, copy_function=shutil.copy2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    dry = gsm_lab("sweep", small_place, "--runs", tmp_path, "--dry-run")
    assert re.findall(r"(done|missing) +(.*?),", dry.out) == [
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
    assert f"failed: RL, seed 0; see {copied_runs}/logs/{last.id}.log" in failed.err
    assert "model.safetensors is missing or has changed" in (copied_runs / "logs" / f"{last.id}.log").read_text()


def test_a_sweep_of_no_recipe_is_refused(small_place, tmp_path, gsm_lab):
    refused = gsm_lab("sweep", small_place, "--only", "nano", "--runs", tmp_path, "--dry-run")
    assert refused.code == 2
    assert "the names are mid-rl, rl" in " ".join(refused.err.replace("│", " ").split())
    kept = gsm_lab("sweep", small_place, "--only", "mid", "--runs", tmp_path, "--dry-run")
    assert kept.out.count("missing") == 3
