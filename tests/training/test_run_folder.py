"""Logs and states of a run tell the same story, or the run is refused by name."""

import json

import pytest

from gsm_lab.errors import CheckpointError, StorageError
from gsm_lab.training import Optimizer, OptimizerSettings
from gsm_lab.training.run_folder import METRICS, TIMINGS, RunFolder


@pytest.fixture
def parts(tiny_model):
    model = tiny_model()
    return model, Optimizer(model, OptimizerSettings())


def run_of(folder, parts, steps, saved_at) -> RunFolder:
    """A run that logged `steps` steps and saved its state after one of them."""
    run = RunFolder(folder, "this run", keep_states=2)
    run.resume(*parts)
    for step in range(1, steps + 1):
        run.log({"step": step}, {"step": step, "seconds": 0.5})
        if step == saved_at:
            run.save(step, {"step": step}, *parts)
    return run


def steps_in(path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_what_was_logged_after_the_state_is_cut_off(tmp_path, parts):
    run_of(tmp_path, parts, steps=5, saved_at=3)
    with open(tmp_path / METRICS, "a") as log:
        log.write('{"step": 6, "half a li')
    assert RunFolder(tmp_path, "this run", 2).resume(*parts) == {"step": 3}
    assert steps_in(tmp_path / METRICS) == steps_in(tmp_path / TIMINGS) == [1, 2, 3]


def test_without_a_state_logs_begin_anew(tmp_path, parts):
    run_of(tmp_path, parts, steps=2, saved_at=None)
    assert RunFolder(tmp_path, "this run", 2).resume(*parts) is None
    assert steps_in(tmp_path / METRICS) == steps_in(tmp_path / TIMINGS) == []


def test_lines_that_are_gone_are_noticed(tmp_path, parts):
    run_of(tmp_path, parts, steps=3, saved_at=3)
    content = (tmp_path / METRICS).read_bytes()
    (tmp_path / METRICS).write_bytes(content[:-1])
    run = RunFolder(tmp_path, "this run", 2)
    with pytest.raises(
        CheckpointError, match=r"metrics.jsonl has 35 bytes, but had 36 .* lines are gone. Put the file"
    ):
        run.resume(*parts)
    (tmp_path / METRICS).write_bytes(content)  # the remedy of the message works
    assert run.resume(*parts) == {"step": 3}


def test_a_log_that_was_changed_is_noticed(tmp_path, parts):
    run_of(tmp_path, parts, steps=3, saved_at=3)
    (tmp_path / METRICS).write_text((tmp_path / METRICS).read_text().replace('"step": 2', '"step": 7'))
    run = RunFolder(tmp_path, "this run", 2)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl is not what it was when the state beside it was saved"):
        run.resume(*parts)


def test_another_runs_folder_is_refused_and_left_as_it_was(tmp_path, parts):
    run_of(tmp_path, parts, steps=4, saved_at=3)
    other = RunFolder(tmp_path, "another run", 2)
    with pytest.raises(CheckpointError, match="state-00000003 belongs to another run"):
        other.resume(*parts)
    assert steps_in(tmp_path / METRICS) == [1, 2, 3, 4]


def test_a_state_is_saved_once(tmp_path, parts):
    run = run_of(tmp_path, parts, steps=3, saved_at=3)
    written = (tmp_path / "state/state-00000003").stat().st_mtime_ns
    run.save(3, {"step": 3}, *parts)
    assert (tmp_path / "state/state-00000003").stat().st_mtime_ns == written


def test_a_number_that_is_none_is_not_logged(tmp_path, parts):
    run = run_of(tmp_path, parts, steps=1, saved_at=None)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.log({"loss": float("nan")}, {})


def test_a_log_that_cannot_be_written_says_what_to_do(tmp_path, parts):
    run = run_of(tmp_path, parts, steps=1, saved_at=1)
    (tmp_path / METRICS).unlink()
    (tmp_path / METRICS).mkdir()
    with pytest.raises(StorageError, match=r"metrics.jsonl could not be written .* free some space, then run the same"):
        run.log({"step": 2}, {})
