"""Laws of pass@k and maj@k: each equals the plain mean over all subsets, and no data gives nan."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsm_lab.errors import DataError
from gsm_lab.evaluation import maj_at_k, majority_curve, pass_at_k, pass_at_k_array

ANSWERS = st.lists(st.sampled_from([None, 3, 5, 7, 9]), min_size=1, max_size=9)


def pass_by_brute_force(num_samples: int, num_verified: int, k: int) -> float:
    samples = [index < num_verified for index in range(num_samples)]
    return float(np.mean([any(subset) for subset in combinations(samples, k)]))


def maj_by_brute_force(answers: list[int | None], correct: int, k: int) -> float:
    def worth(subset: tuple[int | None, ...]) -> float:
        votes = Counter(answer for answer in subset if answer is not None)
        leaders = [answer for answer, number in votes.items() if number == max(votes.values())]
        return (correct in leaders) / max(len(leaders), 1)

    return float(np.mean([worth(subset) for subset in combinations(answers, k)]))


def equals_brute_force(estimate: Callable[[int, int, int], float]) -> bool:
    """Whether an estimate of pass@k is the mean over all subsets, for every count up to 8 samples."""
    return all(
        estimate(samples, verified, k) == pytest.approx(pass_by_brute_force(samples, verified, k), abs=1e-12)
        for samples in range(1, 9)
        for verified in range(samples + 1)
        for k in range(1, samples + 1)
    )


def test_pass_at_k_equals_brute_force_over_all_subsets() -> None:
    assert equals_brute_force(pass_at_k)


def with_replacement(samples: int, verified: int, k: int) -> float:
    return 1 - (1 - verified / samples) ** k


def any_of_all(samples: int, verified: int, k: int) -> float:
    return float(verified > 0)


def first_k(samples: int, verified: int, k: int) -> float:
    """Of samples in one order, here with the verified ones last."""
    return float(verified > samples - k)


@pytest.mark.parametrize("biased", [with_replacement, any_of_all, first_k])
def test_near_miss_a_biased_estimate_does_not(biased: Callable[[int, int, int], float]) -> None:
    assert not equals_brute_force(biased)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_never_falls_as_k_grows(counts: tuple[int, int]) -> None:
    curve = [pass_at_k(*counts, k) for k in range(1, counts[0] + 1)]
    assert all(earlier <= later for earlier, later in pairwise(curve))
    assert curve[0] == pytest.approx(counts[1] / counts[0], abs=1e-12)


def test_pass_at_all_samples_is_whether_any_was_verified() -> None:
    assert [pass_at_k(6, verified, 6) for verified in range(7)] == [0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("samples", "k"), [(0, 1), (3, 4)])
def test_too_few_samples_give_nan_not_zero(samples: int, k: int) -> None:
    assert math.isnan(pass_at_k(samples, 0, k))


def test_exactly_k_samples_are_enough() -> None:
    assert pass_at_k(4, 0, 4) == 0.0


def test_many_samples_do_not_overflow() -> None:
    # math.comb is exact on integers of any size.
    for samples, verified, k in ((1024, 3, 128), (10_000, 1, 5_000), (1024, 1023, 1)):
        wanted = 1 - math.comb(samples - verified, k) / math.comb(samples, k)
        assert pass_at_k(samples, verified, k) == pytest.approx(wanted, rel=1e-9)


def test_arrays_broadcast_and_keep_nan_where_it_belongs() -> None:
    values = pass_at_k_array([4, 4, 1], [[0, 1, 1], [4, 4, 0]], 2)
    np.testing.assert_allclose(values, [[0, 0.5, math.nan], [1, 1, math.nan]], atol=1e-12)


@pytest.mark.parametrize(("samples", "verified", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2.5, 1)])
def test_impossible_counts_are_refused(samples: int, verified: int, k: int) -> None:
    with pytest.raises(DataError, match="k must be at least 1"):
        pass_at_k(samples, verified, k)


@given(ANSWERS, st.integers(1, 9))
def test_maj_at_k_equals_brute_force_over_all_subsets(answers: list[int | None], k: int) -> None:
    if k > len(answers):
        assert math.isnan(maj_at_k(answers, 7, k))
    else:
        assert maj_at_k(answers, 7, k) == pytest.approx(maj_by_brute_force(answers, 7, k), abs=1e-12)


VOTES = ([7, 3, 7, 3, 5], [3, 7, None, None], [None, None, 7], [5, 7, 3], [7, 7, 3, None, 3, 5])


def maj_equals_brute_force(estimate: Callable[[list[int | None], int, int], float]) -> bool:
    return all(
        estimate(list(votes), 7, k) == pytest.approx(maj_by_brute_force(list(votes), 7, k), abs=1e-12)
        for votes in VOTES
        for k in range(1, len(votes) + 1)
    )


def first_come(answers: list[int | None], correct: int, k: int) -> float:
    """Ties go to the answer that came first."""
    return float(np.mean([_first(subset) == correct for subset in combinations(answers, k)]))


def silence_votes(answers: list[int | None], correct: int, k: int) -> float:
    """None is an answer like others."""
    return maj_by_brute_force([0 if answer is None else answer for answer in answers], correct, k)


def _first(subset: tuple[int | None, ...]) -> int | None:
    votes = Counter(answer for answer in subset if answer is not None)
    return votes.most_common(1)[0][0] if votes else None


def test_near_miss_ties_by_order_and_votes_of_silence_are_not_maj_at_k() -> None:
    assert maj_equals_brute_force(maj_at_k)
    assert not maj_equals_brute_force(first_come)
    assert not maj_equals_brute_force(silence_votes)


def test_a_tie_counts_as_its_expected_value() -> None:
    assert maj_at_k([7, 7, 3, 3, 5], 7, 5) == pytest.approx(1 / 2)
    assert maj_at_k([7, 3, 5], 7, 3) == pytest.approx(1 / 3)


def test_one_vote_more_breaks_the_tie() -> None:
    assert maj_at_k([7, 7, 3, 5, None, None], 7, 6) == 1.0
    assert maj_at_k([7, 3, 3], 7, 3) == 0.0


def test_unreadable_answers_never_win() -> None:
    assert maj_at_k([None, None, None, 7], 7, 4) == 1.0
    assert maj_at_k([None, None], 7, 2) == 0.0


def test_unreadable_answers_still_use_up_samples() -> None:
    # One of two samples is drawn: half of the time it is the unreadable one, which is lost.
    assert maj_at_k([None, 7], 7, 1) == pytest.approx(0.5)


def test_maj_at_1_is_the_share_of_correct_answers() -> None:
    assert maj_at_k([7, 7, 3, None], 7, 1) == pytest.approx(0.5)


def test_the_order_of_answers_does_not_matter() -> None:
    answers = [7, 7, 3, 3, 3, None, 5]
    shuffled = Random(0).sample(answers, len(answers))
    assert maj_at_k(shuffled, 7, 4) == maj_at_k(answers, 7, 4)


def test_maj_at_k_of_many_samples_stays_within_0_and_1() -> None:
    curve = majority_curve(400, (399, 100, 50, 50), 1, (1, 10, 500, 1000))
    assert curve[0] == pytest.approx(0.4)
    assert curve[-1] == 1.0
    assert all(0 <= value <= 1 for value in curve)


def test_more_votes_than_float64_can_count_are_refused() -> None:
    with pytest.raises(DataError, match="samples at most 1000"):
        majority_curve(600, (401,), 0, (1,))


def test_no_answers_give_nan_not_zero() -> None:
    assert math.isnan(maj_at_k([], 7, 1))
