"""Moves the constants of a problem so that its answer is one that is wanted."""

from collections.abc import Sequence
from random import Random

from gsm_lab.problems.graph import Operation
from gsm_lab.problems.numbers import Definition, Numbers, Rules

_SHIFTING = {Operation.CONSTANT: 1, Operation.PLUS: 1, Operation.MINUS: -1}
"""What one more in the constant is in the value."""


def steer(numbers: Numbers, caps: Sequence[int], answers: tuple[int, int], rules: Rules, rng: Random) -> Numbers | None:
    """The numbers with an answer from the least to the greatest of `answers`, or None if it was not reached.

    The last quantity is the asked one; `caps` are the greatest values of all, in the same order. One constant after
    another, in random order, is moved as far towards the wanted answer as it may, as long as all values stay in range.
    """
    low, high = answers
    if low <= numbers.values[-1] <= high:
        return numbers
    target = low + int(rng.random() * (high - low + 1))
    order = [place for place, one in enumerate(numbers.definitions) if one[0] in _SHIFTING]
    for place in sorted(order, key=lambda _: rng.random()):
        operation, constant, _, _ = numbers.definitions[place]
        slope = _SHIFTING[operation] * _slope(numbers, place)
        if not slope or constant is None:
            continue
        wanted = constant + _shift(target - numbers.values[-1], slope, rules.modulus)
        moved = _moved(numbers, place, min(rules.last, max(rules.first, wanted)), caps, rules)
        if moved is None:
            continue
        numbers = moved
        if numbers.values[-1] == target:
            return numbers
    return None


def _shift(distance: int, slope: int, modulus: int | None) -> int:
    """By how much a constant moves to move the answer by `distance`, or by a part of it."""
    if modulus is None:
        return distance // slope if distance * slope > 0 else -(-distance // slope)
    try:
        return distance * pow(slope, -1, modulus) % modulus
    except ValueError:  # no inverse: this constant cannot do it alone
        return 0


def _slope(numbers: Numbers, place: int) -> int:
    """By how much the answer moves with the value of a quantity; 0 where a division makes it another thing."""
    definitions, values = numbers.definitions, numbers.values
    slopes = [0] * len(definitions)
    slopes[-1] = 1
    for user in range(len(definitions) - 1, place, -1):
        slope = slopes[user]
        operation, constant, parents, minus = definitions[user]
        if not slope or operation is Operation.DIVIDED:
            continue
        if operation is Operation.TIMES:
            assert constant is not None
            slope *= constant
        for at, parent in enumerate(parents):
            if operation is Operation.NESTED_TOTAL:
                slopes[parent] += slope * values[parents[at ^ 1]]
            else:
                slopes[parent] += slope if at < len(parents) - minus else -slope
    return slopes[place]


def _moved(numbers: Numbers, place: int, constant: int, caps: Sequence[int], rules: Rules) -> Numbers | None:
    """The numbers with another constant at `place`, if all values stay in range."""
    definitions, values = list(numbers.definitions), list(numbers.values)
    operation, _, parents, minus = definitions[place]
    definitions[place] = (operation, constant, parents, minus)
    for at in range(place, len(values)):
        value = _value(definitions[at], values, rules.modulus is None)
        if value is None:
            return None
        if rules.modulus is not None:
            value %= rules.modulus
        elif not rules.least <= value <= caps[at]:
            return None
        values[at] = value
    return Numbers(definitions, values, numbers.coefficient)


def _value(definition: Definition, values: Sequence[int], is_counted: bool) -> int | None:
    """The value of a definition, given those of its parents.

    None where a division leaves a remainder, or more is subtracted than there is, if things are counted without end.
    """
    operation, number, parents, minus = definition
    constant = number or 0
    if operation is Operation.NESTED_TOTAL:
        return sum(values[parents[at]] * values[parents[at + 1]] for at in range(0, len(parents), 2))
    known = [values[parent] for parent in parents]
    value = sum(known) - (2 * sum(known[len(known) - minus :]) if minus else 0)
    if is_counted and value < 0:
        return None
    if operation in (Operation.CONSTANT, Operation.PLUS):
        return value + constant
    if operation is Operation.MINUS:
        return value - constant
    if operation is Operation.TIMES:
        return value * constant
    if operation is Operation.DIVIDED:
        return None if value % constant else value // constant
    return value
