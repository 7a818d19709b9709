"""Killed at random moments, sweeps leave the results of one that was not, and compute no stage twice; so do executors.

By hand: see swept_studies.py.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gsm_lab.study import load_experiment, plan

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("swept_studies.py")
KILLS = 10
TWELVE = Path(__file__).with_name("twelve")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def sweep(place: object, runs: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "gsm_lab", "sweep", place, "--runs", runs, *options)


@pytest.mark.parametrize("kind", ["sweep", "workers"])
def test_kills_change_no_result_and_no_stage_is_computed_twice(kind, small_place, tmp_path):
    done = python(PROGRAM, small_place, tmp_path, "--kill", kind, "--kills", KILLS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "wrong: nothing" in done.stdout
    assert len(re.findall("^killed .* trained, ", done.stdout, re.MULTILINE)) == KILLS
    at_work = len(re.findall("^killed .* trained, [12] at work$", done.stdout, re.MULTILINE))
    assert at_work >= KILLS / 2, f"only {at_work} kills found runs at work: {done.stdout}"


def checksums(runs: Path, experiment) -> dict[str, object]:
    """Of every checkpoint and evaluation, and the bytes of every log."""
    return {
        job.label: (job.folder(runs).result(), job.folder(runs).evaluated(), job.folder(runs).metrics().read_bytes())
        for job in plan(experiment.recipes)
    }


@pytest.mark.parametrize(
    "options", [("local",), ("ray",), ("submitit", "--cluster", "local")], ids=lambda kind: kind[0]
)
def test_every_executor_gives_the_same_checksums(options, small, small_place, small_runs, tmp_path):
    """As the stages that were run in one process, without a sweep."""
    package = options[0]
    if package != "local" and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")  # an extra; make test-slow installs both
    done = sweep(small_place, tmp_path, "--executor", *options)
    assert (done.returncode, done.stdout) == (0, "4 of 4 runs done\n"), done.stderr
    assert checksums(tmp_path, small) == checksums(small_runs, small)
    for job in plan(small.recipes):
        assert json.loads((tmp_path / "logs" / f"{job.id}.json").read_text())["executor"] == package


@pytest.mark.parametrize("options", [("ray",), ("submitit", "--cluster", "local")], ids=lambda kind: kind[0])
def test_what_fails_elsewhere_is_marked_with_its_error(options, small, small_place, copied_runs):
    if importlib.util.find_spec(options[0]) is None:
        pytest.skip(f"{options[0]} is not installed")  # an extra; make test-slow installs both
    _, mid, _, last = plan(small.recipes)
    (copied_runs / mid.id / "checkpoint" / "model.safetensors").write_bytes(b"damaged")
    (last.folder(copied_runs).evaluation / "done.json").unlink()
    (last.folder(copied_runs).path / "done.json").unlink()
    done = sweep(small_place, copied_runs, "--executor", *options)
    assert done.returncode == 1
    assert "failed: RL, seed 0 (2 attempts, exit code 1): error: " in done.stderr
    mark = json.loads((copied_runs / "logs" / f"{last.id}.failed.json").read_text())
    assert "model.safetensors is missing or has changed" in mark["error"]


def test_two_sweeps_at_once_compute_every_stage_once(small, small_place, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gsm_lab", "sweep", small_place, "--runs", str(tmp_path), "--workers", "1"]
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [sweeping.communicate()[0] for sweeping in both] == ["4 of 4 runs done\n"] * 2
    for job in plan(small.recipes):
        stage = job.recipe.stages[job.number]
        log = (tmp_path / "logs" / f"{job.id}.log").read_text()
        assert len(re.findall(f"^{stage.name}: [0-9,]+ parameters, ", log, re.MULTILINE)) == 1, log


def test_twelve_arms_train_their_base_once(tmp_path):
    done = sweep(TWELVE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "13 of 13 runs done\n"), done.stderr
    logs = [log.read_text() for log in (tmp_path / "logs").glob("*.log")]
    assert len(logs) == 13
    assert sum(log.count("\nbase: 13,472 parameters, ") for log in logs) == 1
    assert len(load_experiment(TWELVE).recipes) == 12
    assert len([*tmp_path.glob("*/done.json")]) == 13
