"""The equation of a reverse problem: set up, and solved step by step."""

from itertools import pairwise

from gsm_lab.problems.algebra import follows, means_the_same, number_from, size_written_out
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.marks import (
    AT_ONCE,
    LETTERS,
    OTHER_NAMES,
    SIDES,
    TOLD_AGAIN,
    Marks,
    Meaning,
    add_right,
    bind,
    named,
    resolved_name,
)
from gsm_lab.problems.statements import Binary, Expression, Given, Solve, Unknown
from gsm_lab.problems.trace import linear_of, names_in, size_of
from gsm_lab.problems.verdicts import FALSE_LINK, NOT_FOLLOWING


def mark_unknown(statement: Unknown, marks: Marks) -> None:
    exercise = marks.exercise
    name = named(statement.name, "", marks)
    if name is None:
        return
    if name in marks.defined:
        marks.error("redefined", name, "the quantity was defined before")
    elif exercise.problem.given is None or name != exercise.asked_name:
        marks.error("wrong_operation", name, "it is called unknown, but the text defines it")
    else:
        add_right({name}, marks)
    bind(statement.variable, Meaning(name, name), marks)
    marks.defined.add(name)


def mark_given(statement: Given, marks: Marks) -> None:
    """The given value recalled, and its form set equal to it."""
    exercise = marks.exercise
    problem = exercise.problem
    name = resolved_name(statement.name, marks.names)
    if name is None and statement.name in marks.meanings:
        name = marks.meanings[statement.name].quantity
    if problem.given is None or name != exercise.names[problem.given]:
        marks.error("wrong_operand", f"given {statement.name}", "the text gives no value for it beside its definition")
        return
    if name != statement.name:
        marks.deviate(OTHER_NAMES)
    if name not in marks.defined:
        marks.error("used_before_defined", f"given {name}", "its form is used before it is computed")
    form, value = problem.forms[problem.given], problem.values[problem.given]
    assert form is not None
    sides = [linear_of(side, marks.forms) for side in statement.chain]
    if sides[-1:] == [form] and sides[0] != form:
        sides.reverse()
        marks.deviate(SIDES)
    if statement.value != value or value not in (statement.chain[-1], statement.chain[0]):
        marks.error("wrong_value", f"given {name}", "the value is not the one that the text gives")
    elif any(side != form for side in sides[:-1]):
        marks.error("wrong_operand", f"given {name}", "the left side is not its form")
    elif any(size_of(side) > size_written_out(form) + 1 for side in statement.chain):
        marks.error("wrong_operand", f"given {name}", "the left side is not its form written out")
    elif len(sides) > 2 or not set(names_in(statement.chain[0])) <= set(marks.unknowns):
        marks.deviate(LETTERS)
    marks.equation = (form, value)


def mark_solve(statement: Solve, marks: Marks) -> None:
    """One equation after another, each by one calculation from the one before: the number goes, then the factor."""
    if marks.equation is None:
        marks.error("used_before_defined", "equation", "it is solved before it is set up")
        return
    letters = marks.unknowns
    chain = statement.chain
    lefts = [linear_of(side, letters) for side in chain]
    if not (lefts[0] and lefts[0].a) and lefts[-1] and lefts[-1].a:
        chain, lefts = (chain[-1], *chain[:-1]), [lefts[-1], *lefts[:-1]]
        marks.deviate(SIDES)
    left, numbers = lefts[0], [number_from(side) for side in chain[1:]]
    last = numbers[-1]
    if left is None or not left.a or not isinstance(last, int) or size_of(chain[0]) > size_written_out(left) + 1:
        marks.error("malformed", "equation", "it does not have the unknown on one side and numbers on the other")
        return
    (a, b), right = marks.equation
    moved = right - b if a > 0 else b - right
    is_moved = left == Linear(abs(a), 0)
    is_divided = left == Linear(1, 0)
    is_gathered = left == Linear(a, b - right) and last == 0
    value = right if left == Linear(a, b) else moved if is_moved else moved // abs(a) if is_divided else None
    scale = a // left.a
    is_scaled = scale > 1 and left == Linear(a // scale, b // scale) and not (a % scale or b % scale or right % scale)
    value = 0 if is_gathered else right // scale if is_scaled and not is_divided else value
    if any(number != last for number in numbers):
        marks.error("false_arithmetic", "equation", FALSE_LINK)
    elif value is None or last != value:
        marks.error("wrong_value", "equation", "it does not follow from the one before")
    elif not _is_shown(chain, marks.equation, left):
        marks.error("missing", "equation", "several calculations are done in one, and none is shown")
    elif not all(follows(later, earlier) for earlier, later in pairwise(chain[1:])):
        marks.error("false_arithmetic", "equation", NOT_FOLLOWING)
    elif not any(_means_one_of(chain[1], _calculations(marks.equation, left, at_once)) for at_once in (False, True)):
        marks.error("false_arithmetic", "equation", "its right side does not follow from the one before")
    else:
        if left == Linear(a, b):
            marks.deviate(TOLD_AGAIN)
        elif len(chain) < 3 or not _is_one_calculation(marks.equation, left):
            marks.deviate(AT_ONCE)
    marks.equation = (left, last)


def _is_one_calculation(equation: tuple[Linear, int], left: Linear) -> bool:
    """Whether one calculation leads from an equation to one with this left side; turning it about counts for none."""
    (a, b), right = equation
    is_scaled = left.a * b == left.b * a and left.b != 0
    return is_scaled or left in (Linear(a, b), Linear(a, b - right)) or (b != 0) + (left.a != abs(a)) <= 1


def _is_shown(chain: tuple[Expression, ...], equation: tuple[Linear, int], left: Linear) -> bool:
    return _is_one_calculation(equation, left) or isinstance(chain[1], Binary)


def _calculations(equation: tuple[Linear, int], left: Linear, at_once: bool) -> list[Expression]:
    """What the number on the right may be written as, where the left side is `left`."""
    (a, b), right = equation
    if left == Linear(a, b):
        return [right, Binary("/", right, 1)]
    if left == Linear(a, b - right):
        return [0]
    if left.b:
        return [right * left.a // a, Binary("/", right, a // left.a)]
    moved: Expression = right if a > 0 else Binary("-", 0, right)
    if b:
        moved = Binary("-", right, b) if b > 0 and a > 0 else Binary("+", right, -b) if a > 0 else Binary("-", b, right)
    number = right - b if a > 0 else b - right
    if left == Linear(abs(a), 0):
        return [number, moved]
    return [number // abs(a), Binary("/", moved if at_once else number, abs(a))]


def _means_one_of(given: Expression, known: list[Expression]) -> bool:
    return any(given == one or means_the_same(given, one) for one in known)
