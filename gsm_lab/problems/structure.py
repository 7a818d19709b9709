"""Draws the skeleton of a problem: which quantity is computed from which, with exactly the wanted op, depth and width.

The skeleton grows from its last quantity down. Every quantity has a budget, takes a definition that the budget allows
and hands the rest down to its parents (`budget.py`), so nothing is ever drawn in vain.
"""

from collections.abc import Callable, Sequence
from math import isqrt
from random import Random
from typing import Final

from gsm_lab.problems.budget import ANY_HEIGHT, WIDE, Budget, plan_for
from gsm_lab.problems.spec import ProblemSpec

FLAT: Final = 1
NESTED: Final = 2
"""Kinds of implicit totals; 0 is none."""


class Skeleton:
    """Quantities by number, the last one to be computed first: a parent has a greater number than what uses it."""

    __slots__ = ("caps", "constants", "home", "num_totals", "parents", "totals")

    def __init__(self, cap: int) -> None:
        self.parents: list[list[int]] = []
        self.constants: list[bool] = []
        """Whether the definition holds a constant."""
        self.totals: list[int] = []
        """FLAT, NESTED or 0."""
        self.home: list[int] = [-1]
        """The number of the total whose place a quantity belongs to, or -1."""
        self.caps: list[int] = [cap]
        """The greatest value that keeps every total in range."""
        self.num_totals = 0


def draw_skeleton(spec: ProblemSpec, rng: Random) -> Skeleton:
    """A skeleton of exactly `spec.op`.

    Raises:
        SpecError: no graph has that op, depth and width.
    """
    plan = plan_for(spec)
    budget, reuse = plan.budget, spec.reuse
    random = rng.random
    skeleton = Skeleton(spec.values[1])
    parents_of, constants, totals, home = skeleton.parents, skeleton.constants, skeleton.totals, skeleton.home
    budgets, owed = [spec.op - 1], [plan.owed]
    heights = [plan.heights[int(random() * len(plan.heights))]]
    is_layered = heights[0] != ANY_HEIGHT
    first_below = 1  # the first quantity of the next layer, where there are layers
    current = 0
    while current < len(budgets):
        left = budgets[current]
        if is_layered and current and heights[current - 1] != heights[current]:
            first_below = len(budgets)
        if not left:
            parents_of.append([])
            constants.append(True)
            totals.append(0)
            current += 1
            continue
        height, owes = heights[current], owed[current]
        num_parents, constant, cost = budget.choices(left, height, owes).at(random())
        rest = left - cost
        num_new = num_parents
        if owes and num_parents >= budget.least_width:
            owes &= ~WIDE
        reused: Sequence[int] = ()
        if is_layered:
            height -= 1
            waiting = range(max(first_below, current + 1), len(budgets))
        else:
            waiting = range(current + 1, len(budgets))
        if reuse and waiting and num_new > 1:
            reused = _reused(num_new, waiting, reuse, random)
            while reused and not budget.owing(height, owes, num_new - len(reused) - 1) >> (rest + len(reused)) & 1:
                reused = reused[:-1]
            rest += len(reused)
            num_new -= len(reused)
        start = len(budgets)
        parents = [start + at for at in range(num_new)]
        parents += reused
        if num_new == 1:
            budgets.append(rest)
        else:
            budgets += _shares(rest, num_new, height, owes, budget, random)
        owed.append(owes)
        heights.append(height)
        for _ in range(num_new - 1):
            owed.append(0)
            heights.append(height)
        total = 0
        if num_parents > 1 and not constant and not reused and home[current] < 0:
            total = _kind_of_total(skeleton, current, num_new, spec, random)
        _add(skeleton, current, constant, total, parents, num_new)
        current += 1
    return skeleton


def _reused(num_parents: int, waiting: range, reuse: float, random: Callable[[], float]) -> Sequence[int]:
    """Quantities that wait for their definition, to be parents too; at least one parent is always a new one."""
    wanted = 0
    for _ in range(min(num_parents - 1, len(waiting))):
        wanted += random() < reuse
    if not wanted:
        return ()
    chosen: dict[int, None] = {}
    while len(chosen) < wanted:
        chosen[waiting[int(random() * len(waiting))]] = None
    return list(chosen)


def _shares(rest: int, num: int, height: int, owes: int, budget: Budget, random: Callable[[], float]) -> list[int]:
    """`rest` split among `num` parents at random, each share a budget that its parent can spend.

    The first parent takes on what is owed.
    """
    shares = []
    allowed = budget.owing(height, owes, 0)
    for others in range(num - 1, 0, -1):
        possible = budget.within(height, others)
        share = int(random() * (rest + 1))
        while not (allowed >> share & 1 and possible >> (rest - share) & 1):
            share = share + 1 if share < rest else 0
        shares.append(share)
        rest -= share
        allowed = budget.within(height)
    shares.append(rest)
    return shares


def _kind_of_total(
    skeleton: Skeleton, current: int, num_parents: int, spec: ProblemSpec, random: Callable[[], float]
) -> int:
    """Whether a sum of new quantities is to be an implicit total, and of which kind."""
    if "add" not in spec.operations or random() >= spec.implicit_totals:
        return 0
    spare_names = spec.num_places * spec.items - spec.most_quantities
    if skeleton.num_totals >= min(spec.num_places // 2, spare_names // spec.items):
        return 0  # a total may leave names of its place unused
    is_nested = num_parents % 2 == 0 and random() < spec.nested_totals and num_parents // 2 <= spec.items
    if spec.modulus is None and _cap_of_kinds(skeleton.caps[current], num_parents, is_nested) < _least_cap(spec):
        return 0
    if not is_nested and num_parents > spec.items:
        return 0
    return NESTED if is_nested else FLAT


def _cap_of_kinds(cap: int, num_parents: int, is_nested: bool) -> int:
    """What each parent of a total may be at most, if the total is to be `cap` at most."""
    return isqrt(2 * cap // num_parents) if is_nested else cap // num_parents


def _least_cap(spec: ProblemSpec) -> int:
    """Under this cap, plus or minus a constant always keeps a value in range, and every constant and answer fits."""
    greatest = spec.constants[1]
    if spec.mode == "reverse" and spec.answer_range is not None:
        greatest = max(greatest, spec.answer_range[1])
    return greatest + spec.constants[0]


def _add(skeleton: Skeleton, current: int, constant: bool, total: int, parents: list[int], num_new: int) -> None:
    """Write the definition of a quantity down, and what its parents have from it."""
    skeleton.parents.append(parents)
    skeleton.constants.append(constant)
    skeleton.totals.append(total)
    caps, homes = skeleton.caps, skeleton.home
    cap, home = caps[current], -1
    if total:
        skeleton.num_totals += 1
        cap = _cap_of_kinds(cap, len(parents), total == NESTED)
        home = current
    for _ in range(num_new):
        caps.append(cap)
        homes.append(home)
    for parent in parents[num_new:]:
        if caps[parent] > cap:
            caps[parent] = cap
