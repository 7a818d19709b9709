"""What grading a solution gives: a verdict, counts of errors, and what every statement was found to be."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple


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
FALSE_LINK = "an equality of its chain is false"
NOT_FOLLOWING = "a link of its chain does not follow from the one before"
NOT_PUT_IN = "the numbers put in are not the values of the operands"
NOT_WRITTEN_OUT = "its value is not written out"
FORM_NOT_WRITTEN_OUT = "its form in the unknown is not written out"
NO_STATEMENT = "this is not a statement of the solution's grammar"
OF_NUMBERS = (FALSE_LINK, NOT_FOLLOWING, NOT_PUT_IN, NOT_WRITTEN_OUT, FORM_NOT_WRITTEN_OUT)
"""What is said of a step whose sums are wrong, though it names the right quantities."""
MOST_FINDINGS = 20


@dataclass(frozen=True)
class Finding:
    """One error."""

    statement: int
    """Number of the statement in the text, from 0; -1 for what the whole text lacks."""
    kind: str
    """One of `ERRORS`."""
    message: str
    """What is wrong, in one line."""


def is_structural(first_error: str) -> bool:
    """Whether a grade's first error is one of structure: which quantities are computed, from what, in which order.

    The rest are slips in sums, and statements that no one can read.
    """
    return not first_error.endswith((*OF_NUMBERS, NO_STATEMENT))


@dataclass(frozen=True)
class Grade:
    """What was found in one solution; the counts are numbers of errors.

    There are two strictnesses. `verdict` is the semantic one: what a fair teacher accepts, who overlooks how a thing is
    written and names it in `deviation`. `literal` is whether the solution also is, word for word, one that the grammar
    of traces writes: any letters, any valid order of steps, nothing else.
    """

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
    """What the solution does otherwise than the grammar; a verified solution that is not literal has one."""
    literal: bool = False
    """Whether the literal strictness accepts it, too."""
    findings: tuple[Finding, ...] = ()
    """The first 20 errors."""

    @property
    def verified(self) -> bool:
        """Right answer by right steps: the only meaning of success in pass@k."""
        return self.verdict is Verdict.CORRECT

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return asdict(self) | {"verified": self.verified}


class Mark(NamedTuple):
    """What became of one statement."""

    start: int
    end: int
    """Where it stands in the text: its first character, and the one behind its last."""
    kind: str
    """plan, step, unknown, given, solve, check, retract, answer or malformed"""
    status: str
    """right, deviating, wrong, extra or retracted"""
    quantity: str | None = None
    """What it is about, by the name that the exercise has for it."""
    gain: float = 0.0
    """What it adds to the process accuracy."""
    messages: tuple[str, ...] = ()
    """Its errors, or its deviations, in words."""


@dataclass(frozen=True)
class Examination:
    """A grade, and how it came about."""

    grade: Grade
    marks: tuple[Mark, ...]
    """One for each statement, in the order of the text."""
