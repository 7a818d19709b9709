"""Rewards are what their names say, alone and composed; each law has a near miss beside it."""

import dataclasses
import math
import random

import pytest

from gsm_lab.errors import RecipeError
from gsm_lab.problems import Grade, Verdict, grade, load_template, render, rewards
from gsm_lab.problems.rewards import (
    Attempt,
    Composition,
    Format,
    GroupLength,
    Language,
    LinearLength,
    Noise,
)

GRADES = {
    "literal": Grade(verdict=Verdict.CORRECT, answer=2, answer_correct=True, process_accuracy=1.0, literal=True),
    "otherwise": Grade(
        verdict=Verdict.CORRECT,
        answer=2,
        answer_correct=True,
        process_accuracy=1.0,
        literal=False,
        deviation=("terms in another order",),
    ),
    "lucky": Grade(verdict=Verdict.LUCKY, answer=2, answer_correct=True, process_accuracy=0.5, literal=False),
    "wrong": Grade(verdict=Verdict.WRONG, answer=3, answer_correct=False, process_accuracy=0.75, literal=False),
    "unreadable": Grade(
        verdict=Verdict.UNREADABLE, answer=None, answer_correct=False, process_accuracy=0.25, literal=False
    ),
    "truncated": Grade(
        verdict=Verdict.TRUNCATED, answer=None, answer_correct=False, process_accuracy=0.5, literal=False
    ),
    "garbled": Grade(
        verdict=Verdict.LUCKY, answer=2, answer_correct=True, process_accuracy=1.0, literal=False, malformed=1
    ),
}
EARNED = {
    "outcome": (1, 1, 1, 0, 0, 0, 1),
    "process": (1, 1, 0.5, 0.75, 0.25, 0.5, 1),
    "mix": (1, 1, 0.25 + 0.75 * 0.5, 0.75 * 0.75, 0.75 * 0.25, 0.75 * 0.5, 1),
    "gated": (1, 1, 0.25 + 0.75 * 0.5, 0, 0, 0, 1),
    "strict": (1, 1, 0, 0, 0, 0, 0),
    "literal": (1, 0, 0, 0, 0, 0, 0),
    "format": (1, 1, 1, 1, 0, 0, 0),
}
"""What every grade earns, in their order, with alpha 1/4."""


@pytest.fixture(scope="module")
def exercise(exercises):
    return exercises[0][0]


def attempts(exercise, *parts: tuple[str, int]) -> list[Attempt]:
    """A group of completions with these grades and numbers of tokens; their text is the gold one."""
    return [
        Attempt(exercise, exercise.completion, tokens, GRADES[name], (0, sample))
        for sample, (name, tokens) in enumerate(parts)
    ]


def earned(composition: Composition, group: list[Attempt]) -> list[float]:
    return [score.reward for score in composition.scores(group, 0, "stage 1")]


# ------------------------------------------------------------------------------------ of a grade


@pytest.mark.parametrize("name", rewards.REWARDS)
def test_every_reward_of_a_grade_is_what_its_name_says(name):
    assert [rewards.named_reward(name, 0.25)(one) for one in GRADES.values()] == pytest.approx(EARNED[name])


def test_the_functions_are_the_named_rewards():
    for one in GRADES.values():
        assert rewards.literal(one) == rewards.named_reward("literal")(one)
        assert rewards.well_formed(one) == rewards.named_reward("format")(one)
        assert rewards.process(one) == rewards.named_reward("process")(one)
        assert rewards.gated(one, 0.25) == rewards.named_reward("gated", 0.25)(one)


@pytest.mark.parametrize("name", rewards.REWARDS)
def test_gold_earns_everything(name, exercises):
    reward = rewards.named_reward(name, 0.3)
    assert {reward(grade(one, one.completion)) for one, _ in exercises[:100]} == {1.0}
    cut = {reward(grade(one, one.completion, finished=False)) for one, _ in exercises[:100]}
    assert cut == {{"process": 1, "mix": 0.7}.get(name, 0)}  # a truncated solution keeps the steps it did write


@pytest.mark.parametrize("name", rewards.REWARDS)
def test_every_reward_is_affine_in_its_outcome(name):
    kind = rewards.REWARDS[name]
    for one in GRADES.values():
        no, yes, between, beyond = (kind.of(right, one, 0.25) for right in (0, 1, 0.3, -0.5))
        assert between == pytest.approx(0.7 * no + 0.3 * yes)
        assert beyond == pytest.approx(1.5 * no - 0.5 * yes)
        assert kind.uses_outcome or no == yes


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_is_a_share(alpha):
    with pytest.raises(RecipeError, match=r"alpha=.*give the share of the outcome, 0 to 1"):
        rewards.named_reward("mix", alpha)


# ------------------------------------------------------------------------------------ of length


def test_the_linear_penalty_falls_from_free_to_full():
    assert [rewards.linear_length(tokens, 10, 20) for tokens in (0, 10, 11, 15, 20, 99)] == [0, 0, -0.1, -0.5, -1, -1]


@pytest.mark.parametrize(("free", "full"), [(20, 20), (21, 20), (-1, 20)])
def test_a_linear_penalty_without_a_slope_is_refused(free, full):
    with pytest.raises(RecipeError, match=rf"from {free} to {full} tokens: give 0 <= free < full"):
        LinearLength(free=free, full=full)


def test_within_a_group_the_short_right_ones_gain_and_the_long_ones_lose():
    # shares 1/2, 1/4, 0, -1/2
    assert rewards.group_length([10, 15, 20, 30], [1, 1, 1, 1]) == [0.5, 0.25, 0, -0.5]
    assert rewards.group_length([10, 15, 20, 30], [0, 0, 0, 0]) == [0, 0, 0, -0.5]
    assert rewards.group_length([10, 15, 20, 30], [0, 1, 0, 1]) == [0, 0.25, 0, -0.5]


def test_a_group_of_one_length_gets_nothing():
    assert rewards.group_length([7, 7, 7], [1, 0, 1]) == [0, 0, 0]
    assert rewards.group_length([7], [1]) == [0]
    assert rewards.group_length([], []) == []
    assert rewards.group_length([7, 8], [1, 1]) != [0, 0]


def test_only_the_differences_of_lengths_count_in_a_group():
    lengths, right = [12, 5, 40, 9], [1, 0, 1, 1]
    moved = rewards.group_length([3 * length + 100 for length in lengths], right)
    assert moved == pytest.approx(rewards.group_length(lengths, right))
    assert moved != pytest.approx(rewards.group_length([length**2 for length in lengths], right))


# ------------------------------------------------------------------------------------ of language


def test_gold_is_in_the_language_of_its_prompt(exercises):
    assert {rewards.language_consistency(one.prompt, one.completion) for one, _ in exercises} == {1.0}


def test_a_solution_in_another_language_is_not(exercise):
    said = {
        frames: render(exercise.problem, load_template("zoo", frames), random.Random(0))
        for frames in ("english", "chinese")
    }
    assert rewards.language_consistency(said["chinese"].prompt, said["english"].completion) == 0
    assert rewards.language_consistency(said["english"].prompt, said["chinese"].completion) == 0


@pytest.mark.parametrize(
    ("prompt", "completion", "share"),
    [
        ("two red foxes", "one fox 狐", 2 / 3),
        ("两只 fox", "狐狸 fox", 2 / 3),
        ("two foxes", "C9 = k + 3", 1),  # names of variables are no words
        ("two foxes", "两 C9 = k + 3", 0),
        ("two foxes", "", 1),
        ("q1_2 = 3", "狐", 1),
        ("两只", "<think> 狐狸 </think>", 1),  # tags are no words
        ("两只", "think 狐狸", 2 / 3),
        ("two foxes", "две лисы foxes", 1 / 3),
    ],
)
def test_the_share_of_words_in_the_prompts_script(prompt, completion, share):
    assert rewards.language_consistency(prompt, completion) == pytest.approx(share)


# ------------------------------------------------------------------------------------ compositions


@pytest.mark.parametrize("name", rewards.REWARDS)
def test_a_composition_without_more_is_the_named_reward(name, exercise):
    group = attempts(exercise, *((grade, 10 + at) for at, grade in enumerate(GRADES)))
    scores = Composition(reward=name, alpha=0.25).scores(group, 0, "stage 1")
    assert [score.reward for score in scores] == pytest.approx(EARNED[name])
    assert [score.reward_true for score in scores] == pytest.approx(EARNED[name])
    assert all(score.parts == {} and not score.flipped for score in scores)


def test_terms_are_added_with_their_weights_and_kept_apart(exercise):
    terms = (
        LinearLength(weight=0.5, free=10, full=20),
        GroupLength(weight=0.2),
        Language(weight=0.25),
        Format(weight=0.125),
    )
    group = attempts(exercise, ("literal", 10), ("wrong", 15), ("truncated", 20))
    scores = Composition(reward="strict", terms=terms).scores(group, 0, "stage 1")
    assert [dict(score.parts) for score in scores] == [
        {"linear_length": 0, "group_length": 0.1, "language": 0.25, "format": 0.125},
        {"linear_length": -0.25, "group_length": 0, "language": 0.25, "format": 0.125},
        {"linear_length": -0.5, "group_length": -0.1, "language": 0.25, "format": 0},
    ]
    assert [score.reward for score in scores] == pytest.approx([1.475, 0.125, -0.35])


def test_whose_language_and_form_are_judged_is_each_completions_own(exercise):
    one, other = attempts(exercise, ("literal", 10), ("garbled", 10))
    other = dataclasses.replace(other, text="狐" if exercise.frames != "chinese" else "fox")
    assert earned(Composition(terms=(Language(), Format())), [one, other]) == [3, 0]


def test_the_order_of_a_group_changes_no_reward(exercise):
    group = attempts(exercise, ("literal", 10), ("lucky", 17), ("wrong", 25), ("otherwise", 31))
    composition = Composition(terms=(GroupLength(),), noise=Noise(false_positives=0.5, false_negatives=0.5))
    assert earned(composition, group[::-1]) == earned(composition, group)[::-1]
    assert len({*earned(composition, group)}) > 2


def test_bounds_hold_the_sum(exercise):
    group = attempts(exercise, ("literal", 10), ("wrong", 10), ("wrong", 30))
    terms = (LinearLength(weight=2, free=10, full=20), Format(weight=0.25))
    assert earned(Composition(terms=terms), group) == [1.25, 0.25, -1.75]
    assert earned(Composition(terms=terms, bounds=(-1, 1)), group) == [1, 0.25, -1]


def worst_margin(exercise, weight: float) -> float:
    """The least lead of a verified completion over one that is not, with four terms of that weight in all."""
    rng = random.Random(0)
    least = math.inf
    for _ in range(300):
        shares = [rng.random() for _ in range(4)]
        a, b, c, d = (weight * share / sum(shares) for share in shares)
        terms = (LinearLength(weight=a, free=5, full=9), GroupLength(weight=b), Language(weight=c), Format(weight=d))
        names = ["literal", "otherwise", *rng.choices(["lucky", "wrong", "unreadable", "truncated", "garbled"], k=4)]
        group = attempts(exercise, *((name, rng.randint(1, 12)) for name in names))
        found = earned(Composition(reward="strict", terms=terms), group)
        least = min(least, min(found[:2]) - max(found[2:]))
    return least


def test_weights_below_one_never_pay_a_wrong_completion_more_than_a_verified_one(exercise):
    assert worst_margin(exercise, 0.99) > 0
    assert worst_margin(exercise, 2.5) < 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": "best"}, r"there is no reward 'best': give one of outcome, process, mix"),
        ({"alpha": 2}, r"alpha=2: give the share of the outcome"),
        ({"terms": (Format(), Format(weight=2))}, r"of the kind \['format'\]: give one of each"),
        ({"bounds": (1, 0)}, r"bounded by \(1, 0\): give two finite numbers, the lesser first"),
        ({"bounds": (0, math.inf)}, r"bounded by \(0, inf\): give two finite numbers"),
        (
            {"reward": "process", "noise": Noise(false_positives=0.1)},
            r"'process' has no outcome that a noisy verifier could turn round: leave the noise out",
        ),
        (
            {"bounds": (0, 1), "noise": Noise(false_positives=0.1, corrected=True)},
            r"bounds make the corrected reward wrong on average: give the bounds or the correction",
        ),
    ],
)
def test_compositions_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Composition(**settings)


def test_compositions_that_look_like_them_are_not():
    assert Composition(terms=(Format(), Language()), bounds=(0, 1), noise=Noise(false_positives=0.1))
    assert Composition(reward="process", noise=Noise())


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_is_a_number_from_0_on(weight):
    with pytest.raises(RecipeError, match=r"weight .*: give 0 or more; penalties are negative already"):
        GroupLength(weight=weight)
