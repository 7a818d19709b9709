"""Moves the constants of a problem so that its answer is one that is wanted."""

from collections.abc import Sequence
from random import Random

from gsm_lab.problems.graph import Operation
from gsm_lab.problems.numbers import Definition, Rules

_SHIFTING = {Operation.CONSTANT: 1, Operation.PLUS: 1, Operation.MINUS: -1}
"""What one more in the constant is in the value."""


def steer(
    definitions: list[Definition], caps: Sequence[int], answers: tuple[int, int], rules: Rules, rng: Random
) -> list[Definition] | None:
    """The definitions with an answer from the least to the greatest of `answers`, or None if it was not reached.

    Number 0 is the asked quantity. One constant after another, in random order, is moved as far towards the wanted
    answer as it may, as long as all values stay in range.
    """
    low, high = answers
    answer = definitions[0].value
    if low <= answer <= high:
        return definitions
    target = low + int(rng.random() * (high - low + 1))
    order = [number for number, one in enumerate(definitions) if one.operation in _SHIFTING]
    for number in sorted(order, key=lambda _: rng.random()):
        slope = _SHIFTING[definitions[number].operation] * _slope(definitions, number)
        constant = definitions[number].constant
        if not slope or constant is None:
            continue
        wanted = constant + _shift(target - answer, slope, rules.modulus)
        moved = _valued(definitions, number, min(rules.last, max(rules.first, wanted)), caps, rules)
        if moved is None:
            continue
        definitions, answer = moved, moved[0].value
        if answer == target:
            return definitions
    return None


def _shift(distance: int, slope: int, modulus: int | None) -> int:
    """By how much a constant moves to move the answer by `distance`, or by a part of it."""
    if modulus is None:
        return distance // slope if distance * slope > 0 else -(-distance // slope)
    try:
        return distance * pow(slope, -1, modulus) % modulus
    except ValueError:  # no inverse: this constant cannot do it alone
        return 0


def _slope(definitions: Sequence[Definition], number: int) -> int:
    """By how much the answer moves with the value of a quantity; 0 where a division makes it another thing."""
    slopes = [0] * (number + 1)
    slopes[0] = 1
    for user in range(number):
        slope, one = slopes[user], definitions[user]
        if not slope or not one.parents:
            continue
        if one.operation is Operation.DIVIDED:
            continue
        if one.operation is Operation.TIMES:
            assert one.constant is not None
            slope *= one.constant
        added = len(one.parents) - one.minus
        for at, parent in enumerate(one.parents):
            if parent <= number:
                factor = 1 if at < added else -1
                if one.operation is Operation.NESTED_TOTAL:
                    factor = definitions[one.parents[at ^ 1]].value
                slopes[parent] += factor * slope
    return slopes[number]


def _valued(
    definitions: list[Definition], number: int, constant: int, caps: Sequence[int], rules: Rules
) -> list[Definition] | None:
    """The definitions with another constant at `number`, if all values stay in range."""
    result = list(definitions)
    result[number] = definitions[number]._replace(constant=constant)
    for at in range(number, -1, -1):
        one = result[at]
        value = _value(one, result)
        if value is None:
            return None
        if rules.modulus is not None:
            value %= rules.modulus
        elif not rules.least <= value <= caps[at]:
            return None
        result[at] = one._replace(value=value)
    return result


def _value(one: Definition, definitions: Sequence[Definition]) -> int | None:
    """The value of a definition, given those of its parents; None where a division leaves a remainder."""
    operation, constant, parents, minus = one.operation, one.constant or 0, one.parents, one.minus
    if operation is Operation.NESTED_TOTAL:
        return sum(
            definitions[parents[at]].value * definitions[parents[at + 1]].value for at in range(0, len(parents), 2)
        )
    numbers = [definitions[parent].value for parent in parents]
    value = sum(numbers) - (2 * sum(numbers[len(numbers) - minus :]) if minus else 0)
    if operation in (Operation.CONSTANT, Operation.PLUS):
        return value + constant
    if operation is Operation.MINUS:
        return value - constant
    if operation is Operation.TIMES:
        return value * constant
    if operation is Operation.DIVIDED:
        return None if value % constant else value // constant
    return value
