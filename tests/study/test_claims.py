"""Laws of claims: a verdict follows from the interval alone, and what is not ruled out is not decided."""

import math

import numpy as np
import pandas as pd
import pytest

from gsm_lab.errors import DataError
from gsm_lab.evaluation import differences, tabulate
from gsm_lab.study import Claim
from gsm_lab.study.claims import (
    CLAIM_COLUMNS,
    NOT_REPRODUCED,
    REPRODUCED,
    REVERSED,
    UNDECIDED,
    judge,
    ks_of,
    more_data,
    pairs_of,
    student_interval,
    verdict_of,
)

BANDS = {"ID": (2, 2), "edge": (3, 3)}
SMALLEST = 0.02


def claim(expects: str = "gain", **other: object) -> Claim:
    settings = {"name": "one", "text": "It helps.", "source": "nobody", "stage": "after", "baseline": "base"}
    return Claim.model_validate(settings | {"band": "edge", "expects": expects, "smallest": SMALLEST} | other)


# ------------------------------------------------------------------------------------ the rules


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.05, 0.01, 0.09, REPRODUCED),
        (0.02, 0.001, 0.04, REPRODUCED),  # as large as the smallest that counts
        (0.019, 0.001, 0.04, UNDECIDED),  # not quite so large, and a gain that counts is not ruled out
        (0.05, 0.0, 0.09, UNDECIDED),  # the interval touches 0
        (0.01, 0.005, 0.019, NOT_REPRODUCED),  # a gain, but too small to count
        (0.0, -0.01, 0.02, UNDECIDED),  # the interval touches the smallest gain that counts
        (0.0, -0.01, 0.0199, NOT_REPRODUCED),
        (-0.05, -0.09, -0.01, REVERSED),
        (-0.02, -0.09, -0.001, REVERSED),
        (-0.019, -0.09, -0.001, NOT_REPRODUCED),  # a loss too small to count
        (-0.05, -0.12, 0.0, NOT_REPRODUCED),  # perhaps no loss, but no gain either
        (-0.05, -0.12, 0.03, UNDECIDED),
    ],
)
def test_a_gain_and_its_mirror_are_judged_alike(value, low, high, verdict):
    assert verdict_of(claim("gain"), value, low, high) == verdict
    assert verdict_of(claim("loss"), -value, -high, -low) == verdict


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.0, -0.019, 0.019, REPRODUCED),
        (0.01, 0.005, 0.019, REPRODUCED),  # a change, but too small to count
        (0.0, -0.02, 0.019, UNDECIDED),  # the interval touches the smallest change that counts
        (0.05, 0.01, 0.09, NOT_REPRODUCED),
        (0.02, 0.001, 0.04, NOT_REPRODUCED),
        (0.019, 0.001, 0.04, UNDECIDED),
        (0.05, 0.0, 0.09, UNDECIDED),
    ],
)
def test_no_change_is_an_interval_within_the_smallest_change(value, low, high, verdict):
    assert verdict_of(claim("no change"), value, low, high) == verdict
    assert verdict_of(claim("no change"), -value, -high, -low) == verdict


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.0, -0.5, 0.019, REPRODUCED),
        (-0.3, -0.5, -0.1, REPRODUCED),  # a loss is no gain
        (0.0, -0.5, 0.02, UNDECIDED),
        (0.05, 0.01, 0.09, NOT_REPRODUCED),
        (0.05, 0.0, 0.09, UNDECIDED),
        (0.019, 0.001, 0.04, UNDECIDED),
    ],
)
def test_no_gain_looks_at_one_side_and_no_loss_is_its_mirror(value, low, high, verdict):
    assert verdict_of(claim("no gain"), value, low, high) == verdict
    assert verdict_of(claim("no loss"), -value, -high, -low) == verdict


@pytest.mark.parametrize(
    ("expects", "value", "low", "high", "factor"),
    [
        ("no gain", 0.0, -0.5, 0.06, 9.0),  # only the high end is in the way
        ("no loss", 0.0, -0.06, 0.5, 9.0),
        ("gain", 0.05, 0.01, 0.09, 1.0),  # decided
        ("gain", 0.04, -0.04, 0.12, 4.0),  # the low end is 0.08 below, and has to come within 0.04
        ("loss", -0.04, -0.12, 0.04, 4.0),
        ("gain", 0.0, -0.06, 0.06, 9.0),  # the high end is 0.06 above, and has to come within 0.02
        ("gain", -0.02, -0.1, 0.06, 4.0),  # within 0.04: from -0.02 to 0.02
        ("gain", 0.015, -0.005, 0.025, 4.0),  # within 0.005 of 0.01
        ("no change", 0.0, -0.06, 0.04, 9.0),  # both ends within 0.02: the worse one counts
        ("no change", 0.04, -0.04, 0.12, 4.0),  # the low end has to leave 0
        ("no change", -0.04, -0.12, 0.04, 4.0),
        ("no change", 0.01, -0.02, 0.025, 2.25),  # above 0.015 to within 0.01, below 0.03 to within 0.03
    ],
)
def test_an_undecided_claim_says_how_much_data_would_decide_it(expects, value, low, high, factor):
    assert more_data(claim(expects), value, low, high) == pytest.approx(factor)


def test_with_that_much_data_it_is_decided_and_with_a_little_less_it_is_not():
    draw = np.random.default_rng(0)
    undecided = 0
    for _ in range(3000):
        value, down, up = draw.normal(0, 0.03), *draw.uniform(0, 0.08, 2)
        for expects in ("gain", "loss", "no gain", "no loss", "no change"):
            one = claim(expects)
            if verdict_of(one, value, value - down, value + up) != UNDECIDED:
                continue
            undecided += 1
            factor = more_data(one, value, value - down, value + up)
            assert factor >= 1
            for share, is_open in ((0.999, True), (1.001, False)):
                shrink = math.sqrt(max(factor * share, 1))
                verdict = verdict_of(one, value, value - down / shrink, value + up / shrink)
                if factor * share > 1:
                    assert (verdict == UNDECIDED) is is_open, (expects, value, down, up)
    assert undecided > 1000


def test_students_interval_of_three_seeds():
    # Mean 0.2, standard deviation 0.1, over the root of 3, times 4.303.
    assert student_interval([0.1, 0.2, 0.3]) == pytest.approx((0.2 - 0.24844, 0.2 + 0.24844), abs=1e-5)


@pytest.mark.parametrize("alike", [[], [0.1], [0.1, 0.1, 0.1]])
def test_seeds_that_are_one_or_all_alike_say_nothing_of_their_spread(alike):
    assert all(map(math.isnan, student_interval(alike)))


# ------------------------------------------------------------------------------------ from rollouts


def rollouts(chances: dict[str, float], seeds: int = 3, problems: int = 40) -> pd.DataFrame:
    """Ops 2 and 3 in the zoo, four samples a problem; `chances` of being right."""
    draw = np.random.default_rng(1)
    rows = [
        {"stage": stage, "seed": seed, "problem_id": f"{op}-{problem}", "op": op, "sample": sample, "right": right}
        for stage, chance in chances.items()
        for seed in range(seeds)
        for op in (2, 3)
        for problem in range(problems)
        for sample, right in enumerate((draw.random(4) < chance).tolist())
    ]
    table = pd.DataFrame(rows).assign(context="zoo", process_accuracy=1.0, tokens=9)
    right = table.pop("right")
    return table.assign(
        verdict=np.where(right, "correct", "wrong"), verified=right, answer_correct=right, answer=np.where(right, 7, 5)
    )


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    table = rollouts({"base": 0.2, "after": 0.8, "same": 0.2})
    pairs = [("after", "base"), ("same", "base"), ("base", "after")]
    return differences(table, pairs, np.random.default_rng(0), bands=BANDS, ks=(1, 2, 3, 4), draws=200)


@pytest.fixture
def judged(small, gains):
    """The rows of claims, judged by the constructed differences."""

    def judge_all(*claims: Claim) -> pd.DataFrame:
        return judge(small.model_construct(**dict(small) | {"claims": claims}), gains)

    return judge_all


def test_claims_are_judged_by_the_rows_of_their_band_context_metric_and_k(judged, gains):
    table = judged(
        claim(name="helps"),
        claim(name="hurts", expects="loss", k=3, context="zoo"),
        claim(name="reversed", expects="gain", stage="base", baseline="after"),
        claim(name="nothing", expects="no change", stage="same", smallest=0.3, band="ID"),
        claim(name="process", expects="no change", metric="process accuracy", k=None),
    )
    assert tuple(table.columns) == CLAIM_COLUMNS
    assert table["verdict"].tolist() == [REPRODUCED, REVERSED, REVERSED, REPRODUCED, UNDECIDED]
    row = table.iloc[1]
    chosen = gains[(gains["stage"] == "after") & (gains["band"] == "edge") & (gains["context"] == "zoo")]
    chosen = chosen[(chosen["metric"] == "pass@k") & (chosen["k"] == 3)].set_index("seed")
    assert (row["difference"], row["low"], row["high"]) == tuple(chosen.loc["all", ["value", "low", "high"]])
    assert row["half_width"] == pytest.approx((row["high"] - row["low"]) / 2)
    seeds = [f"{seed}: {chosen.loc[seed, 'value']:+.4f}" for seed in ("0", "1", "2")]
    assert row["seed_differences"] == "; ".join(seeds)
    assert row["seed_lowest"] == chosen.drop("all")["value"].min()
    assert row["seed_highest"] == chosen.drop("all")["value"].max()
    assert (row["num_seeds"], row["num_problems"]) == (3, 40)


def test_a_row_says_how_its_interval_treats_few_seeds(judged, small):
    assert "3 seeds; too narrow for what comes from seeds, see student_low" in judged(claim())["interval"][0]
    alone = differences(
        rollouts({"base": 0.2, "after": 0.8}, seeds=1), [("after", "base")], np.random.default_rng(0), bands=BANDS
    )
    row = judge(small.model_construct(**dict(small) | {"claims": (claim(),)}), alone).iloc[0]
    assert "one seed, so nothing is known of other seeds" in row["interval"]
    assert row["verdict_by_seeds"] == ""
    assert row["verdict"] == REPRODUCED


def test_seeds_that_contradict_each_other_are_seen_beside_the_interval(small):
    """One seed of three makes all the gain: Student's interval does not claim what the bootstrap may."""
    table = rollouts({"base": 0.2, "after": 0.2})
    lucky = (table["stage"] == "after") & (table["seed"] == 0)
    table.loc[lucky, ["verified", "answer_correct"]] = True
    table.loc[lucky, ["verdict", "answer"]] = ["correct", 7]
    gains = differences(table, [("after", "base")], np.random.default_rng(0), bands=BANDS)
    row = judge(small.model_construct(**dict(small) | {"claims": (claim(),)}), gains).iloc[0]
    assert row["seed_highest"] > 0.7
    assert row["seed_lowest"] < 0.1
    assert row["verdict_by_seeds"] == UNDECIDED
    assert row["verdict"] == UNDECIDED
    assert row["more_seeds"] > 1


def test_a_claim_is_decided_only_where_both_intervals_say_the_same(small):
    """Seeds that agree, of which each has few problems, and many problems with seeds that do not."""
    experiment = small.model_construct(**dict(small) | {"claims": (claim(),)})
    draw = np.random.default_rng(0)
    seen = set()
    for seeds in (2, 3, 6):
        for chance in (0.2, 0.3, 0.5):
            table = rollouts({"base": 0.2, "after": chance}, seeds=seeds, problems=8)
            row = judge(experiment, differences(table, [("after", "base")], draw, bands=BANDS, draws=200)).iloc[0]
            both = {row["verdict_by_bootstrap"], row["verdict_by_seeds"]}
            assert row["verdict"] == (both.pop() if len(both) == 1 else UNDECIDED)
            seen.add(len(both))
    assert seen == {0, 2}


@pytest.mark.parametrize(
    "wrong", [{"stage": "unknown"}, {"band": "hard"}, {"context": "school"}, {"metric": "luck"}, {"k": 5}]
)
def test_a_claim_without_numbers_is_named(judged, wrong):
    with pytest.raises(DataError, match=r"claim 'one' compares .* which the differences do not have on every op"):
        judged(claim(**wrong))


def test_stages_that_share_no_problem_are_refused():
    table = rollouts({"base": 0.2, "after": 0.8})
    table.loc[table["stage"] == "after", "seed"] += 10
    with pytest.raises(DataError, match="share no problem"):
        differences(table, [("after", "base")], np.random.default_rng(0), bands=BANDS)


def test_a_band_that_one_side_was_not_tested_on_is_named(small):
    table = rollouts({"base": 0.2, "after": 0.8})
    table = table[(table["stage"] == "base") | (table["op"] == 2)]
    assert tabulate(table, np.random.default_rng(0), bands=BANDS, draws=5) is not None
    gains = differences(table, [("after", "base")], np.random.default_rng(0), bands={"edge": (2, 3)})
    experiment = small.model_construct(**dict(small) | {"claims": (claim(),)})
    assert judge(experiment, gains)["num_problems"][0] == 40  # no pair was tested on op 3: it is no part of the band
    both = differences(rollouts({"base": 0.2, "after": 0.8}), [("after", "base")], np.random.default_rng(0))
    with pytest.raises(DataError, match="test both on the same problems under the same seeds"):
        judge(experiment, both)


def test_pairs_and_ks_cover_the_baseline_and_every_claim(small):
    claims = (claim(stage="RL", baseline="mid", k=2), claim(name="two", stage="mid", baseline="base", k=None))
    experiment = small.model_construct(**dict(small) | {"claims": claims})
    assert pairs_of(experiment) == [("mid", "base"), ("RL", "base"), ("RL alone", "base"), ("RL", "mid")]
    assert ks_of(experiment) == (1, 2)
    assert pairs_of(small) == [("mid", "base"), ("RL", "base"), ("RL alone", "base")]


def test_no_claims_give_an_empty_table(small, gains):
    table = judge(small, gains)
    assert tuple(table.columns) == CLAIM_COLUMNS
    assert table.empty
