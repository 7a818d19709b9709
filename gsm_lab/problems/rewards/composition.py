"""A reward as a recipe composes it: one reward of the grade, weighted terms, bounds, and a verifier's noise.

With bounds aside, the whole is affine in the outcome: training on a corrected outcome is training on the true reward,
on average. Without noise, and with weights that sum to less than 1, "strict" pays a verified completion more than one
that is not, whatever their terms.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gsm_lab.errors import RecipeError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.rewards.noise import Noise
from gsm_lab.problems.rewards.of_grade import reward_kind, well_formed
from gsm_lab.problems.rewards.of_text import group_length, language_consistency, linear_length
from gsm_lab.problems.verdicts import Grade
from gsm_lab.seeds import Name


@dataclass(frozen=True)
class Attempt:
    """One completion, and all that a reward may look at."""

    exercise: Exercise
    text: str
    tokens: int
    """Sampled tokens, the end-of-sequence token among them."""
    grade: Grade
    place: tuple[Name, ...]
    """Names the completion within its stage, for random streams: the exercise's number and the sample's."""


@dataclass(frozen=True)
class Score:
    """The reward of one completion."""

    reward: float
    """What training sees."""
    reward_true: float
    """The same without noise."""
    parts: Mapping[str, float]
    """What each term, weighted, adds to `reward`, by its kind."""
    flipped: bool
    """Whether noise turned the outcome round."""


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """Something that is added to a reward, times its weight.

    Raises:
        RecipeError: a weight that is negative or not finite.
    """

    weight: float = 1.0
    """0 or more; penalties are negative by themselves."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid", "revalidate_instances": "always"}

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise RecipeError(f"a reward term of weight {self.weight}: give 0 or more; penalties are negative already.")

    @abstractmethod
    def values(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[float]:
        """The term of every completion of a problem, without the weight; affine in each outcome."""


@dataclass(frozen=True, kw_only=True)
class LinearLength(Term):
    """-1 to 0: a penalty on length that grows from `free` to `full` tokens; see `linear_length`.

    Raises:
        RecipeError: not 0 <= free < full.
    """

    free: int
    full: int
    kind: Literal["linear_length"] = "linear_length"

    def __post_init__(self) -> None:
        super().__post_init__()
        linear_length(0, self.free, self.full)

    def values(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[float]:
        return [linear_length(one.tokens, self.free, self.full) for one in group]


@dataclass(frozen=True, kw_only=True)
class GroupLength(Term):
    """-1/2 to 1/2: the length among the completions of the same problem; see `group_length`."""

    kind: Literal["group_length"] = "group_length"

    def values(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[float]:
        return group_length([one.tokens for one in group], outcomes)


@dataclass(frozen=True, kw_only=True)
class Language(Term):
    """0 to 1: the share of words in the prompt's script; see `language_consistency`."""

    kind: Literal["language"] = "language"

    def values(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[float]:
        return [language_consistency(one.exercise.prompt, one.text) for one in group]


@dataclass(frozen=True, kw_only=True)
class Format(Term):
    """0 or 1: whether the form is right; see `well_formed`."""

    kind: Literal["format"] = "format"

    def values(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[float]:
        return [well_formed(one.grade) for one in group]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A reward of the grade by its name, terms, bounds of their sum, and noise.

    Raises:
        RecipeError: parts that do not exist, or contradict each other.
    """

    reward: str = "strict"
    alpha: float = 0.5
    """Share of the outcome in "mix" and "gated"."""
    terms: tuple[LinearLength | GroupLength | Language | Format, ...] = ()
    bounds: tuple[float, float] | None = None
    """The least and the greatest reward; what lies outside is put on the nearer of them."""
    noise: Noise | None = None

    def __post_init__(self) -> None:
        kind = reward_kind(self.reward, self.alpha)
        kinds = [term.kind for term in self.terms]
        if twice := sorted({name for name in kinds if kinds.count(name) > 1}):
            raise RecipeError(f"several reward terms are of the kind {twice}: give one of each, with one weight.")
        if self.bounds is not None and not -math.inf < self.bounds[0] < self.bounds[1] < math.inf:
            raise RecipeError(f"rewards bounded by {self.bounds}: give two finite numbers, the lesser first.")
        if self.noise is not None and self.noise.matters and not kind.uses_outcome:
            raise RecipeError(
                f"the reward {self.reward!r} has no outcome that a noisy verifier could turn round: "
                f"leave the noise out, or give another reward."
            )
        if self.noise is not None and self.noise.corrected and self.bounds is not None:
            raise RecipeError("bounds make the corrected reward wrong on average: give the bounds or the correction.")

    def scores(self, group: Sequence[Attempt], seed: int, stage: str) -> list[Score]:
        """The scores of all completions of one problem; `seed` and `stage` name the noise's random streams."""
        kind = reward_kind(self.reward, self.alpha)
        true = [kind.outcome(one.grade) for one in group]
        flipped, trained = [False] * len(group), true
        if (noise := self.noise) is not None:
            pairs = list(zip(true, group, strict=True))
            flipped = [noise.hits(right, one.exercise, seed, stage, one.place) for right, one in pairs]
            seen = [1 - right if hit else right for right, hit in zip(true, flipped, strict=True)]
            trained = [noise.as_trained(right, one.exercise) for right, one in zip(seen, group, strict=True)]
        parts = self._parts(group, trained)
        rewards, rewards_true = self._totals(group, trained, parts), self._totals(group, true, self._parts(group, true))
        return [Score(*values) for values in zip(rewards, rewards_true, parts, flipped, strict=True)]

    def _parts(self, group: Sequence[Attempt], outcomes: Sequence[float]) -> list[dict[str, float]]:
        """The weighted terms of every completion."""
        columns = {term.kind: term.values(group, outcomes) for term in self.terms}
        weights = {term.kind: term.weight for term in self.terms}
        return [{name: weights[name] * values[at] for name, values in columns.items()} for at in range(len(group))]

    def _totals(
        self, group: Sequence[Attempt], outcomes: Sequence[float], parts: Sequence[Mapping[str, float]]
    ) -> list[float]:
        of = reward_kind(self.reward, self.alpha).of
        low, high = self.bounds or (-math.inf, math.inf)
        return [
            min(high, max(low, math.fsum([of(right, one.grade, self.alpha), *terms.values()])))
            for one, right, terms in zip(group, outcomes, parts, strict=True)
        ]
