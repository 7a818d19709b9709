"""Laws of counting: what was seen is counted exactly, and what was not is estimated by named formulas."""

import random

import numpy as np
import pytest

from gsm_lab.data.census import richness, shared


def things(*names):
    return np.array([name.encode().ljust(16, b"\1") for name in names], dtype="S16")


def test_richness_is_the_formula_of_chao_with_the_coverage_of_good_and_turing():
    """a 4 times, b and c twice, d, e and f once: D = 6, f1 = 3, f2 = 2, so 6 + 3 * 2 / (2 * 3) = 7 of 11 draws."""
    found = richness(things(*"aaaabbccdef"))
    assert found == {
        "draws": 11,
        "different": 6,
        "once": 3,
        "twice": 2,
        "chao1": 7.0,
        "coverage": pytest.approx(1 - 3 / 11),
        "is_all": False,
    }


def test_what_was_always_seen_twice_is_all_there_is():
    found = richness(things(*"aabbb"))
    assert (found["is_all"], found["chao1"], found["coverage"]) == (True, 2.0, 1.0)


def test_near_miss_one_seen_once_leaves_doubt():
    found = richness(things(*"aabbbc"))
    assert not found["is_all"]
    assert found["coverage"] < 1


def test_without_one_seen_twice_the_estimate_is_finite():
    assert richness(things(*"abc"))["chao1"] == 3 + 3 * 2 / 2


def test_the_estimate_is_near_the_truth_where_all_are_alike():
    """Of 1,000 equally likely things, 1,000 draws show about 632; Chao1 is exact here on average."""
    rng = random.Random(0)
    found = richness(things(*(str(rng.randrange(1000)) for _ in range(1000))))
    assert 590 < found["different"] < 675
    assert 880 < found["chao1"] < 1120
    unseen = 1 - found["different"] / 1000  # the share of further draws that would be new
    assert abs((1 - found["coverage"]) - unseen) < 0.06


def test_shared_counts_different_things_once():
    assert shared(things(*"aabc"), things(*"bccd")) == 2
    assert shared(things("a"), things("b")) == 0


def test_things_that_differ_in_their_last_byte_or_end_in_zeros_are_different():
    zeros = [b"\0" * 16, b"\1" + b"\0" * 15, b"\0" * 15 + b"\1"]
    column = np.frombuffer(b"".join(zeros), dtype="S16")
    assert len(np.unique(column)) == 3
