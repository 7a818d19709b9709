"""How sure a number is: bootstrap over problems and seeds, paired differences, Wilson intervals.

The choice made here, and why:

- Problems are resampled, not samples: 32 samples of one problem are not 32 problems.
- A problem keeps one weight in every seed that was tested on it. Resampling it anew within each seed would treat
  the same 64 problems under 3 seeds as 192 problems, and make the interval too narrow.
- With two seeds or more, seeds are resampled as well, independently of problems (the two-way "pigeonhole"
  bootstrap: Owen 2007, arXiv:0712.1111). Problems that belong to one seed only are handled by the same rule.
- Few seeds understate the spread between seeds: with 3, where seeds decide all, the interval is about as wide as they
  lie apart and holds the truth in three of four cases, not in nineteen of twenty. That is why every row of a table
  carries its number of seeds. With one seed the interval is about problems only.
- Where all problems agree (on 0, on 1, or because there is only one), resampling can only agree too, and would claim
  certainty. Then the Wilson interval stands in, with each problem as one trial.

Shapes: P problems, S seeds, M metrics, D draws, R = 1 + S results (all seeds together, then each alone).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsm_lab.errors import DataError

Floats = NDArray[np.float64]
Labels = Sequence[str] | Sequence[int] | NDArray[np.generic]

LEVEL = 0.95
"""The level of every interval in a table or figure."""


class Interval(NamedTuple):
    """An estimate and the bounds around it; all three are nan where there is no data."""

    value: float
    low: float
    high: float


NOTHING = Interval(math.nan, math.nan, math.nan)


def wilson_interval(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """The share `successes / trials` of independent trials; never empty at 0 or 1. Source: Wilson 1927.

    Raises:
        DataError: more successes than trials, or fewer than none; a level that is no share.
    """
    _check_level(level)
    if not 0 <= successes <= trials:
        raise DataError(f"{successes} successes of {trials} trials cannot be: give 0 <= successes <= trials.")
    if trials == 0:
        return NOTHING
    share = np.array(successes / trials)
    low, high = wilson_bounds(share, np.array(trials), level)
    return Interval(float(share), float(low), float(high))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level={level}: give a share between 0 and 1, such as {LEVEL}.")


def wilson_bounds(share: Floats, trials: NDArray[np.generic], level: float) -> tuple[Floats, Floats]:
    """The Wilson bounds of each share, elementwise; `trials` must be positive."""
    number = np.asarray(trials, dtype=np.float64)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    scale = 1 + z**2 / number
    centre = (share + z**2 / (2 * number)) / scale
    spread = z * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2)) / scale
    return np.where(share == 0, 0.0, centre - spread), np.where(share == 1, 1.0, centre + spread)


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    problems: Labels | None = None,
    seeds: Labels | None = None,
    draws: int = 1000,
    level: float = LEVEL,
) -> Interval:
    """The mean of `values` (each 0 to 1) and its percentile bootstrap interval.

    `problems` and `seeds` say whose value each is; without them every value is another problem, of one seed.
    A nan among the values, or no value at all, gives nan.

    Raises:
        DataError: values outside of 0 to 1, or labels of another length than the values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if ((numbers < 0) | (numbers > 1)).any():
        raise DataError(
            f"values from {np.nanmin(numbers)} to {np.nanmax(numbers)}: give shares from 0 to 1; of other numbers, "
            f"paired_difference gives intervals."
        )
    return _interval(numbers, rng, problems, seeds, draws, level, False)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    problems: Labels | None = None,
    seeds: Labels | None = None,
    draws: int = 1000,
    level: float = LEVEL,
) -> Interval:
    """The mean of `first - second`, value by value on the same problems and seeds, and its interval.

    What makes a problem hard for both sides cancels, so that this is far tighter than two intervals compared.

    Raises:
        DataError: the two sides, or the labels, differ in length.
    """
    ones, others = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if ones.shape != others.shape:
        raise DataError(f"{ones.shape} values cannot be paired with {others.shape}: give both for the same problems.")
    return _interval(ones - others, rng, problems, seeds, draws, level, True)


def _interval(
    values: Floats,
    rng: np.random.Generator,
    problems: Labels | None,
    seeds: Labels | None,
    draws: int,
    level: float,
    difference: bool,
) -> Interval:
    _check_level(level)
    names = np.arange(len(values)) if problems is None else np.asarray(problems)
    runs = np.zeros(len(values), dtype=int) if seeds is None else np.asarray(seeds)
    if values.ndim != 1 or names.shape != values.shape or runs.shape != values.shape:
        raise DataError(
            f"values {values.shape}, problems {names.shape} and seeds {runs.shape} do not match: "
            f"give one list of values, and one problem and one seed for each."
        )
    if len(values) == 0 or np.isnan(values).any():
        return NOTHING
    problem_names, problem_codes = np.unique(names, return_inverse=True)
    seed_names, seed_codes = np.unique(runs, return_inverse=True)
    shape = (len(problem_names), len(seed_names))
    total_PSM, count_PSM = cell_sums(values[:, None], problem_codes, seed_codes, shape)
    means_DRM = resampled_means(
        total_PSM,
        count_PSM,
        problem_weights(shape[0], draws, rng),
        seed_weights(shape[1], draws, rng),
    )
    value_RM = pooled_means(total_PSM, count_PSM)
    low_RM, high_RM = percentile_bounds(
        value_RM, means_DRM, np.full(value_RM.shape, shape[0]), level=level, difference=difference
    )
    return Interval(float(value_RM[0, 0]), float(low_RM[0, 0]), float(high_RM[0, 0]))


def problem_weights(num_problems: int, draws: int, rng: np.random.Generator) -> Floats:
    """(D, P): how often each problem is drawn, when as many are drawn as there are."""
    return rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=draws).astype(np.float64)


def seed_weights(num_seeds: int, draws: int, rng: np.random.Generator) -> Floats:
    """(D, S): how often each seed is drawn; a lone seed is always drawn once."""
    return problem_weights(num_seeds, draws, rng)


def cell_sums(
    values_IM: Floats, problem_I: NDArray[np.intp], seed_I: NDArray[np.intp], shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Sum and number of the values that are there (not nan), of each problem under each seed: twice (P, S, M)."""
    total_PSM = np.zeros((*shape, values_IM.shape[1]))
    count_PSM = np.zeros_like(total_PSM)
    present_IM = ~np.isnan(values_IM)
    np.add.at(total_PSM, (problem_I, seed_I), np.where(present_IM, values_IM, 0.0))
    np.add.at(count_PSM, (problem_I, seed_I), present_IM.astype(np.float64))
    return total_PSM, count_PSM


def pooled_means(total_PSM: Floats, count_PSM: Floats) -> Floats:
    """(R, M): the mean over every problem under every seed, then under each seed; nan where there is nothing."""
    total_SM, count_SM = total_PSM.sum(axis=0), count_PSM.sum(axis=0)
    return np.concatenate(
        [_ratio(total_SM.sum(axis=0, keepdims=True), count_SM.sum(axis=0, keepdims=True)), _ratio(total_SM, count_SM)]
    )


def resampled_means(
    total_PSM: Floats, count_PSM: Floats, problem_weights_DP: Floats, seed_weights_DS: Floats
) -> Floats:
    """(D, R, M): `pooled_means` of each draw; nan where a draw caught nothing."""
    total_DSM = np.tensordot(problem_weights_DP, total_PSM, axes=1)
    count_DSM = np.tensordot(problem_weights_DP, count_PSM, axes=1)
    chosen_DS1 = seed_weights_DS[:, :, None]
    together = _ratio(
        (chosen_DS1 * total_DSM).sum(axis=1, keepdims=True), (chosen_DS1 * count_DSM).sum(axis=1, keepdims=True)
    )
    return np.concatenate([together, _ratio(total_DSM, count_DSM)], axis=1)


def percentile_bounds(
    value_RM: Floats,
    means_DRM: Floats,
    problems_RM: NDArray[np.generic],
    *,
    level: float,
    difference: bool,
) -> tuple[Floats, Floats]:
    """Lower and upper bounds, (R, M) each: percentiles of the draws, or Wilson's where the draws claim certainty.

    Draws that caught nothing are left out. For a difference, certainty means that every problem differed by the
    same -1, 0 or 1; Wilson's bound then limits the share of problems that might have differed otherwise.
    """
    tails = [0.5 - level / 2, 0.5 + level / 2]
    known_RM = ~np.isnan(value_RM)
    quantile = np.nanquantile if np.isnan(means_DRM[:, known_RM]).any() else np.quantile
    bounds_2RM = np.full((2, *value_RM.shape), np.nan)
    bounds_2RM[:, known_RM] = quantile(means_DRM[:, known_RM], tails, axis=0)
    low_RM, high_RM = bounds_2RM
    flat_RM = known_RM & (high_RM - low_RM < 1e-12)
    trials_RM = np.maximum(problems_RM, 1)
    if difference:
        doubt_RM = wilson_bounds(np.zeros(value_RM.shape), trials_RM, level)[1]
        width_RM = np.where(np.abs(value_RM) > 0.5, 2 * doubt_RM, doubt_RM)
        sure_low_RM, sure_high_RM = np.maximum(value_RM - width_RM, -1.0), np.minimum(value_RM + width_RM, 1.0)
    else:
        sure_low_RM, sure_high_RM = wilson_bounds(np.clip(value_RM, 0.0, 1.0), trials_RM, level)
    return np.where(flat_RM, sure_low_RM, low_RM), np.where(flat_RM, sure_high_RM, high_RM)


def _ratio(total: Floats, count: Floats) -> Floats:
    ratio = np.full(total.shape, np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio
