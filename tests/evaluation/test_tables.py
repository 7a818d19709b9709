"""Laws of tables: every number can be worked out by hand, and what is missing is nan."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from gsm_lab.errors import DataError
from gsm_lab.evaluation import (
    ALL,
    ANSWER_PASS,
    COLUMNS,
    DIFFERENCE_COLUMNS,
    MAJ,
    PASS,
    PROCESS,
    SHARES,
    TABLE_COLUMNS,
    as_bands,
    differences,
    edge_ladder,
    score_problems,
    tabulate,
)
from gsm_lab.evaluation.per_problem import VERDICTS, powers_of_two
from gsm_lab.problems import Verdict

LETTERS = {"c": "correct", "l": "lucky", "w": "wrong", "u": "unreadable", "t": "truncated"}
BANDS = {"ID": (2, 3), "edge": (4, 9)}


def rollouts(
    stage: str, problem: str, verdicts: str, *, op: int = 2, seed: int = 0, context: str = "zoo"
) -> list[dict[str, object]]:
    """The samples of one problem, a letter each; right answers are 7, wrong ones 5."""
    return [
        {
            "stage": stage,
            "seed": seed,
            "problem_id": problem,
            "op": op,
            "context": context,
            "sample": sample,
            "verdict": LETTERS[letter],
            "verified": letter == "c",
            "answer_correct": letter in "cl",
            "answer": 7 if letter in "cl" else 5 if letter == "w" else None,
            "process_accuracy": 1.0 if letter == "c" else 0.5,
            "tokens": 40,
        }
        for sample, letter in enumerate(verdicts)
    ]


def table_of(*problems: Sequence[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame([row for problem in problems for row in problem])
    return table.astype({"answer": "Int64"})


EXAMPLE = table_of(
    rollouts("base", "a", "ccwu"),
    rollouts("base", "b", "lwww"),
    rollouts("base", "c", "wwww", op=4),
    rollouts("rl", "a", "cccc"),
    rollouts("rl", "b", "clww"),
    rollouts("rl", "c", "cwwt", op=4),
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def only(table: pd.DataFrame, **wanted: object) -> pd.Series:
    """The one row with these values; every seed and context together unless said otherwise."""
    for column, value in {"seed": ALL, "context": ALL, **wanted}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tabulate(EXAMPLE, rng(), bands=BANDS, ks=(1, 2, 4))


def test_the_verdicts_counted_are_the_verdicts_of_the_grader() -> None:
    assert tuple(Verdict) == VERDICTS


def test_the_columns_are_the_promised_ones(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == TABLE_COLUMNS
    assert (table["op"].isna() != table["band"].isna()).all()


@pytest.mark.parametrize(
    ("metric", "k", "wanted"),
    [
        (PASS, 1, (2 / 4 + 0) / 2),
        (PASS, 2, (1 - 1 / 6 + 0) / 2),  # of the 6 pairs of problem a, only (w, u) has no c
        (PASS, 4, (1 + 0) / 2),
        (ANSWER_PASS, 1, (2 / 4 + 1 / 4) / 2),
        (ANSWER_PASS, 2, (5 / 6 + 3 / 6) / 2),
        (ANSWER_PASS, 4, 1.0),
        (MAJ, 1, (2 / 4 + 1 / 4) / 2),
        # a: cc, cu, cu win, cw, cw tie, wu loses: (1 + 2 + 2 / 2) / 6; b: lw, lw, lw tie: (3 / 2) / 6.
        (MAJ, 2, (4 / 6 + 1.5 / 6) / 2),
        (MAJ, 4, (1 + 0) / 2),
    ],
)
def test_a_small_example_agrees_with_hand_computation(table: pd.DataFrame, metric: str, k: int, wanted: float) -> None:
    row = only(table, stage="base", op=2, metric=metric, k=k)
    assert row["value"] == pytest.approx(wanted, abs=1e-12)
    assert (row["num_problems"], row["num_samples"], row["num_seeds"]) == (2, 8, 1)


def test_lucky_answers_count_for_answer_only_and_not_for_verified(table: pd.DataFrame) -> None:
    scores = tabulate(table_of(rollouts("base", "a", "llll")), rng(), ks=(4,))
    assert only(scores, metric=PASS)["value"] == 0.0
    assert only(scores, metric=ANSWER_PASS)["value"] == 1.0


def test_success_is_the_verdict_whatever_the_reward_was(table: pd.DataFrame) -> None:
    shaped = EXAMPLE.assign(reward=EXAMPLE["process_accuracy"] - 0.3)  # of a verified completion 0.7, not 1
    pd.testing.assert_frame_equal(tabulate(shaped, rng(), bands=BANDS, ks=(1, 2, 4)), table)
    by_reward = shaped.assign(verified=shaped["reward"] == 1.0)  # near miss: success read off the reward
    with pytest.raises(DataError, match="verified without being 'correct', or not so"):
        tabulate(by_reward, rng())


def test_process_accuracy_and_shares_are_means_over_samples(table: pd.DataFrame) -> None:
    assert only(table, stage="base", op=2, metric=PROCESS)["value"] == (0.75 + 0.5) / 2
    shares = [only(table, stage="base", op=2, metric=share)["value"] for share in SHARES]
    assert shares == pytest.approx([2 / 8, 1 / 8, 4 / 8, 1 / 8, 0.0])


def test_too_few_samples_give_nan_with_no_problem_behind_it() -> None:
    row = only(tabulate(table_of(rollouts("base", "a", "cw")), rng(), ks=(4,)), metric=PASS)
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    assert (row["num_problems"], row["num_samples"], row["num_seeds"]) == (0, 0, 0)


def test_a_stage_not_tested_on_an_op_has_nan_there_and_in_the_band() -> None:
    both = table_of(rollouts("base", "a", "cw"), rollouts("base", "d", "cc", op=3), rollouts("rl", "a", "cc"))
    table = tabulate(both, rng(), bands={"ID": (2, 3)}, ks=(1,))
    assert only(table, stage="rl", op=2, metric=PASS)["value"] == 1.0
    assert math.isnan(only(table, stage="rl", op=3, metric=PASS)["value"])
    assert math.isnan(only(table, stage="rl", band="ID", metric=PASS)["value"])
    assert only(table, stage="base", band="ID", metric=PASS)["value"] == 0.75


def test_every_op_weighs_the_same_in_a_band_however_many_problems_it_has() -> None:
    many = [rollouts("base", f"easy {index}", "cc") for index in range(9)]
    table = tabulate(table_of(*many, rollouts("base", "d", "ww", op=3)), rng(), bands={"ID": (2, 3)}, ks=(1,))
    row = only(table, band="ID", metric=PASS)
    assert (row["value"], row["num_problems"]) == (0.5, 10)


def test_the_ends_of_a_band_belong_to_it(table: pd.DataFrame) -> None:
    assert only(table, stage="rl", band="edge", metric=PASS, k=1)["value"] == 0.25


def test_seeds_and_contexts_apart_and_together() -> None:
    runs = table_of(
        rollouts("base", "a", "cc"),
        rollouts("base", "a", "cw", seed=1),
        rollouts("base", "b", "ww", context="school"),
        rollouts("base", "b", "ww", seed=1, context="school"),
    )
    table = tabulate(runs, rng(), ks=(1,))
    found = {
        (seed, context): only(table, metric=PASS, seed=seed, context=context)["value"]
        for seed in ("0", "1", ALL)
        for context in ("zoo", "school", ALL)
    }
    assert found == {
        ("0", "zoo"): 1.0,
        ("0", "school"): 0.0,
        ("0", ALL): 0.5,
        ("1", "zoo"): 0.5,
        ("1", "school"): 0.0,
        ("1", ALL): 0.25,
        (ALL, "zoo"): 0.75,
        (ALL, "school"): 0.0,
        (ALL, ALL): 0.375,
    }
    row = only(table, metric=PASS)
    assert (row["num_problems"], row["num_samples"], row["num_seeds"]) == (2, 8, 2)


def test_every_number_lies_within_its_bounds(table: pd.DataFrame) -> None:
    known = table[table["value"].notna()]
    assert len(known) > 0
    assert (known["low"] <= known["value"] + 1e-12).all()
    assert (known["value"] <= known["high"] + 1e-12).all()
    assert (known["high"] - known["low"] > 0).any()


def test_the_table_depends_on_the_generator_and_not_on_the_order_of_rows(table: pd.DataFrame) -> None:
    shuffled = EXAMPLE.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(tabulate(shuffled, rng(), bands=BANDS, ks=(1, 2, 4)), table)


def test_differences_are_paired_by_problem() -> None:
    table = differences(EXAMPLE, [("rl", "base")], rng(), bands=BANDS, ks=(1, 4))
    assert tuple(table.columns) == DIFFERENCE_COLUMNS
    # Problem a: 1 - 2/4, problem b: 1/4 - 0; op 3 was not tested, so that the band is op 2 alone.
    row = only(table, stage="rl", baseline="base", band="ID", metric=PASS, k=1)
    assert row["value"] == pytest.approx((0.5 + 0.25) / 2)
    assert row["low"] >= 0.25
    assert row["high"] <= 0.5
    assert (row["num_problems"], row["num_samples"]) == (2, 16)


def test_a_problem_that_only_one_side_saw_takes_no_part_in_the_difference() -> None:
    runs = table_of(rollouts("base", "a", "ww"), rollouts("rl", "a", "cw"), rollouts("rl", "b", "cc"))
    row = only(differences(runs, [("rl", "base")], rng(), ks=(1,)), metric=PASS)
    assert (row["value"], row["num_problems"]) == (0.5, 1)


def test_the_difference_of_a_stage_with_itself_is_0_but_not_certain() -> None:
    row = only(differences(EXAMPLE, [("rl", "rl")], rng(), ks=(1,)), op=2, metric=PASS)
    assert row["low"] < row["value"] == 0 < row["high"]


def test_no_pairs_give_an_empty_table() -> None:
    assert len(differences(EXAMPLE, [], rng())) == 0


def test_a_pair_with_an_unknown_stage_is_refused() -> None:
    with pytest.raises(DataError, match=r"name two of the stages \['base', 'rl'\]"):
        differences(EXAMPLE, [("rl", "bass")], rng())


def test_a_pair_that_shares_no_problem_is_refused() -> None:
    runs = table_of(rollouts("base", "a", "cc"), rollouts("rl", "b", "cc"))
    with pytest.raises(DataError, match="share no problem"):
        differences(runs, [("rl", "base")], rng())


def test_a_band_without_any_tested_op_is_refused() -> None:
    with pytest.raises(DataError, match=r"\['hard'\]"):
        tabulate(EXAMPLE, rng(), bands={"hard": (20, 30)})


def test_powers_of_two_are_the_ks_unless_told() -> None:
    scores = score_problems(table_of(rollouts("base", "a", "cwcwcw")))
    assert [k for name, k in scores.metrics if name == PASS] == [1, 2, 4]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("verdict", "fine", "verdict other than"),
        ("verified", False, "verified without being 'correct'"),
        ("answer_correct", False, "verified with a wrong answer"),
        ("answer", None, "could not be read"),
        ("process_accuracy", math.nan, "lack a value"),
        ("process_accuracy", 1.5, "outside 0 to 1"),
        ("sample", 1, "repeat a completion"),
        ("context", ALL, "stands for every context"),
    ],
)
def test_rollouts_that_contradict_themselves_are_refused(column: str, value: object, message: str) -> None:
    rows = rollouts("base", "a", "cc")
    rows[0][column] = value
    with pytest.raises(DataError, match=message):
        score_problems(table_of(rows))


def test_two_correct_answers_to_one_problem_are_refused() -> None:
    rows = rollouts("base", "a", "cc")
    rows[0]["answer"] = 8
    with pytest.raises(DataError, match="two different answers"):
        score_problems(table_of(rows))


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="0 rows"):
        tabulate(pd.DataFrame(columns=list(COLUMNS)), rng())


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match=r"lacks columns \['tokens'\]"):
        tabulate(EXAMPLE.drop(columns="tokens"), rng())


def ladder_table() -> pd.DataFrame:
    return tabulate(
        table_of(
            rollouts("base", "a", "cccw", op=2),
            rollouts("base", "b", "ccwc", op=3),
            rollouts("base", "c", "wcww", op=4),
            rollouts("base", "d", "wwww", op=5),
        ),
        rng(),
    )


def test_the_ladder_names_each_op_by_what_was_reached() -> None:
    ladder = edge_ladder(ladder_table(), "base", k=4, id_from=0.6)
    assert ladder == {2: "ID", 3: "ID", 4: "edge", 5: "hard"}
    assert as_bands(ladder) == {"ID": (2, 3), "edge": (4, 4), "hard": (5, 5)}


def test_one_try_in_sixteen_is_the_edge_and_not_hard() -> None:
    table = tabulate(table_of(rollouts("base", "a", "c" + 15 * "w")), rng())
    assert edge_ladder(table, "base", k=16) == {2: "edge"}
    assert edge_ladder(table, "base", k=1) == {2: "hard"}


def test_the_ladder_refuses_a_k_without_data() -> None:
    with pytest.raises(DataError, match="pass@8"):
        edge_ladder(ladder_table(), "base", k=8)


def test_a_name_that_comes_back_is_no_band() -> None:
    with pytest.raises(DataError, match="not one range"):
        as_bands({2: "ID", 3: "edge", 4: "ID"})


def test_powers_of_two_begin_at_one():
    assert [powers_of_two(largest) for largest in (1, 2, 7, 8)] == [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8)]
    with pytest.raises(DataError, match="largest=0: give 1 or more"):
        powers_of_two(0)
