"""The settings of the curriculum that stays at the edge: data, valid from birth. `moving_edge.py` carries them out."""

import math
from dataclasses import dataclass

from gsm_lab.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class MovingEdge:
    """How the shares of ops follow what groups gave; they begin with the shares of the stage's blend.

    Raises:
        RecipeError: a setting outside its range.
    """

    explore: float = 0.2
    """Share of the prompts that goes to all ops alike, above 0 and up to 1."""
    memory: float = 0.9
    """Part of what has been seen that counts on from step to step, from 0 to below 1: 0.9 remembers about 10 steps."""
    prior_groups: float = 2.0
    """Groups that every op is thought to have had, half of them mixed: an op that is seldom asked is thought better
    of than one whose groups are known not to be mixed."""
    sharpness: float = 2.0
    """Power of an op's share of mixed groups that its share of prompts follows; 0 asks all ops alike."""
    most_change: float = 0.05
    """How much any op's share may change in a step."""

    def __post_init__(self) -> None:
        if not (0 < self.explore <= 1 and 0 <= self.memory < 1):
            raise RecipeError(
                f"the moving edge has explore {self.explore} and memory {self.memory}: "
                f"give 0 < explore <= 1 and 0 <= memory < 1."
            )
        if not (0 < self.prior_groups < math.inf and 0 <= self.sharpness < math.inf and 0 < self.most_change <= 1):
            raise RecipeError(
                f"the moving edge has prior_groups {self.prior_groups}, sharpness {self.sharpness} and most_change "
                f"{self.most_change}: give prior_groups above 0, a sharpness from 0 on, and 0 < most_change <= 1."
            )
