"""pass@k and maj@k: what k tries would have reached, estimated without bias from n samples of one problem.

Both are the mean over all C(n, k) subsets of the samples, in closed form: no draws, no dependence on the order of
samples. Fewer than k samples, or none, say nothing about k tries: the estimate is nan, never 0.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsm_lab.errors import DataError

Floats = NDArray[np.float64]
MAX_VOTES = 1000
"""maj@k counts subsets in float64, which C(1000, 500) still fits into with room for sums."""


def pass_at_k(num_samples: int, num_verified: int, k: int) -> float:
    """The chance that at least one of k samples is verified; nan when there are fewer than k samples.

    Source: Chen et al. 2021, arXiv:2107.03374: 1 - C(n - c, k) / C(n, k).

    Raises:
        DataError: k below 1, or more verified samples than samples.
    """
    return float(pass_at_k_array(num_samples, num_verified, k))


def pass_at_k_array(num_samples: ArrayLike, num_verified: ArrayLike, k: int) -> Floats:
    """`pass_at_k` of every pair of counts, broadcast against each other.

    The ratio of binomials is taken as a product of k factors at most 1, so nothing overflows and the estimate
    never falls as k grows, not even by rounding.
    """
    samples, verified = np.broadcast_arrays(np.asarray(num_samples), np.asarray(num_verified))
    _check_counts(samples, verified, k)
    missed = np.ones(samples.shape)
    for drawn in range(k):
        left = np.maximum(samples - drawn, 1)
        missed = missed * np.clip((samples - verified - drawn) / left, 0.0, 1.0)
    return np.where(samples >= k, 1.0 - missed, np.nan)


def maj_at_k(answers: Sequence[int | None], correct: int, k: int) -> float:
    """The chance that the most frequent answer among k samples is the correct one; nan for fewer than k samples.

    A tie is broken evenly among the leaders, and counts as that expected value. None (no answer could be read)
    takes up a sample but casts no vote: it never wins, and k samples that are all None are lost.

    Raises:
        DataError: k below 1, or more than `MAX_VOTES` samples.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    num_correct = votes.pop(correct, 0)
    silent = sum(answer is None for answer in answers)
    return majority_curve(num_correct, tuple(sorted(votes.values())), silent, (k,))[0]


@lru_cache(maxsize=1 << 16)
def majority_curve(
    num_correct: int, other_votes: tuple[int, ...], num_silent: int, ks: tuple[int, ...]
) -> tuple[float, ...]:
    """`maj_at_k` for each k of `ks`, from the votes alone: who got how many matters, not which numbers they were.

    Sums over the number of correct votes m in the subset: C(correct, m) ways to draw them, times the ways to draw
    the rest so that no other answer gets more than m, with weight 1 / (1 + t) where t others get exactly m.
    """
    num_samples = num_correct + sum(other_votes) + num_silent
    if num_samples > MAX_VOTES or min(num_correct, num_silent, *other_votes, *ks, 0) < 0 or 0 in ks:
        raise DataError(
            f"maj@k was asked for k={ks} of {num_samples} samples: k must be at least 1, counts at least 0, "
            f"and samples at most {MAX_VOTES}. Ask for another k, or use fewer samples a problem."
        )
    reachable = [k for k in ks if k <= num_samples]
    size = max(reachable, default=0)
    wins_K = np.zeros(size + 1)
    for votes in range(1, min(num_correct, size) + 1):
        ways_TR = _ways_to_draw_the_rest(other_votes, num_silent, votes, size - votes)
        shared_R = (ways_TR / np.arange(1, len(ways_TR) + 1)[:, None]).sum(axis=0)
        wins_K[votes:] += math.comb(num_correct, votes) * shared_R
    return tuple(float(min(wins_K[k] / math.comb(num_samples, k), 1.0)) if k in reachable else math.nan for k in ks)


def _ways_to_draw_the_rest(other_votes: Sequence[int], num_silent: int, most: int, size: int) -> Floats:
    """[t, r]: ways to draw r samples that are not correct, no answer over `most` votes, t answers at it; r <= size.

    Answers with fewer votes than `most` can neither lead nor tie, so that they are drawn freely, like the silent.
    """
    free = num_silent + sum(count for count in other_votes if count < most)
    rivals = [count for count in other_votes if count >= most]
    ways_TR = np.zeros((len(rivals) + 1, size + 1))
    ways_TR[0] = _binomials(free, size)
    for count in rivals:
        below = _binomials(count, most - 1)
        grown = np.array([np.convolve(row, below)[: size + 1] for row in ways_TR])
        if most <= size:
            grown[1:, most:] += math.comb(count, most) * ways_TR[:-1, : size + 1 - most]
        ways_TR = grown
    return ways_TR


def _binomials(total: int, highest: int) -> Floats:
    """C(total, 0) to C(total, highest)."""
    return np.array([float(math.comb(total, chosen)) for chosen in range(highest + 1)])


def _check_counts(samples: NDArray[np.generic], verified: NDArray[np.generic], k: int) -> None:
    integral = all(np.issubdtype(counts.dtype, np.integer) for counts in (samples, verified))
    if k < 1 or not integral or not np.all((verified >= 0) & (verified <= samples)):  # type: ignore[operator]
        raise DataError(
            f"pass@k was asked for k={k} with samples {samples!r} and verified {verified!r}: k must be at least 1, "
            f"and both counts integers with 0 <= verified <= samples. Count the rollouts again."
        )
