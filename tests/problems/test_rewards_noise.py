"""A verifier's noise is a pure function of names, hits as often as it says, and can be corrected on average."""

import dataclasses
import math
import random
import statistics

import pytest

from gsm_lab.errors import RecipeError
from gsm_lab.problems import Grade, Verdict, render, rewards
from gsm_lab.problems.rewards import Attempt, Composition, Format, GroupLength, Noise, corrected

RIGHT = Grade(verdict=Verdict.CORRECT, answer=2, answer_correct=True, process_accuracy=1.0, literal=True)
WRONG = Grade(verdict=Verdict.WRONG, answer=3, answer_correct=False, process_accuracy=0.5, literal=False)
STAGE = "stage 1"


@pytest.fixture(scope="module")
def some(exercises):
    """Exercises of different problems."""
    found = {one.problem_id: one for one, _ in exercises}
    return list(found.values())[:400]


def hits(noise, exercises, outcome=0.0, seed=0, stage=STAGE, samples=1) -> list[bool]:
    """Whether each sample of each exercise is hit."""
    return [
        noise.hits(outcome, one, seed, stage, (index, sample))
        for index, one in enumerate(exercises)
        for sample in range(samples)
    ]


def share_is(found: list[bool], rate: float) -> bool:
    """Whether a share of independent hits is within four standard deviations of its chance."""
    return abs(statistics.fmean(found) - rate) < 4 * math.sqrt(rate * (1 - rate) / len(found))


# ------------------------------------------------------------------------------------ how often


def test_wrong_and_right_completions_are_hit_at_their_own_rates(some):
    noise = Noise(false_positives=0.1, false_negatives=0.4)
    wrong, right = hits(noise, some, outcome=0.0, samples=5), hits(noise, some, outcome=1.0, samples=5)
    assert share_is(wrong, 0.1)
    assert share_is(right, 0.4)
    assert not share_is(wrong, 0.4)


@pytest.mark.parametrize("tied_to", ["sample", "problem", "template"])
def test_a_rate_of_0_never_hits_and_a_rate_of_1_always(tied_to, some):
    noise = Noise(false_positives=1.0, false_negatives=0.0, tied_to=tied_to)
    assert all(hits(noise, some, outcome=0.0))
    assert not any(hits(noise, some, outcome=1.0))


def test_noise_in_some_contexts_leaves_the_others_alone(some):
    noise = Noise(false_positives=1.0, contexts=("zoo", "school"))
    found = hits(noise, some)
    assert found == [one.context in ("zoo", "school") for one in some]
    assert 0 < sum(found) < len(found)
    assert {noise.as_trained(1.0, one) for one in some} == {1.0}


def test_the_correction_is_left_out_where_the_verifier_does_not_err(some):
    noise = Noise(false_positives=0.5, contexts=("zoo",), corrected=True)
    assert {(one.context == "zoo", noise.as_trained(0.0, one)) for one in some} == {(True, -1.0), (False, 0.0)}


# ------------------------------------------------------------------------------------ who


def test_hits_are_a_function_of_seed_stage_and_place_alone(some):
    noise = Noise(false_positives=0.5)
    state = random.getstate()
    first = hits(noise, some, samples=3)
    assert hits(noise, some, samples=3) == first
    assert random.getstate() == state
    assert hits(noise, some, samples=3, seed=1) != first
    assert hits(noise, some, samples=3, stage="stage 2") != first
    assert [noise.hits(0.0, one, 0, STAGE, (at, 1)) for at, one in enumerate(some)] == first[1::3]


def test_noise_of_samples_hits_some_samples_of_a_problem(some):
    noise = Noise(false_positives=0.5)
    found = hits(noise, some[:50], samples=8)
    groups = [found[at : at + 8] for at in range(0, len(found), 8)]
    assert sum(0 < sum(group) < 8 for group in groups) > 40


def test_noise_of_problems_hits_all_samples_of_a_problem_or_none(some):
    noise = Noise(false_positives=0.3, tied_to="problem")
    found = hits(noise, some, samples=8)
    groups = [found[at : at + 8] for at in range(0, len(found), 8)]
    assert {sum(group) for group in groups} == {0, 8}
    assert share_is([group[0] for group in groups], 0.3)


def test_noise_of_problems_stays_with_the_problem_whatever_its_words_and_place(exercises):
    noise = Noise(false_positives=0.5, tied_to="problem")
    pairs = [(one, render(one.problem, template, random.Random(1))) for one, template in exercises[:100]]
    assert any(one.prompt != other.prompt for one, other in pairs)
    first = [noise.hits(0.0, one, 0, STAGE, (at, 0)) for at, (one, _) in enumerate(pairs)]
    assert [noise.hits(0.0, other, 0, STAGE, (at + 7, 3)) for at, (_, other) in enumerate(pairs)] == first
    independent = dataclasses.replace(noise, tied_to="sample")
    first = [independent.hits(0.0, one, 0, STAGE, (at, 0)) for at, (one, _) in enumerate(pairs)]
    assert [independent.hits(0.0, other, 0, STAGE, (at + 7, 3)) for at, (_, other) in enumerate(pairs)] != first


def test_noise_of_templates_hits_all_of_a_template_or_none(some):
    noise = Noise(false_positives=0.5, tied_to="template")
    templates = [(one.context, one.frames) for one in some]
    pairs = {*zip(templates, hits(noise, some), strict=True)}
    assert len(pairs) == len({*templates})
    assert {hit for _, hit in pairs} == {True, False}


def test_false_positives_and_false_negatives_hit_different_problems(some):
    noise = Noise(false_positives=0.5, false_negatives=0.5, tied_to="problem")
    agree = [no == yes for no, yes in zip(hits(noise, some, 0.0), hits(noise, some, 1.0), strict=True)]
    assert share_is(agree, 0.5)


# ------------------------------------------------------------------------------------ correction


@pytest.mark.parametrize(("positives", "negatives"), [(0.0, 0.0), (0.1, 0.2), (0.5, 0.3), (0.0, 0.9), (0.45, 0.45)])
def test_the_corrected_outcome_is_right_on_average(positives, negatives):
    yes, no = corrected(1.0, positives, negatives), corrected(0.0, positives, negatives)
    assert (1 - negatives) * yes + negatives * no == pytest.approx(1)
    assert positives * yes + (1 - positives) * no == pytest.approx(0, abs=1e-12)


def test_the_noisy_outcome_is_not_nor_is_one_corrected_with_the_rates_exchanged():
    assert pytest.approx(1) != 0.8 * 1 + 0.2 * 0
    yes, no = corrected(1.0, 0.2, 0.1), corrected(0.0, 0.2, 0.1)
    assert 0.8 * yes + 0.2 * no != pytest.approx(1)


@pytest.mark.parametrize(("positives", "negatives"), [(0.5, 0.5), (0.9, 0.2), (0.7, 0.3), (1.0, 0.0)])
def test_noise_that_leaves_nothing_to_correct_by_is_refused(positives, negatives):
    with pytest.raises(RecipeError, match=r"is 1 or more: .* Lower the rates, or leave `corrected` out"):
        Noise(false_positives=positives, false_negatives=negatives, corrected=True)
    assert Noise(false_positives=positives, false_negatives=negatives).matters


def test_a_function_call_with_such_rates_is_refused():
    with pytest.raises(RecipeError, match="has nothing to correct by"):
        corrected(1.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"false_positives": -0.1}, r"false_positives=-0\.1: give a chance, 0 to 1"),
        ({"false_negatives": 1.1}, r"false_negatives=1\.1: give a chance, 0 to 1"),
        ({"false_negatives": math.nan}, r"false_negatives=nan: give a chance, 0 to 1"),
        ({"tied_to": "model"}, r"tied to 'model': give sample, problem or template"),
    ],
)
def test_noise_that_is_none_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Noise(**settings)


def mean_rewards(composition: Composition, exercise, draws: int) -> list[float]:
    """The mean over the noise of the rewards of a short right and a long wrong completion."""
    group = [Attempt(exercise, "", 10, RIGHT, (0, 0)), Attempt(exercise, "", 20, WRONG, (0, 1))]
    drawn = []
    for index in range(draws):
        here = [dataclasses.replace(one, place=(index, sample)) for sample, one in enumerate(group)]
        drawn.append([score.reward for score in composition.scores(here, 0, STAGE)])
    return [statistics.fmean(column) for column in zip(*drawn, strict=True)]


@pytest.mark.parametrize("name", ["outcome", "mix", "gated", "strict", "literal"])
def test_a_corrected_composition_is_right_on_average_terms_and_all(name, some):
    settings = {"reward": name, "terms": (GroupLength(weight=0.5), Format(weight=0.1))}
    rates = {"false_positives": 0.2, "false_negatives": 0.3}
    clean = mean_rewards(Composition(**settings), some[0], 1)
    # a corrected reward has a standard deviation of 1.15 at most: 0.08 is four of those of a mean of 3000
    found = mean_rewards(Composition(**settings, noise=Noise(**rates, corrected=True)), some[0], 3000)
    assert found == pytest.approx(clean, abs=0.085)
    noisy = mean_rewards(Composition(**settings, noise=Noise(**rates)), some[0], 3000)
    assert noisy != pytest.approx(clean, abs=0.085)


# ------------------------------------------------------------------------------------ what is reported


def test_noise_turns_what_training_sees_and_not_what_is_true(some):
    noise = Noise(false_positives=0.5, false_negatives=0.5)
    group = [Attempt(some[0], "", 10, grade, (0, at)) for at, grade in enumerate([RIGHT, WRONG] * 50)]
    before = [dataclasses.replace(one) for one in group]
    scores = Composition(reward="strict", noise=noise).scores(group, 0, STAGE)
    assert group == before
    assert [score.reward_true for score in scores] == [1, 0] * 50
    assert [score.reward for score in scores] == [
        1 - score.reward_true if score.flipped else score.reward_true for score in scores
    ]
    assert {(score.reward_true, score.flipped) for score in scores} == {(1, True), (1, False), (0, True), (0, False)}


def test_a_verifier_that_errs_pays_the_length_of_what_it_takes_for_right(some):
    group = [Attempt(some[0], "", tokens, WRONG, (0, at)) for at, tokens in enumerate((10, 20))]
    composition = Composition(reward="outcome", terms=(GroupLength(),), noise=Noise(false_positives=1.0))
    scores = composition.scores(group, 0, STAGE)
    assert [score.reward for score in scores] == [1.5, 0.5]
    assert [score.reward_true for score in scores] == [0, -0.5]
    assert rewards.group_length([10, 20], [0, 0]) == [0, -0.5]
