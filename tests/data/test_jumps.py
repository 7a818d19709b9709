"""Positions that jump cover longer distances, stay in order, and are a pure function of the exercise."""

import numpy as np
import pytest

from gsm_lab.data import Jumps
from gsm_lab.errors import TokenError

ENDS = np.arange(100) % 5 == 4
"""A document of twenty sentences of five tokens."""


def test_positions_begin_at_0_grow_and_fit_the_model():
    jumps = Jumps(documents=1, share=0.3, longest=40, room=256)
    reached = 0
    for index in range(200):
        positions = jumps.positions(ENDS, index)
        steps = np.diff(positions)
        assert positions[0] == 0
        assert (steps >= 1).all()
        assert (steps <= 41).all()
        assert positions[-1] < 256
        reached = max(reached, int(positions[-1]))
    assert reached > 200, "long distances are reached"


def test_words_of_one_sentence_stay_neighbours():
    for index in range(50):
        steps = np.diff(Jumps(1, 1.0, 40, 4096).positions(ENDS, index))
        assert (steps[~ENDS[:-1]] == 1).all()
        assert (steps[ENDS[:-1]] > 1).all()


def test_the_same_exercise_jumps_the_same_way_and_another_does_not():
    jumps = Jumps(1, 0.5, 40, 512)
    assert (jumps.positions(ENDS, 7) == jumps.positions(ENDS, 7)).all()
    assert (jumps.positions(ENDS, 7) != jumps.positions(ENDS, 8)).any()


def test_another_seed_jumps_another_way_and_seed_0_is_the_default():
    assert (Jumps(1, 0.5, 40, 512).positions(ENDS, 7) == Jumps(1, 0.5, 40, 512, seed=0).positions(ENDS, 7)).all()
    same = [
        (Jumps(1, 0.5, 40, 512, seed=1).positions(ENDS, index) == Jumps(1, 0.5, 40, 512).positions(ENDS, other)).all()
        for index in range(20)
        for other in range(20)
    ]
    assert not any(same), "adjacent seeds and indices share no stream"


def test_a_document_that_fills_the_room_does_not_jump():
    assert (Jumps(1, 1.0, 40, 100).positions(ENDS, 3) == np.arange(100)).all()
    assert (Jumps(1, 0.0, 40, 512).positions(ENDS, 3) == np.arange(100)).all()


def test_the_set_share_of_documents_jumps():
    jumps = Jumps(0.3, 0.5, 40, 512)
    straight = sum((jumps.positions(ENDS, index) == np.arange(100)).all() for index in range(1000))
    # 70 % of 1,000 with a standard deviation of 14.5; a document with 19 places for jumps has none with chance 2e-6
    assert abs(straight - 700) < 60


def test_impossible_jumps_are_refused():
    with pytest.raises(TokenError, match="give shares from 0 to 1"):
        Jumps(1, 1.5, 40, 512)
