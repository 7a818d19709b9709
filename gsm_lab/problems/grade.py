"""Grades a solution against the graph that its problem was made from: every step, not only the answer.

A statement is right if its quantity is defined as the graph defines it (operations, operands, constants), if every link
of its chain follows from the one before, and if its value is the true one. A link follows if some calculations of the
one before have been done, each written as its result; with a modulus, as its remainder. Nothing is evaluated but small
trees of whole numbers. Sums and products may be commuted and re-associated, numbers may be put in and calculated at
once; the deviation is named. Within a chain only sums without a minus are regrouped. Everything else that differs is an
error.

In a reverse problem the links of what depends on the unknown are linear forms in it, exactly; the given value must be
set equal to its form, and every equation after it must follow from the one before until the unknown stands alone. A
step that is taken back at once does not count, neither for nor against.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.trace import (
    Answer,
    Binary,
    Check,
    Expression,
    Given,
    Malformed,
    Plan,
    Retract,
    Solve,
    Statement,
    Step,
    Unknown,
    linear_of,
    names_in,
    number_of,
    read_trace,
    size_of,
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
    retracted: int = 0
    """Statements that were taken back; no error."""
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
    retracted: int = 0
    equation: tuple[Linear, int] | None = None
    """In a reverse problem: the form on the left and the number on the right, as far as it is solved."""
    is_guessed: bool = False
    """Whether an answer was given before the equation was solved."""

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
    statements = read_trace(text, exercise.grammar, exercise.style.form)
    if statements is None:
        verdict = Verdict.UNREADABLE if finished else Verdict.TRUNCATED
        return Grade(verdict, None, False, 0.0, malformed=1, first_error="the text is too long to be a solution")
    kept, num_retracted = _kept(statements)
    variable_of: dict[str, str] = {}
    for statement in kept:
        if isinstance(statement, Step | Unknown):
            variable_of.setdefault(statement.variable, statement.name)
    marks = _Marks(exercise, variable_of, retracted=num_retracted)
    if num_retracted:
        marks.deviate("takes a step back")
    if exercise.style.form == "answer_only":  # steps may be left out, but what is written counts
        for statement in kept:
            if not isinstance(statement, Answer):
                _mark_statement(statement, marks)
        return _conclude(marks, _read_answer(kept, marks), finished)
    for statement in kept:
        _mark_statement(statement, marks)
    for name in exercise.needed_names:
        if name not in marks.defined:
            marks.error("missing", name, "a needed quantity is never computed")
    _mark_end_of_equation(marks)
    return _conclude(marks, _read_answer(statements, marks), finished)


def _kept(statements: list[Statement]) -> tuple[list[Statement], int]:
    """The statements that were not taken back, and how many were; what takes nothing back is malformed."""
    kept: list[Statement] = []
    num = 0
    for statement in statements:
        if not isinstance(statement, Retract):
            kept.append(statement)
        elif kept and isinstance(kept[-1], Step | Plan | Check | Unknown | Given | Solve):
            kept.pop()
            num += 1
        else:
            kept.append(Malformed("(nothing to take back)"))
    return kept, num


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
        retracted=marks.retracted,
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
        case Unknown():
            _mark_unknown(statement, marks)
        case Given():
            _mark_given(statement, marks)
        case Solve():
            _mark_solve(statement, marks)
        case Check():
            _mark_check(statement, marks)
        case Answer():
            is_reverse = marks.exercise.problem.given is not None
            is_open = is_reverse and (marks.equation is None or marks.equation[0] != Linear(1, 0))
            if is_open:
                marks.is_guessed = True
            elif marks.exercise.asked_name not in marks.defined:
                marks.error("used_before_defined", "answer", "it is given before the asked quantity is computed")
        case Malformed(text):
            marks.error("malformed", f"{text[:60]!r}", "this is not a statement of the solution's grammar")


def _mark_plan(plan: Plan, marks: _Marks) -> None:
    if plan.name not in marks.exercise.definition_of:
        marks.error("unknown", f"plan for {plan.name!r}", "the problem has no such quantity")
        return
    if marks.exercise.problem.given is not None and plan.name == marks.exercise.asked_name:
        marks.error("wrong_operation", f"plan for {plan.name}", "its value is not told: it is the unknown")
        return
    if (
        _mark_definition(plan.expression, plan.name, "plan for ", marks)
        and plan.name not in marks.exercise.needed_names
    ):
        marks.extra += 1
        marks.deviate("plans a quantity that is not needed")


def _mark_unknown(statement: Unknown, marks: _Marks) -> None:
    exercise, name = marks.exercise, statement.name
    if name not in exercise.definition_of:
        marks.error("unknown", repr(name), "the problem has no such quantity")
        return
    if name in marks.defined or statement.variable in marks.variables:
        marks.error("redefined", name, "the quantity, or its letter, was defined before")
    elif exercise.problem.given is None or name != exercise.asked_name:
        marks.error("wrong_operation", name, "it is called unknown, but the text defines it")
    else:
        marks.right.add(name)
    marks.defined.add(name)
    marks.variables.add(statement.variable)


def _mark_given(statement: Given, marks: _Marks) -> None:
    """The given value recalled, and its form set equal to it."""
    exercise = marks.exercise
    problem = exercise.problem
    if problem.given is None or statement.name != exercise.names[problem.given]:
        marks.error("wrong_operand", f"given {statement.name}", "the text gives no value for it beside its definition")
        return
    if statement.name not in marks.defined:
        marks.error("used_before_defined", f"given {statement.name}", "its form is used before it is computed")
    form, value = problem.forms[problem.given], problem.values[problem.given]
    assert form is not None
    forms = _unknown_forms(marks)
    sides = [linear_of(side, forms) for side in statement.chain]
    if statement.value != value or sides[1:] != [Linear(0, value)]:
        marks.error("wrong_value", f"given {statement.name}", "the value is not the one that the text gives")
    elif sides[0] != form:
        marks.error("wrong_operand", f"given {statement.name}", "the left side is not its form")
    marks.equation = (form, value)


def _mark_solve(statement: Solve, marks: _Marks) -> None:
    """One equation after another, each by one calculation from the one before: the number goes, then the factor."""
    if marks.equation is None:
        marks.error("used_before_defined", "equation", "it is solved before it is set up")
        return
    left = linear_of(statement.chain[0], _unknown_forms(marks))
    last = statement.chain[-1]
    if left is None or not left.a or not isinstance(last, int) or None in map(_number, statement.chain[1:]):
        marks.error("malformed", "equation", "it does not have the unknown on its left and numbers on its right")
        return
    (a, b), right = marks.equation
    is_moved = left == Linear(abs(a), 0) and (b != 0 or a < 0)
    is_divided = left == Linear(1, 0) and abs(a) != 1
    moved = right - b if a > 0 else b - right
    value = moved if is_moved else moved // abs(a)
    calculations: list[Expression] = []
    if is_moved:
        calculations = (
            [Binary("-", right, b) if b >= 0 else Binary("+", right, -b)] if a > 0 else [Binary("-", b, right)]
        )
    elif is_divided:
        calculations = [Binary("/", moved, abs(a))]
        if b or a < 0:
            marks.deviate("solves the equation at once")
    if any(_number(part) != last for part in statement.chain[1:]):
        marks.error("false_arithmetic", "equation", "an equality of its chain is false")
    elif not (is_moved or is_divided) or last != value:
        marks.error("wrong_value", "equation", "it does not follow from the one before")
    elif not _is_one_of(statement.chain[1], [value, *calculations]) or any(
        not _follows(later, earlier, None) for earlier, later in itertools.pairwise(statement.chain[1:])
    ):
        marks.error("false_arithmetic", "equation", "its right side does not follow from the one before")
    marks.equation = (left, last)


def _number(expression: Expression) -> int | None:
    return number_of(expression, None)


def _is_one_of(given: Expression, known: list[Expression]) -> bool:
    return any(_normal_form(given) == _normal_form(one) for one in known)


def _mark_end_of_equation(marks: _Marks) -> None:
    """In a reverse problem the given value must have been used, and the unknown must stand alone in the end."""
    if marks.exercise.problem.given is None:
        return
    if marks.equation is None:
        marks.error("missing", "equation", "the given value is never used")
    elif marks.equation[0] != Linear(1, 0):
        marks.error("missing", "equation", "it is never solved for the unknown")
    elif marks.is_guessed:
        marks.error("used_before_defined", "answer", "it is given before the equation is solved")


def _mark_check(statement: Check, marks: _Marks) -> None:
    numbers = {number_of(part, marks.exercise.problem.modulus) for part in statement.chain}
    if None in numbers:
        marks.error("malformed", "check", "it is not made of numbers alone")
    elif len(numbers) > 1:
        marks.error("false_arithmetic", "check", "it is false")


def _unknown_forms(marks: _Marks) -> dict[str, Linear]:
    """The letters that stand for the unknown; there are none in a forward problem."""
    if marks.exercise.problem.given is None:
        return {}
    asked = marks.exercise.asked_name
    return {variable: Linear(1, 0) for variable, name in marks.variable_of.items() if name == asked}


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
    problem = marks.exercise.problem
    modulus = problem.modulus
    if problem.given is not None:
        place = marks.exercise.quantity_of[step.name]
        forms = [problem.forms[at] for at in (place, *problem.graph.nodes[place].parents)]
        if any(form is None or form.a for form in forms):
            return _mark_forms(step, definition, forms[0], marks)
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


def _mark_forms(step: Step, definition: Expression, form: Linear | None, marks: _Marks) -> bool:
    """Whether every link is the quantity's form in the unknown and follows from the one before; the last is short."""
    problem, name_of = marks.exercise.problem, dict(enumerate(marks.exercise.names))
    if step.name == marks.exercise.asked_name:
        marks.error("wrong_operation", step.name, "its value is not told: it is the unknown")
        return False
    forms = {name_of[at]: known for at, known in enumerate(problem.forms) if known is not None}
    if form is None:
        marks.error("wrong_value", step.name, "it is no whole multiple of the unknown plus a number, and is not needed")
        return False
    if linear_of(definition, forms) != form:
        return False  # its definition is wrong, which is an error already
    letters = _unknown_forms(marks)
    letter = next(iter(letters), marks.exercise.asked_name)
    put_in = substitute(definition, {name: _written(known, letter) for name, known in forms.items()})
    last = len(step.chain) - 1
    for at, link in enumerate(step.chain):
        found = linear_of(link, letters)
        if found is None and at > 0:
            marks.error("malformed", step.name, "a link of the chain after the first is not in terms of the unknown")
            return False
        if found is not None and found != form:
            marks.error("wrong_value", step.name, "a link of its chain is not its form in the unknown")
            return False
        earlier = put_in if at == 1 else step.chain[at - 1]
        if at and not _form_follows(link, earlier, form, letters):
            marks.error("false_arithmetic", step.name, "a link of its chain does not follow from the one before")
            return False
    if linear_of(step.chain[last], letters) is None or size_of(step.chain[last]) > _written_out(form):
        marks.error("wrong_value", step.name, "its form in the unknown is not written out")
        return False
    return True


def _form_follows(later: Expression, earlier: Expression, form: Linear, letters: Mapping[str, Linear]) -> bool:
    """Whether `later`, of the same form as `earlier`, is that with some of its terms taken together."""
    if size_of(later) <= _written_out(form) or _normal_form(later) == _normal_form(earlier):
        return True
    if not isinstance(later, Binary) or not isinstance(earlier, Binary):
        return False
    if later.sign in "+-" and earlier.sign in "+-":
        return _terms_follow(_terms(later), _terms(earlier), letters)
    if later.sign != earlier.sign:
        return False
    for before, after in ((earlier.left, later.left), (earlier.right, later.right)):
        part, other = linear_of(after, letters), linear_of(before, letters)
        if part is None or part != other or not _form_follows(after, before, part, letters):
            return False
    return True


def _terms(expression: Expression) -> list[tuple[int, Expression]]:
    """The terms of a sum with their signs, 1 or -1."""
    terms = []
    waiting = [(1, expression)]
    while waiting:
        sign, part = waiting.pop()
        if isinstance(part, Binary) and part.sign in "+-":
            waiting += [(sign, part.left), (sign if part.sign == "+" else -sign, part.right)]
        else:
            terms.append((sign, part))
    return terms


def _terms_follow(
    later: list[tuple[int, Expression]], earlier: list[tuple[int, Expression]], letters: Mapping[str, Linear]
) -> bool:
    """Whether the later terms are sums of groups that the earlier ones split into.

    What is in both stays as it is; only written-out terms can be sums.
    """
    left = {number: (sign, _normal_form(term)) for number, (sign, term) in enumerate(earlier)}
    new: list[Linear] = []
    for sign, term in later:
        form = linear_of(term, letters)
        if form is None:
            return False
        same = next((number for number, known in left.items() if known == (sign, _normal_form(term))), None)
        if size_of(term) > _written_out(form) or (same is not None and len(left) > MOST_REGROUPED):
            if same is None:
                return False
            del left[same]
        else:
            new += _split(form, sign)
    old: list[Linear] = []
    for number in left:
        form = linear_of(earlier[number][1], letters)
        if form is None:
            return False
        old += _split(form, earlier[number][0])  # a product with a sum in it counts as multiplied out
    if len(old) > MOST_REGROUPED or len(new) > len(old):
        return sorted(new) == sorted(old)
    return any(
        sorted(Linear(sum(old[at].a for at in group), sum(old[at].b for at in group)) for group in groups)
        == sorted(new)
        for groups in _partitions(len(old), len(new))
    )


def _split(form: Linear, sign: int) -> list[Linear]:
    """A form as a term with the unknown and one without."""
    parts = [Linear(sign * form.a, 0), Linear(0, sign * form.b)]
    return parts if form.a and form.b else [parts[0] if form.a else parts[1]]


def _written(form: Linear, letter: str) -> Expression:
    """The form as an expression."""
    term: Expression = letter if abs(form.a) == 1 else Binary("*", abs(form.a), letter)
    if not form.a:
        return form.b
    if form.a < 0:
        return Binary("-", form.b, term)
    return term if not form.b else Binary("+" if form.b > 0 else "-", term, abs(form.b))


def _written_out(form: Linear) -> int:
    """The number of operands of a form as short as it can be written."""
    if not form.a:
        return 1
    return (1 if abs(form.a) == 1 else 2) + (form.b != 0)


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
    orders = [(later.left, later.right)] + [(later.right, later.left)] * (later.sign not in "-/")
    return any(
        _follows(left, earlier.left, modulus) and _follows(right, earlier.right, modulus) for left, right in orders
    )


def _regroups(later: list[int], earlier: list[int], modulus: int | None) -> bool:
    """Whether the terms `later` are sums of groups that `earlier` splits into; a group of one stays as it is."""
    if len(earlier) > MOST_REGROUPED:  # what is in both stays as it is
        common = Counter(later) & Counter(earlier)
        later = list((Counter(later) - common).elements())
        earlier = list((Counter(earlier) - common).elements())
        if not later and not any(earlier):
            return True  # nothing was added to one of them
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


_Form = int | str | tuple["_Form | str | tuple[str, _Form]", ...]


def _normal_form(expression: Expression) -> _Form:
    """A form that is equal for expressions equal up to the order and grouping of sums and of products."""
    if not isinstance(expression, Binary):
        return expression
    if expression.sign == "/":
        return ("/", _normal_form(expression.left), _normal_form(expression.right))
    terms: list[tuple[str, _Form]] = []
    waiting: list[tuple[str, Expression]] = [("+", expression)]
    if expression.sign == "*":
        while waiting:
            _, part = waiting.pop()
            if isinstance(part, Binary) and part.sign == "*":
                waiting += [("+", part.left), ("+", part.right)]
            else:
                terms.append(("*", _normal_form(part)))
    else:
        while waiting:
            sign, part = waiting.pop()
            if isinstance(part, Binary) and part.sign in "+-":
                other = sign if part.sign == "+" else "-" if sign == "+" else "+"
                waiting += [(sign, part.left), (other, part.right)]
            else:
                terms.append((sign, _normal_form(part)))
    return ("*" if expression.sign == "*" else "+", *sorted(terms, key=repr))


def _signs(expression: Expression) -> list[str]:
    found: list[str] = []
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary):
            found.append(part.sign)
            waiting += [part.left, part.right]
    return found
