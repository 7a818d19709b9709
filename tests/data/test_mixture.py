"""Laws of mixtures: shares are what they say, in the unit they say."""

import math

import pytest

from gsm_lab.data import ExerciseSource, Mixture, Slice
from gsm_lab.errors import MixtureError
from gsm_lab.problems import ProblemSpec

SPEC = ProblemSpec(op=3)


@pytest.mark.parametrize("weights", [(0.5, 0.4), (0.5, 0.6), (1.0, 1.0), (0.5, 0.5 + 1e-6)])
def test_weights_that_do_not_sum_to_one_are_refused_with_their_sum(weights):
    slices = tuple(Slice(SPEC, weight=weight) for weight in weights)
    with pytest.raises(MixtureError, match=f"sum to {math.fsum(weights)}, not 1: divide each"):
        Mixture(slices)


def test_near_miss_ten_tenths_are_one():
    assert sum([0.1] * 10) != 1
    assert len(Mixture(tuple(Slice(SPEC, weight=0.1) for _ in range(10))).slices) == 10


@pytest.mark.parametrize("weight", [-0.1, 0.0, math.nan, math.inf])
def test_a_weight_that_is_no_share_is_refused(weight):
    with pytest.raises(MixtureError, match=r"has weight .*: give a share above 0"):
        Slice(SPEC, weight=weight)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"places_from": -1}, "places_from=-1: give a whole number of at least 0"),
        ({"items_from": 1.5}, "items_from=1.5: give a whole number of at least 0"),
        ({"tokens": 0}, "tokens=0: give a whole number of at least 1"),
    ],
)
def test_a_number_that_a_slice_cannot_have_is_refused(setting, message):
    with pytest.raises(MixtureError, match=message):
        Slice(SPEC, **setting)


def test_an_empty_mixture_is_refused():
    with pytest.raises(MixtureError, match="at least one Slice"):
        Mixture(())


def test_a_list_of_slices_is_refused():
    with pytest.raises(MixtureError, match="give a tuple"):
        Mixture([Slice(SPEC)])  # type: ignore[arg-type]


def test_an_unknown_unit_is_refused():
    with pytest.raises(MixtureError, match="unit='documents': give one of problems, tokens"):
        Mixture((Slice(SPEC),), unit="documents")  # type: ignore[arg-type]


def test_shares_in_tokens_need_a_tokenizer():
    with pytest.raises(MixtureError, match="without a tokenizer: give one"):
        ExerciseSource(Mixture((Slice(SPEC),), "tokens"), "test", 0)


def test_realised_shares_of_problems_are_within_three_sigma():
    slices = (Slice(SPEC, weight=0.7), Slice(SPEC, "school", weight=0.2), Slice(SPEC, "festival", weight=0.1))
    source = ExerciseSource(Mixture(slices), "pretrain", 3)
    number = 4000
    drawn = [source.slice_of(index) for index in range(number)]
    for position, piece in enumerate(slices):
        sigma = math.sqrt(piece.weight * (1 - piece.weight) / number)  # of a binomial share
        assert abs(drawn.count(position) / number - piece.weight) < 3 * sigma


TOKEN_SLICES = (
    Slice(ProblemSpec(op=2), "zoo", "terse", 0.5),
    Slice(ProblemSpec(op=12), "school", "english", 0.5),
)


def tokens_by_slice(source, tokenizer, number):
    tokens = [[], []]
    for index in range(number):
        exercise = source.at(index)
        length = len(tokenizer.encode(exercise.prompt + exercise.completion)) + 1
        tokens[source.slice_of(index)].append(length)
    return tokens


def share_and_sigma(tokens, number, probes):
    """The share of the first slice, and its standard error by the delta method.

    The share is T1 / (T1 + T2). Both totals are sums over `number` draws; besides, the mean length that turns shares of
    tokens into shares of problems was itself measured on `probes` draws, an error that no number of draws removes.
    """
    totals = [sum(lengths) for lengths in tokens]
    share = totals[0] / sum(totals)
    relative = 0.0
    for lengths in tokens:
        mean = sum(lengths) / len(lengths)
        variance = sum((length - mean) ** 2 for length in lengths) / len(lengths)
        fraction = len(lengths) / number
        relative += (variance / mean**2 + 1 - fraction) / len(lengths) + variance / mean**2 / probes
    return share, share * (1 - share) * math.sqrt(relative)


def test_realised_shares_of_tokens_are_within_three_sigma(tokenizer):
    number = 1200
    source = ExerciseSource(Mixture(TOKEN_SLICES, "tokens"), "pretrain", 3, tokenizer)
    share, sigma = share_and_sigma(tokens_by_slice(source, tokenizer, number), number, probes=64)
    assert sigma < 0.03
    assert abs(share - 0.5) < 3 * sigma


def test_near_miss_shares_of_problems_are_not_shares_of_tokens(tokenizer):
    number = 300
    source = ExerciseSource(Mixture(TOKEN_SLICES, "problems"), "pretrain", 3, tokenizer)
    share, sigma = share_and_sigma(tokens_by_slice(source, tokenizer, number), number, probes=64)
    assert abs(share - 0.5) > 10 * sigma
