"""Two processes that train together do what one does alone: the same rollouts, figures and weights."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("ranks_of_reinforce.py")


def run_ranks(size: int, folder: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size)}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * size, "\n".join(errors)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return run_ranks(1, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    return run_ranks(2, tmp_path_factory.mktemp("two"))


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last_tensors(run: Path) -> dict:
    return load_file(max((run / "state").iterdir()) / "tensors.safetensors")


def test_two_ranks_end_with_the_weights_of_one(one, two):
    alone, together = last_tensors(one / "whole"), last_tensors(two / "whole")
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert (value.double() - together[name].double()).abs().max() < 1e-6, name
    first = load_file(min((one / "whole/state").iterdir()) / "tensors.safetensors")
    moved = [name for name, value in alone.items() if (value.double() - first[name].double()).abs().max() > 1e-4]
    assert len(moved) > 20  # two steps move the weights by far more than that


def test_two_ranks_write_the_rollouts_of_one(one, two):
    for step in range(4):
        alone, together = (pq.read_table(run / f"whole/rollouts/step-{step:05d}.parquet") for run in (one, two))
        rounded = ["logprobs"]
        assert alone.drop_columns(rounded).equals(together.drop_columns(rounded))
        for ours, theirs in zip(alone["logprobs"].to_pylist(), together["logprobs"].to_pylist(), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_two_ranks_log_the_figures_of_one(one, two):
    ours, theirs = (pd.json_normalize(lines_of(run / "whole")).drop(columns=["mismatch"]) for run in (one, two))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-6)
    assert len(ours) == 4
    assert ours["zero_variance_share"][0] == 0.2
    assert max(line["mismatch"] for line in lines_of(two / "whole")) < 1e-5


def test_ranks_that_were_stopped_go_on_and_end_where_they_would_have(two):
    files = [path.relative_to(two / "whole") for path in (two / "whole").rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        if file.name != "timings.jsonl":
            assert (two / "whole" / file).read_bytes() == (two / "parts" / file).read_bytes(), file
