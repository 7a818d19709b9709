"""Every figure of a step: each is explained, and each can be computed again from the rollouts that are kept."""

import dataclasses
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsm_lab.training import (
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    reinforce,
    reinforce_metrics,
)
from gsm_lab.training.reinforce_metrics import column_means, rollout_figures
from gsm_lab.training.rollouts import Rollout, Sample

SETTINGS = ReinforceSettings(
    steps=3,
    group_size=8,
    max_new_tokens=3,
    eos_id=1,
    seed=0,
    optimizer=OptimizerSettings(kind="adamw", learning_rate=0.02),
    schedule=Schedule(kind="constant"),
)


def prompts_at(step: int) -> list[Prompt]:
    """The first prompt of a step is solved by everything, the second by nothing, the last two by chance."""
    return [Prompt((2, 3, 4)[: 1 + place % 3], f"p{place}", place) for place in range(4)]


def scores(completions) -> list[Scored]:
    found = []
    for place, ids, finished in completions:
        verified = place == 0 or (place > 1 and ids[0] % 2 == 0)
        columns = {"reward_length": -0.01 * len(ids), "reward_true": float(verified), "process_accuracy": ids[0] / 16}
        columns |= {"op": place, "process_note": "words"}
        verdict = "truncated" if not finished else "correct" if verified else "wrong"
        found.append(Scored(1.0 if place == 1 else float(verified), verdict, verified, columns))
    return found


def run(model, folder, **changes) -> list[dict]:
    reinforce(model, prompts_at, scores, dataclasses.replace(SETTINGS, **changes), folder)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def table_of(folder, step):
    return pq.read_table(folder / f"rollouts/step-{step:05d}.parquet").to_pandas()


NO_FIGURES = {"prompts_at", "reward_", "process_", "all_solved", "none_solved", "some_solved"}
"""What the explanations name besides figures."""


def test_every_figure_is_explained_and_nothing_else(tmp_path, tiny_model):
    explained = set(re.findall(r"`([a-z_]+)`", str(reinforce_metrics.__doc__))) - NO_FIGURES
    for line in run(tiny_model(), tmp_path):
        assert set(line) == explained


def test_figures_can_be_computed_again_from_the_rollouts(tmp_path, tiny_model):
    prompt_tokens = trained_tokens = 0
    for step, line in enumerate(run(tiny_model(), tmp_path)):
        table = table_of(tmp_path, step)
        lengths = table["ids"].map(len)
        assert line["reward_mean"] == pytest.approx(table["reward"].mean())
        assert line["reward_std"] == pytest.approx(table["reward"].std(ddof=0))
        assert line["column_means"] == {
            "process_accuracy": pytest.approx(table["process_accuracy"].mean()),
            "process_note": None,
            "reward_length": pytest.approx(table["reward_length"].mean()),
            "reward_true": pytest.approx(table["reward_true"].mean()),
        }
        for name, rows in (("verified", table["verified"]), ("unverified", ~table["verified"])):
            assert line[f"length_{name}_mean"] == pytest.approx(lengths[rows].mean())
            assert line[f"length_{name}_max"] == lengths[rows].max()
        trained_tokens += lengths[table["advantage"] != 0].sum()
        prompt_tokens += 1 + 2 + 3 + 1
        assert line["trained_tokens"] == trained_tokens < line["tokens"]
        assert line["prompt_tokens"] == prompt_tokens


def test_groups_without_variance_are_told_apart_by_what_became_of_them(tmp_path, tiny_model):
    for line in run(tiny_model(), tmp_path):
        assert line["zero_variance_outcomes"] == {"all_solved": 0.25, "none_solved": 0.25, "some_solved": 0.0}
        assert line["zero_variance_share"] == 0.5


def test_a_reward_that_sees_no_difference_is_told_apart_from_problems_that_are_too_easy_or_too_hard():
    def rollout(number, verified):
        sample = Sample((3, 1), (-1.0, -1.0), True)
        return Rollout(0, number, Prompt((1,), "p"), sample, Scored(0.5, "any", verified))

    figures = rollout_figures([rollout(0, True), rollout(1, False)], [0.0, 0.0])
    assert figures["zero_variance_outcomes"] == {"all_solved": 0.0, "none_solved": 0.0, "some_solved": 1.0}
    assert rollout_figures([rollout(0, True), rollout(1, False)], [0.5, -0.5])["zero_variance_share"] == 0.0


def test_a_column_without_values_has_no_mean_and_not_0():
    def rollout(**columns):
        return Rollout(0, 0, Prompt((1,), "p"), Sample((1,), (0.0,), True), Scored(0.0, "any", False, columns))

    empty = pa.scalar(None, pa.float64())
    full = pa.scalar(0.5, pa.float64())
    assert column_means([rollout(reward_a=empty)]) == {"reward_a": None}
    assert column_means([rollout(reward_a=empty), rollout(reward_a=full)]) == {"reward_a": 0.5}
    assert column_means([rollout(reward_a=0.5), rollout(), rollout(reward_a=True, other=3)]) == {"reward_a": 0.75}


def test_the_ratio_is_1_at_the_first_update_and_moves_with_the_second(tmp_path, tiny_model):
    for line in run(tiny_model(), tmp_path / "one"):
        assert line["ratio_deviation"] == line["mismatch"] < 1e-5
        assert line["ratio_mean"] == pytest.approx(1.0, abs=1e-5)
        assert line["clipped_share"] == 0.0
    for line in run(tiny_model(), tmp_path / "two", updates_per_rollout=2):
        assert line["mismatch"] < 1e-5 < 1e-3 < line["ratio_deviation"]
        assert abs(line["ratio_mean"] - 1.0) > 1e-4


def test_ratios_that_leave_the_clip_are_counted_on_their_side(tmp_path, tiny_model):
    low, high = (
        run(tiny_model(), tmp_path / name, updates_per_rollout=2, clip_low=low, clip_high=high)[-1]
        for name, low, high in (("low", 1e-6, 1e9), ("high", 0.9999999, 1e-6))
    )
    assert low["clipped_low_share"] == low["clipped_share"] > 0.1 > low["clipped_high_share"] == 0.0
    assert high["clipped_high_share"] == high["clipped_share"] > 0.1 > high["clipped_low_share"] == 0.0


def test_seconds_are_not_in_the_metrics(tmp_path, tiny_model):
    """They would differ between a run that was killed and one that was not."""
    (line,) = run(tiny_model(), tmp_path, steps=1)
    assert not [name for name in line if "seconds" in name]
    assert np.isfinite([value for value in line.values() if isinstance(value, float)]).all()
