"""What an examiner has written down of a solution so far, and what its letters stand for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from gsm_lab.problems.algebra import Number
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import VARIABLES
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.statements import Expression
from gsm_lab.problems.verdicts import ERRORS, MOST_FINDINGS, Finding

ORDER, OTHER_NAMES, INLINED = "terms in another order", "other names", "computed within another step"
ALIASED, SPLIT, PUT_IN = "a copy for its original", "a name of its own", "numbers in place of names"
EXTRA, AT_ONCE, TOLD_AGAIN = "a quantity that is not needed", "several calculations at once", "a step told again"
LETTER_AGAIN, LETTERS, SIDES = "a letter used again", "a name in place of its letter", "sides of an equation swapped"
LONG_LETTERS, OTHER_LINKS, IN_CHECK = "letters of another form", "other links in a chain", "names in a check"
FORM = "another form"
"""What a solution does otherwise, where nothing more exact can be said."""
_SMALL = """a all altogether an and at each for in is it item items number of on one ones piece pieces sum that the them
there thing things total unit units"""
SMALL_WORDS = frozenset(_SMALL.split())
"""Words that say nothing about which quantity is meant."""
_WORDS = re.compile(r"[^\W\d_\u7684]+")
_PLAIN_LETTERS = frozenset(VARIABLES)
_QUOTES = "\"'` \u201c\u201d\u2018\u2019"


class Meaning:
    """What a letter stands for: a quantity of the problem, or an expression of the solver's own.

    Attributes:
        value, form: value, or form in the unknown, of an expression of the solver's own.
        uses: the other names of the solver's own in that expression.
    """

    def __init__(
        self,
        quantity: str | None,
        expression: Expression,
        value: Number | None = None,
        form: Linear | None = None,
        uses: frozenset[str] = frozenset(),
    ) -> None:
        self.quantity, self.expression = quantity, expression
        self.value, self.form, self.uses = value, form, uses


@dataclass
class Marks:
    """What the examiner has written down so far."""

    exercise: Exercise
    names: Mapping[str, str]
    """The quantities of the problem by their names as anybody may write them."""
    first_meaning: Mapping[str, str]
    """Which quantity a letter stands for where it is first given, wherever that is."""
    inlined: frozenset[str]
    """Needed quantities that no statement defines."""
    needed: frozenset[str]
    """All needed quantities."""
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ERRORS, 0))
    num_errors: int = 0
    """Over all kinds."""
    findings: list[Finding] = field(default_factory=list)
    deviations: dict[str, None] = field(default_factory=dict)
    right: set[str] = field(default_factory=set)
    num_right: int = 0
    """How many needed quantities are right so far."""
    spoilt: set[str] = field(default_factory=set)
    """Quantities that a statement gets wrong; nothing makes them right again."""
    defined: set[str] = field(default_factory=set)
    answers: list[Number | None] = field(default_factory=list)
    work: int = 0
    """Operands that were compared so far."""
    meanings: dict[str, Meaning] = field(default_factory=dict)
    letters: list[str] = field(default_factory=list)
    """The letter that each quantity got last, by its place; empty if it has none, or no longer."""
    values: dict[str, Expression] = field(default_factory=dict)
    """The value of every letter that has one: not of those that depend on the unknown."""
    forms: dict[str, Linear] = field(default_factory=dict)
    """In a reverse problem, what letters stand for in terms of the unknown."""
    unknowns: dict[str, Linear] = field(default_factory=dict)
    """The letters that stand for the unknown itself; there are none in a forward problem."""
    helpers: dict[str, int] = field(default_factory=dict)
    """Names of the solver's own that nothing has used yet, and the statements that introduce them."""
    extra: int = 0
    equation: tuple[Linear, int] | None = None
    """In a reverse problem: the form on the left and the number on the right, as far as it is solved."""
    is_guessed: bool = False
    """Whether an answer was given before the equation was solved."""
    at: int = -1
    """Number of the statement that is being marked."""
    messages: list[str] = field(default_factory=list)
    """What was noted about this statement."""
    foreseen: dict[str, Expression] = field(default_factory=dict)
    """The values of letters that this statement uses too early."""

    def __post_init__(self) -> None:
        self.letters = [""] * len(self.exercise.names)

    def error(self, kind: str, where: str, what: str) -> None:
        self.errors[kind] += 1
        self.num_errors += 1
        message = f"{where}: {what}"
        self.messages.append(message)
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(self.at, kind, message))

    def deviate(self, what: str) -> None:
        self.deviations[what] = None
        self.messages.append(what)


@lru_cache(maxsize=1024)
def quantity_names(names: tuple[str, ...]) -> Mapping[str, str]:
    """The quantities of a problem by their names as anybody may write them; ambiguous ones are left out."""
    found: dict[str, str] = {}
    for name in names:
        key = plain_name(name)
        found[key] = "" if key in found else name
    return {key: name for key, name in found.items() if name}


@lru_cache(maxsize=1024)
def words_in(names: tuple[str, ...]) -> frozenset[str]:
    """The words that the names of quantities are made of, and some that may go with any number, in small letters."""
    return SMALL_WORDS.union(*[_WORDS.findall(name) for name in quantity_names(names)])


@lru_cache(maxsize=1 << 14)
def plain_name(name: str) -> str:
    """A name without capitals, articles, quotation marks and "the number of"."""
    plain = " ".join(name.casefold().strip(_QUOTES).split())
    for lead in ("the ", "number of ", "the "):
        plain = plain.removeprefix(lead)
    return plain


def resolved_name(name: str, names: Mapping[str, str]) -> str | None:
    """The quantity that somebody means by a name."""
    return names.get(plain_name(name[:500])) if name else None


def add_right(names: Iterable[str], marks: Marks) -> None:
    """These quantities are right, those excepted that a statement gets wrong."""
    for name in names:
        if name not in marks.spoilt and name not in marks.right:
            marks.right.add(name)
            marks.num_right += name in marks.needed


def spoil(name: str, marks: Marks) -> None:
    """A statement gets this quantity wrong."""
    marks.spoilt.add(name)
    if name in marks.right:
        marks.right.remove(name)
        marks.num_right -= name in marks.needed


def letter_of(quantity: str | None, marks: Marks) -> str:
    """The letter that a quantity got last, if it still has it; else nothing."""
    return "" if quantity is None else marks.letters[marks.exercise.quantity_of[quantity]]


def bind(letter: str, meaning: Meaning, marks: Marks) -> None:
    """From here on the letter stands for this."""
    exercise = marks.exercise
    problem, quantity = exercise.problem, meaning.quantity
    if letter not in _PLAIN_LETTERS and letter != quantity and exercise.grammar.has_variables:
        marks.deviate(LONG_LETTERS)
    old = marks.meanings.get(letter)
    if old is not None and old.quantity != quantity:
        if letter in marks.unknowns:
            marks.error("redefined", letter, "the letter of the unknown stands for something else")
        marks.deviate(LETTER_AGAIN)
        if letter_of(old.quantity, marks) == letter:
            marks.letters[exercise.quantity_of[old.quantity or ""]] = ""
    marks.meanings[letter] = meaning
    if old is not None:
        for known in (marks.values, marks.forms, marks.unknowns):
            known.pop(letter, None)
    value, form = meaning.value, meaning.form
    if quantity is not None:
        place = exercise.quantity_of[quantity]
        marks.letters[place] = letter
        value = exercise.value_of[quantity]
        form = None if problem.given is None else problem.forms[place]
    elif problem.given is not None and isinstance(value, int):
        form = Linear(0, value)
    if form is not None:
        marks.forms[letter] = form
    if problem.given is not None and quantity == exercise.asked_name:
        marks.unknowns[letter] = Linear(1, 0)
    if value is not None and not (form is not None and form.a):
        marks.values[letter] = value


def named(name: str, where: str, marks: Marks) -> str | None:
    """The quantity that a name means, or None after an error."""
    found = resolved_name(name, marks.names)
    if found is None:
        marks.error("unknown", f"{where}{name!r}", "the problem has no such quantity")
    elif found != name:
        marks.deviate(OTHER_NAMES)
    return found
