"""Whether an expression is the definition of a quantity, however it is written."""

from gsm_lab.problems.algebra import (
    Number,
    means_the_same,
    multiplied_out,
    polynomial_means,
    remainder,
    signs_in,
    written,
)
from gsm_lab.problems.graph import Operation
from gsm_lab.problems.marks import ALIASED, INLINED, ORDER, PUT_IN, SPLIT, Marks
from gsm_lab.problems.statements import Binary, Expression
from gsm_lab.problems.trace import names_in, size_of, substitute

MOST_WORK = 100_000
"""Operands that are compared in one text; no more is understood after that."""
MOST_LEVELS = 12
"""How often a definition is written out further."""
MOST_EXPANDED = 200
"""Operands of a definition whose quantities are computed within it."""


def in_quantities(expression: Expression, marks: Marks) -> tuple[Expression, frozenset[str]]:
    """An expression in letters as one in the names of quantities, and the names of the solver's own in it.

    Those are written out.
    """
    meant: dict[str, Expression] = {}
    helpers: frozenset[str] = frozenset()
    words = names_in(expression)
    size = sum(size_of(meaning.expression) for word in words if (meaning := marks.meanings.get(word)) is not None)
    if size > MOST_EXPANDED:
        return expression, helpers
    for word in words:
        meaning = marks.meanings.get(word)
        if meaning is None:
            meant[word] = marks.first_meaning.get(word, word)
        else:
            meant[word] = meaning.expression
            if meaning.quantity is None:
                helpers |= {word} | meaning.uses
    if helpers:
        marks.deviate(SPLIT)
    return substitute(expression, meant), helpers


def inlined_in(name: str, marks: Marks) -> set[str]:
    """The quantities that were computed within the step of this one."""
    found: set[str] = set()
    waiting = [name]
    definitions = marks.exercise.definition_of
    while waiting:
        for word in names_in(definitions[waiting.pop()]):
            if word in marks.inlined and word not in found:
                found.add(word)
                waiting.append(word)
    return found


def is_same(given: Expression, earlier: Expression, marks: Marks) -> bool:
    """Whether two expressions in letters mean the same; quantities in the earlier one may be written out."""
    one, other = (
        _without_copies(in_quantities(given, marks)[0], marks),
        _without_copies(in_quantities(earlier, marks)[0], marks),
    )
    marks.work += size_of(one) + size_of(other)
    if marks.work > MOST_WORK or _foreign_in(one, marks) != _foreign_in(other, marks):
        return False
    if not _may_be_equal(one, other, marks):
        return False
    values = _known_values(marks)
    return means_the_same(one, other, values) or _means_any(one, _expanded(other, one, marks)[0], values, marks)


def is_definition(given: Expression, name: str, kind: str, marks: Marks) -> bool:
    """Whether an expression in names is the graph's definition of `name`."""
    exercise = marks.exercise
    wanted = exercise.definition_of[name]
    marks.work += size_of(given) + size_of(wanted)
    if given == wanted or (
        marks.work <= MOST_WORK and name not in names_in(given) and _is_accepted(given, wanted, name, marks)
    ):
        return True
    if signs_in(given) != signs_in(wanted):
        marks.error("wrong_operation", kind + name, "its operation is not the one that the problem states")
    else:
        is_number = not isinstance(given, str | Binary)
        what = "its number is not the one" if is_number else "its operands are not those"
        marks.error("wrong_operand", kind + name, f"{what} that the problem states")
    return False


def _is_accepted(given: Expression, wanted: Expression, name: str, marks: Marks) -> bool:
    """Whether an expression means a definition; the first deviation that makes them agree is noted."""
    if any(word not in marks.exercise.value_of for word in names_in(given)):
        return False
    if means_the_same(given, wanted):
        if names_in(given) != names_in(wanted) or not marks.messages:
            marks.deviate(ORDER)
        return True
    if not _may_be_equal(given, wanted, marks):
        return False
    one, other = _without_copies(given, marks), _without_copies(wanted, marks)
    if (one != given or other != wanted) and means_the_same(one, other):
        marks.deviate(ALIASED)
        return True
    values = _known_values(marks)
    expanded, leaves = _expanded(other, one, marks)
    if _means_any(one, expanded, values, marks):
        marks.deviate(INLINED)
        return True
    if means_the_same(one, other, values | leaves):
        marks.deviate(PUT_IN)
        return True
    return _is_in_forms(given, wanted, marks)


def _means_any(one: Expression, others: list[Expression], values: dict[str, Number], marks: Marks) -> bool:
    """Whether an expression means any of these, with numbers put in maybe: each of its names has to be in that, too."""
    left, names = multiplied_out(one), set(names_in(one))
    if left is None:
        return False
    for full in others:
        other = _without_copies(full, marks)
        if names.issubset(names_in(other)) and polynomial_means(left, other, values):
            return True
    return False


def _foreign_in(expression: Expression, marks: Marks) -> set[str]:
    """The names in it that are no quantities of the problem: nothing else can stand for one."""
    return {name for name in names_in(expression) if name not in marks.exercise.value_of}


def _may_be_equal(one: Expression, other: Expression, marks: Marks) -> bool:
    """Whether two expressions in names have the same true value, as those that mean the same do, or one has none."""
    exercise = marks.exercise
    modulus = exercise.problem.modulus
    left = remainder(substitute(one, exercise.value_of), modulus)
    right = remainder(substitute(other, exercise.value_of), modulus)
    return left is None or right is None or left == right


def _known_values(marks: Marks) -> dict[str, Number]:
    """The values of the quantities that were computed, by their names."""
    exercise = marks.exercise
    problem = exercise.problem
    if problem.given is None:
        return {name: exercise.value_of[name] for name in marks.defined}
    forms, place_of = problem.forms, exercise.quantity_of
    return {
        name: exercise.value_of[name]
        for name in marks.defined
        if (form := forms[place_of[name]]) is not None and not form.a
    }


def _without_copies(expression: Expression, marks: Marks) -> Expression:
    """The expression with the original for every copy."""
    nodes, names = marks.exercise.problem.graph.nodes, marks.exercise.names
    place_of = marks.exercise.quantity_of
    originals: dict[str, Expression] = {}
    for name in names_in(expression):
        place = place_of.get(name)
        if place is None:
            continue
        while nodes[place].operation is Operation.COPY:
            place = nodes[place].parents[0]
        originals[name] = names[place]
    return substitute(expression, originals)


def _expanded(wanted: Expression, given: Expression, marks: Marks) -> tuple[list[Expression], dict[str, Number]]:
    """The definition with quantities written out: first those that nothing defines, then also others not in `given`.

    Also the leaves that nothing defines: their numbers may stand for them.
    """
    definitions, problem = marks.exercise.definition_of, marks.exercise.problem
    unknown = marks.exercise.asked_name if problem.given is not None else None
    told = set(names_in(given))
    leaves: dict[str, Number] = {}
    found: list[Expression] = []
    for everything in (False, True):
        while len(found) < MOST_LEVELS:
            inside = {word for word in names_in(wanted) if word in definitions and word != unknown}
            chosen = {word for word in inside if word in marks.inlined}
            if not chosen and everything:
                chosen = {word for word in inside - told if isinstance(definitions[word], str | Binary)}
            if not chosen:
                break
            leaves |= {word: leaf for word in chosen if isinstance(leaf := definitions[word], int)}
            size = sum(size_of(definitions[word]) for word in names_in(wanted) if word in chosen)
            if size > MOST_EXPANDED:
                return found, leaves
            wanted = substitute(wanted, {word: definitions[word] for word in chosen})
            marks.work += size_of(wanted)
            if marks.work > MOST_WORK:
                return found, leaves
            found.append(wanted)
    return found, leaves


def _is_in_forms(given: Expression, wanted: Expression, marks: Marks) -> bool:
    """Whether an expression in the unknown is a definition with the forms of its operands put in."""
    exercise = marks.exercise
    if exercise.problem.given is None or set(names_in(given)) - {exercise.asked_name}:
        return False
    asked = exercise.asked_name
    forms = {
        name: form
        for name, form in zip(exercise.names, exercise.problem.forms, strict=True)
        if form is not None and name in marks.defined
    }
    if not set(names_in(wanted)) <= set(forms):
        return False
    put_in = substitute(wanted, {name: written(form, asked) for name, form in forms.items()})
    if not means_the_same(given, put_in):
        return False
    marks.deviate(PUT_IN)
    return True
