"""One small experiment, run once without a break; the tiny demo, run once; and the command line, called like a user."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gsm_lab.cli import main
from gsm_lab.study import Experiment, Recipe, StageFolder, evaluate_stage, load_experiment, train_stage

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small")


@dataclass(frozen=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Demo:
    """The tiny demo, and how to call it again."""

    first: subprocess.CompletedProcess[str]
    runs: Path
    results: Path
    again: Callable[[], subprocess.CompletedProcess[str]]


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content; locks are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def folders_of(home: Path, recipe: Recipe) -> list[StageFolder]:
    return [StageFolder(home, recipe, number) for number in range(len(recipe.stages))]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="bytes_below", scope="session")
def _bytes_below():
    return bytes_below


@pytest.fixture(name="folders_of", scope="session")
def _folders_of():
    return folders_of


@pytest.fixture(scope="session")
def small_place() -> str:
    """Where the command line finds the small experiment."""
    return str(SMALL)


@pytest.fixture(scope="session")
def small(small_place) -> Experiment:
    return load_experiment(small_place)


@pytest.fixture(scope="session")
def small_recipe(small) -> Recipe:
    """Base, mid-training, reinforcement learning."""
    return small.recipe("mid-rl")


@pytest.fixture(scope="session")
def small_runs(small, tmp_path_factory) -> Path:
    """All stages of the small experiment, each evaluated as soon as it was trained. To be read only."""
    home = tmp_path_factory.mktemp("small") / "runs"
    for recipe in small.recipes:
        for folder in folders_of(home, recipe):
            train_stage(folder)
            evaluate_stage(folder)
    return home


@pytest.fixture
def copied_runs(small_runs, tmp_path) -> Path:
    """A copy of the small runs that may be damaged."""
    return shutil.copytree(small_runs, tmp_path / "runs", copy_function=shutil.copy2)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    """`gsm-lab demo --scale tiny` in a process of its own."""
    home = tmp_path_factory.mktemp("demo")
    runs, results = home / "runs", home / "results"
    command = [sys.executable, "-m", "gsm_lab", "demo", "--scale", "tiny", "--threads", "1"]
    command += ["--runs", str(runs), "--results", str(results)]

    def again() -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return Demo(again(), runs, results, again)


@pytest.fixture
def gsm_lab(monkeypatch, capsys) -> Callable[..., Called]:
    """The command line in this process: `gsm_lab("run", place, "--runs", folder)`."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["gsm-lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Called(int(ended.value.code or 0), captured.out, captured.err)

    return call
