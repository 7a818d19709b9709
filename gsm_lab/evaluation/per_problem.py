"""From rollouts to one score a problem: the only place that looks at single completions.

A rollout table has one row a completion, with the columns of `COLUMNS`. An item is one problem in one context,
tried under one seed by the model after one stage; its samples give one value of every metric.

Shapes: I items, M metrics.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsm_lab.errors import DataError
from gsm_lab.evaluation.estimators import Floats, majority_curve, pass_at_k_array

ITEM = ("stage", "seed", "op", "context", "problem_id")
COLUMNS = (*ITEM, "sample", "verdict", "verified", "answer_correct", "answer", "process_accuracy", "tokens")
VERDICTS = ("correct", "lucky", "wrong", "unreadable", "truncated")

PASS = "pass@k"
"""Verified: the answer and every needed step right."""
ANSWER_PASS = "answer pass@k"
"""Only the answer right, lucky ones included."""
MAJ = "maj@k"
"""The most frequent answer right."""
PROCESS = "process accuracy"
"""Mean share of needed quantities worked out rightly."""
STRUCTURAL = "structural errors"
"""Share of samples whose first error is one of structure, not of sums; only where a table has that column."""
SHARES = tuple(f"share {verdict}" for verdict in VERDICTS)
"""Share of samples with each verdict."""

ALL = "all"
"""In a table: every seed, or every context, together."""

Metric = tuple[str, int | None]
"""A metric's name, and its k where it has one."""


@dataclass(frozen=True)
class Scores:
    """One value of every metric for every item; nan where an item has too few samples for that k."""

    items: pd.DataFrame
    """The columns of `ITEM`, one row an item, in their sorted order."""
    samples_I: NDArray[np.int64]
    metrics: tuple[Metric, ...]
    values_IM: Floats

    def of_stage(self, stage: str) -> "Scores":
        """The items of one stage."""
        chosen = (self.items["stage"] == stage).to_numpy(dtype=bool)
        items = self.items[chosen].reset_index(drop=True)
        return Scores(items, self.samples_I[chosen], self.metrics, self.values_IM[chosen])

    def minus(self, baseline: "Scores") -> "Scores":
        """The differences on the items that both have; samples are counted on both sides."""
        keys = list(ITEM[1:])
        here, there = (pd.MultiIndex.from_frame(scores.items[keys]) for scores in (self, baseline))
        partner = there.get_indexer(here)
        found = partner >= 0
        return Scores(
            self.items[found].reset_index(drop=True),
            self.samples_I[found] + baseline.samples_I[partner[found]],
            self.metrics,
            self.values_IM[found] - baseline.values_IM[partner[found]],
        )


def score_problems(rollouts: pd.DataFrame, ks: Sequence[int] | None = None) -> Scores:
    """Every metric of every item; `ks` are powers of two up to the largest number of samples unless given.

    Raises:
        DataError: the table is empty, lacks a column, repeats a completion or contradicts itself.
    """
    _check(rollouts)
    groups = rollouts.groupby(list(ITEM), sort=True, observed=True)
    item_of_row = np.asarray(groups.ngroup(), dtype=np.int64)
    items = groups.size().index.to_frame(index=False)
    samples_I = np.bincount(item_of_row)
    wanted = tuple(ks) if ks is not None else powers_of_two(int(samples_I.max()))

    def count(column: pd.Series) -> NDArray[np.int64]:
        return np.bincount(item_of_row[column.to_numpy(dtype=bool)], minlength=len(items))

    columns: dict[Metric, Floats] = {}
    for name, hits_I in ((PASS, count(rollouts["verified"])), (ANSWER_PASS, count(rollouts["answer_correct"]))):
        columns |= {(name, k): pass_at_k_array(samples_I, hits_I, k) for k in wanted}
    columns |= _majority(rollouts, item_of_row, samples_I, wanted)
    process = rollouts["process_accuracy"].to_numpy(dtype=np.float64)
    columns[PROCESS, None] = np.bincount(item_of_row, weights=process) / samples_I
    for share, verdict in zip(SHARES, VERDICTS, strict=True):
        columns[share, None] = count(rollouts["verdict"] == verdict) / samples_I
    if STRUCTURAL in rollouts.columns:
        columns[STRUCTURAL, None] = count(rollouts[STRUCTURAL]) / samples_I
    return Scores(items, samples_I, tuple(columns), np.column_stack(list(columns.values())))


def powers_of_two(largest: int) -> tuple[int, ...]:
    """1, 2, 4 and so on, up to `largest`.

    Raises:
        DataError: `largest` is below 1.
    """
    if largest < 1:
        raise DataError(f"largest={largest}: give 1 or more, for 1 is the least of them.")
    return tuple(1 << power for power in range(largest.bit_length()))


def _majority(
    rollouts: pd.DataFrame, item_of_row: NDArray[np.int64], samples_I: NDArray[np.int64], ks: tuple[int, ...]
) -> dict[Metric, Floats]:
    """maj@k of every item. Needs no gold answer: which votes were for it is in `answer_correct`."""
    readable = rollouts["answer"].notna().to_numpy(dtype=bool)
    votes = pd.DataFrame(
        {
            "item": item_of_row[readable],
            "answer": rollouts["answer"].to_numpy()[readable],
            "correct": rollouts["answer_correct"].to_numpy(dtype=bool)[readable],
        }
    )
    tally = votes.groupby(["item", "answer", "correct"], sort=False).size().reset_index(name="votes")
    right = tally[tally["correct"]]
    if right["item"].duplicated().any() or tally.duplicated(["item", "answer"]).any():
        raise DataError(
            "One problem has two different answers marked correct, or one answer marked both correct and not: "
            "grade these rollouts again with one version of the grader."
        )
    correct_I = np.zeros(len(samples_I), dtype=np.int64)
    correct_I[right["item"].to_numpy()] = right["votes"].to_numpy()
    others: list[list[int]] = [[] for _ in samples_I]
    wrong = tally[~tally["correct"]].sort_values(["item", "votes"])
    for item, number in zip(wrong["item"].tolist(), wrong["votes"].tolist(), strict=True):
        others[item].append(number)
    curves = np.array(
        [
            majority_curve(correct, tuple(rivals), number - correct - sum(rivals), ks)
            for correct, rivals, number in zip(correct_I.tolist(), others, samples_I.tolist(), strict=True)
        ]
    )
    return {(MAJ, k): curves[:, column] for column, k in enumerate(ks)}


def _check(rollouts: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in rollouts.columns]
    if missing or rollouts.empty:
        raise DataError(
            f"A rollout table of {len(rollouts)} rows lacks columns {missing}: give one row a completion with "
            f"the columns {', '.join(COLUMNS)}."
        )
    filled = [column for column in COLUMNS if column != "answer"]
    unreadable = rollouts["answer"].isna()
    process = rollouts["process_accuracy"].to_numpy(dtype=np.float64)
    correct, right = rollouts["answer_correct"].astype(bool), rollouts["verified"].astype(bool)
    _refuse(rollouts, rollouts[filled].isna().any(axis=1), "lack a value")
    _refuse(rollouts, rollouts["context"] == ALL, f"come from a context named {ALL!r}, which stands for every context")
    _refuse(rollouts, rollouts.duplicated([*ITEM, "sample"]), "repeat a completion (same item, same sample)")
    _refuse(rollouts, ~rollouts["verdict"].isin(VERDICTS), f"have a verdict other than {', '.join(VERDICTS)}")
    _refuse(rollouts, right != (rollouts["verdict"] == "correct"), "are verified without being 'correct', or not so")
    _refuse(rollouts, right & ~correct, "are verified with a wrong answer")
    _refuse(rollouts, correct & unreadable, "have a correct answer that could not be read")
    _refuse(rollouts, ~((process >= 0) & (process <= 1)), "have a process accuracy outside 0 to 1")


def _refuse(rollouts: pd.DataFrame, faulty: Iterable[bool], fault: str) -> None:
    rows = np.flatnonzero(np.asarray(faulty, dtype=bool))
    if len(rows):
        first = rollouts.iloc[int(rows[0])][[*ITEM, "sample"]].to_dict()
        raise DataError(
            f"{len(rows)} of {len(rollouts)} rollouts {fault}, the first of them {first}: "
            f"remove them, or sample and grade them again."
        )
