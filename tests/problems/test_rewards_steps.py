"""Rewards of steps add up to the process accuracy, land on the right token, and shape without changing what is best."""

import itertools
import random

import pytest

from gsm_lab.errors import DataError, RecipeError
from gsm_lab.problems import Examination, Grade, Mark, Verdict, examine, mutate
from gsm_lab.problems.rewards import computed_steps, shaped_steps, shaping, spread, step_rewards


def examined(*gains: float) -> Examination:
    """An examination of statements of ten characters with these gains."""
    marks = tuple(
        Mark(start=10 * at, end=10 * at + 10, kind="step", status="right", quantity=None, gain=gain, messages=())
        for at, gain in enumerate(gains)
    )
    grade = Grade(verdict=Verdict.WRONG, answer=None, answer_correct=False, process_accuracy=sum(gains), literal=False)
    return Examination(grade=grade, marks=marks)


# ------------------------------------------------------------------------------------ steps


def test_a_step_is_paid_at_its_end_what_it_added():
    assert step_rewards(examined(0.25, 0, 0.5, -0.25)) == [(10, 0.25), (20, 0), (30, 0.5), (40, -0.25)]


def test_the_rewards_of_real_steps_add_up_to_the_process_accuracy(exercises):
    partly = 0
    for number, (exercise, _) in enumerate(exercises[:200]):
        slipped = mutate(exercise, "wrong_value", random.Random(number))
        for text in (exercise.completion, slipped):
            if text is None:
                continue
            found = examine(exercise, text)
            steps = step_rewards(found)
            assert sum(reward for _, reward in steps) == pytest.approx(found.grade.process_accuracy)
            assert all(0 < end <= len(text) for end, _ in steps)
            partly += 0 < found.grade.process_accuracy < 1
    assert partly > 20


def test_only_what_computes_a_quantity_and_stands_is_a_step_to_learn_from(exercises):
    for number, (exercise, _) in enumerate(exercises[:200]):
        slipped = mutate(exercise, "wrong_value", random.Random(number))
        for text in (exercise.completion, slipped or exercise.completion):
            found = examine(exercise, text)
            steps = computed_steps(found)
            assert sum(reward for _, reward in steps) == pytest.approx(found.grade.process_accuracy)
            assert set(steps) <= set(step_rewards(found))
        if exercise.style.form != "answer_only":
            gold = computed_steps(examine(exercise, exercise.completion))
            assert {round(reward, 9) for _, reward in gold} == {round(1 / len(exercise.needed_names), 9)}


# ------------------------------------------------------------------------------------ tokens


def test_a_steps_reward_goes_to_the_token_of_its_last_character():
    # characters: abc|de|f|<eos>; steps end after c, after d and after f
    assert spread([(3, 1.0), (4, 0.5), (6, 0.25)], [3, 5, 6, 6]) == [1.0, 0.5, 0.25, 0.0]


def test_the_reward_of_the_whole_goes_to_the_end_of_sequence():
    assert spread([(3, 1.0)], [3, 5, 6, 6], last=2.0) == [1.0, 0.0, 0.0, 2.0]
    assert spread([], [6], last=2.0) == [2.0]


def test_several_steps_in_one_token_are_added():
    assert spread([(2, 1.0), (1, 0.5), (3, -2.0)], [3, 5]) == [-0.5, 0.0]


def test_nothing_is_lost_or_moved_back_in_time():
    rng = random.Random(0)
    for _ in range(200):
        ends = sorted(rng.choices(range(1, 50), k=rng.randint(1, 20)))
        steps = [(rng.randint(1, ends[-1]), rng.uniform(-1, 1)) for _ in range(rng.randint(0, 9))]
        found = spread(steps, ends, last=0.5)
        assert sum(found) == pytest.approx(sum(reward for _, reward in steps) + 0.5)
        for at, end in enumerate(ends[:-1]):
            if end < ends[-1]:
                early = sum(reward for place, reward in steps if place <= end)
                shown = sum(reward for reward, own in zip(found, ends, strict=True) if own <= end)
                assert shown == pytest.approx(early), at


def test_no_tokens_hold_no_reward():
    assert spread([], []) == []
    with pytest.raises(DataError, match=r"the 0 tokens end at character 0, before a reward"):
        spread([], [], last=1.0)


def test_a_reward_behind_the_tokens_is_refused():
    with pytest.raises(DataError, match=r"the 2 tokens end at character 5, before a reward: give the tokens of the"):
        spread([(6, 1.0)], [3, 5])
    assert spread([(5, 1.0)], [3, 5]) == [0.0, 1.0]


def test_ends_that_go_back_are_refused():
    with pytest.raises(DataError, match="the ends of the tokens go back: give the number of characters up to each"):
        spread([(2, 1.0)], [3, 2, 5])


# ------------------------------------------------------------------------------------ shaping


def discounted(values: list[float], gamma: float) -> float:
    return sum(gamma**at * value for at, value in enumerate(values))


@pytest.mark.parametrize("gamma", [1.0, 0.95, 0.5])
def test_shaping_telescopes(gamma):
    rng = random.Random(0)
    for length in range(2, 12):
        potentials = [rng.random() for _ in range(length)]
        wanted = gamma ** (length - 1) * potentials[-1] - potentials[0]
        assert discounted(shaping(potentials, gamma), gamma) == pytest.approx(wanted, abs=1e-12)


def test_what_is_no_difference_of_potentials_does_not_telescope():
    potentials = [0.0, 0.9, 0.2]
    undiscounted = [later - earlier for earlier, later in itertools.pairwise(potentials)]
    assert discounted(undiscounted, 0.5) != pytest.approx(discounted(shaping(potentials, 0.5), 0.5))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_shaping_gives_every_completion_the_same_in_all(gamma):
    totals, without_end = set(), set()
    for gains in [(), (0.5, 0.5), (0.5, -0.5, 0.25), (0, 0, 1)]:
        steps, end = shaped_steps(examined(*gains), gamma)
        totals.add(round(discounted([*(reward for _, reward in steps), end], gamma), 12))
        without_end.add(round(discounted([reward for _, reward in steps], gamma), 12))
    assert totals == {0.0}
    assert len(without_end) > 1


def test_shaping_pays_a_right_step_and_takes_it_back_for_a_spoilt_one():
    steps, end = shaped_steps(examined(0.5, 0, 0.5, -0.25))
    assert steps == [(10, 0.5), (20, 0), (30, 0.5), (40, -0.25)]
    assert end == -0.75
    discounted_steps, _ = shaped_steps(examined(0.5, 0), gamma=0.5)
    assert discounted_steps == [(10, 0.25), (20, -0.25)]  # 0.5 * 0.5 - 0, then 0.5 * 0.5 - 0.5


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.01, float("nan")])
def test_a_gamma_that_is_no_discount_is_refused(gamma):
    with pytest.raises(RecipeError, match=r"gamma=.*: give a discount above 0 and at most 1"):
        shaping([0.0, 1.0], gamma)
