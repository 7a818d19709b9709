"""What a reward is: a function from the completions of one prompt to their scores.

Imports no torch, so that processes that only grade start quickly and stay small.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsm_lab.errors import TrainingError

Completion = tuple[object, tuple[int, ...], bool]
"""A prompt's payload, the ids that were sampled, and whether they end with an end token."""


@dataclass(frozen=True)
class Scored:
    """What a reward function says of one completion."""

    reward: float
    """What training raises."""
    verdict: str
    """The outcome's name."""
    verified: bool
    """Success as it is reported, whatever the reward: the two are never mixed."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further values to keep on disk: numbers, strings, bools; None only as a scalar of pyarrow, which has a type. The
    means of numbers under a name that begins with `reward_` or `process_` are logged at every step."""
    steps: Sequence[tuple[int, float]] | None = None
    """For the credit "steps": the place of the token that ends each step, among the sampled ones, and its reward."""


Reward = Callable[[Sequence[Completion]], Sequence[Scored]]
"""From all completions of one prompt to their scores, in the same order: a reward may compare them.

A pure function, which may be called in another process. An exception goes through and ends the run: a reward that
broke is not a reward of 0.
"""


def check_scores(key: str, completions: Sequence[Completion], scores: Sequence[Scored]) -> None:
    """Check the scores of the completions of the prompt named `key`.

    Raises:
        TrainingError: the reward gave another number of scores, one that is no finite number, or a step outside.
    """
    if len(scores) != len(completions):
        raise TrainingError(
            f"the reward gave {len(scores)} scores for {len(completions)} completions of prompt {key!r}: "
            f"give one for each, in their order."
        )
    for number, scored in enumerate(scores):
        length = len(completions[number][1])
        for place, reward in scored.steps or ():
            if not (0 <= place < length and _is_finite(reward)):
                raise TrainingError(
                    f"the reward gave a step of sample {number} of prompt {key!r} {reward!r} at token {place!r}: "
                    f"give finite numbers, at places from 0 to {length - 1}."
                )
        if not _is_finite(scored.reward):
            raise TrainingError(
                f"the reward of sample {number} of prompt {key!r} is {scored.reward!r}: "
                f"give a finite number, or raise an exception if it cannot be scored."
            )


def _is_finite(reward: object) -> bool:
    try:
        return math.isfinite(reward)  # type: ignore[arg-type]  # the reward is somebody else's: it may be anything
    except (TypeError, ValueError, OverflowError):
        return False
