"""How exactly `op` operands can be spent on a graph of a given depth and width.

A leaf costs one operand. Putting a definition with p parents, and perhaps a constant, in a leaf's place costs
2p - 1 more, or 2p with the constant: the definition's operands and p new leaves, less the leaf that it was. So a graph
of `op` operands is a leaf on which op - 1 operands, its budget, were spent in such steps, and a budget can be handed
down: a definition takes its cost, and shares the rest among its parents. Sets of budgets that can be spent exactly, by
the height that is left, are kept as bits of whole numbers: bit b of `within(h)` says that b operands can be spent below
a quantity above which nothing is longer than h.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from gsm_lab.errors import SpecError
from gsm_lab.problems.spec import MOST_OP, ProblemSpec

_BITS: Final = (1 << MOST_OP) - 1
DEEP: Final = 1
WIDE: Final = 2
"""What a quantity still owes: a chain of the full height below it, a definition of at least the wanted width."""
ANY_HEIGHT: Final = -1


class Shape(NamedTuple):
    """A kind of definition: so many parents, with or without a constant."""

    parents: int
    constant: bool
    weight: float

    @property
    def cost(self) -> int:
        """What it takes off the budget of the leaf in whose place it stands."""
        return 2 * self.parents - 1 + self.constant


class Choices:
    """The shapes that keep a budget exactly spendable, with their weights in the draw."""

    __slots__ = ("_choices", "_cumulative", "_total")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._choices = [(shape.parents, shape.constant, shape.cost) for shape in shapes]
        self._cumulative = list(accumulate([shape.weight for shape in shapes]))
        self._total = self._cumulative[-1]

    def at(self, share: float) -> tuple[int, bool, int]:
        """The parents, the constant and the cost of the shape at this share, from 0 to 1, of all weights."""
        weight = share * self._total
        for number, end in enumerate(self._cumulative):
            if weight < end:
                return self._choices[number]
        return self._choices[-1]


def _sum_of_sets(first: int, second: int) -> int:
    """All sums of a number of the one set and a number of the other."""
    result = 0
    if first.bit_count() > second.bit_count():
        first, second = second, first
    while first:
        low = first & -first
        result |= second * low
        first ^= low
    return result & _BITS


class Budget:
    """Which budgets can be spent, for one set of shapes."""

    def __init__(self, shapes: tuple[Shape, ...], least_width: int) -> None:
        self.shapes = shapes
        self.least_width = least_width
        any_height = 1
        while (grown := any_height | self._grown(any_height)) != any_height:
            any_height = grown
        self._most_sharing = 1 + max([shape.parents for shape in shapes], default=1)
        self._within = [[1] * self._most_sharing, [any_height] * self._most_sharing]
        """By height: the sets of budgets that 0, 1, 2, ... quantities can share; at index -1 for any height."""
        self._owing: dict[tuple[int, int, int], int] = {}
        self._choices: dict[tuple[int, int, int], Choices] = {}

    def _grown(self, spendable: int) -> int:
        grown = 1
        for shape in self.shapes:
            grown |= spendable << shape.cost
        return grown & _BITS

    def within(self, height: int, quantities: int = 1) -> int:
        """The budgets that so many quantities can share, with chains of at most `height` below each."""
        rows = self._within
        if quantities == 0:
            return 1
        if height == ANY_HEIGHT:
            return rows[-1][quantities]
        while len(rows) - 2 < height:
            below = rows[-2]
            alone = 1
            for shape in self.shapes:
                alone |= below[shape.parents] << shape.cost
            alone &= _BITS
            row = [1, alone]
            while len(row) < self._most_sharing:
                row.append(_sum_of_sets(row[-1], alone))
            rows.insert(-1, row)
        return rows[height][quantities]

    def owing(self, height: int, owed: int, others: int) -> int:
        """The budgets that a quantity which owes something and `others` that do not can share.

        "The full height" is owed below a quantity with exactly `height` left.
        """
        if not owed:
            return self.within(height, others + 1)
        key = (height, owed, others)
        known = self._owing.get(key)
        if known is None:
            known = self._owing[key] = _sum_of_sets(self._owing_alone(height, owed), self.within(height, others))
        return known

    def _owing_alone(self, height: int, owed: int) -> int:
        if height == ANY_HEIGHT:  # only width can be owed: the wide definition comes at once, or after some of the rest
            start = 0
            for shape in self.shapes:
                if shape.parents >= self.least_width:
                    start |= 1 << shape.cost
            return _sum_of_sets(start, self.within(ANY_HEIGHT))
        if height == 0:
            return 1 if owed == DEEP else 0
        result = 0
        for shape in self.shapes:
            left = owed & ~WIDE if shape.parents >= self.least_width else owed
            result |= self.owing(height - 1, left, shape.parents - 1) << shape.cost
        return result & _BITS

    def choices(self, budget: int, height: int, owed: int) -> Choices:
        """The shapes that a quantity with this budget may have."""
        key = (budget, height, owed)
        known = self._choices.get(key)
        if known is None:
            known = self._choices[key] = Choices(self._fitting(budget, height, owed))
        return known

    def _fitting(self, budget: int, height: int, owed: int) -> list[Shape]:
        shapes = []
        below = height if height == ANY_HEIGHT else height - 1
        for shape in self.shapes:
            rest = budget - shape.cost
            left = owed & ~WIDE if shape.parents >= self.least_width else owed
            if rest >= 0 and self.owing(below, left, shape.parents - 1) >> rest & 1:
                shapes.append(shape)
        return shapes


@dataclass(frozen=True)
class Plan:
    """How the operands of a spec may be spent; made by `plan_for`."""

    budget: Budget
    heights: tuple[int, ...]
    """The heights that the graph may have, all equally likely; ANY_HEIGHT alone where the depth is left to chance."""
    owed: int


@lru_cache(maxsize=1024)
def shapes_for(spec: ProblemSpec) -> tuple[Shape, ...]:
    """The definitions with parents that the settings allow, with their weights in the draw."""
    add, subtract, multiply, divide = (name in spec.operations for name in ("add", "subtract", "multiply", "divide"))
    shapes = []
    if spec.copies > 0:
        shapes.append(Shape(1, False, 3.0 * spec.copies))
    if spec.copies < 1 and spec.operations:
        shapes.append(Shape(1, True, 3.0 * (1 - spec.copies)))
    for parents in range(2, spec.widths[1] + 1):
        weight = 4.0 if parents == 2 else 1.3 * 0.6 ** (parents - 3)
        if (add or subtract) and spec.composites < 1:
            shapes.append(Shape(parents, False, weight * (1 - spec.composites)))
        if (add or subtract) and (add or subtract or multiply or divide) and spec.composites > 0:
            shapes.append(Shape(parents, True, weight * spec.composites))
    return tuple(shape for shape in shapes if shape.parents <= spec.widths[1])


@lru_cache(maxsize=1024)
def plan_for(spec: ProblemSpec) -> Plan:
    """How the operands of a spec may be spent.

    Raises:
        SpecError: no graph has that op, depth and width with these operations.
    """
    least_width = spec.widths[0]
    budget = _budget_for(shapes_for(spec), least_width)
    owed = WIDE if least_width > 0 else 0
    left = spec.op - 1
    if spec.depth is None:
        heights: tuple[int, ...] = (ANY_HEIGHT,) if budget.owing(ANY_HEIGHT, owed, 0) >> left & 1 else ()
    else:
        low, high = spec.depths
        heights = tuple(
            depth - 1
            for depth in range(low, min(high, spec.op) + 1)
            if budget.owing(depth - 1, owed | DEEP, 0) >> left & 1
        )
    if not heights:
        asked = "" if spec.depth is None else f", depth={spec.depth}"
        raise SpecError(
            f"op={spec.op} cannot be reached with width={spec.width}{asked}, copies={spec.copies:g}, "
            f"composites={spec.composites:g} and operations={spec.operations}, which contradict each other: widen "
            f"depth or width, allow copies, composites or more operations, or ask for another op."
        )
    return Plan(budget, heights, owed | (DEEP if spec.depth is not None else 0))


@lru_cache(maxsize=256)
def _budget_for(shapes: tuple[Shape, ...], least_width: int) -> Budget:
    return Budget(shapes, least_width)
