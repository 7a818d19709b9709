"""Laws of plans and progress: what is known of the past is said, what is not known is said to be unknown."""

import json
import os
import shutil

import pytest

from gsm_lab.files import write_json
from gsm_lab.study import SweepState, plan
from gsm_lab.study.sweep_costs import Cost, costs_of, past_of, wall_seconds
from gsm_lab.study.sweep_executors import Exit
from gsm_lab.study.sweep_notes import Failure, Taken, begin_log, failure_of, log_of, mark_failed, note_taken, taken
from gsm_lab.study.sweep_progress import Progress, progress_of, seconds_left
from gsm_lab.study.sweep_table import SweepWatch, duration, plan_lines


def other_seed(recipes):
    return [recipe.model_copy(update={"seed": 7, "name": f"{recipe.name}-7", "save_every": 11}) for recipe in recipes]


@pytest.fixture
def timed_runs(small, copied_runs):
    """The small runs with round times: each stage trained 3 s in all its steps, and was tested in 2 s."""
    for job in plan(small.recipes):
        folder = job.folder(copied_runs)
        lines = [
            {"step": step, "seconds": 1.0, "tokens_per_second": 5.0, "grading_cpu_seconds": 9.0} for step in range(3)
        ]
        (folder.path / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(folder.evaluation / "config.json", (1000, 1000))
        os.utime(folder.evaluation / "done.json", (1002, 1002))
    return copied_runs


def test_a_stage_costs_what_its_like_took_with_another_seed(small, timed_runs):
    jobs = plan(other_seed(small.recipes))
    assert costs_of(jobs, past_of(timed_runs)) == {job.id: Cost(5.0, 0.4, "by files") for job in jobs}


def test_what_a_sweep_has_measured_counts_more(small, timed_runs):
    base, *_ = plan(small.recipes)
    note_taken(timed_runs, base.id, Taken(base.label, 10.0, small.recipes[0].evaluation.id, 1, "local"))
    note_taken(timed_runs, base.id, Taken(base.label, 99.0, small.recipes[0].evaluation.id, 1, "local"))  # said before
    costs = costs_of(plan(other_seed(small.recipes)), past_of(timed_runs))
    assert [cost.source for cost in costs.values()] == ["measured", "by files", "by files", "by files"]
    assert next(iter(costs.values())) == Cost(10.0, 0.2, "measured")


def test_a_stage_with_other_settings_costs_by_its_tokens(small, timed_runs):
    """Twice the steps of training, 3 s each time; the evaluation is the same."""
    recipe = small.recipe("rl")
    base = recipe.stages[0].model_copy(update={"steps": 240})
    (job,) = plan([recipe.model_copy(update={"stages": (base,)})])
    assert costs_of([job], past_of(timed_runs)) == {job.id: Cost(8.0, 0.25, "per token")}


def test_another_evaluation_costs_by_its_tokens(small, timed_runs):
    """Three times the samples, each with twice the tokens; the training is known."""
    recipe = small.recipe("rl")
    asked = recipe.evaluation
    longer = asked.model_copy(update={"samples": 3 * asked.samples, "max_new_tokens": 2 * asked.max_new_tokens})
    base, _ = plan([recipe.model_copy(update={"evaluation": longer})])
    assert costs_of([base], past_of(timed_runs)) == {base.id: Cost(15.0, 0.8, "by files")}


def test_of_another_model_nothing_is_known(small, timed_runs):
    recipe = small.recipe("rl")
    wider = recipe.model_copy(update={"scale": recipe.scale.model_copy(update={"ffn": 128})})
    jobs = plan([wider])
    assert costs_of(jobs, past_of(timed_runs)) == {}
    assert "cost unknown: no stage with such a model is done" in plan_lines(jobs, timed_runs, 2, 1)[-1]


def test_a_past_that_cannot_be_read_is_none(small, timed_runs):
    base, mid, *_ = plan(small.recipes)
    (base.folder(timed_runs).path / "timings.jsonl").write_text("{")
    (mid.folder(timed_runs).path / "config.json").write_text('{"stages": []}')
    (timed_runs / "logs").mkdir()
    (timed_runs / "logs" / f"{mid.id}.json").write_text("[1]")
    assert taken(timed_runs, mid.id) is None
    assert len(past_of(timed_runs)) == 2  # of the two others


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (1, 21.0),  # all, one after the other
        (2, 16.0),  # base 1, then mid 5 beside RL alone 5, then RL 10
        (9, 16.0),
    ],
)
def test_the_time_on_the_wall_follows_needs_and_workers(workers, seconds, small):
    jobs = plan(small.recipes)
    left = dict(zip([job.id for job in jobs], [1.0, 5.0, 5.0, 10.0], strict=True))
    assert wall_seconds(jobs, left, workers) == seconds


def test_the_plan_says_what_there_is_and_what_it_takes(small, timed_runs):
    *_, alone, last = plan(small.recipes)
    shutil.rmtree(alone.folder(timed_runs).evaluation)  # trained, not tested: 2 of 5 s are left
    (last.folder(timed_runs).path / "done.json").unlink()
    mark_failed(timed_runs, Failure(last.id, last.label, 2, "exit code 1", "error", (), "log"))
    lines = plan_lines(plan(small.recipes), timed_runs, 2, 3)
    assert [line.split()[1] for line in lines[:4]] == ["done", "done", "begun", "failed"]
    assert "for 2 recipes" in lines[0]
    assert "for 1 recipe " in lines[2]
    assert lines[4] == "4 stages: 2 done, 1 begun, 1 failed"
    assert "core-hours" in lines[5]
    new = plan_lines(plan(other_seed(small.recipes)), timed_runs, 2, 3)
    assert new[0].endswith("5 s (by files)")
    # 4 stages of 5 s with 3 threads; base, two beside one another, the last
    assert new[4:] == ["4 stages: 4 missing", "0.02 core-hours; 15 s with 2 workers of 3 threads"]


def test_seconds_are_said_in_the_units_that_matter():
    assert [duration(seconds) for seconds in (0.4, 59, 60, 3599, 3600, 90_061)] == [
        "0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 1 min"
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ progress


def test_progress_is_the_last_whole_line_and_the_whole_files(small, copied_runs):
    base, _, _, last = plan(small.recipes)
    folder = last.folder(copied_runs)
    assert progress_of(folder) == Progress(6, 6, 2, 2, True)
    assert progress_of(folder).share() == 1
    shutil.rmtree(folder.evaluation)
    assert (progress_of(folder).text, progress_of(folder).share(0.5)) == ("test 0/2", 0.5)
    (folder.path / "done.json").unlink()
    (folder.path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"step": 2')
    assert progress_of(folder).text == "step 2/6"  # rollouts are numbered from 0
    metrics = base.folder(copied_runs).path / "metrics.jsonl"
    (base.folder(copied_runs).path / "done.json").unlink()
    metrics.write_text('{"step": 60, "long": "' + "x" * 100_000 + '"}\n{"step": 90}\n')
    assert progress_of(base.folder(copied_runs)).text == "step 90/120"
    metrics.write_text("")
    assert progress_of(base.folder(copied_runs)).share() == 0


def test_the_time_left_is_what_was_watched_and_before_that_what_is_known():
    assert seconds_left(0.5, 100.0, 0.5, 10.0) == 50.0  # nothing was watched yet
    assert seconds_left(0.5, None, 0.5, 10.0) is None
    assert seconds_left(0.75, 100.0, 0.5, 10.0) == 10.0  # a quarter in 10 s


def test_a_watch_sorts_what_runs_before_what_waits_and_sums_the_rest_up(small, timed_runs):
    recipes = other_seed(small.recipes)
    base, mid, *_ = jobs = plan(recipes)
    state = SweepState(jobs, running={base.id: 0.0})
    now = [0.0]
    watch = SweepWatch(timed_runs, 2, lambda: now[0])
    rows, left = watch.look(state)
    assert [(row.stage, row.state, row.left) for row in rows] == [
        ("base", "running", 5.0), ("mid", "waiting", 5.0), ("RL alone", "waiting", 5.0), ("RL", "waiting", 5.0)
    ]  # fmt: skip
    assert left == 15.0
    write_json(base.folder(timed_runs).path / "config.json", {})
    (base.folder(timed_runs).path / "metrics.jsonl").write_text('{"step": 60}\n')
    now[0] = 6.0
    rows, left = watch.look(state)
    assert rows[0].text == "base, seed 7: step 60/120, 30%, 14 s left"  # 0.6 of it is training, half of that in 6 s
    state = SweepState(jobs, done={base.id}, failed={mid.id: Failure(mid.id, "", 2, "", "broken", (), "")})
    rows, left = watch.look(state)
    assert [(row.stage, row.state) for row in rows] == [
        ("mid", "failed"), ("RL alone", "ready"), ("RL", "waiting"), ("base", "done")
    ]  # fmt: skip
    assert left == 5.0  # what needs mid will not run


# ------------------------------------------------------------------------------------ notes


@pytest.mark.parametrize(
    ("exit", "printed", "error"),
    [
        (Exit(1), "step 1\nerror: no disk\n/a/path\n", "error: no disk"),
        (Exit(1), "Traceback\n  File\nKeyError: 3\n\n", "KeyError: 3"),
        (Exit(-15), "step 1\n", "killed by SIGTERM, after: step 1"),
        (Exit(-99), "", "killed by signal 99"),
        (Exit(None, "the machine is gone"), "", "the machine is gone"),
        (Exit(1), "", "it printed nothing"),
        (Exit(0), "fine\n", "the command ended well and left no result"),
    ],
)
def test_a_failure_says_what_broke(exit, printed, error, tmp_path):
    log = log_of(tmp_path, "id")
    begin_log(log, "first")
    begin = begin_log(log, "second")
    with open(log, "a") as file:
        file.write(printed)
    found = failure_of(tmp_path, "id", "base, seed 0", 2, exit, begin)
    assert found.error == error
    assert "second" not in found.traceback


def test_a_failure_keeps_the_end_of_a_long_log(tmp_path):
    log = log_of(tmp_path, "id")
    begin = begin_log(log, "first")
    with open(log, "a") as file:
        file.writelines(f"line {number}\n" for number in range(100_000))
    found = failure_of(tmp_path, "id", "base, seed 0", 2, Exit(1), begin)
    assert found.traceback == tuple(f"line {number}" for number in range(99_970, 100_000))
