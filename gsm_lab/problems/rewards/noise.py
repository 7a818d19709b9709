"""A verifier that errs: which outcomes it turns round, and how to be right on average all the same.

Only the outcome that training sees is turned; what is reported as verified is not. Who is hit is a function of named
random streams. Errors that come back every time do another harm than errors at random (arXiv 2605.02909).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from gsm_lab.errors import RecipeError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.seeds import Name, stream


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How often a verifier errs, and what its errors hang on.

    Raises:
        RecipeError: a rate that is none, or rates that leave nothing to correct by.
    """

    false_positives: float = 0.0
    """Chance that a wrong solution passes."""
    false_negatives: float = 0.0
    """Chance that a right solution does not."""
    tied_to: Literal["sample", "problem", "template"] = "sample"
    """What is hit: each completion on its own, all completions of a problem, or all of a template."""
    contexts: tuple[str, ...] = ()
    """The contexts in which it errs; none named: in all."""
    corrected: bool = False
    """Whether training gets the noise-corrected outcome in place of the noisy one."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid", "revalidate_instances": "always"}

    def __post_init__(self) -> None:
        for name, rate in (("false_positives", self.false_positives), ("false_negatives", self.false_negatives)):
            if not 0 <= rate <= 1:
                raise RecipeError(f"{name}={rate}: give a chance, 0 to 1.")
        if self.tied_to not in ("sample", "problem", "template"):
            raise RecipeError(f"noise tied to {self.tied_to!r}: give sample, problem or template.")
        if self.corrected:
            _check_correctable(self.false_positives, self.false_negatives)

    @property
    def matters(self) -> bool:
        """Whether it can change anything."""
        return self.false_positives > 0 or self.false_negatives > 0

    def hits(self, outcome: float, exercise: Exercise, seed: int, stage: str, place: tuple[Name, ...]) -> bool:
        """Whether an outcome of 0 or 1 is turned round; `place` names the completion within the stage."""
        if not self._errs_in(exercise):
            return False
        names: tuple[Name, ...] = place
        if self.tied_to == "problem":
            names = (exercise.problem_id,)
        elif self.tied_to == "template":
            names = (exercise.context, exercise.frames)
        error, rate = ("false negative", self.false_negatives) if outcome else ("false positive", self.false_positives)
        return stream(seed, stage, "verifier noise", error, self.tied_to, *names).random() < rate

    def as_trained(self, seen: float, exercise: Exercise) -> float:
        """What training gets for an outcome that was seen as 0 or 1: that, or the corrected one."""
        if not self.corrected or not self._errs_in(exercise):
            return seen
        return corrected(seen, self.false_positives, self.false_negatives)

    def _errs_in(self, exercise: Exercise) -> bool:
        return not self.contexts or exercise.context in self.contexts


def corrected(seen: float, false_positives: float, false_negatives: float) -> float:
    """`(seen - fp) / (1 - fp - fn)`: unbounded, and on average over the noise equal to the true outcome.

    The average is over who is hit, so it is one over seeds where the noise is tied to few problems or templates.
    Source: arXiv 2510.00915, the backward correction.

    Raises:
        RecipeError: fp + fn is 1 or more, and what is seen says nothing, or the contrary.
    """
    _check_correctable(false_positives, false_negatives)
    return (seen - false_positives) / (1 - false_positives - false_negatives)


def _check_correctable(false_positives: float, false_negatives: float) -> None:
    total = false_positives + false_negatives
    if total >= 1:
        raise RecipeError(
            f"false_positives {false_positives} + false_negatives {false_negatives} is 1 or more: what the verifier "
            f"says then has nothing to correct by. Lower the rates, or leave `corrected` out."
        )
