"""Every tracker with its real package, each in a virtual environment of its own that sees ours behind it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsm_lab.study.tracking import Record, figures_of, missing_records

ROOT = Path(__file__).parents[2]
READ = Path(__file__).parent / "scripts" / "read_tracker.py"
PACKAGES = {"tensorboard": "tensorboard==2.21.0", "wandb": "wandb==0.31.0", "trackio": "trackio==0.43.0"}
"""The versions that these tests were seen to pass with."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Environment:
    """A virtual environment with one tracker's package, before those of this environment."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind, self.folder, self.python = kind, folder, folder / "environment" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
        packages = subprocess.run(
            [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, text=True, capture_output=True,
        ).stdout.strip()  # fmt: skip
        (Path(packages) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", PACKAGES[kind]], check=True)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command of the environment's Python, which writes nowhere else and reaches for no network."""
        home = {name: str(self.folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME")}
        paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [self.python, *map(str, arguments)],
            cwd=self.folder, env={**os.environ, **home, **paths}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def records(self, folder: Path) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """What the tracker holds, by its own reader."""
        out, err = self.start(READ, self.kind, folder).communicate()
        assert out, err
        return {name: [(step, figures) for step, figures in lines] for name, lines in json.loads(out).items()}


@pytest.fixture(params=PACKAGES)
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    yield Environment(tmp_path, request.param)
    shutil.rmtree(tmp_path / "environment")


def test_a_tracker_holds_the_log_of_a_run_that_was_killed_and_went_on(
    environment, small_place, small_recipe, small_runs, bytes_below, folders_of
):
    runs, kind = environment.folder / "runs", environment.kind
    command = ["-m", "gsm_lab", "run", f"{small_place}:{small_recipe.name}", "--runs", runs, "--threads", 1]
    killed = environment.start(*command, "--track", kind)
    for line in killed.stderr:
        if line.startswith("base 70/120 "):  # its last state is that of step 40
            killed.kill()
    killed.communicate()
    assert killed.returncode < 0

    went_on = environment.start(*command, "--track", kind)
    out, err = went_on.communicate()
    assert went_on.returncode == 0, err
    stages = folders_of(runs, small_recipe)
    assert out.splitlines() == [str(stage.path) for stage in stages]  # a tracker says nothing there
    assert not missing_records(stages, [kind])

    held = environment.records(runs / "tracking" / kind)
    for stage in stages:
        logs = [(stage.path / name).read_text().splitlines() for name in ("metrics.jsonl", "timings.jsonl")]
        lines = [json.loads(seconds) | json.loads(metrics) for metrics, seconds in zip(*logs, strict=True)]
        record = held.pop(Record(kind, stage).name)
        assert [step for step, _ in record] == [line["step"] for line in lines]
        for (_, figures), line in zip(record, lines, strict=True):
            assert figures == pytest.approx(figures_of(line), rel=1e-6)  # TensorBoard keeps them in float32
    assert held == {}

    for ours, theirs in zip(stages, folders_of(small_runs, small_recipe), strict=True):
        assert bytes_below(ours.checkpoint) == bytes_below(theirs.checkpoint)
        assert (ours.path / "metrics.jsonl").read_bytes() == (theirs.path / "metrics.jsonl").read_bytes()
