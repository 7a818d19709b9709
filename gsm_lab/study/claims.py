"""Claims judged: what an experiment set out to test, and what its numbers say of it.

A claim compares a stage with a baseline by their paired difference: the same problems, the same seeds, the mean over
the ops of a band. The difference and its interval are rows of `gsm_lab.evaluation.differences`; nothing is resampled
here. A verdict says what the interval rules out, not what it fails to show:

expects "gain"
    reproduced if low > 0 and the difference is at least `smallest`; reversed if high < 0 and it is at most
    -`smallest`; not reproduced if high < `smallest`, for then a gain that counts is ruled out.
expects "loss"
    the mirror of that.
expects "no gain"
    reproduced if high < `smallest`; not reproduced if low > 0 and the difference is at least `smallest`.
expects "no loss"
    the mirror of that.
expects "no change"
    reproduced if -`smallest` < low and high < `smallest`; not reproduced if low > 0 and the difference is at least
    `smallest`, or high < 0 and it is at most -`smallest`.

All else is not decided at this scale. "Reproduced" of a gain says that there is one and that the best estimate of it
counts, not that every value of the interval does.

Two intervals are asked, and where they disagree the claim is not decided. The first resamples problems and, from two
seeds on, seeds; with few seeds it is too narrow for what comes from seeds: with three it is about as wide as the seeds
lie apart, and holds the truth in three of four cases where seeds decide all. The second is Student's, over the
differences of the single seeds; it is honest about few of them, and knows nothing of how few the problems are. With one
seed, or where all seeds differ by the same, there is only the first.

`more_data` says how many times as many problems x seeds would decide the first, if the difference stays what it is
and the distance to each bound shrinks with the square root of that number; `more_seeds` says likewise how many times
as many seeds would decide the second. No claim is corrected for the number of claims: of twenty that are decided by
chance alone one is expected to be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, powers_of_two
from gsm_lab.study.experiment import Claim, Experiment

REPRODUCED, NOT_REPRODUCED, REVERSED, UNDECIDED = (
    "reproduced",
    "not reproduced",
    "reversed",
    "not decided at this scale",
)
CLAIM_COLUMNS = (
    *("claim", "verdict", "stage", "baseline", "band", "context", "metric", "k", "expects", "smallest"),
    *("difference", "low", "high", "half_width", "verdict_by_bootstrap", "more_data"),
    *("num_problems", "num_seeds", "seed_differences", "seed_lowest", "seed_highest"),
    *("student_low", "student_high", "verdict_by_seeds", "more_seeds", "interval", "text", "source"),
)
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""The 97.5 % points of Student's distribution with 1, 2, 3 ... degrees of freedom; past the last, the last."""


def pairs_of(experiment: Experiment) -> list[tuple[str, str]]:
    """Every stage with the experiment's baseline, and every pair that a claim is about; for `differences`."""
    others = [(name, experiment.baseline) for name in experiment.stage_names if name != experiment.baseline]
    return list(dict.fromkeys([*others, *((claim.stage, claim.baseline) for claim in experiment.claims)]))


def ks_of(experiment: Experiment) -> tuple[int, ...]:
    """Powers of two up to the samples of the evaluation, and every k that a claim names."""
    named = {claim.k for claim in experiment.claims if claim.k is not None}
    return tuple(sorted({*powers_of_two(experiment.recipes[0].evaluation.samples), *named}))


def judge(experiment: Experiment, gains: pd.DataFrame) -> pd.DataFrame:
    """One row a claim, with the columns of `CLAIM_COLUMNS`.

    `gains` is made by `gsm_lab.evaluation.differences` from all rollouts, with the pairs of `pairs_of`, the ks of
    `ks_of` and the experiment's bands. `half_width` is half the bootstrap's interval: a difference as large would be
    told from none in half of all cases, one 1.43 times as large in four of five. `more_data` and `more_seeds` are 1
    where their interval decides.

    Raises:
        DataError: the table has no difference of a claim's stages in its band, context, metric and k.
    """
    rows = [_row(claim, gains) for claim in experiment.claims]
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS)).astype({"k": "Int64"})


def verdict_of(claim: Claim, value: float, low: float, high: float) -> str:
    """What a difference and its interval say of a claim; the head of this module gives the rules."""
    if claim.expects in ("loss", "no loss"):
        value, low, high = -value, -high, -low
    gains, loses = (low > 0 and value >= claim.smallest), (high < 0 and value <= -claim.smallest)
    no_gain, no_loss = high < claim.smallest, low > -claim.smallest
    if claim.expects in ("gain", "loss"):
        return REPRODUCED if gains else REVERSED if loses else NOT_REPRODUCED if no_gain else UNDECIDED
    if claim.expects in ("no gain", "no loss"):
        return REPRODUCED if no_gain else NOT_REPRODUCED if gains else UNDECIDED
    return REPRODUCED if no_gain and no_loss else NOT_REPRODUCED if gains or loses else UNDECIDED


def more_data(claim: Claim, value: float, low: float, high: float) -> float:
    """How many times as much data would decide the claim at this difference; 1 if it is decided.

    That is (reach of the interval to the side that is in the way / distance to the nearest bound that decides)^2. It
    is large where the difference is just short of `smallest`: then much data would be needed to tell the two apart.
    """
    if verdict_of(claim, value, low, high) != UNDECIDED:
        return 1.0
    if claim.expects in ("loss", "no loss") or (claim.expects == "no change" and value < 0):
        value, low, high = -value, -high, -low
    down, up = value - low, high - value
    if value >= claim.smallest:  # the low end has to leave 0
        return (down / value) ** 2
    above = (up / (claim.smallest - value)) ** 2  # the high end has to come below the smallest that counts
    return above if claim.expects != "no change" else max(above, (down / (claim.smallest + value)) ** 2)


def _row(claim: Claim, gains: pd.DataFrame) -> dict[str, Any]:
    rows = _rows_of(claim, gains)
    whole = rows[rows["seed"] == ALL].iloc[0]
    value, low, high = (float(whole[name]) for name in ("value", "low", "high"))
    single = rows[(rows["seed"] != ALL) & rows["value"].notna()]
    seeds = dict(zip(single["seed"].tolist(), single["value"].tolist(), strict=True))
    student = student_interval(list(seeds.values()))
    has_student = not math.isnan(student[0])
    verdict = verdict_of(claim, value, low, high)
    by_seeds = verdict_of(claim, value, *student) if has_student else ""
    return {
        "claim": claim.name,
        "verdict": verdict if by_seeds in ("", verdict) else UNDECIDED,
        **{name: getattr(claim, name) for name in ("stage", "baseline", "band", "context", "metric", "k", "expects")},
        "smallest": claim.smallest,
        "difference": value,
        "low": low,
        "high": high,
        "half_width": (high - low) / 2,
        "verdict_by_bootstrap": verdict,
        "more_data": more_data(claim, value, low, high),
        "num_problems": int(whole["num_problems"]),
        "num_seeds": len(seeds),
        "seed_differences": "; ".join(f"{seed}: {one:+.4f}" for seed, one in seeds.items()),
        "seed_lowest": min(seeds.values()),
        "seed_highest": max(seeds.values()),
        "student_low": student[0],
        "student_high": student[1],
        "verdict_by_seeds": by_seeds,
        "more_seeds": more_data(claim, value, *student) if has_student else math.nan,
        "interval": _interval_words(len(seeds)),
        "text": claim.text,
        "source": claim.source,
    }


def _rows_of(claim: Claim, gains: pd.DataFrame) -> pd.DataFrame:
    """The claim's difference with all seeds together, and with each."""
    pair = gains[(gains["stage"] == claim.stage) & (gains["baseline"] == claim.baseline)]
    k = pair["k"].isna() if claim.k is None else (pair["k"] == claim.k).fillna(False)
    there = pair[(pair["band"] == claim.band) & (pair["context"] == claim.context)]
    rows = there[(there["metric"] == claim.metric) & k.loc[there.index]]
    if rows.empty or rows.loc[rows["seed"] == ALL, "value"].isna().any():
        contexts, metrics = (sorted(gains[name].dropna().unique().tolist()) for name in ("context", "metric"))
        raise DataError(
            f"claim {claim.name!r} compares {claim.stage!r} with {claim.baseline!r} in band {claim.band!r}, context "
            f"{claim.context!r}, by {claim.metric!r} with k={claim.k}, which the differences do not have on every op: "
            f"test both on the same problems under the same seeds, and name one of the contexts {contexts} and of the "
            f"metrics {metrics} (k=None for those without a k)."
        )
    return rows


def student_interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of these numbers by Student's distribution; nan where they are one or all alike."""
    count = len(differences)
    if len(set(differences)) < 2:
        return math.nan, math.nan
    mean = math.fsum(differences) / count
    variance = math.fsum((one - mean) ** 2 for one in differences) / (count - 1)
    reach = STUDENT[min(count - 1, len(STUDENT)) - 1] * math.sqrt(variance / count)
    return mean - reach, mean + reach


def _interval_words(seeds: int) -> str:
    if seeds == 1:
        return "95 % bootstrap over problems; one seed, so nothing is known of other seeds"
    return f"95 % bootstrap over problems and {seeds} seeds; too narrow for what comes from seeds, see student_low"
