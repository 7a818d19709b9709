"""Killed anywhere and resumed, a run leaves the same bytes as one that was left alone (law 8)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gsm_lab

PROGRAM = Path(__file__).with_name("killed_runs.py")


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the times; of the states the last one, with the final weights and averages."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "timings.jsonl"]
    last_state = max(path.parent.name for path in files if path.parent.name.startswith("state-"))
    kept = [path for path in files if not path.parent.name.startswith("state-") or path.parent.name == last_state]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.mark.parametrize(("kind", "seed"), [("fit", 1), ("reinforce", 2)])
def test_a_killed_run_leaves_the_bytes_of_an_unbroken_one(kind, seed, tmp_path):
    root = str(Path(gsm_lab.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), kind, str(tmp_path), "6", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("killed") >= 3, done.stdout
    whole, killed = bytes_below(tmp_path / "whole"), bytes_below(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []
    assert len(whole["metrics.jsonl"].splitlines()) == {"fit": 12, "reinforce": 12}[kind]
