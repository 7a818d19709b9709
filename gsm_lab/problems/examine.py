"""The examiner: marks every statement of a solution against the graph, as a fair teacher would.

A step is right if its definition means what the graph says (operations, operands, constants), if every link of its
chain follows from the one before, and if its value is the true one. Order, brackets and multiplying out do not matter;
a quantity may be computed within the step that uses it, a copy may stand for its original, a sum may be split through a
name of the solver's own, and numbers may be put in at once. Values are whole numbers, exact fractions on the way, and
in a reverse problem linear forms in the unknown. Everything that differs otherwise is an error, and every statement
that is taken back counts neither for nor against.
"""

import re
from collections.abc import Mapping

from gsm_lab.problems.algebra import Number, means_the_same, number_from
from gsm_lab.problems.chains import computed_as_written, is_chain, is_valued
from gsm_lab.problems.definitions import MOST_EXPANDED, MOST_WORK, in_quantities, inlined_in, is_definition
from gsm_lab.problems.equations import mark_given, mark_solve, mark_unknown
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.marks import (
    EXTRA,
    FORM,
    IN_CHECK,
    LETTERS,
    OTHER_NAMES,
    SMALL_WORDS,
    SPLIT,
    TOLD_AGAIN,
    Marks,
    Meaning,
    add_right,
    bind,
    letter_of,
    named,
    plain_name,
    quantity_names,
    resolved_name,
    spoil,
    words_in,
)
from gsm_lab.problems.reading import Piece, read_freely
from gsm_lab.problems.statements import (
    Answer,
    Binary,
    Check,
    Expression,
    Given,
    Malformed,
    Plan,
    Prose,
    Retract,
    Solve,
    Statement,
    Step,
    Unknown,
)
from gsm_lab.problems.trace import linear_of, names_in, size_of, substitute
from gsm_lab.problems.verdicts import FALSE_LINK, NO_STATEMENT, Examination, Finding, Grade, Mark, Verdict

_LETTER = re.compile("[A-Za-z][0-9]{0,2}")
_WORDS = re.compile(r"[^\W\d_]+")
_OWN = """first second last two three four both these those together partial part subtotal running intermediate temp
temporary helper auxiliary aux group rest step sum so far of the and combined bracket brackets inner"""
OWN_WORDS = frozenset(_OWN.split())
"""Words for what a solver puts together that say nothing about the quantities of a problem."""
_SMALL_SIGNS = frozenset(
    "\u548c\u4e0e\u7684\u4e4b\u5408\u8ba1\u603b\u6570\u90e8\u5206\u524d\u4e24\u8005\u9879\u4e2d\u95f4\u7ed3\u679c\u5c0f"
)
_KINDS: Mapping[type, str] = {
    kind: kind.__name__.lower()
    for kind in (Step, Plan, Unknown, Given, Solve, Check, Retract, Answer, Malformed, Prose)
}
MOST_LINKS = 120
"""A chain with more links than this is not read."""


def graded(exercise: Exercise, text: str, finished: bool) -> Grade:
    """The grade of a text of which every statement is examined; whether it is also literal, `grade` says."""
    return _examined(exercise, text, finished, None)


def examined(exercise: Exercise, text: str, finished: bool) -> Examination:
    """The same grade, and every statement marked."""
    marked: list[Mark] = []
    return Examination(_examined(exercise, text, finished, marked), tuple(marked))


def _examined(exercise: Exercise, text: str, finished: bool, marked: list[Mark] | None) -> Grade:
    """The grade; the marks of the statements go into `marked`, if that is given."""
    form = exercise.style.form
    names = quantity_names(exercise.names)
    units = words_in(exercise.names)
    pieces = read_freely(text, exercise.grammar, form, units)
    variables = {one.statement.variable.casefold() for one in pieces or () if isinstance(one.statement, Step)}
    letters = {letter for letter in units & variables if len(letter) > 1 or not letter.isascii()}
    if letters:  # `3 goats` is no number of a kind where `goats` is a letter; one letter alone is no unit
        pieces = read_freely(text, exercise.grammar, form, units - letters)
    if pieces is None:
        verdict = Verdict.UNREADABLE if finished else Verdict.TRUNCATED
        message = "the text is too long to be a solution"
        findings = (Finding(-1, "malformed", message),)
        return Grade(verdict, None, False, 0.0, malformed=1, first_error=message, findings=findings)
    kept, dropped = _kept(pieces)
    needed = frozenset(exercise.needed_names)
    first_meaning, defined = _foreseen([pieces[at] for at in kept], names)
    marks = Marks(exercise, names, first_meaning, needed - defined, needed)
    for at, piece in enumerate(pieces):
        if marked is None:
            if at not in dropped:
                _mark_piece(at, piece, marks)
        elif at in dropped:
            marked.append(Mark(piece.start, piece.end, _kind(piece.statement), "retracted"))
        else:
            marked.append(_marked(at, piece, marks))
    marks.at = -1
    if form != "answer_only":
        _mark_what_lacks(marks)
    is_read = bool(marks.answers) and None not in marks.answers
    num_retracted = sum(isinstance(pieces[at].statement, Retract) for at in dropped)
    if marked is not None:
        _add_late_errors(marked, marks)
    return _concluded(marks, marks.answers[-1] if is_read else None, finished, num_retracted)


def _mark_piece(at: int, piece: Piece, marks: Marks) -> None:
    marks.at, marks.messages = at, []
    for deviation in piece.deviations:
        marks.deviate(deviation)
    _mark_statement(piece, marks)


def _marked(at: int, piece: Piece, marks: Marks) -> Mark:
    num_errors, before, num_extra = marks.num_errors, marks.num_right, marks.extra
    _mark_piece(at, piece, marks)
    status = "extra" if marks.extra > num_extra else "deviating" if marks.messages else "right"
    if marks.num_errors > num_errors:
        status = "wrong"
    if isinstance(piece.statement, Answer) and piece.statement.value != marks.exercise.answer:
        status = "wrong"
        marks.messages.append("answer: it is not the value of the asked quantity")
    return Mark(
        piece.start,
        piece.end,
        _kind(piece.statement),
        status,
        resolved_name(getattr(piece.statement, "name", ""), marks.names),
        (marks.num_right - before) / len(marks.exercise.needed_names),
        tuple(dict.fromkeys(marks.messages)) if marks.messages else (),
    )


def _add_late_errors(marked: list[Mark], marks: Marks) -> None:
    """Change the marks of statements whose error showed only later."""
    for name, at in marks.helpers.items():
        old = marked[at]
        message = f"{name!r}: the problem has no such quantity"
        marked[at] = Mark(old.start, old.end, old.kind, "wrong", None, old.gain, (*old.messages, message))


def _kind(statement: Statement) -> str:
    return _KINDS[type(statement)]


def _kept(pieces: list[Piece]) -> tuple[list[int], set[int]]:
    """The statements that were not taken back, and those that were or take one back.

    Words between do not count; calculations within a step go with it.
    """
    standing: list[int] = []
    dropped: set[int] = set()
    for at, piece in enumerate(pieces):
        last = pieces[standing[-1]].statement if standing else None
        if isinstance(piece.statement, Retract) and isinstance(last, Step | Plan | Check | Unknown | Given | Solve):
            taken = standing.pop()
            dropped |= {taken, at}
            while pieces[taken].is_continued:
                taken = standing.pop()
                dropped.add(taken)
        elif not isinstance(piece.statement, Prose):
            standing.append(at)
    return [at for at in range(len(pieces)) if at not in dropped], dropped


def _foreseen(kept: list[Piece], names: Mapping[str, str]) -> tuple[dict[str, str], set[str | None]]:
    """What letters stand for where they are first given, and the quantities that anything defines."""
    first_meaning: dict[str, str] = {}
    defined: set[str | None] = set()
    for piece in kept:
        statement = piece.statement
        if isinstance(statement, Step | Unknown):
            name = resolved_name(statement.name, names)
            defined.add(name)
            first_meaning.setdefault(statement.variable, name or statement.name)
    return first_meaning, defined


def _concluded(marks: Marks, answer: Number | None, finished: bool, num_retracted: int) -> Grade:
    exercise = marks.exercise
    answer_correct = answer == exercise.answer and finished
    if not finished:
        verdict, answer = Verdict.TRUNCATED, None
    elif answer is None:
        verdict = Verdict.UNREADABLE
    elif not answer_correct:
        verdict = Verdict.WRONG
    else:
        verdict = Verdict.LUCKY if marks.num_errors else Verdict.CORRECT
    first = marks.findings[0].message if marks.findings else None
    if verdict is Verdict.WRONG:
        first = first or f"answer: {answer} is not the value of the asked quantity"
    elif verdict is Verdict.UNREADABLE:
        first = first or "answer: there is none that can be read"
    if verdict is Verdict.CORRECT and not marks.deviations:
        marks.deviations[FORM] = None  # `grade` asks first whether the text is literal
    return Grade(
        verdict=verdict,
        answer=answer if isinstance(answer, int) else None,
        answer_correct=answer_correct,
        process_accuracy=marks.num_right / len(exercise.needed_names),
        extra=marks.extra,
        retracted=num_retracted,
        first_error=first,
        deviation=tuple(marks.deviations),
        findings=tuple(marks.findings),
        **marks.errors,  # type: ignore[arg-type]
    )


def _mark_statement(piece: Piece, marks: Marks) -> None:
    statement = piece.statement
    match statement:
        case Step():
            name = computed_as_written(statement, piece.text, marks) if piece.text else None
            if name is None:
                _mark_step(statement, marks)
                return
            if name != statement.name:
                marks.deviate(OTHER_NAMES)
            _note_right(name, marks)
            bind(statement.variable, Meaning(name, name), marks)
        case Plan():
            _mark_plan(statement, marks)
        case Unknown():
            mark_unknown(statement, marks)
        case Given():
            mark_given(statement, marks)
        case Solve():
            mark_solve(statement, marks)
        case Check():
            _mark_check(statement, marks)
        case Answer(value):
            _mark_answer(value, marks)
        case Retract():
            marks.error("malformed", "retract", "there is nothing to take back")
        case Malformed(text):
            marks.error("malformed", f"{text[:60]!r}", NO_STATEMENT)


def _mark_answer(value: Number | None, marks: Marks) -> None:
    exercise = marks.exercise
    if marks.answers and marks.answers[-1] != value:
        marks.error("redefined", "answer", f"answered again with {value}")
    elif marks.answers:
        marks.deviate(TOLD_AGAIN)
    marks.answers.append(value)
    if exercise.style.form == "answer_only":
        return
    is_reverse = exercise.problem.given is not None
    if is_reverse and (marks.equation is None or marks.equation[0] != Linear(1, 0)):
        marks.is_guessed = True
    elif exercise.asked_name not in marks.defined:
        marks.error("used_before_defined", "answer", "it is given before the asked quantity is computed")


def _mark_what_lacks(marks: Marks) -> None:
    """Errors of the whole: needed quantities that are never computed, idle names, an equation that is not solved."""
    for name, at in marks.helpers.items():
        marks.at = at
        marks.error("unknown", repr(name), "the problem has no such quantity")
    marks.at = -1
    for name in marks.exercise.needed_names:
        if name not in marks.defined and name not in marks.right:
            marks.error("missing", name, "a needed quantity is never computed")
    if marks.exercise.problem.given is None:
        return
    if marks.equation is None:
        marks.error("missing", "equation", "the given value is never used")
    elif marks.equation[0] != Linear(1, 0):
        marks.error("missing", "equation", "it is never solved for the unknown")
    elif marks.is_guessed:
        marks.error("used_before_defined", "answer", "it is given before the equation is solved")


def _mark_plan(plan: Plan, marks: Marks) -> None:
    exercise = marks.exercise
    name = named(plan.name, "plan for ", marks)
    if name is None:
        return
    if exercise.problem.given is not None and name == exercise.asked_name:
        marks.error("wrong_operation", f"plan for {name}", "its value is not told: it is the unknown")
        return
    meant = {
        word: found
        for word in names_in(plan.expression)
        if (found := resolved_name(word, marks.names) or marks.first_meaning.get(word)) is not None
    }
    if any(word != found for word, found in meant.items()):
        marks.deviate(OTHER_NAMES)
    given = substitute(plan.expression, meant)
    if is_definition(given, name, "plan for ", marks) and name not in exercise.needed_names:
        marks.extra += 1
        marks.deviate(EXTRA)


def _mark_check(statement: Check, marks: Marks) -> None:
    modulus = marks.exercise.problem.modulus
    if any(names_in(part) for part in statement.chain):
        marks.deviate(IN_CHECK)
    known = {
        word: value for part in statement.chain for word in names_in(part) if (value := _value(word, marks)) is not None
    }
    numbers = {number_from(substitute(part, known), modulus) for part in statement.chain}
    if None in numbers:
        marks.error("malformed", "check", "it is not made of numbers alone")
    elif len(numbers) > 1:
        marks.error("false_arithmetic", "check", "it is false")


def _value(word: str, marks: Marks) -> Expression | None:
    """The value of a letter, or of a quantity that was computed, by its name."""
    letter = letter_of(resolved_name(word, marks.names), marks) or word
    return marks.values.get(word, marks.values.get(letter))


def _mark_step(step: Step, marks: Marks) -> None:
    if len(step.chain) > MOST_LINKS:
        marks.error("malformed", step.name[:60], "its chain is too long")
        return
    name = resolved_name(step.name, marks.names)
    if name is not None and name != step.name:
        marks.deviate(OTHER_NAMES)
    step, early = _with_letters(step, marks)
    where = name or step.name
    if early:
        marks.error("used_before_defined", where, f"{early!r} is used before it is computed")
    if name is None:
        _mark_helper(step, bool(early), marks)
        return
    is_first = name not in marks.defined
    given, helpers = in_quantities(step.chain[0], marks)
    is_defined = is_definition(given, name, "", marks)
    if is_defined:
        for helper in helpers:
            marks.helpers.pop(helper, None)
    has_value = is_valued(step, name, is_defined, marks)
    if is_first and is_defined and has_value and not early:
        _note_right(name, marks)
    elif is_first or not (is_defined and has_value):
        spoil(name, marks)
        if not is_first:
            marks.error("redefined", name, "the quantity was defined before, otherwise")
    elif name in marks.spoilt:
        marks.error("redefined", name, "the quantity was defined before, otherwise")
    else:
        marks.deviate(TOLD_AGAIN)
    marks.defined.add(name)
    bind(step.variable, Meaning(name, name), marks)


def _note_right(name: str, marks: Marks) -> None:
    """A step computes this quantity rightly, for the first time."""
    add_right([name, *inlined_in(name, marks)] if marks.inlined else [name], marks)
    marks.defined.add(name)
    if name not in marks.needed:
        marks.extra += 1
        marks.deviate(EXTRA)


def _with_letters(step: Step, marks: Marks) -> tuple[Step, str | None]:
    """The step with letters for the names in its chain that are no letters, and the first that means nothing yet.

    Where steps have no letters, a name that is written otherwise becomes the one that the exercise has.
    """
    letters: dict[str, Expression] = {}
    early = None
    marks.foreseen = {}
    for link in step.chain:
        for word in names_in(link):
            if word in marks.meanings or word in letters:
                continue
            quantity = resolved_name(word, marks.names)
            letter = letter_of(quantity, marks)
            if quantity is not None and not letter and quantity in marks.defined:  # its letter means another now
                letter = quantity
                bind(letter, Meaning(quantity, quantity), marks)
            if letter:
                letters[word] = letter
                marks.deviate(LETTERS)
            else:
                early = early or word
                meant = quantity or marks.first_meaning.get(word, "")
                if meant in marks.exercise.value_of:
                    marks.foreseen[word] = marks.exercise.value_of[meant]
    if letters:
        step = Step(step.name, step.variable, tuple([substitute(link, letters) for link in step.chain]))
    return step, early


def _mark_helper(step: Step, is_early: bool, marks: Marks) -> None:
    """A step about something of the solver's own: known things put together under a name, used later."""
    definition, helpers = in_quantities(step.chain[0], marks)
    modulus = marks.exercise.problem.modulus
    value = number_from(substitute(step.chain[0], marks.values), modulus)
    if is_early or not names_in(definition) or not _is_own_name(step, definition, marks):
        marks.error("unknown", repr(step.name), "the problem has no such quantity")
        return
    if size_of(definition) > MOST_EXPANDED:
        marks.error("malformed", step.name[:60], "it is too long")
        return
    form = linear_of(step.chain[0], marks.forms) if value is None else None
    if value is None:
        if form is None or any(linear_of(link, marks.forms) != form for link in step.chain):
            marks.error("false_arithmetic", step.name, FALSE_LINK)
            return
    elif not is_chain(step, step.chain[0], value, marks):
        return
    marks.deviate(SPLIT)
    marks.helpers[step.variable] = marks.at
    bind(step.variable, Meaning(None, definition, value, form, helpers), marks)


def _is_own_name(step: Step, definition: Expression, marks: Marks) -> bool:
    """Whether a name is one that a solver may give to what no sentence speaks of.

    A letter, words such as "the first two", or "the sum of X and Y" with all that it is computed from; and it must not
    stand for a needed quantity that has a name already.
    """
    marks.work += len(marks.inlined)
    size = size_of(definition)
    for name in marks.inlined if marks.work <= MOST_WORK else ():
        wanted = marks.exercise.definition_of[name]
        if size_of(wanted) == size and means_the_same(definition, wanted):
            return False
    if step.name == step.variable and marks.exercise.grammar.has_variables:
        return True
    if not isinstance(definition, Binary):
        return False
    if _LETTER.fullmatch(step.name):
        return True
    plain = step.name.casefold()
    used = {plain_name(word) for word in names_in(definition)}
    is_full = bool(used) and all(word in plain for word in used)
    for word in sorted(used, key=len, reverse=True):
        plain = plain.replace(word, " ")
    words = _WORDS.findall(plain)
    if not plain.isascii() and any(not word.isascii() for word in words):
        return set("".join(word for word in words if not word.isascii())) <= _SMALL_SIGNS
    allowed = OWN_WORDS | SMALL_WORDS if is_full else OWN_WORDS
    return bool(words) and "_" not in plain and all(word in allowed for word in words)
