"""Gives a skeleton its operations and constants, from the leaves up, with every value in range.

With addition and subtraction allowed, or a modulus, there always is one: of two quantities in range one of the
differences is in range, so several can always be added and subtracted one by one; a constant can be added or
subtracted; and totals were only drawn where their kinds can be kept small. Otherwise numbers are drawn again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final

from gsm_lab.problems.graph import Operation
from gsm_lab.problems.spec import GREATEST_MULTIPLIER, ProblemSpec
from gsm_lab.problems.structure import NESTED, Skeleton

GREATEST_COEFFICIENT = 10**6
"""Of the unknown, in a reverse problem."""
_CONSTANT: Final = Operation.CONSTANT
_COPY: Final = Operation.COPY
_SUM: Final = Operation.SUM
_DIFFERENCE: Final = Operation.DIFFERENCE
_PLUS: Final = Operation.PLUS
_MINUS: Final = Operation.MINUS
_TIMES: Final = Operation.TIMES
_DIVIDED: Final = Operation.DIVIDED
_TOTAL: Final = Operation.TOTAL
_NESTED_TOTAL: Final = Operation.NESTED_TOTAL
_WITH_CONSTANT = {"add": _PLUS, "subtract": _MINUS, "multiply": _TIMES, "divide": _DIVIDED}


Definition = tuple[Operation, int | None, tuple[int, ...], int]
"""Operation, constant, parents and how many of them are subtracted, as in a `Node`."""
Drawn = tuple[Operation, int | None, tuple[int, ...], int, int, int]
"""A definition, its value, and its coefficient of the unknown (0 in a forward problem)."""


class Numbers:
    """What makes a skeleton a problem, but for names; in order of computation, so that the last one is the top."""

    __slots__ = ("coefficient", "definitions", "values")

    def __init__(self, definitions: list[Definition], values: list[int], coefficient: int) -> None:
        self.definitions = definitions
        self.values = values
        self.coefficient = coefficient
        """Of the unknown, in the top quantity."""


@dataclass(frozen=True)
class Rules:
    """What a spec allows numbers to be, ready for use."""

    least: int
    greatest: int
    modulus: int | None
    first: int
    last: int
    """Least and greatest constant."""
    greatest_multiplier: int
    add: bool
    subtract: bool
    share_added: float
    """How often a group is added up where it could as well be subtracted."""
    operations: tuple[Operation, ...]
    """Those that take a constant, as often in a row as to be tried from anywhere."""
    cumulative: tuple[float, ...]


@lru_cache(maxsize=1024)
def rules_for(spec: ProblemSpec) -> Rules:
    """The rules of a spec."""
    weights = dict(zip(spec.operations, spec.operation_weights or (1.0,) * len(spec.operations), strict=True))
    add, subtract = weights.get("add", 0.0), weights.get("subtract", 0.0)
    operations = tuple(_WITH_CONSTANT[name] for name in spec.operations)
    return Rules(
        least=0 if spec.modulus else spec.values[0],
        greatest=spec.modulus - 1 if spec.modulus else spec.values[1],
        modulus=spec.modulus,
        first=spec.constants[0],
        last=spec.constants[1],
        greatest_multiplier=spec.constants[1] if spec.modulus else min(GREATEST_MULTIPLIER, spec.constants[1]),
        add=add > 0,
        subtract=subtract > 0,
        share_added=add / (add + subtract) if add + subtract else 0.0,
        operations=operations * 2,
        cumulative=tuple(accumulate(weights.values())),
    )


def draw_numbers(
    skeleton: Skeleton, rules: Rules, rng: Random, unknown: int | None = None, answer: int = 0
) -> Numbers | None:
    """Numbers for the skeleton, or None if these constants allow none.

    `unknown` is the number of the leaf that a reverse problem asks for, its value is `answer`.
    """
    random = rng.random
    parents_of, has_constant, totals, caps = skeleton.parents, skeleton.constants, skeleton.totals, skeleton.caps
    top = len(parents_of) - 1
    values: list[int] = []
    coefficients: list[int] | None = None if unknown is None else []
    coefficient = 0
    first, last, modulus = rules.first, rules.last, rules.modulus
    span = last - first + 1
    definitions: list[Definition] = []
    for number in range(top, -1, -1):
        numbers = parents_of[number]
        if not numbers:
            greatest = caps[number]
            if number == unknown:
                value = answer
            elif last <= greatest or modulus is not None:
                value = first + int(random() * span)
            else:
                value = first + int(random() * (greatest - first + 1))
            definitions.append((_CONSTANT, value, (), 0))
            coefficient = int(number == unknown)
        else:
            parents = [top - parent for parent in numbers]
            if totals[number]:
                drawn = _total(parents, totals[number], values, coefficients, rules)
            else:
                drawn = define(parents, has_constant[number], caps[number], values, coefficients, rules, random)
            if drawn is None:
                return None
            operation, constant, chosen, minus, value, coefficient = drawn
            definitions.append((operation, constant, chosen, minus))
        values.append(value)
        if coefficients is not None:
            coefficients.append(coefficient)
    return Numbers(definitions, values, coefficient)


def _total(
    parents: Sequence[int], kind: int, values: Sequence[int], coefficients: Sequence[int] | None, rules: Rules
) -> Drawn | None:
    """An implicit total; its kinds are small enough, unless the settings leave no choice."""
    coefficient = 0
    if kind == NESTED:
        pairs = list(zip(parents[::2], parents[1::2], strict=True))
        value = sum([values[count] * values[rate] for count, rate in pairs])
        for count, rate in pairs if coefficients else ():
            assert coefficients is not None
            if coefficients[count] and coefficients[rate]:
                return None
            coefficient += coefficients[count] * values[rate] + coefficients[rate] * values[count]
    else:
        value = sum([values[parent] for parent in parents])
        if coefficients is not None:
            coefficient = sum([coefficients[parent] for parent in parents])
    if rules.modulus is not None:
        value %= rules.modulus
    elif value > rules.greatest:
        return None
    return _NESTED_TOTAL if kind == NESTED else _TOTAL, None, tuple(parents), 0, value, coefficient


def define(
    parents: Sequence[int],
    has_constant: bool,
    cap: int,
    values: Sequence[int],
    coefficients: Sequence[int] | None,
    rules: Rules,
    random: Callable[[], float],
) -> Drawn | None:
    """A definition from these parents with its value from the least to `cap`, or None if there is none."""
    minus = 0
    if len(parents) == 1:
        chosen: tuple[int, ...] = (parents[0],)
        value = values[parents[0]]
    elif len(parents) == 2:  # by far the most frequent; `_group` would do the same
        one, other = parents
        left, right = values[one], values[other]
        cancels = coefficients is not None and coefficients[one] and coefficients[one] == coefficients[other]
        if (
            rules.add
            and (left + right <= cap or rules.modulus is not None)
            and (not rules.subtract or cancels or random() < rules.share_added)
        ):
            value = left + right
            chosen = (one, other) if random() < 0.5 else (other, one)
        elif rules.subtract:
            minus = 1
            if left < right if left != right and rules.modulus is None else random() < 0.5:
                one, other, left, right = other, one, right, left
            value = left - right
            chosen = (one, other)
        else:
            return None
    else:
        group = _group(parents, cap, values, rules, random)
        if group is None:
            return None
        value, minus, chosen = group
    coefficient = 0
    if coefficients is not None:
        signed = [coefficients[parent] for parent in chosen]
        coefficient = sum(signed) - 2 * sum(signed[len(signed) - minus :]) if minus else sum(signed)
        if abs(coefficient) > GREATEST_COEFFICIENT:
            return None
    operation: Operation
    constant: int | None = None
    if not has_constant:
        operation = _DIFFERENCE if minus else _SUM if len(parents) > 1 else _COPY
    else:
        found = _with_constant(value, coefficient, cap, rules, random)
        if found is None:
            return None
        operation, constant, value = found
        if operation is _TIMES:
            coefficient *= constant
        elif operation is _DIVIDED:
            coefficient //= constant
    if rules.modulus is not None:
        value %= rules.modulus
    elif value < rules.least or value > cap:
        return None
    return operation, constant, chosen, minus, value, coefficient


def _with_constant(
    value: int, coefficient: int, cap: int, rules: Rules, random: Callable[[], float]
) -> tuple[Operation, int, int] | None:
    """A group's value put together with a constant: the operation, the constant and the result."""
    operations, cumulative = rules.operations, rules.cumulative
    weight = random() * cumulative[-1]
    start = 0
    while start < len(cumulative) - 1 and weight >= cumulative[start]:
        start += 1
    free = rules.modulus is not None
    for operation in operations[start : start + len(cumulative)]:
        low, high = rules.first, rules.last
        if operation is _PLUS:
            if not free:
                low, high = max(low, rules.least - value), min(high, cap - value)
            if low <= high:
                constant = low + int(random() * (high - low + 1))
                return operation, constant, value + constant
        elif operation is _MINUS:
            if not free:
                low, high = max(low, value - cap), min(high, value - rules.least)
            if low <= high:
                constant = low + int(random() * (high - low + 1))
                return operation, constant, value - constant
        elif operation is _TIMES:
            low, high = max(2, low), rules.greatest_multiplier
            if not free and value:
                high = min(high, cap // value)
            if low <= high:
                constant = low + int(random() * (high - low + 1))
                return operation, constant, value * constant
        elif value:
            divisors = [
                number
                for number in range(max(2, low), min(high, value) + 1)
                if not value % number and not coefficient % number
            ]
            if divisors:
                constant = divisors[int(random() * len(divisors))]
                return operation, constant, value // constant
    return None


def _group(
    parents: Sequence[int], cap: int, values: Sequence[int], rules: Rules, random: Callable[[], float]
) -> tuple[int, int, tuple[int, ...]] | None:
    """Three or more quantities added and subtracted: the value, how many are subtracted, and the parents in order."""
    order = sorted(parents, key=lambda _: random())
    total = sum([values[parent] for parent in order])
    fits = total <= cap or rules.modulus is not None
    if rules.add and fits and (not rules.subtract or random() < rules.share_added):
        return total, 0, tuple(order)
    if not rules.subtract:
        return None
    if rules.modulus is not None:
        minus = 1 + int(random() * (len(order) - 1))
        value = total - 2 * sum([values[parent] for parent in order[len(order) - minus :]])
        return value, minus, tuple(order)
    value = values[order[0]]
    added, subtracted = [order[0]], []
    for parent in order[1:]:  # against the sign so far, the sum never leaves the range
        if value >= 0:
            value -= values[parent]
            subtracted.append(parent)
        else:
            value += values[parent]
            added.append(parent)
    if value < 0:
        value, added, subtracted = -value, subtracted, added
    return value, len(subtracted), (*added, *subtracted)
