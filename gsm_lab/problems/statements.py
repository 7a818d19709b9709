"""What a trace is made of: expressions and statements.

They are no part of what is compiled, for compiled dataclasses cannot be pickled.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Binary(NamedTuple):
    """Two expressions joined by `+`, `-`, `*` or `/`."""

    sign: str
    left: "Expression"
    right: "Expression"


Expression = int | Fraction | str | Binary
"""A number, a name, or two expressions joined; the grammar itself knows whole numbers only."""


@dataclass(frozen=True)
class Plan:
    """How a quantity is defined, in names."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Step:
    """A quantity computed: `variable = chain[0] = chain[1] = ...`."""

    name: str
    variable: str
    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Unknown:
    """A quantity named whose value is not known."""

    name: str
    variable: str


@dataclass(frozen=True)
class Given:
    """The value of a quantity recalled, and its form set equal to it: `chain[0] = chain[1] = ...`."""

    name: str
    value: int | None
    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Solve:
    """An equation solved a little further."""

    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Check:
    """A calculation done backwards."""

    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Retract:
    """Takes back the statement before it."""


@dataclass(frozen=True)
class Answer:
    """The last word; None where it is no number."""

    value: int | Fraction | None


@dataclass(frozen=True)
class Malformed:
    """A statement that follows none of the patterns."""

    text: str


@dataclass(frozen=True)
class Prose:
    """Words without numbers or equations; the grammar has none."""

    text: str


Statement = Prose | Plan | Step | Unknown | Given | Solve | Check | Retract | Answer | Malformed
