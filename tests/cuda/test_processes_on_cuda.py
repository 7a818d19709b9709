"""Runs on a GPU that are killed and go on, and that are a rank of their own: where an unbroken one ends, they end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gsm_lab

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

PROGRAM = Path(__file__).with_name("one_run.py")


def run(folder: Path, die_at: int = 0, **variables: str) -> int:
    """The exit status of one life of the run."""
    root = str(Path(gsm_lab.__file__).parent.parent)
    command = [sys.executable, str(PROGRAM), str(folder), str(die_at)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": root} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def assert_same_end(one: Path, other: Path) -> None:
    """Equal counts; losses and weights up to the order in which a GPU may add."""
    first, second = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)
    )
    for line, wanted in zip(first, second, strict=True):
        assert line == pytest.approx(wanted, rel=1e-3)
        assert [line[name] for name in ("step", "tokens", "scored_tokens")] == [
            wanted[name] for name in ("step", "tokens", "scored_tokens")
        ]
    states = [load_file(run / "state" / "state-00000020" / "tensors.safetensors") for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], atol=1e-3, rtol=1e-2)


def test_a_killed_run_goes_on_to_the_end_of_an_unbroken_one(tmp_path):
    assert run(tmp_path / "whole") == 0
    for die_at in (2, 6, 9):
        assert run(tmp_path / "killed", die_at) == -signal.SIGKILL
    assert run(tmp_path / "killed") == 0
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_a_world_of_one_rank_trains_as_a_process_alone(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    assert run(tmp_path / "alone") == 0
    assert run(tmp_path / "rank", **rank) == 0
    assert_same_end(tmp_path / "rank", tmp_path / "alone")
