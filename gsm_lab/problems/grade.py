"""Grades a solution against the graph that its problem was made from: every step, not only the answer.

A statement is right if its quantity is defined as the graph defines it (operations, operands, constants), if every link
of its chain follows from the one before, and if its value is the true one. A link follows if some calculations of the
one before have been done, each written as its result; with a modulus, as its remainder. Nothing is evaluated but small
trees of whole numbers. Sums and products may be commuted and re-associated, numbers may be put in and calculated at
once; the deviation is named. Everything else that differs is an error.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.trace import (
    Answer,
    Binary,
    Expression,
    Plan,
    Statement,
    Step,
    names_in,
    number_of,
    read_trace,
    substitute,
)


class Verdict(StrEnum):
    """What became of a solution."""

    CORRECT = "correct"
    """Right answer, and every step right."""
    LUCKY = "lucky"
    """Right answer, but a step is wrong or a needed one is missing."""
    WRONG = "wrong"
    """Another answer than the right one."""
    UNREADABLE = "unreadable"
    """No answer could be read: bad form, which says nothing about the sums."""
    TRUNCATED = "truncated"
    """Cut at the length limit, before its end."""


MOST_REGROUPED = 6
"""Longer sums than this may be calculated in one go, but not group by group."""
ERRORS = (
    "missing",
    "wrong_operand",
    "wrong_operation",
    "wrong_value",
    "false_arithmetic",
    "used_before_defined",
    "redefined",
    "unknown",
    "malformed",
)
"""The classes of error that a grade counts; `unknown` is a statement about a quantity that the problem lacks."""


@dataclass(frozen=True)
class Grade:
    """What was found in one solution; the counts are numbers of statements."""

    verdict: Verdict
    answer: int | None
    answer_correct: bool
    process_accuracy: float
    """Share of needed quantities that are present with the right operation, operands and value, 0 to 1."""
    missing: int = 0
    extra: int = 0
    """True statements about quantities that are not needed; no error."""
    wrong_operand: int = 0
    wrong_operation: int = 0
    wrong_value: int = 0
    false_arithmetic: int = 0
    used_before_defined: int = 0
    redefined: int = 0
    unknown: int = 0
    malformed: int = 0
    first_error: str | None = None
    """The first wrong statement in words, or None."""
    deviation: tuple[str, ...] = ()
    """What an accepted solution did otherwise than the gold one."""

    @property
    def verified(self) -> bool:
        """Right answer by right steps: the only meaning of success in pass@k."""
        return self.verdict is Verdict.CORRECT

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return asdict(self) | {"verified": self.verified}


@dataclass
class _Marks:
    """What the examiner has written down so far."""

    exercise: Exercise
    variable_of: Mapping[str, str]
    """Which quantity's name a variable stands for."""
    errors: Counter[str] = field(default_factory=Counter)
    first_error: str | None = None
    deviations: dict[str, None] = field(default_factory=dict)
    right: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    extra: int = 0

    def error(self, kind: str, where: str, what: str) -> None:
        self.errors[kind] += 1
        self.first_error = self.first_error or f"{where}: {what}"

    def deviate(self, what: str) -> None:
        self.deviations[what] = None


def grade(exercise: Exercise, completion: str | bytes, finished: bool = True) -> Grade:
    """Grade any text, or any bytes, as a solution; never raises, and takes time linear in the text.

    `finished` is False for a completion that was cut at the length limit.
    """
    text = completion if isinstance(completion, str) else completion.decode("utf-8", "replace")
    statements = read_trace(text, exercise.grammar)
    if statements is None:
        verdict = Verdict.UNREADABLE if finished else Verdict.TRUNCATED
        return Grade(verdict, None, False, 0.0, malformed=1, first_error="the text is too long to be a solution")
    variable_of: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, Step):
            variable_of.setdefault(statement.variable, statement.name)
    marks = _Marks(exercise, variable_of)
    for statement in statements:
        _mark_statement(statement, marks)
    for name in exercise.needed_names:
        if name not in marks.defined:
            marks.error("missing", name, "a needed quantity is never computed")
    return _conclude(marks, _read_answer(statements, marks), finished)


def _conclude(marks: _Marks, answer: int | None, finished: bool) -> Grade:
    exercise = marks.exercise
    answer_correct = answer == exercise.answer and finished
    if not finished:
        verdict, answer = Verdict.TRUNCATED, None
    elif answer is None:
        verdict = Verdict.UNREADABLE
    elif not answer_correct:
        verdict = Verdict.WRONG
    else:
        verdict = Verdict.LUCKY if marks.errors else Verdict.CORRECT
    if answer is not None and not answer_correct:
        marks.first_error = marks.first_error or f"answer: {answer} is not the value of the asked quantity"
    return Grade(
        verdict=verdict,
        answer=answer,
        answer_correct=answer_correct,
        process_accuracy=len(marks.right.intersection(exercise.needed_names)) / len(exercise.needed_names),
        extra=marks.extra,
        first_error=marks.first_error,
        deviation=tuple(marks.deviations),
        **{kind: marks.errors[kind] for kind in ERRORS},
    )


def _read_answer(statements: list[Statement], marks: _Marks) -> int | None:
    """The answer; where there are several, the last, and all but the first are errors."""
    answers = [statement.value for statement in statements if isinstance(statement, Answer)]
    for value in answers[1:]:
        marks.error("redefined", "answer", f"answered again with {value}")
    return answers[-1] if answers and None not in answers else None


def _mark_statement(statement: Statement, marks: _Marks) -> None:
    match statement:
        case Step():
            _mark_step(statement, marks)
        case Plan():
            _mark_plan(statement, marks)
        case Answer():
            if marks.exercise.asked_name not in marks.defined:
                marks.error("used_before_defined", "answer", "it is given before the asked quantity is computed")
        case _:
            marks.error("malformed", f"{statement.text[:60]!r}", "this is not a statement of the solution's grammar")


def _mark_plan(plan: Plan, marks: _Marks) -> None:
    if plan.name not in marks.exercise.definition_of:
        marks.error("unknown", f"plan for {plan.name!r}", "the problem has no such quantity")
        return
    if (
        _mark_definition(plan.expression, plan.name, "plan for ", marks)
        and plan.name not in marks.exercise.needed_names
    ):
        marks.extra += 1
        marks.deviate("plans a quantity that is not needed")


def _mark_step(step: Step, marks: _Marks) -> None:
    exercise, name = marks.exercise, step.name
    if name not in exercise.definition_of:
        marks.error("unknown", repr(name), "the problem has no such quantity")
        return
    is_first = name not in marks.defined and step.variable not in marks.variables
    if not is_first:
        marks.error("redefined", name, "the quantity, or its letter, was defined before")
    early = [used for used in names_in(step.chain[0]) if used not in marks.variables]
    if early:
        marks.error("used_before_defined", name, f"{early[0]!r} is used before it is computed")
    definition = substitute(step.chain[0], marks.variable_of)
    is_defined = _mark_definition(definition, name, "", marks)
    is_valued = _mark_chain(step, definition, marks)
    if not is_first and not (is_defined and is_valued):
        marks.right.discard(name)
    if is_first and is_defined and is_valued and not early:
        marks.right.add(name)
        if name not in exercise.needed_names:
            marks.extra += 1
            marks.deviate("computes a quantity that is not needed")
    marks.defined.add(name)
    marks.variables.add(step.variable)


def _mark_definition(given: Expression, name: str, kind: str, marks: _Marks) -> bool:
    """Whether an expression in names is the graph's definition of `name`."""
    wanted = marks.exercise.definition_of[name]
    if given == wanted:
        return True
    if _normal_form(given) == _normal_form(wanted):
        marks.deviate("terms in another order")
        return True
    if sorted(_signs(given)) != sorted(_signs(wanted)):
        marks.error("wrong_operation", kind + name, "its operation is not the one that the problem states")
    else:
        marks.error("wrong_operand", kind + name, "its operands are not those that the problem states")
    return False


def _mark_chain(step: Step, definition: Expression, marks: _Marks) -> bool:
    """Whether the numbers put in are those of the operands, every link follows, and the last is the true value."""
    true_value = marks.exercise.value_of[step.name]
    modulus = marks.exercise.problem.modulus
    numbers = [number_of(part, modulus) for part in step.chain]
    links = numbers if numbers[0] is not None else numbers[1:]
    if not links or None in links:
        marks.error("malformed", step.name, "a link of the chain after the first is not made of numbers alone")
        return False
    is_put_in = is_following = True
    if numbers[0] is None:
        put_in = substitute(definition, marks.exercise.value_of)
        if _normal_form(step.chain[1]) != _normal_form(put_in):
            if number_of(put_in, modulus) is not None and _follows(step.chain[1], put_in, modulus):
                marks.deviate("numbers not put in before calculating")
            else:
                marks.error("wrong_value", step.name, "the numbers put in are not the values of the operands")
                is_put_in = False
    for earlier, later in itertools.pairwise(step.chain[len(step.chain) - len(links) :]):
        if number_of(earlier, modulus) != number_of(later, modulus):
            marks.error("false_arithmetic", step.name, "an equality of its chain is false")
            is_following = False
        elif not _follows(later, earlier, modulus):
            marks.error("false_arithmetic", step.name, "a link of its chain does not follow from the one before")
            is_following = False
    is_true = step.chain[-1] == true_value
    if is_put_in and not is_true:
        marks.error("wrong_value", step.name, "the value is not the true one")
    return is_put_in and is_following and is_true


def _follows(later: Expression, earlier: Expression, modulus: int | None) -> bool:
    """Whether `later` is `earlier` with some of its calculations done. Equal values alone do not make a step."""
    if later == earlier:
        return True
    if isinstance(later, int):
        return isinstance(earlier, Binary) and number_of(earlier, modulus) == later
    if not isinstance(earlier, Binary) or not isinstance(later, Binary):
        return False
    if set(_signs(earlier)) == set(_signs(later)) == {"+"}:
        return _regroups(_numbers(later), _numbers(earlier), modulus)
    if later.sign != earlier.sign:
        return False
    orders = [(later.left, later.right)] + [(later.right, later.left)] * (later.sign != "-")
    return any(
        _follows(left, earlier.left, modulus) and _follows(right, earlier.right, modulus) for left, right in orders
    )


def _regroups(later: list[int], earlier: list[int], modulus: int | None) -> bool:
    """Whether the terms `later` are sums of groups that `earlier` splits into; a group of one stays as it is."""
    if len(later) > len(earlier) or len(earlier) > MOST_REGROUPED:
        return sorted(later) == sorted(earlier)
    wanted = sorted(later)
    return any(
        sorted(
            earlier[group[0]] if len(group) == 1 else _sum([earlier[at] for at in group], modulus) for group in groups
        )
        == wanted
        for groups in _partitions(len(earlier), len(later))
    )


@lru_cache
def _partitions(count: int, parts: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """All ways to split the places 0 to count - 1 into so many groups."""
    if count == 0:
        return ((),) if parts == 0 else ()
    if parts == 0:
        return ()
    alone = (((*groups, (count - 1,))) for groups in _partitions(count - 1, parts - 1))
    joined = (
        (*groups[:at], (*group, count - 1), *groups[at + 1 :])
        for groups in _partitions(count - 1, parts)
        for at, group in enumerate(groups)
    )
    return (*alone, *joined)


def _sum(terms: list[int], modulus: int | None) -> int:
    return sum(terms) if modulus is None else sum(terms) % modulus


def _numbers(expression: Expression) -> list[int]:
    """The numbers in an expression of numbers, from left to right."""
    if isinstance(expression, Binary):
        return _numbers(expression.left) + _numbers(expression.right)
    assert isinstance(expression, int)
    return [expression]


_Form = int | str | tuple["_Form | str", ...]


def _normal_form(expression: Expression) -> _Form:
    """A form that is equal for expressions equal up to the order and grouping of sums and of products."""
    if not isinstance(expression, Binary):
        return expression
    if expression.sign == "-":
        return ("-", _normal_form(expression.left), _normal_form(expression.right))
    terms: list[_Form] = []
    waiting: list[Expression] = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary) and part.sign == expression.sign:
            waiting += [part.left, part.right]
        else:
            terms.append(_normal_form(part))
    return (expression.sign, *sorted(terms, key=repr))


def _signs(expression: Expression) -> list[str]:
    found: list[str] = []
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary):
            found.append(part.sign)
            waiting += [part.left, part.right]
    return found
