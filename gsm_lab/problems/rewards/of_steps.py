"""Rewards of the steps of a completion, and which token gets which; for credit within a completion."""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence

from gsm_lab.errors import DataError, RecipeError
from gsm_lab.problems.verdicts import Examination

_BEHIND = "the {tokens} tokens end at character {whole}, before a reward: give the tokens of the same text."
StepReward = tuple[int, float]
"""The character after the step's last one, and the step's reward."""


def step_rewards(examination: Examination) -> list[StepReward]:
    """What each statement added to the process accuracy, -1 to 1; the sum is the process accuracy.

    Source: progress as a step's reward, arXiv 2410.08146, with a verifier that knows in place of one that was learned.
    """
    return [(mark.end, mark.gain) for mark in examination.marks]


def computed_steps(examination: Examination) -> list[StepReward]:
    """`step_rewards` of the statements that compute a quantity and stand: the others gain nothing by their nature.

    The sum is the process accuracy here, too. A solution all of whose steps are right has equal rewards only.
    """
    return [
        (mark.end, mark.gain)
        for mark in examination.marks
        if mark.kind in ("step", "unknown") and mark.status != "retracted"
    ]


def shaping(potentials: Sequence[float], gamma: float) -> list[float]:
    """`gamma * next - this` for each pair of neighbours; between -1 and 1 for potentials and gamma from 0 to 1.

    Discounted, the sum telescopes: it is `gamma ** n * last - first` whatever lies between. Source: Ng, Harada and
    Russell, Policy invariance under reward transformations, ICML 1999.

    Raises:
        RecipeError: gamma is no discount.
    """
    if not 0 < gamma <= 1:
        raise RecipeError(f"gamma={gamma}: give a discount above 0 and at most 1.")
    return [gamma * later - earlier for earlier, later in itertools.pairwise(potentials)]


def shaped_steps(examination: Examination, gamma: float = 1.0) -> tuple[list[StepReward], float]:
    """The shaping of each statement, and that of the end; the potential is the process accuracy so far.

    A finished completion has potential 0, as it had before it began: so every completion gets 0 in all (discounted a
    statement, not a token), and which policy is best does not change. Source: as `shaping`; for the end, Grzes, Reward
    shaping in episodic reinforcement learning, AAMAS 2017.

    Raises:
        RecipeError: gamma is no discount.
    """
    gains = [gain for _, gain in step_rewards(examination)]
    potentials = [math.fsum(gains[:count]) for count in range(len(gains) + 1)]
    *steps, end = shaping([*potentials, 0.0], gamma)
    return [(mark.end, reward) for mark, reward in zip(examination.marks, steps, strict=True)], end


def spread(steps: Sequence[StepReward], token_ends: Sequence[int], last: float = 0.0) -> list[float]:
    """A reward for every token: each step's goes to the token of its last character, `last` to the last token.

    Nothing is lost: the sum of the tokens is that of the steps and `last`.

    Args:
        steps: in any order.
        token_ends: how many characters of the completion there are up to each token's end; an end-of-sequence token
            adds none.
        last: the reward of the whole completion.

    Raises:
        DataError: the ends are not in order, or a reward lies behind them.
    """
    rewards = [0.0] * len(token_ends)
    for place, reward in at_tokens(steps, token_ends):
        rewards[place] += reward
    if rewards:
        rewards[-1] += last
    elif last:
        raise DataError(_BEHIND.format(tokens=0, whole=0))
    return rewards


def at_tokens(steps: Sequence[StepReward], token_ends: Sequence[int]) -> list[tuple[int, float]]:
    """For every step the place of the token that has its last character, and its reward; arguments as in `spread`.

    Raises:
        DataError: the ends are not in order, or a reward lies behind them.
    """
    if any(later < earlier for earlier, later in itertools.pairwise(token_ends)):
        raise DataError("the ends of the tokens go back: give the number of characters up to each token's end.")
    whole = token_ends[-1] if token_ends else 0
    if any(end > whole for end, _ in steps) or (steps and not token_ends):
        raise DataError(_BEHIND.format(tokens=len(token_ends), whole=whole))
    return [(bisect_left(token_ends, end), reward) for end, reward in steps]
