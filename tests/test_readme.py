"""What the README tells a new user to type works as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gsm_lab.data import read_dataset

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(*verbs: str) -> list[str]:
    """The README's gsm-lab commands that begin with one of the verbs, in its order."""
    lines = re.findall(r"^\.venv/bin/gsm-lab (.+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
    return [line for line in lines if line.startswith(verbs)]


def run(command: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "1"}
    return subprocess.run(
        [sys.executable, "-m", "gsm_lab", *shlex.split(command)],
        cwd=folder,
        env=environment,
        check=True,
        text=True,
        capture_output=True,
    ).stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set that the README generates."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    for command in commands("generate"):
        run(command, folder)
    return folder


def test_generate_and_inspect(place: Path):
    (command,) = commands("inspect")
    assert "2000 problems" in run(command, place)


def test_grade(place: Path):
    (command,) = commands("grade")
    texts: dict[str, str] = {}
    for exercise in read_dataset(place / "datasets" / "mine"):
        texts[exercise.problem_id] = exercise.completion
    lines = [json.dumps({"id": name, "completions": [text]}) for name, text in texts.items()]
    (place / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    assert "1.000" in run(command, place)
    assert len((place / "grades.jsonl").read_text().splitlines()) == len(texts)


def test_the_plan_of_the_sweep(place: Path):
    (command,) = [line for line in commands("sweep") if "--dry-run" in line]
    assert "base, seed 0" in run(command, place)


def test_the_recipes_that_it_names_exist():
    from gsm_lab.study import load_experiment

    experiment = load_experiment(ROOT / "experiments" / "edge_of_competence")
    named = [line.split(":")[1].split()[0] for line in commands("run", "evaluate")]
    assert named
    for name in named:
        assert experiment.recipe(name).name == name


def test_certify(tmp_path: Path):
    (command,) = commands("certify")
    assert "the laws hold" in run(command, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"certificate.json", "certificate.html"}


def python(program: str, folder: Path, *options: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        text=True,
        capture_output=True,
    ).stdout


def test_the_python_examples_run(tmp_path: Path):
    first, marked, other_engines = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    # -S: nothing but the standard library and this source
    shown = python(first + marked, ROOT, "-S")
    assert "correct 1.0 None" in shown
    assert "\N{CHECK MARK} Define " in shown
    python(other_engines, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"reward.py", "tasks", "train.parquet"}


def test_files_that_it_links_to_are_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
