"""The reward of a stage, graded group by group in worker processes, gives the scores of this process; without torch."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from gsm_lab.problems import rewards
from gsm_lab.study import source_of, tokenizer_of
from gsm_lab.study.pipeline import prompts_of
from gsm_lab.study.rewarding import RewardOf
from gsm_lab.training import RewardWorkers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reward_and_groups(small_recipe):
    """A reward that compares the completions of a problem and errs at random, and completions of several problems."""
    number = len(small_recipe.stages) - 1
    tokenizer = tokenizer_of(small_recipe.task)
    composition = rewards.Composition(terms=(rewards.GroupLength(),), noise=rewards.Noise(false_positives=0.4))
    groups = []
    for prompt in prompts_of(small_recipe.stages[number], source_of(small_recipe, number, tokenizer), tokenizer, 0):
        gold = tuple(tokenizer.encode(prompt.payload.exercise.completion))
        texts = [(gold[: len(gold) - cut], True) for cut in range(4)] + [(gold, False)]
        groups.append([(prompt.payload, (*ids, tokenizer.eos_id), finished) for ids, finished in texts])
    return RewardOf(tokenizer, composition, seed=0, stage="stage 2"), groups


@pytest.mark.parametrize("processes", [0, 2])
def test_group_by_group_gives_the_scores_of_the_whole_step(processes, reward_and_groups):
    reward, groups = reward_and_groups
    whole = reward([completion for group in groups for completion in group])
    with RewardWorkers(reward, processes) as workers:
        gradings = [workers.start(group) for group in groups]
        assert [scored for grading in gradings for scored in grading().scores] == whole
    assert len({scored.reward for scored in whole}) > 3


def test_a_process_that_grades_imports_no_torch(reward_and_groups, tmp_path):
    (tmp_path / "work").write_bytes(pickle.dumps(reward_and_groups))
    program = (
        "import pickle, sys; import gsm_lab.training.reward_workers\n"
        "reward, groups = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert len([reward(group) for group in groups]) == len(groups)\n"
        "heavy = {'torch', 'transformers'} & sys.modules.keys(); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program, str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
