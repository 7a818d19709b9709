"""Whether an expression is the definition of a quantity, however it is written."""

from gsm_lab.problems.algebra import Number, means_the_same, signs_in, written
from gsm_lab.problems.graph import Operation
from gsm_lab.problems.marks import ALIASED, INLINED, ORDER, PUT_IN, SPLIT, Marks
from gsm_lab.problems.trace import Expression, names_in, size_of, substitute

MOST_EXPANDED = 200
"""Operands of a definition whose quantities are computed within it."""


def in_quantities(expression: Expression, marks: Marks) -> tuple[Expression, frozenset[str]]:
    """An expression in letters as one in the names of quantities, and the names of the solver's own in it.

    Those are written out.
    """
    meant: dict[str, Expression] = {}
    helpers: frozenset[str] = frozenset()
    for word in names_in(expression):
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


def is_definition(given: Expression, name: str, kind: str, marks: Marks) -> bool:
    """Whether an expression in names is the graph's definition of `name`."""
    exercise = marks.exercise
    wanted = exercise.definition_of[name]
    if given == wanted or _means(given, wanted, name, marks):
        return True
    if signs_in(given) != signs_in(wanted):
        marks.error("wrong_operation", kind + name, "its operation is not the one that the problem states")
    else:
        marks.error("wrong_operand", kind + name, "its operands are not those that the problem states")
    return False


def _means(given: Expression, wanted: Expression, name: str, marks: Marks) -> bool:
    """Whether an expression means a definition; the first deviation that makes them agree is noted."""
    if means_the_same(given, wanted):
        if names_in(given) != names_in(wanted) or not marks.messages:
            marks.deviate(ORDER)
        return True
    one, other = _without_copies(given, marks), _without_copies(wanted, marks)
    if (one != given or other != wanted) and means_the_same(one, other):
        marks.deviate(ALIASED)
        return True
    values = _known_values(marks)
    expanded, leaves = _expanded(other, name, marks)
    if expanded is not None and expanded != other:
        full = _without_copies(expanded, marks)
        if means_the_same(one, full, values):
            marks.deviate(INLINED)
            return True
    if means_the_same(one, other, values | leaves):
        marks.deviate(PUT_IN)
        return True
    return _is_in_forms(given, wanted, marks)


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


def _expanded(wanted: Expression, name: str, marks: Marks) -> tuple[Expression | None, dict[str, Number]]:
    """The definition with every quantity that nothing defines written out; None if that is too long.

    Also the leaves among them: their numbers may stand for them.
    """
    definitions, problem = marks.exercise.definition_of, marks.exercise.problem
    leaves: dict[str, Number] = {}
    unknown = marks.exercise.asked_name if problem.given is not None else None
    while True:
        inlined = {word for word in names_in(wanted) if word in marks.inlined and word != unknown}
        if not inlined:
            return wanted, leaves
        for word in inlined:
            definition = definitions[word]
            if isinstance(definition, int):
                leaves[word] = definition
        wanted = substitute(wanted, {word: definitions[word] for word in inlined})
        if size_of(wanted) > MOST_EXPANDED:
            return None, leaves


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
