"""Completions of a stage are scored within their group; noise changes the reward and nothing that is reported."""

import random

import pytest

from gsm_lab.problems import examine, rewards
from gsm_lab.study.pipeline import prompts_of
from gsm_lab.study.rewarding import Posed, RewardOf, reward_of
from gsm_lab.study.sources import source_of, tokenizer_of


@pytest.fixture(scope="module")
def scoring(small_recipe):
    """The stage of reinforcement's number, its tokenizer, and the prompts of two steps."""
    number = len(small_recipe.stages) - 1
    tokenizer = tokenizer_of(small_recipe.task)
    source = source_of(small_recipe, number, tokenizer)
    stage = small_recipe.stages[number]
    return number, tokenizer, [one for step in (0, 1) for one in prompts_of(stage, source, tokenizer, step)]


def completions_of(tokenizer, prompts):
    """For each prompt its gold solution, the same without its end, and nothing."""
    found = []
    for prompt in prompts:
        gold = tuple(tokenizer.encode(prompt.payload.exercise.completion))
        found += [(prompt.payload, (*gold, tokenizer.eos_id), True), (prompt.payload, gold, False)]
        found += [(prompt.payload, (tokenizer.eos_id,), True)]
    return found


def composed(tokenizer, **settings) -> RewardOf:
    return RewardOf(tokenizer, rewards.Composition(**settings), seed=0, stage="stage 1")


def values(scored, name):
    return [one.columns[name].as_py() for one in scored]


def test_exercises_of_a_stage_are_numbered_through_its_steps(scoring):
    _, _, prompts = scoring
    assert [prompt.payload.index for prompt in prompts] == list(range(len(prompts)))
    assert [prompt.key for prompt in prompts] == [prompt.payload.exercise.problem_id for prompt in prompts]


def test_a_stages_reward_is_the_one_that_its_recipe_names(small_recipe, scoring):
    number, tokenizer, prompts = scoring
    noisy = small_recipe.stages[number].model_copy(update={"noise": rewards.Noise(false_positives=0.1)})
    recipe = small_recipe.model_copy(update={"seed": 7, "stages": (*small_recipe.stages[:number], noisy)})
    named = reward_of(recipe, number, tokenizer)
    assert named == RewardOf(tokenizer, noisy.composition, 7, f"stage {number}")
    assert named.composition == rewards.Composition(reward="outcome", noise=rewards.Noise(false_positives=0.1))
    scored = reward_of(small_recipe, number, tokenizer)(completions_of(tokenizer, prompts))
    assert [one.reward for one in scored] == [1, 0, 0] * len(prompts)
    assert values(scored, "reward_true") == [1, 0, 0] * len(prompts)
    assert [one.verdict for one in scored] == ["correct", "truncated", "unreadable"] * len(prompts)


def test_steps_are_told_where_the_stage_gives_them_credit(small_recipe, scoring):
    number, tokenizer, prompts = scoring
    stage = small_recipe.stages[number].model_copy(update={"credit": "steps", "step_weight": 0.5})
    recipe = small_recipe.model_copy(update={"stages": (*small_recipe.stages[:number], stage)})
    completions = completions_of(tokenizer, prompts)
    scored = reward_of(recipe, number, tokenizer)(completions)
    plain = reward_of(small_recipe, number, tokenizer)(completions)
    for (posed, ids, _), one, other in zip(completions, scored, plain, strict=True):
        assert (one.reward, one.verdict, one.columns) == (other.reward, other.verdict, other.columns)
        assert other.steps is None
        accuracy = one.columns["process_accuracy"].as_py()
        assert sum(reward for _, reward in one.steps) == pytest.approx(0.5 * accuracy)
        text = tokenizer.decode(ids)
        marks = [mark for mark in examine(posed.exercise, text).marks if mark.kind in ("step", "unknown")]
        assert len(one.steps) == len(marks)
        for (place, _), mark in zip(one.steps, marks, strict=True):
            assert mark.end <= len(tokenizer.decode(ids[: place + 1]))
            ending = tokenizer.decode(ids[place : place + 1])  # what shows that the step's number is at its end
            assert place == len(ids) - 1 or text[mark.end :].startswith(ending)


def test_completions_are_compared_within_their_group_in_whatever_order_they_come(scoring):
    _, tokenizer, prompts = scoring
    score = composed(tokenizer, terms=(rewards.GroupLength(weight=0.5),))
    completions = completions_of(tokenizer, prompts)
    scored = score(completions)
    assert values(scored, "reward_group_length") != [0.0] * len(scored)
    # the gold one is the longest of its three, and right: -1/2; the empty one is the shortest, and wrong: min(0, 1/2)
    assert values(scored, "reward_group_length")[::3] == [-0.25] * len(prompts)
    assert values(scored, "reward_group_length")[2::3] == [0.0] * len(prompts)
    order = list(range(len(completions)))
    random.Random(0).shuffle(order)
    shuffled = score([completions[at] for at in order])
    assert [one.reward for one in shuffled] == [scored[at].reward for at in order]


def test_two_prompts_with_the_same_exercise_are_two_groups(scoring):
    _, tokenizer, prompts = scoring
    score = composed(tokenizer, terms=(rewards.GroupLength(),))
    completions = completions_of(tokenizer, prompts[:1])
    again = Posed(99, prompts[0].payload.exercise)
    apart = score([completions[0], (again, *completions[2][1:])])
    together = score([completions[0], completions[2]])
    assert values(apart, "reward_group_length") == [0, 0]
    assert values(together, "reward_group_length") == [-0.5, 0]


def test_noise_changes_the_reward_and_nothing_that_is_reported(scoring):
    _, tokenizer, prompts = scoring
    completions = completions_of(tokenizer, prompts) * 8
    clean = composed(tokenizer)(completions)
    noisy = composed(tokenizer, noise=rewards.Noise(false_positives=0.4, false_negatives=0.4))(completions)
    flipped = [one.reward != other.reward for one, other in zip(clean, noisy, strict=True)]
    assert 0.2 < sum(flipped) / len(flipped) < 0.6
    assert values(noisy, "reward_true") == [one.reward for one in clean]
    for name in ("verdict", "verified", "columns"):
        assert [getattr(one, name) for one in noisy] == [getattr(one, name) for one in clean]


def test_noise_is_drawn_anew_for_every_sample_and_seed(scoring):
    _, tokenizer, prompts = scoring
    noise = rewards.Noise(false_positives=0.5)
    empty = [(prompts[0].payload, (tokenizer.eos_id,), True)] * 32
    score = composed(tokenizer, noise=noise)
    first = [one.reward for one in score(empty)]
    assert {*first} == {0, 1}
    assert [one.reward for one in score(empty)] == first
    for other in (RewardOf(tokenizer, score.composition, 1, "stage 1"), RewardOf(tokenizer, score.composition, 0, "x")):
        assert [one.reward for one in other(empty)] != first
    elsewhere = [(prompts[1].payload, (tokenizer.eos_id,), True)] * 32
    assert [one.reward for one in score(elsewhere)] != first
