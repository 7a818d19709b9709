"""Every problem of an evaluation is completed from random numbers of its own."""

import numpy as np
import pytest

from gsm_lab.study.evaluate import _uniforms
from gsm_lab.study.evaluate import test_problems as problems_of_the_test


@pytest.fixture(scope="module", name="exercises")
def _exercises(small_recipe):
    return [exercise for op in small_recipe.evaluation.ops for exercise in problems_of_the_test(small_recipe, op)]


def share_no_number(arrays) -> bool:
    numbers = np.stack(arrays)
    return len(np.unique(numbers)) == numbers.size


def test_no_two_problems_samples_or_seeds_share_a_number(small_recipe, exercises):
    seeds = [small_recipe.model_copy(update={"seed": seed}) for seed in (0, 1)]
    arrays = [_uniforms(recipe, exercise, exercise.context) for recipe in seeds for exercise in exercises]
    shape = (small_recipe.evaluation.samples, small_recipe.evaluation.max_new_tokens)
    assert {array.shape for array in arrays} == {shape}
    assert share_no_number(arrays)
    one_stream = [np.random.default_rng(42).random(shape) for _ in exercises]  # near miss: one seed for every problem
    assert not share_no_number(one_stream)
    next_seed = [np.random.default_rng(seed + at).random(shape) for seed in (0, 1) for at in range(len(exercises))]
    assert not share_no_number(next_seed)  # near miss: seed + index


def test_a_problems_numbers_do_not_depend_on_which_are_asked_before(small_recipe, exercises):
    def same_both_ways(numbers_of) -> bool:
        straight = [numbers_of(exercise) for exercise in exercises]
        return np.array_equal(straight, [numbers_of(exercise) for exercise in reversed(exercises)][::-1])

    assert same_both_ways(lambda exercise: _uniforms(small_recipe, exercise, exercise.context))
    one_stream = np.random.default_rng(0)  # near miss: every problem goes on where the one before ended
    assert not same_both_ways(lambda exercise: one_stream.random(3))
