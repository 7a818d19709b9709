"""Public names are found when they are asked for, and those that need no torch bring none in."""

import subprocess
import sys
from pathlib import Path

import pytest

import gsm_lab.training
from gsm_lab.training import _ROOM_OF

ROOT = Path(__file__).parents[2]


def test_every_public_name_has_a_room_and_is_in_it():
    assert {"fit", "reinforce", "Scored", "World", "VllmSampler"} <= _ROOM_OF.keys()
    for name in _ROOM_OF:
        assert getattr(gsm_lab.training, name) is not None


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="has no 'trainer'"):
        gsm_lab.training.trainer  # noqa: B018


@pytest.mark.parametrize(("name", "has_torch"), [("Scored", False), ("RewardWorkers", False), ("reinforce", True)])
def test_what_a_reward_is_needs_no_torch(name, has_torch):
    program = f"import sys; from gsm_lab.training import {name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(has_torch)
