"""Mixtures: which kinds of exercises, in which shares, counted in problems or in tokens."""

import math
from dataclasses import dataclass, field
from typing import Literal

from gsm_lab.errors import MixtureError
from gsm_lab.problems import ProblemSpec, Style

UNITS = ("problems", "tokens")
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Slice:
    """One kind of exercise and its share of a mixture.

    Two slices that share no nouns have the same context and other `places_from` or `items_from`; two that share no
    numbers have specs with other `constants` or `values`.

    Raises:
        MixtureError: the weight is not a positive number, or another number is not a whole one in its range.
    """

    spec: ProblemSpec
    context: str = "zoo"
    """The name of a context, or the path of its TOML file."""
    frames: str = "english"
    """The name of frames, or the path of their TOML file."""
    weight: float = 1.0
    """Share of the mixture, above 0 and up to 1, in the unit of the mixture."""
    style: Style = field(default_factory=Style)
    places_from: int = 0
    """Texts speak of the context's places from this one on, as many as `spec` has places; from 0."""
    items_from: int = 0
    """Texts speak of the context's items from this one on, as many as `spec` has items; from 0."""
    tokens: int | None = None
    """Length to which distractors fill every text up, in tokens of the source's tokenizer; None leaves it as it is."""

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise MixtureError(
                f"the slice op={self.spec.op} {self.context} {self.frames} has weight {self.weight}: "
                f"give a share above 0, or leave the slice out."
            )
        for name, number, least in (
            ("places_from", self.places_from, 0),
            ("items_from", self.items_from, 0),
            ("tokens", 1 if self.tokens is None else self.tokens, 1),
        ):
            if type(number) is not int or number < least:
                raise MixtureError(f"{name}={number!r}: give a whole number of at least {least}.")


@dataclass(frozen=True)
class Mixture:
    """Slices whose weights sum to 1.

    Raises:
        MixtureError: no slices, weights that do not sum to 1, or an unknown unit.
    """

    slices: tuple[Slice, ...]
    unit: Literal["problems", "tokens"] = "problems"
    """What the weights are shares of."""

    def __post_init__(self) -> None:
        if not isinstance(self.slices, tuple) or not self.slices:
            raise MixtureError(f"slices={self.slices!r}: give a tuple of at least one Slice.")
        if self.unit not in UNITS:
            raise MixtureError(f"unit={self.unit!r}: give one of {', '.join(UNITS)}.")
        total = math.fsum(piece.weight for piece in self.slices)
        if abs(total - 1) > TOLERANCE:
            raise MixtureError(
                f"the weights {[piece.weight for piece in self.slices]} sum to {total}, not 1: "
                f"divide each by {total}, or correct the one that is wrong."
            )
