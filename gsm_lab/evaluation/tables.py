"""Tidy tables with an interval, a count and a name for every number, from a rollout table.

One row for each (stage, seed, op or band, context, metric, k). `op` is given in rows about one op, `band` in rows
about a range of ops (each op weighs the same, however many problems it has); the other one of the two is NA. `seed`
and `context` are "all" in rows that take every seed or context together: each problem under each seed counts once.

`low` and `high` bound the middle `LEVEL` (95 %) of what resampling gives; `intervals.py` says how and why.
Everything in one table is resampled by the same draws: a seed that is drawn is drawn for every stage and op.

Shapes: P problems, S seeds, M metrics, D draws, R = 1 + S results (all seeds together, then each alone).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsm_lab.errors import DataError
from gsm_lab.evaluation.estimators import Floats
from gsm_lab.evaluation.intervals import (
    LEVEL,
    cell_sums,
    percentile_bounds,
    pooled_means,
    problem_weights,
    resampled_means,
    seed_weights,
)
from gsm_lab.evaluation.per_problem import ALL, Scores, score_problems

Bands = Mapping[str, tuple[int, int]]
"""Lowest and highest op, both included, of each named range: `{"ID": (2, 10), "edge": (11, 14)}`."""

WORDS = ("stage", "baseline", "seed", "band", "context", "metric")
COUNTS = ("num_problems", "num_samples", "num_seeds")
TABLE_COLUMNS = ("stage", "seed", "band", "op", "context", "metric", "k", "value", "low", "high", *COUNTS)
DIFFERENCE_COLUMNS = (TABLE_COLUMNS[0], "baseline", *TABLE_COLUMNS[1:])


def tabulate(
    rollouts: pd.DataFrame,
    rng: np.random.Generator,
    *,
    bands: Bands | None = None,
    ks: Sequence[int] | None = None,
    draws: int = 1000,
) -> pd.DataFrame:
    """Every metric of every stage, with the columns of `TABLE_COLUMNS`.

    A band is the mean over those ops of its range that any stage was tested on; a stage that was not tested on one
    of them has nan there, so that no two stages are compared on different ops. `ks` are powers of two unless given.

    Raises:
        DataError: the rollouts contradict themselves, or a band holds no op at all.
    """
    scores = score_problems(rollouts, ks)
    parts: dict[tuple[str, ...], Scores] = {(stage,): scores.of_stage(stage) for stage in _stages(scores)}
    return _table(parts, rng, bands or {}, draws, TABLE_COLUMNS)


def differences(
    rollouts: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    rng: np.random.Generator,
    *,
    bands: Bands | None = None,
    ks: Sequence[int] | None = None,
    draws: int = 1000,
) -> pd.DataFrame:
    """Stage minus baseline for each (stage, baseline) of `pairs`, with the columns of `DIFFERENCE_COLUMNS`.

    Paired: only problems that both were tested on, in the same context and under the same seed, take part.
    `num_samples` counts both sides.

    Raises:
        DataError: as for `tabulate`, or a pair names a stage without rollouts, or two that share no problem.
    """
    scores = score_problems(rollouts, ks)
    known = _stages(scores)
    parts: dict[tuple[str, ...], Scores] = {}
    for stage, baseline in pairs:
        if stage not in known or baseline not in known:
            raise DataError(f"There is no pair {stage!r} and {baseline!r}: name two of the stages {known}.")
        parts[stage, baseline] = scores.of_stage(stage).minus(scores.of_stage(baseline))
        if parts[stage, baseline].items.empty:
            raise DataError(f"{stage!r} and {baseline!r} share no problem: test both on the same ones, seed by seed.")
    return _table(parts, rng, bands or {}, draws, DIFFERENCE_COLUMNS)


@dataclass(frozen=True)
class _Estimate:
    """All metrics of one stage on one op or band."""

    value_RM: Floats
    means_DRM: Floats
    problems_RM: NDArray[np.int64]
    samples_RM: NDArray[np.int64]
    seeds_RM: NDArray[np.int64]


@dataclass(frozen=True)
class _Draws:
    """Which problems of one op, and which seeds, each draw of the bootstrap takes."""

    problems: pd.Index
    seeds: pd.Index
    problem_weights_DP: Floats
    seed_weights_DS: Floats


def _stages(scores: Scores) -> list[str]:
    """In the order of the alphabet, so that a table does not depend on the order of its rollouts."""
    return sorted(scores.items["stage"].unique().tolist())


def _table(
    parts: Mapping[tuple[str, ...], Scores],
    rng: np.random.Generator,
    bands: Bands,
    draws: int,
    columns: Sequence[str],
) -> pd.DataFrame:
    if not parts:
        return _typed(pd.DataFrame(columns=list(columns)))
    everything = pd.concat([part.items for part in parts.values()])
    seeds = pd.Index(sorted(everything["seed"].unique().tolist()))
    seed_weights_DS = seed_weights(len(seeds), draws, rng)
    blocks = []
    for context in (ALL, *sorted(everything["context"].unique().tolist())):
        there = everything if context == ALL else everything[everything["context"] == context]
        draws_of_op = {
            op: _Draws(ids, seeds, problem_weights(len(ids), draws, rng), seed_weights_DS)
            for op, ids in _problems_by_op(there)
        }
        ops_of_band = _ops_of_bands(bands, list(draws_of_op), strict=context == ALL)
        for names, part in parts.items():
            by_op = {op: _estimate(_at(part, op, context), those) for op, those in draws_of_op.items()}
            for op, estimate in by_op.items():
                blocks.append(_rows(names, None, op, context, seeds, part, estimate, columns))
            for band, ops in ops_of_band.items():
                mean = _mean_over_ops([by_op[op] for op in ops])
                blocks.append(_rows(names, band, None, context, seeds, part, mean, columns))
    return pd.concat(blocks, ignore_index=True)


def _problems_by_op(items: pd.DataFrame) -> Iterator[tuple[int, pd.Index]]:
    for op, ids in items.groupby("op", sort=True)["problem_id"]:
        yield int(op), pd.Index(sorted(ids.unique().tolist()))  # type: ignore[arg-type]


def _ops_of_bands(bands: Bands, ops: Sequence[int], *, strict: bool) -> dict[str, list[int]]:
    """The tested ops of each band; a band without any is an error if `strict`, and left out if not."""
    found = {band: [op for op in ops if low <= op <= high] for band, (low, high) in bands.items()}
    empty = [band for band, inside in found.items() if not inside]
    if empty and strict:
        raise DataError(
            f"The bands {empty} of {dict(bands)} hold none of the tested ops {list(ops)}: "
            f"give each band as (lowest, highest), or leave it out."
        )
    return {band: inside for band, inside in found.items() if inside}


def _at(part: Scores, op: int, context: str) -> Scores:
    here = part.items["op"] == op
    chosen = (here if context == ALL else here & (part.items["context"] == context)).to_numpy(dtype=bool)
    return Scores(part.items[chosen], part.samples_I[chosen], part.metrics, part.values_IM[chosen])


def _estimate(part: Scores, draws: _Draws) -> _Estimate:
    problem_I = draws.problems.get_indexer(pd.Index(part.items["problem_id"]))
    seed_I = draws.seeds.get_indexer(pd.Index(part.items["seed"]))
    shape = (len(draws.problems), len(draws.seeds))
    total_PSM, count_PSM = cell_sums(part.values_IM, problem_I, seed_I, shape)
    samples_IM = np.where(np.isnan(part.values_IM), np.nan, part.samples_I[:, None].astype(np.float64))
    samples_PSM, _ = cell_sums(samples_IM, problem_I, seed_I, shape)
    filled_PSM = count_PSM > 0
    return _Estimate(
        pooled_means(total_PSM, count_PSM),
        resampled_means(total_PSM, count_PSM, draws.problem_weights_DP, draws.seed_weights_DS),
        np.concatenate([filled_PSM.any(axis=1).sum(axis=0, keepdims=True), filled_PSM.sum(axis=0)]),
        _all_then_each(samples_PSM.sum(axis=0)),
        _all_then_each(np.asarray(filled_PSM.any(axis=0))),
    )


def _all_then_each(per_seed_SM: NDArray[np.generic]) -> NDArray[np.int64]:
    counts = per_seed_SM.astype(np.int64)
    return np.concatenate([counts.sum(axis=0, keepdims=True), counts])


def _mean_over_ops(estimates: Sequence[_Estimate]) -> _Estimate:
    """Each op weighs the same; an op without data makes the mean nan. Seeds are those that every op has."""
    return _Estimate(
        np.mean([estimate.value_RM for estimate in estimates], axis=0),
        np.mean([estimate.means_DRM for estimate in estimates], axis=0),
        np.sum([estimate.problems_RM for estimate in estimates], axis=0),
        np.sum([estimate.samples_RM for estimate in estimates], axis=0),
        np.min([estimate.seeds_RM for estimate in estimates], axis=0),
    )


def _rows(
    names: tuple[str, ...],
    band: str | None,
    op: int | None,
    context: str,
    seeds: pd.Index,
    part: Scores,
    estimate: _Estimate,
    columns: Sequence[str],
) -> pd.DataFrame:
    low_RM, high_RM = percentile_bounds(
        estimate.value_RM, estimate.means_DRM, estimate.problems_RM, level=LEVEL, difference="baseline" in columns
    )
    results = [ALL, *map(str, seeds)]
    num_metrics = len(part.metrics)
    rows = pd.DataFrame(
        {
            **dict(zip(("stage", "baseline"), names, strict=False)),
            "seed": np.repeat(results, num_metrics),
            "band": band,
            "op": op,
            "context": context,
            "metric": [name for name, _ in part.metrics] * len(results),
            "k": [k for _, k in part.metrics] * len(results),
            "value": estimate.value_RM.ravel(),
            "low": low_RM.ravel(),
            "high": high_RM.ravel(),
            "num_problems": estimate.problems_RM.ravel(),
            "num_samples": estimate.samples_RM.ravel(),
            "num_seeds": estimate.seeds_RM.ravel(),
        },
        columns=list(columns),
    )
    return _typed(rows)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    words = {name: "string" for name in WORDS if name in table.columns}
    return table.astype(words | dict.fromkeys(("op", "k"), "Int64") | dict.fromkeys(COUNTS, "int64"))
