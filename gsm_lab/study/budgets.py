"""Budgets: how many steps of mid-training and of reinforcement learning the same compute buys, in any currency.

An exchange says what one step of each costs in one currency: tokens, floating-point operations or seconds as a ledger
has measured them (`ledger.measured_exchange`), or the tokens that the reference study charges by its formula. So arms
that divide one budget differently are made in the same way whatever the currency. Needs no torch: recipes can be
counted out with it while they are listed.

The reference is arXiv:2512.07783, appendix A.10.1. It charges a sampled token 2 P operations for the rollout, 2 P for
the KL's reference, if there is one, and 6 P for the update, where mid-training costs 6 P a token; and it takes every
prompt with its completion to have the length of the context. The formula it prints for the steps of mid-training
divides by the context's length once too often; its table does not, and this follows the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gsm_lab.errors import RecipeError
from gsm_lab.study.recipe import Reinforce, Supervised

MIDTRAIN_SHARES = {
    "reinforcement only": 0.0,
    "heavy reinforcement": 0.2,
    "medium reinforcement": 0.5,
    "light reinforcement": 0.8,
    "mid-training only": 1.0,
}
"""The share of a budget that is mid-training's, in the arms that the reference compares."""
CHARGED = "reference tokens"
"""The currency of the reference's formula: tokens of mid-training that are charged the same."""
LARGEST_DENOMINATOR = 1_000_000
"""Shares are fractions with no larger one: 0.8 is four fifths, whatever its last bit."""


def _check_positive(name: str, number: float, currency: str) -> None:
    if not 0 < number < math.inf:
        raise RecipeError(f"{name} is {number} {currency}: give a finite number above 0.")


@dataclass(frozen=True)
class Steps:
    """What a budget buys."""

    midtrain: int
    """Optimiser steps of mid-training."""
    reinforce: int
    """Batches of rollouts."""


@dataclass(frozen=True)
class Exchange:
    """What one step of either stage costs.

    Raises:
        RecipeError: a cost that is not a finite number above 0.
    """

    currency: str
    """What the costs and budgets count: "tokens", "flops", "seconds", "reference tokens"."""
    midtrain_step: float
    reinforce_step: float

    def __post_init__(self) -> None:
        for name in ("midtrain_step", "reinforce_step"):
            _check_positive(name, getattr(self, name), self.currency)

    @property
    def rate(self) -> float:
        """Steps of mid-training that cost as much as one of reinforcement learning."""
        return self.reinforce_step / self.midtrain_step

    def cost(self, steps: Steps) -> float:
        """The budget that these steps use up."""
        return steps.midtrain * self.midtrain_step + steps.reinforce * self.reinforce_step

    def split(self, budget: float, midtrain_share: float) -> Steps:
        """The steps of both stages, when mid-training gets that share of the budget.

        Steps are whole numbers. The budget is rounded to whole steps of mid-training, of which the share is rounded
        down; steps of reinforcement learning are rounded to the nearest. It is the one rule that gives every cell of
        the reference's table.

        Raises:
            RecipeError: a share outside 0 to 1, a budget that is not above 0, or a share that buys no step.
        """
        if not 0 <= midtrain_share <= 1:
            raise RecipeError(f"the share for mid-training is {midtrain_share}: give a number from 0 to 1.")
        _check_positive("the budget", budget, self.currency)
        share = Fraction(midtrain_share).limit_denominator(LARGEST_DENOMINATOR)
        total = Fraction(budget)
        steps = Steps(
            math.floor(share * _nearest(total / Fraction(self.midtrain_step))),
            _nearest((1 - share) * total / Fraction(self.reinforce_step)),
        )
        self._check_bought("mid-training", steps.midtrain, midtrain_share, budget, self.midtrain_step)
        self._check_bought("reinforcement learning", steps.reinforce, 1 - midtrain_share, budget, self.reinforce_step)
        return steps

    def _check_bought(self, stage: str, steps: int, share: float, budget: float, step: float) -> None:
        if share and not steps:
            raise RecipeError(
                f"{share:g} of {budget:g} {self.currency} buys no step of {stage}, which costs {step:g}: "
                f"give a budget of at least {step * math.ceil(1 / share):g}, or make the steps smaller."
            )


def reference_exchange(
    *,
    prompts: int = 1024,
    rollouts: int = 6,
    length: int = 2048,
    has_reference: bool = True,
    midtrain_tokens: int = 524_288,
) -> Exchange:
    """The reference's exchange, with its own constants if no others are given.

    Args:
        prompts: of a step of reinforcement learning.
        rollouts: of each prompt.
        length: tokens charged for every rollout, its prompt among them, however long it is.
        has_reference: whether the reference policy of a KL is charged.
        midtrain_tokens: of a step of mid-training.
    """
    charged = Fraction(4 + has_reference, 3) * prompts * rollouts * length  # (2 + 2 g + 6) P over 6 P
    return Exchange(CHARGED, float(midtrain_tokens), float(charged))


REFERENCE = reference_exchange()
"""The reference study's own: a step of reinforcement learning is charged as 40 of mid-training."""


def reference_exchange_of(midtrain: Supervised, reinforce: Reinforce, length: int) -> Exchange:
    """What the reference's formula charges for the steps of these two stages, when a rollout is taken to be `length`.

    The reference takes the length of the model's context.
    """
    return reference_exchange(
        prompts=reinforce.prompts_per_step,
        rollouts=reinforce.samples_per_prompt,
        length=length,
        has_reference=reinforce.kl_weight > 0,
        midtrain_tokens=midtrain.rows * midtrain.row_length,
    )


def _nearest(number: Fraction) -> int:
    """The nearest whole number; a half goes up."""
    return math.floor(number + Fraction(1, 2))
