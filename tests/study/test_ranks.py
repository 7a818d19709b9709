"""Laws of several ranks: all of them train, one of them writes and speaks, and the result is that of one process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from gsm_lab.study import Recipe, StageFolder, evaluate_stage, load_recipe, train_stage

ROOT = Path(__file__).parents[2]


def with_two_ranks(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`gsm-lab ...` under torchrun, on two processes of this machine that talk through gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "gsm_lab", *map(str, arguments), "--threads", "1", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def apart(one: Path, other: Path) -> float:
    """How far the weights of two checkpoints are from each other, over how long they are, all taken together."""
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    distance = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours)
    return (distance / sum(float(value.square().sum()) for value in theirs.values())) ** 0.5


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def place(small_place, tmp_path_factory) -> str:
    """The small experiment with AdamW in mid-training: Muon rounds, so that rounding errors of others grow in it."""
    folder = tmp_path_factory.mktemp("experiment") / "small"
    folder.mkdir()
    recipes = (Path(small_place) / "recipes.py").read_text()
    muon = 'kind="muon", learning_rate=1e-3, matrix_learning_rate=5e-3, warmup_steps=2'
    assert muon in recipes
    recipes = recipes.replace(muon, 'kind="adamw", learning_rate=1e-3, warmup_steps=2')
    prompts = "prompts_per_step=4"  # of these, one number's gradient is nearly 0, and AdamW steps by its sign
    assert prompts in recipes
    (folder / "recipes.py").write_text(recipes.replace(prompts, "prompts_per_step=5"))
    return f"{folder}:mid-rl"


@pytest.fixture(scope="module")
def recipe(place) -> Recipe:
    return load_recipe(place)


@pytest.fixture(scope="module")
def one_process(recipe, small_runs, tmp_path_factory) -> Path:
    """Mid-training and reinforcement learning by one process, after the base of the small runs."""
    home = tmp_path_factory.mktemp("one") / "runs"
    base = StageFolder(small_runs, recipe, 0).path
    shutil.copytree(base, home / base.name)
    for number in range(3):
        stage = StageFolder(home, recipe, number)
        train_stage(stage)
        evaluate_stage(stage)
    return home


@pytest.fixture(scope="module")
def two_ranks(place, recipe, small_runs, tmp_path_factory):
    """The same by two ranks, and what they said."""
    home = tmp_path_factory.mktemp("two") / "runs"
    base = StageFolder(small_runs, recipe, 0).path
    shutil.copytree(base, home / base.name)
    return home, with_two_ranks("run", place, "--runs", home)


@pytest.mark.parametrize("number", [1, 2])
def test_two_ranks_train_what_one_process_trains(number, two_ranks, one_process, recipe):
    home, done = two_ranks
    assert done.returncode == 0, done.stderr
    ours, theirs, before = (
        StageFolder(folder, recipe, at) for folder, at in ((home, number), (one_process, number), (home, number - 1))
    )
    assert apart(ours.checkpoint, theirs.checkpoint) < 1e-6
    assert apart(ours.checkpoint, before.checkpoint) > 1e-3
    assert files_below(ours.path) == files_below(theirs.path)


def test_two_ranks_sample_the_same_tokens(two_ranks, one_process, recipe):
    ours, theirs = (
        [
            pq.read_table(file, columns=["group", "sample", "ids", "reward"]).to_pylist()
            for file in sorted((StageFolder(home, recipe, 2).path / "rollouts").glob("*.parquet"))
        ]
        for home in (two_ranks[0], one_process)
    )
    assert ours == theirs
    assert len(ours) == 6


def test_only_one_rank_speaks(two_ranks, recipe):
    home, done = two_ranks
    assert done.stdout.splitlines() == [str(StageFolder(home, recipe, number).path) for number in range(3)]
    for line in ("RL 6/6 ", "test RL 2/2 ", "RL: probe of "):
        assert done.stderr.count(line) == 1


def test_what_rank_0_refuses_ends_all_ranks(small_place, small_recipe, copied_runs):
    (StageFolder(copied_runs, small_recipe, 0).checkpoint / "model.safetensors").unlink()
    refused = with_two_ranks("run", f"{small_place}:mid-rl", "--runs", copied_runs)
    assert refused.returncode == 1
    assert "model.safetensors is missing or has changed" in refused.stderr
    assert "rank 0 failed, so rank 1 stops" in refused.stderr
