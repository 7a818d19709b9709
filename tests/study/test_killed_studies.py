"""Killed at 30 random moments of a whole recipe, runs leave the bytes of an unbroken one (law 8).

The quick version, with kills at chosen places, is in test_pipeline.py; by hand: see killed_studies.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("killed_studies.py")
KILLS = 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_at_random_moments_of_all_stages_change_no_byte(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    place = f"{Path(__file__).with_name('larger')}:mid-rl"
    command = [sys.executable, str(PROGRAM), place, str(tmp_path), "--kills", str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "different from the unbroken run: none" in done.stdout
    kills = [line for line in done.stdout.splitlines() if line.startswith("killed in ")]
    assert len(kills) == KILLS
    for moment in ("training of base", "training of mid", "training of RL", "the evaluation of", "boundary"):
        assert [line for line in kills if moment in line], f"no kill in {moment}: {kills}"
    assert sum("while a state was written" in line for line in kills) >= 3
