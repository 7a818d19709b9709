"""The curriculum that follows the edge: a pure function of past groups, exact when resumed, and where the signal is."""

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsm_lab.data import split_of
from gsm_lab.errors import DataError, RecipeError
from gsm_lab.study.moving_edge import (
    History,
    MovingState,
    groups_of,
    moving_source_of,
)
from gsm_lab.study.moving_settings import MovingEdge
from gsm_lab.study.pipeline import train_stage
from gsm_lab.study.recipe import uniform
from gsm_lab.study.runs import StageFolder

SETTINGS = MovingEdge()
OPS = range(2, 12)
START = MovingState.begin(uniform(2, 11))
SOLVED, MIXED, UNSOLVED = (True,) * 4, (True, False, False, True), (False,) * 4


def random_steps(seed: int, steps: int) -> list[list[tuple[int, list[bool]]]]:
    rng = np.random.default_rng(seed)
    return [
        [(int(op), (rng.random(4) < rng.random()).tolist()) for op in rng.integers(2, 12, 16)] for _ in range(steps)
    ]


def folded(steps, state=START, settings=SETTINGS) -> list[MovingState]:
    return list(itertools.accumulate(steps, lambda before, groups: before.after(settings, groups), initial=state))


# ------------------------------------------------------------------------------------ the state


def test_a_state_read_back_at_any_step_goes_on_to_the_same_bits():
    steps = random_steps(0, 40)
    straight = folded(steps)
    for cut in range(41):
        again = MovingState.from_dict(json.loads(json.dumps(straight[cut].to_dict())))
        assert again == straight[cut]
        assert folded(steps[cut:], again)[-1] == straight[-1]


def test_the_order_of_groups_and_of_completions_does_not_matter():
    steps = random_steps(1, 10)
    shuffled = [[(op, verified[::-1]) for op, verified in reversed(groups)] for groups in steps]
    assert folded(shuffled)[-1] == folded(steps)[-1]


@pytest.mark.parametrize("settings", [SETTINGS, MovingEdge(explore=0.05, sharpness=8, most_change=0.3, memory=0)])
def test_shares_sum_to_one_keep_the_floor_and_change_slowly(settings):
    states = folded(random_steps(2, 200), settings=settings)
    for before, after in itertools.pairwise(states):
        assert math.fsum(after.shares) == pytest.approx(1, abs=1e-12)
        assert min(after.shares) >= settings.explore / len(OPS) - 1e-12
        moves = [abs(new - old) for old, new in zip(before.shares, after.shares, strict=True)]
        assert max(moves) <= settings.most_change + 1e-12


def test_near_miss_without_a_bound_shares_jump():
    calm, wild = (
        START.after(replace(SETTINGS, most_change=most), [(5, MIXED)] * 50 + [(8, SOLVED)] * 50) for most in (0.05, 1)
    )
    assert wild.shares[3] - 0.1 > calm.shares[3] - 0.1 == pytest.approx(0.05)


def test_mixed_groups_draw_prompts_and_solved_and_unsolved_ones_do_not():
    groups = [(op, SOLVED if op < 6 else MIXED if op < 8 else UNSOLVED) for op in OPS for _ in range(4)]
    state = folded([groups] * 60)[-1]
    shares = dict(zip(state.ops, state.shares, strict=True))
    assert all(shares[op] > 0.3 for op in (6, 7))
    assert all(shares[op] == pytest.approx(shares[2]) for op in OPS if op not in (6, 7))
    assert state.solved[0] == pytest.approx(4 / (1 - SETTINGS.memory), rel=0.01)


def test_what_is_seldom_asked_is_thought_better_of_than_what_is_known_to_be_out_of_reach():
    state = folded([[(op, UNSOLVED) for op in OPS if op != 9]] * 20)[-1]
    assert max(state.shares) == state.shares[state.ops.index(9)]


def test_without_any_group_the_shares_go_to_all_ops_alike():
    blend = uniform(4, 5).model_copy(update={"ops": {4: 0.9, 5: 0.1}})
    begin = MovingState.begin(blend)
    assert begin.shares == (0.9, 0.1)
    assert folded([[]] * 100, begin)[-1].shares == pytest.approx((0.5, 0.5))


# ------------------------------------------------------------------------------------ prompts


def test_ops_are_asked_as_often_as_their_share_says():
    state = folded(random_steps(3, 30))[-1]
    for step in range(50):
        asked = Counter(replace(state, step=step).ops_of_prompts(32, seed=7))
        for op, share in zip(state.ops, state.shares, strict=True):
            assert abs(asked[op] - 32 * share) < 1


def test_the_floor_reaches_every_op_in_time():
    rare = replace(START, shares=(0.01,) * 9 + (0.91,))
    seen = {op for step in range(40) for op in replace(rare, step=step).ops_of_prompts(16, seed=0)}
    assert seen == set(OPS)


def test_other_seeds_and_steps_draw_otherwise_and_the_same_ones_alike():
    rare = replace(START, shares=tuple(share / 55 for share in range(1, 11)))
    draws = [tuple(replace(rare, step=step).ops_of_prompts(7, seed)) for step in range(6) for seed in range(6)]
    assert len({*draws}) > 6
    assert draws[0] == tuple(rare.ops_of_prompts(7, 0))


def test_every_step_has_new_problems_of_the_split_of_reinforcement(small_recipe):
    stage = small_recipe.stages[2].model_copy(update={"blend": uniform(2, 4)})
    recipe = small_recipe.model_copy(update={"stages": (*small_recipe.stages[:2], stage)})
    source = moving_source_of(recipe, 2)
    states = folded([[(2, SOLVED), (3, MIXED), (4, UNSOLVED)]] * 20, MovingState.begin(stage.blend))
    posed = [one for state in states for one in source.posed_at(state)]
    assert [one.index for one in posed] == list(range(4 * len(states)))
    assert {one.exercise.op for one in posed} == {2, 3, 4}
    assert {split_of(one.exercise.problem_id) for one in posed} == {"rl"}
    again = moving_source_of(recipe, 2).posed_at(MovingState.from_dict(states[9].to_dict()))
    assert again == posed[36:40]
    other = moving_source_of(recipe.model_copy(update={"seed": 1}), 2).posed_at(states[9])
    assert [one.exercise for one in other] != [one.exercise for one in again]


# ------------------------------------------------------------------------------------ rollouts


def test_groups_are_read_from_rollouts_and_computed_again_from_the_files(small_recipe, tmp_path):
    source = moving_source_of(small_recipe, 2)
    blend = small_recipe.stages[2].blend
    states = [MovingState.begin(blend)]
    rng = np.random.default_rng(5)
    for step in range(6):
        rollouts = [
            (place, posed.exercise.op, solved)
            for place, posed in enumerate(source.posed_at(states[-1]))
            for solved in (rng.random(4) < 0.5).tolist()
        ]
        states.append(states[-1].after(SETTINGS, groups_of(rollouts)))
        columns = dict(zip(("group", "op", "verified"), map(list, zip(*rollouts, strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / f"step-{step:05d}.parquet")
    computed = History(SETTINGS, blend, tmp_path)
    assert [computed.before(step) for step in range(7)] == states
    assert History(SETTINGS, blend, tmp_path).before(4) == states[4]
    (tmp_path / "step-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"step-00002\.parquet is missing, and the problems of step 4 follow from it"):
        History(SETTINGS, blend, tmp_path).before(4)


def test_a_stage_with_a_moving_edge_asks_what_its_own_rollouts_say(small_recipe, tmp_path):
    *before, last = small_recipe.stages
    stage = last.model_copy(update={"blend": uniform(2, 3, contexts=("zoo",))})
    moving = MovingEdge(memory=0.5, prior_groups=0.5, sharpness=4, most_change=1)
    made = small_recipe.model_copy(update={"stages": (*before, stage.model_copy(update={"moving": moving}))})
    folder = StageFolder(tmp_path, made, 2)
    train_stage(folder)
    states, source = History(moving, stage.blend, folder.path / "rollouts"), moving_source_of(made, 2)
    for step in range(stage.steps):
        rows = pq.read_table(
            folder.path / "rollouts" / f"step-{step:05d}.parquet", columns=["op", "sample"]
        ).to_pylist()
        ops = [row["op"] for row in rows if row["sample"] == 0]
        assert ops == [posed.exercise.op for posed in source.posed_at(states.before(step))]
    seen = states.before(stage.steps)
    assert sum(seen.solved) + sum(seen.mixed) + sum(seen.unsolved) > 0
    assert StageFolder(tmp_path, small_recipe, 2).path != folder.path


# ------------------------------------------------------------------------------------ a learner


def learn(seed: int, moving: MovingEdge | None, low: int, high: int, steps: int = 150) -> tuple[float, float, float]:
    """A learner whose skill grows with mixed groups alone: its skill, its share of mixed groups, the mean op asked."""
    rng, state = np.random.default_rng(seed), MovingState.begin(uniform(low, high))
    skill, mixed, asked = 8.0, 0, []
    for step in range(steps):
        ops = np.array(state.ops_of_prompts(32, seed))
        chances = 1 / (1 + np.exp((ops - skill) / 0.7 + rng.normal(0, 1, 32)))
        verified = rng.random((32, 8)) < chances[:, None]
        new = int((verified.any(axis=1) & ~verified.all(axis=1)).sum())
        skill, mixed, asked = skill + 0.004 * new, mixed + new, [*asked, float(ops.mean())]
        groups = list(zip(ops.tolist(), verified.tolist(), strict=True))
        state = state.after(moving, groups) if moving else replace(state, step=step + 1)
    return skill, mixed / (32 * steps), float(np.mean(asked[-10:])) - float(np.mean(asked[10:20]))


def test_it_follows_an_edge_that_moves_and_learns_more_than_fixed_ranges_at_equal_rollouts():
    for seed in range(3):
        skill, mixed, travelled = learn(seed, SETTINGS, 2, 20)
        edge_skill, edge_mixed, _ = learn(seed, None, 9, 12)
        wide_skill, wide_mixed, _ = learn(seed, None, 2, 20)
        assert travelled > 3
        assert skill > max(edge_skill, wide_skill) + 1
        assert mixed > 1.3 * max(edge_mixed, wide_mixed)


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "setting",
    [{"explore": 0}, {"memory": 1}, {"prior_groups": 0}, {"sharpness": -1}, {"most_change": 0}, {"explore": math.nan}],
)
def test_settings_outside_their_range_are_refused(setting):
    with pytest.raises(RecipeError, match="the moving edge has"):
        MovingEdge(**setting)


@pytest.mark.parametrize("group", [(99, MIXED), (5, ())])
def test_groups_that_cannot_be_are_refused(group):
    with pytest.raises(DataError, match="its op has to be of"):
        START.after(SETTINGS, [group])


def test_states_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="begin the stage anew"):
        MovingState.from_dict({"step": 1})
    with pytest.raises(DataError, match="shares that sum to 1"):
        replace(START, shares=(0.2,) * 10)
    with pytest.raises(DataError, match="a number from 0 on for every op"):
        replace(START, solved=(0.0,))


def test_shares_of_tokens_are_refused():
    with pytest.raises(RecipeError, match='give unit="problems"'):
        MovingState.begin(uniform(2, 3, unit="tokens"))


def test_it_needs_no_torch():
    code = "import sys, gsm_lab.study.moving_edge; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
