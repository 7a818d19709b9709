"""Several ranks make the steps that one would make; each leaves the same weights, and only the first writes files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gsm_lab
from gsm_lab.errors import TrainingError
from gsm_lab.training import World
from gsm_lab.training.distributed import VARIABLES

PROGRAM = Path(__file__).with_name("ranks.py")


def run(work: str, folder: Path) -> None:
    """Let ranks do some work of ranks.py; what they found is in files of the folder."""
    root = str(Path(gsm_lab.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), work, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """What two ranks found at every kind of meeting."""
    folder = tmp_path_factory.mktemp("met")
    run("meet", folder)
    return [read(folder, f"meet-{rank}.json") for rank in (0, 1)]


def test_meetings_tell_every_rank_the_same(met):
    assert [(one["rank"], one["size"], one["is_first"]) for one in met] == [(0, 2, True), (1, 2, False)]
    assert [one["own"] for one in met] == [[0, 2, 4, 6], [1, 3, 5]]
    for found in met:
        assert found["sums"] == [0.2, 1.0, 2e300]  # float64: float32 would have no 1e300, and another 0.2
        assert found["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert found["any"] == [True, False]
        assert found["differ"].startswith("the ranks disagree: rank 0 has 'value 0', rank 1 has 'value 1'.")


def test_summed_gradients_count_a_missing_one_as_zero(met):
    # 1 + 2; 0.5 + 0.5 in the other dtype; the last is missing on rank 0
    wanted = [[3.0, 3.0], [1.0, 1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]]]
    assert [found["gradients"] for found in met] == [wanted, wanted]


def test_the_first_rank_goes_first_and_its_failure_is_everybodys(met):
    first, second = met
    assert (first["turns"], second["turns"]) == (1, 2)
    assert first["failed turn"] == "the folder is damaged"
    assert second["failed turn"] == "rank 0 failed, so rank 1 stops: the folder is damaged"


def test_two_ranks_have_the_gradient_of_one(tmp_path):
    run("gradients", tmp_path)
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-12)):
        for cursor in (0, 15):
            alone, *shared = (
                load_file(tmp_path / f"{dtype}-{cursor}-{size}-{rank}.safetensors")
                for size, rank in ((1, 0), (2, 0), (2, 1))
            )
            assert_close(shared[0], shared[1], 0.0)
            assert_close(alone, shared[0], tolerance)


def test_a_mean_of_the_ranks_means_would_be_another_gradient(tmp_path):
    """Near miss of the law above: each rank divides by its own count (trl#5619, verl#7200)."""
    run("gradients", tmp_path)
    right, wrong = (load_file(tmp_path / f"{name}-2-0.safetensors") for name in ("float64-0", "mean-of-means"))
    assert max(float((wrong[name] - right[name]).abs().max()) for name in wrong) > 1e-4
    alone = load_file(tmp_path / "mean-of-means-1-0.safetensors")  # one rank has one count, and both ways agree
    assert_close(alone, {name: right[name] for name in alone}, 1e-12)


def test_two_ranks_train_as_one_does_and_one_of_them_writes(tmp_path):
    run("train", tmp_path)
    (alone, summary), (first, one_summary), (second, other_summary) = (
        read(tmp_path, f"train-{name}.json") for name in ("1-0", "2-0", "2-1")
    )
    assert second == []  # metrics are handed out on rank 0
    assert summary == one_summary == other_summary
    assert [line["step"] for line in first] == [3, 6, 8]
    for line, wanted in zip(first, alone, strict=True):
        assert line == pytest.approx(wanted, rel=1e-6)
        assert {name: line[name] for name in ("tokens", "scored_tokens")} == {
            name: wanted[name] for name in ("tokens", "scored_tokens")
        }
    weights = [load_file(tmp_path / f"train-{name}.safetensors") for name in ("1-0", "2-0", "2-1")]
    assert_close(weights[1], weights[2], 0.0)
    assert_close(weights[0], weights[1], 1e-6)
    written = [sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*"))
               for name in ("train-1", "train-2")]  # fmt: skip
    assert written[0] == written[1]


def test_a_rank_that_is_killed_ends_the_others_and_all_go_on_to_the_same_bytes(tmp_path):
    run("killed", tmp_path)
    for name in ("metrics.jsonl", "state/state-00000008/tensors.safetensors", "state/state-00000008/state.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_when_one_rank_stops_all_stop_and_go_on(tmp_path):
    run("stop", tmp_path)
    assert [read(tmp_path, f"stop-{rank}.json") for rank in (0, 1)] == [[3, 8], [3, 8]]


def test_ranks_that_begin_differently_are_refused(tmp_path):
    run("disagree", tmp_path)
    errors = [read(tmp_path, f"disagree-{rank}.json") for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("the ranks disagree: rank 0 has ")
    assert not list(tmp_path.glob("state*"))  # nothing was written under a name that only one of them has


def test_alone_every_meeting_is_with_oneself():
    world, parameter = World.alone(), torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    before = parameter.grad
    world.sum_gradients([parameter, torch.nn.Parameter(torch.zeros(1))])
    world.same("anything")
    world.barrier()
    assert parameter.grad is before
    assert (world.rank, world.size, world.is_first, world.device) == (0, 1, True, torch.device("cpu"))
    assert (world.sum_scalars([0.1, 2.0]), world.gather("x"), world.in_turn(lambda: 3)) == ([0.1, 2.0], ["x"], 3)
    assert [4, 5, 6][world.own] == [4, 5, 6]


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with World.from_environment("cpu") as world:
        assert (world.size, world.is_first) == (1, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"MASTER_PORT": None, "LOCAL_RANK": None},
            r"LOCAL_RANK, MASTER_PORT are not: start the command with torchrun",
        ),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE are not"),
        ({"RANK": "first"}, "RANK is 'first', and should be a whole number"),
        ({"RANK": "2"}, "RANK is 2, LOCAL_RANK 0 and WORLD_SIZE 2"),
    ],
)
def test_half_an_environment_is_refused(changes, message, monkeypatch):
    whole = dict(zip(VARIABLES, ("0", "2", "0", "127.0.0.1", "29500"), strict=True))
    for name, value in (whole | changes).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message):
        World.from_environment("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU for the rank")
def test_a_rank_without_a_gpu_is_told_so(monkeypatch):
    for name, value in zip(VARIABLES, ("0", "1", "0", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="local rank 0 has no GPU of its own"):
        World.from_environment("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_one_process_without_a_gpu_is_told_so(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match="finds no GPU here: give device='cpu'"):
        World.from_environment("cuda")
