"""Positions that jump cover longer distances, stay in order, and are a pure function of the exercise."""

import numpy as np
import pytest

from gsm_lab.data import Jumps
from gsm_lab.errors import TokenError


def test_positions_begin_at_or_after_0_grow_and_fit_the_model():
    jumps = Jumps(documents=1, share=0.1, longest=40, room=256)
    reached = 0
    for index in range(200):
        positions = jumps.positions(100, index)
        steps = np.diff(positions)
        assert positions[0] >= 0
        assert (steps >= 1).all()
        assert (steps <= 41).all()
        assert positions[-1] < 256
        reached = max(reached, int(positions[-1]))
    assert reached > 200, "long distances are reached"


def test_most_neighbours_stay_neighbours():
    steps = np.concatenate([np.diff(Jumps(1, 0.05, 40, 512).positions(100, index)) for index in range(100)])
    # 5 % jump; 9,900 draws have a standard deviation of 0.2 %
    assert np.mean(steps > 1) == pytest.approx(0.05, abs=0.01)


def test_the_same_exercise_jumps_the_same_way_and_another_does_not():
    jumps = Jumps(1, 0.1, 40, 512)
    assert (jumps.positions(80, 7) == jumps.positions(80, 7)).all()
    assert (jumps.positions(80, 7) != jumps.positions(80, 8)).any()


def test_a_document_that_fills_the_room_does_not_jump():
    assert (Jumps(1, 1.0, 40, 64).positions(64, 3) == np.arange(64)).all()
    assert (Jumps(1, 0.0, 40, 512).positions(64, 3) == np.arange(64)).all()


def test_impossible_jumps_are_refused():
    with pytest.raises(TokenError, match="give shares from 0 to 1"):
        Jumps(1, 1.5, 40, 512)


def test_the_set_share_of_documents_jumps():
    jumps = Jumps(0.3, 0.2, 40, 512)
    straight = sum((jumps.positions(80, index) == np.arange(80)).all() for index in range(1000))
    # 70 % of 1,000 with a standard deviation of 14.5; a document of 80 tokens that jumps not once has chance 2e-8
    assert abs(straight - 700) < 60
