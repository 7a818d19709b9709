"""Every adapter with its real framework, each in a virtual environment of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gsm_lab.adapters import drawn_exercise, write_rows

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(__file__).parent / "scripts"
PACKAGES = {
    "trl": ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0"),
    "verl": ("verl==0.9.1", "torch==2.13.0"),
    "verifiers": ("verifiers==0.4.0",),
    "reasoning_gym": ("reasoning-gym==0.1.25",),
    "lm_eval": ("lm-eval[hf]==0.4.13", "torch==2.13.0", "transformers==5.23.0"),
}
"""What pip installs for each framework; the versions that these tests were seen to pass with."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Environment:
    """A virtual environment with one framework, and a folder to work in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.bin = folder, folder / "environment" / "bin"
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)
        self._run([self.bin / "python", "-m", "pip", "install", "--quiet", *PACKAGES[name]], "")

    def run(self, *command: str | Path, path: str = str(ROOT)) -> str:
        """What a command of the environment prints, with only `path` added to its packages."""
        return self._run([self.bin / command[0], *command[1:]], path)

    def script(self, name: str, *arguments: str | Path, path: str = str(ROOT)) -> Any:
        """What one of the scripts prints last, read as JSON."""
        return json.loads(self.run("python", SCRIPTS / name, *arguments, path=path).splitlines()[-1])

    def _run(self, command: list[str | Path], path: str) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(self.folder / "hf"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        if "pip" in command:  # pip keeps its own cache, so that the next environment is there sooner
            del environment["XDG_CACHE_HOME"]
        done = subprocess.run(command, cwd=self.folder, env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, (
            f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout


@pytest.fixture
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    """An environment with the framework that the test names; its gigabyte is given back after the test."""
    yield Environment(tmp_path, request.param)
    shutil.rmtree(tmp_path / "environment")


def framework(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("environment", [name], indirect=True)


@framework("trl")
def test_trl_trains_with_our_rows_and_reward(environment: Environment):
    def steps_of(rows: str, lessons: int, temperature: float) -> list[dict[str, float]]:
        result = environment.script("run_trl.py", environment.folder / "output", rows, str(lessons), str(temperature))
        assert result["steps"] == 3
        return [line for line in result["log"] if "reward" in line]

    for rows in ("text", "messages"):
        # it knows its only problem by heart: SFT read our rows, and GRPO's reward verifies what it says
        for line in steps_of(rows, lessons=300, temperature=0.5):
            assert line["rewards/gsm_lab_mix/mean"] == 1.0
            assert (line["gsm_lab/verified"], line["gsm_lab/unreadable"]) == (1.0, 0.0)
    # half taught, rewards differ within a group, and there is something to learn from them
    half = steps_of("text", lessons=120, temperature=1.0)
    assert any(line["reward_std"] > 0 and line["grad_norm"] > 0 for line in half)
    # untaught, there is nothing to read
    assert [line["gsm_lab/verified"] for line in steps_of("text", lessons=0, temperature=1.0)] == [0.0] * 3


@framework("verl")
def test_verl_reads_our_rows_and_rewards_from_the_file_alone(environment: Environment):
    environment.run("python", SCRIPTS / "write_files.py", environment.folder, "verl")
    result = environment.script("run_verl.py", environment.folder, path="")
    # 8 exercises, each with its gold solution and with a wrong one
    assert result["rewards"] == [1.0, 0.0] * 8
    assert all(result["pred"][0::2])
    assert not any(result["pred"][1::2])
    assert set(result["metrics"]) == {"gsm_lab/op2", "gsm_lab/op3"}
    for metrics in result["metrics"].values():
        assert metrics["acc"]["mean@2"] == 0.5
        assert "maj@2/mean" in metrics["acc"]


@framework("verifiers")
def test_verifiers_loads_validates_and_scores_our_taskset(environment: Environment):
    folder = environment.folder
    (folder / "gsm_tasks.py").write_text(
        'from gsm_lab.adapters.verifiers import GsmLabTaskset\n\n__all__ = ["GsmLabTaskset"]\n'
    )
    path = f"{ROOT}{os.pathsep}{folder}"
    options = ("--taskset.size", "5", "--taskset.mode", "reverse", "--runtime.type", "subprocess", "-o", "validated")
    environment.run("vf-validate", "gsm_tasks", *options, path=path)
    (summary,) = (folder / "validated").rglob("summary.json")
    checks = json.loads(summary.read_text())["checks"]
    # every gold solution is verified; and no reward is given where nothing was said
    assert (checks["gold"]["valid"], checks["noop"]["valid"]) == (5, 5)

    write_rows(folder / "rows.jsonl", [drawn_exercise(0, seed=0)])
    gold, cut, wrong = environment.script("run_verifiers.py", "rows.jsonl", path=path)
    assert (gold["reward"], gold["metrics"]["verified"]) == (1.0, 1.0)
    # the reward is a quarter outcome and three quarters process: a cut solution keeps its steps
    assert (cut["reward"], cut["metrics"]["verified"], cut["metrics"]["unreadable"]) == (0.75, 0.0, 1.0)
    assert (wrong["reward"], wrong["metrics"]["process_accuracy"]) == (0.0, 0.0)


@framework("reasoning_gym")
def test_our_data_set_keeps_the_rules_of_reasoning_gym(environment: Environment):
    result = environment.script("run_reasoning_gym.py")
    assert result["checked"] == ["steps", "think", "answer_only"]
    assert result["refused"] == ["min_op", "size", "min_op", "context", "reward"]
    assert result["levels"] == [[2, 4], [2, 6]]


@framework("lm_eval")
def test_lm_eval_runs_the_task_folder(environment: Environment):
    folder = environment.folder
    environment.run("python", SCRIPTS / "write_files.py", folder, "lm_eval")
    gold = environment.script("run_lm_eval.py", folder / "tasks", path="")
    assert set(gold["tasks"]) == {"gsm_lab", "gsm_lab_op2", "gsm_lab_op3"}
    assert all(task["verified,none"] == 1.0 for task in gold["tasks"].values())
    assert gold["groups"]["gsm_lab"]["sample_count"]["verified,none"] == 8

    environment.run("python", SCRIPTS / "tiny_model.py", folder / "model")
    model = ("--model", "hf", "--model_args", f"pretrained={folder / 'model'}", "--device", "cpu")
    options = ("--include_path", folder / "tasks", "--tasks", "gsm_lab", "--output_path", folder / "results")
    environment.run("lm_eval", *model, *options, path="")
    (written,) = (folder / "results").rglob("results_*.json")
    results = json.loads(written.read_text())["results"]
    # its weights are random
    assert (results["gsm_lab"]["verified,none"], results["gsm_lab"]["unreadable,none"]) == (0.0, 1.0)
