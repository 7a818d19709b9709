"""Laws of the tables beside pass@k: gold is weighed as it was measured; a structure once trained on is not new."""

import math
import random

import numpy as np
import pandas as pd
import pytest

from gsm_lab.problems import grade, identity_at, is_structural, mutate
from gsm_lab.study import StageFolder, plan, read_gold, read_rollouts, source_of, tokenizer_of
from gsm_lab.study import test_problems as problems_of_the_test
from gsm_lab.study.beyond_passes import gold_table, novelty_table, trained_structures
from gsm_lab.study.runs import read_json


@pytest.fixture(name="jobs")
def _jobs(small):
    return [job for job in plan(small.recipes) if job.recipe.seed == 0]


def test_the_likelihood_of_gold_is_the_mean_over_problems(jobs, small_runs):
    table = gold_table(jobs, small_runs, np.random.default_rng(0))
    assert {*table["stage"]} == {job.recipe.stages[job.number].name for job in jobs}
    for row in table.itertuples():
        job = next(job for job in jobs if job.recipe.stages[job.number].name == row.stage)
        gold = read_gold(job.folder(small_runs))
        own = gold[gold["op"] == row.op]
        assert row.nll == pytest.approx((own["nll"] / own["tokens"]).mean())
        assert row.low <= row.nll <= row.high
        assert (row.num_problems, row.num_seeds) == (len(own), 1)
    by_context = gold_table(jobs, small_runs, np.random.default_rng(0), ("stage", "context", "op"))
    assert {*by_context["context"]} == {*gold["context"]}
    assert by_context["num_problems"].sum() == table["num_problems"].sum()


def test_what_a_stage_was_trained_on_is_known_to_it_and_to_those_after(small_recipe, small_runs):
    tokenizer, found = tokenizer_of(small_recipe.task), {}
    sets = [trained_structures(StageFolder(small_runs, small_recipe, number), found) for number in range(3)]
    assert sets[0] <= sets[1] <= sets[2]
    stage = small_recipe.stages[2]
    source = source_of(small_recipe, 2, tokenizer)
    of_rl = {identity_at(source.at(index).problem, "structure_id") for index in range(stage.steps * 4)}
    assert stage.prompts_per_step == 4
    assert sets[2] == sets[1] | of_rl
    assert len(found) == 3


def test_of_supervised_training_all_that_it_read_is_known(small_recipe, small_runs):
    """As many problems as have its tokens, end tokens too; rows hold whole problems and nothing else."""
    folder, tokenizer = StageFolder(small_runs, small_recipe, 0), tokenizer_of(small_recipe.task)
    tokens = read_json(folder.path / "done.json")["tokens"]
    source = source_of(small_recipe, 0, tokenizer)
    read, index = set(), 0
    while tokens > 0:
        exercise = source.at(index)
        read.add(identity_at(exercise.problem, "structure_id"))
        tokens -= len(tokenizer.encode(exercise.prompt)) + len(tokenizer.encode(exercise.completion)) + 1
        index += 1
    assert tokens == 0
    assert trained_structures(folder, {}) == read


def test_new_and_known_structures_make_up_every_op(jobs, small, small_runs):
    rollouts = pd.concat([read_rollouts(job.folder(small_runs)) for job in jobs], ignore_index=True)
    table = novelty_table(jobs, small_runs, rollouts, np.random.default_rng(0))
    assert len(table) == len({*rollouts["op"]}) * len({*rollouts["stage"]})
    found = {}
    for row in table.itertuples():
        inside = rollouts[(rollouts["stage"] == row.stage) & (rollouts["op"] == row.op)]
        passes = inside.groupby(["context", "problem_id"])["verified"].mean()
        assert row.num_tested == len(passes)
        parts = [(row.share_new, row.pass_new), (1 - row.share_new, row.pass_known)]
        assert sum(share * value for share, value in parts if share) == pytest.approx(passes.mean())
        assert math.isnan(row.pass_new) == (row.share_new == 0)
        found[row.stage, row.op] = row.share_new
    assert found["base", 2] == 0  # op 2 has few structures
    assert found["base", 3] == 1  # op 3 was never trained on
    assert found["mid", 3] < 1


@pytest.mark.parametrize(
    ("completion_error", "structural"),
    [
        ("lion_ash: its operands are not those that the problem states", True),
        ("plan for lion_ash: its operation is not the one that the problem states", True),
        ("lion_ash: 'otter_ash' is used before it is computed", True),
        ("answer: 4 is not the value of the asked quantity", True),
        ("lion_ash: an equality of its chain is false", False),
        ("lion_ash: the numbers put in are not the values of the operands", False),
        ("'foo bar': this is not a statement of the solution's grammar", False),
    ],
)
def test_errors_of_structure_are_told_from_slips(completion_error, structural):
    assert is_structural(completion_error) is structural


def test_a_wrong_sum_of_a_real_solution_is_a_slip_and_a_missing_step_is_not(small_recipe):
    for kind, structural in (("wrong_value", False), ("false_equality", False), ("missing_step", True)):
        changed = 0
        for exercise in problems_of_the_test(small_recipe, 3):
            text = mutate(exercise, kind, random.Random(0))
            if text is not None:
                found = grade(exercise, text)
                assert is_structural(found.first_error) is structural, (kind, found.first_error)
                changed += 1
        assert changed, kind
