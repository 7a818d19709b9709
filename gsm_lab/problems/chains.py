"""Whether a chain of equalities leads from a definition to the value of its quantity."""

from collections.abc import Mapping
from fractions import Fraction

from gsm_lab.problems.algebra import (
    Number,
    follows,
    form_follows,
    means_the_same,
    remainder,
    size_written_out,
    written,
)
from gsm_lab.problems.definitions import is_same
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.marks import AT_ONCE, ORDER, OTHER_LINKS, Marks, resolved_name
from gsm_lab.problems.phrase import fill
from gsm_lab.problems.solution import chain_text, form_chain_text
from gsm_lab.problems.statements import Binary, Expression, Step
from gsm_lab.problems.trace import linear_of, names_in, read_expression, size_of, substitute
from gsm_lab.problems.verdicts import FALSE_LINK, FORM_NOT_WRITTEN_OUT, NOT_FOLLOWING, NOT_PUT_IN, NOT_WRITTEN_OUT


def is_valued(step: Step, name: str, is_defined: bool, marks: Marks) -> bool:
    """Whether the numbers put in are those of the operands, every link follows, and the last is the true value."""
    exercise = marks.exercise
    problem = exercise.problem
    if problem.given is not None:
        place = exercise.quantity_of[name]
        forms = [problem.forms[at] for at in (place, *problem.graph.nodes[place].parents)]
        if any(form is None or form.a for form in forms):
            return _is_form_chain(step, name, forms[0], is_defined, marks)
    return is_chain(step, step.chain[0], exercise.value_of[name], marks)


def computed_as_written(step: Step, text: str, marks: Marks) -> str | None:
    """The quantity that a step computes for the first time, if the step is what the grammar writes for it.

    Only its name may be another for the same. Such a step is right: this says of right steps in a small part of the
    time what all the other rules together say, and of no other step anything.
    """
    exercise = marks.exercise
    problem, letters = exercise.problem, marks.letters
    name = step.name if step.name in exercise.quantity_of else resolved_name(step.name, marks.names)
    if name is None or name in marks.defined:
        return None
    place = exercise.quantity_of[name]
    node = problem.graph.nodes[place]
    for parent in node.parents:
        if not letters[parent]:
            return None
    is_open = False
    if problem.given is not None:
        forms = problem.forms
        for at in (place, *node.parents):
            form = forms[at]
            if form is None:
                return None
            is_open = is_open or form.a != 0
    if not is_open:
        chain = chain_text(node, letters, problem.values, problem.modulus)
    elif marks.unknowns and place != problem.query:
        chain = form_chain_text(node, letters, problem.forms, next(iter(marks.unknowns)))
    else:
        return None
    return name if text == fill(exercise.grammar.step_words, (step.name, chain, step.variable)) else None


def is_chain(step: Step, definition: Expression, value: Number, marks: Marks) -> bool:
    """Whether a chain goes from a definition to a value, each link from the one before."""
    modulus = marks.exercise.problem.modulus
    values = marks.values | marks.foreseen if marks.foreseen else marks.values
    earlier = definition
    is_right, is_put_in_wrongly = True, False
    is_put_in = not names_in(definition)
    for link in step.chain[1:]:
        names = names_in(link)
        if names and is_put_in:
            marks.error("malformed", step.name, "a link of the chain has names after numbers were put in")
            return False
        if names:
            if not (means_the_same(link, earlier, _numbers(values)) or is_same(link, earlier, marks)):
                marks.error("false_arithmetic", step.name, NOT_FOLLOWING)
                return False
            earlier = link
            continue
        number = remainder(link, modulus)
        if number is None:
            marks.error("malformed", step.name, "a link of the chain is no number")
            return False
        if not is_put_in:
            is_put_in = True
            put_in = substitute(earlier, values)
            earlier = link
            if link == put_in or means_the_same(link, put_in):
                if link != put_in:
                    marks.deviate(ORDER)
                continue
            known = remainder(put_in, modulus)
            if known is not None and known == number and follows(link, put_in, modulus):
                if isinstance(definition, Binary):
                    marks.deviate(AT_ONCE)
            else:
                marks.error("wrong_value", step.name, NOT_PUT_IN)
                is_right, is_put_in_wrongly = False, True
            continue
        if remainder(earlier, modulus) != number:
            marks.error("false_arithmetic", step.name, FALSE_LINK)
            is_right = False
        elif not follows(link, earlier, modulus):
            marks.error("false_arithmetic", step.name, NOT_FOLLOWING)
            is_right = False
        earlier = link
    last = step.chain[-1]
    if isinstance(last, str | Binary):
        marks.error("wrong_value", step.name, NOT_WRITTEN_OUT)
        return False
    if last != value and not is_put_in_wrongly:
        marks.error("wrong_value", step.name, "the value is not the true one")
    return is_right and last == value


def _numbers(values: Mapping[str, Expression]) -> dict[str, Number]:
    return {name: value for name, value in values.items() if isinstance(value, int | Fraction)}


def _is_form_chain(step: Step, name: str, form: Linear | None, is_defined: bool, marks: Marks) -> bool:
    """Whether every link is the quantity's form in the unknown and follows from the one before; the last is short."""
    exercise = marks.exercise
    if name == exercise.asked_name:
        marks.error("wrong_operation", name, "its value is not told: it is the unknown")
        return False
    if form is None:
        marks.error("wrong_value", name, "it is no whole multiple of the unknown plus a number, and is not needed")
        return False
    if not is_defined:
        return False  # which is an error already
    letters = marks.unknowns
    letter = next(iter(letters), exercise.asked_name)
    used = {at: written(known, letter) for at in names_in(step.chain[0]) if (known := marks.forms.get(at)) is not None}
    put_in = substitute(step.chain[0], used)
    last = len(step.chain) - 1
    earlier = step.chain[0]
    is_put_in = linear_of(earlier, letters) is not None
    for at, link in enumerate(step.chain):
        found = linear_of(link, letters)
        if found is None and at > 0 and (is_put_in or not means_the_same(link, earlier)):
            marks.error("malformed", name, "a link of the chain after the first is not in terms of the unknown")
            return False
        if found is not None and found != form:
            marks.error("wrong_value", name, "a link of its chain is not its form in the unknown")
            return False
        before = earlier if is_put_in else put_in
        if at and found is not None and not form_follows(link, before, form, letters):
            marks.error("false_arithmetic", name, NOT_FOLLOWING)
            return False
        is_put_in = is_put_in or found is not None
        earlier = link
    if linear_of(step.chain[last], letters) is None or size_of(step.chain[last]) > size_written_out(form):
        marks.error("wrong_value", name, FORM_NOT_WRITTEN_OUT)
        return False
    if not _is_usual(step, name, letter, marks):
        marks.deviate(OTHER_LINKS)
    return True


def _is_usual(step: Step, name: str, letter: str, marks: Marks) -> bool:
    """Whether a chain in the unknown is the one that the grammar writes; another definition was noted already."""
    exercise = marks.exercise
    node = exercise.problem.graph.nodes[exercise.quantity_of[name]]
    usual = form_chain_text(node, marks.letters, exercise.problem.forms, letter)
    return list(step.chain[1:]) == list(map(read_expression, usual.split(" = ")[1:]))
