"""Endless exercises: number `index` of a mixture, a split and a seed is always the same exercise.

Splits share out the space of problem identities, not of indices: a problem belongs to one split, however it is told
and whoever draws it. So what is trained on in one split can never be asked in another.
"""

import bisect
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

from gsm_lab.data.mixture import Mixture, Slice
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import MixtureError, SpecError
from gsm_lab.problems import Exercise, Problem, Template, draw_problem, load_template, problem_id, render
from gsm_lab.seeds import stream

SPLITS: Mapping[str, int] = MappingProxyType({"pretrain": 40, "midtrain": 20, "rl": 20, "validation": 5, "test": 15})
"""Per cent of all problem identities that each split owns."""
ATTEMPTS = 1000
"""The smallest split owns 5 %: a problem space of any size gives none of it in so many draws once in 1e22."""
PROBES = 512
_NAMES = tuple(SPLITS)
_ENDS = tuple(itertools.accumulate(SPLITS.values()))


def split_of(identity: str) -> str:
    """The split that owns a problem id: the 128-bit numbers up to 40 % are pretraining's, and so on."""
    return _NAMES[bisect.bisect_right(_ENDS, int(identity, 16) * 100 >> 128)]


@dataclass(frozen=True)
class ExerciseSource:
    """Exercises of a mixture that belong to one split, numbered from 0 without end.

    Raises:
        MixtureError: an unknown split, or weights in tokens without a tokenizer.
        TemplateError: a slice whose context or frames do not exist.
    """

    mixture: Mixture
    split: str
    seed: int
    tokenizer: Tokenizer | None = None
    """Needed where weights are shares of tokens."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise MixtureError(f"split={self.split!r}: give one of {', '.join(SPLITS)}.")
        if self.mixture.unit == "tokens" and self.tokenizer is None:
            raise MixtureError('unit="tokens" without a tokenizer: give one, or weigh the slices in problems.')
        for piece in self.mixture.slices:
            load_template(piece.context, piece.frames)

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The template of every slice."""
        return tuple(template_of(piece) for piece in self.mixture.slices)

    @cached_property
    def problem_shares(self) -> tuple[float, ...]:
        """The share of problems of every slice, whatever the unit of its weight."""
        weights = [piece.weight for piece in self.mixture.slices]
        if self.tokenizer is not None and self.mixture.unit == "tokens":
            weights = [piece.weight / mean_tokens(piece, self.tokenizer) for piece in self.mixture.slices]
        total = sum(weights)
        return tuple(weight / total for weight in weights)

    def slice_of(self, index: int) -> int:
        """Which slice exercise `index` is drawn from."""
        choice = stream(self.seed, "slice", self.split, index)
        return choice.choices(range(len(self.problem_shares)), self.problem_shares)[0]

    def at(self, index: int) -> Exercise:
        """Exercise `index`: a pure function of the source and the index.

        Raises:
            SpecError: the slice has no problem, or none that a thousand draws could find, in this split.
        """
        number = self.slice_of(index)
        piece = self.mixture.slices[number]
        problem = self._problem(piece, "problem", self.split, index)
        return render(problem, self.templates[number], stream(self.seed, "words", self.split, index), piece.style)

    def check(self) -> None:
        """Draw one problem of every slice, so that a setting that cannot be met is known before long work.

        Raises:
            SpecError: as `at` would, sooner or later.
        """
        for number, piece in enumerate(self.mixture.slices):
            self._problem(piece, "check", self.split, number)

    def _problem(self, piece: Slice, *name: str | int) -> Problem:
        """The first problem of the named streams that belongs to the split."""
        for attempt in range(ATTEMPTS):
            problem = draw_problem(piece.spec, stream(self.seed, *name, attempt))
            if split_of(problem_id(problem)) == self.split:
                return problem
        raise SpecError(
            f"in {ATTEMPTS} draws of {piece.spec} none belonged to the split {self.split!r}: "
            f"there are too few such problems to share out; raise op, distractors or the range of constants."
        )

    def settings(self) -> dict[str, Any]:
        """Everything that decides what `at` gives, ready for JSON; contexts and frames also by their content."""
        return {
            "mixture": asdict(self.mixture),
            "templates": [template_fingerprint(template) for template in self.templates],
            "split": self.split,
            "seed": self.seed,
            "tokenizer": None if self.tokenizer is None else self.tokenizer.fingerprint,
        }


def template_of(piece: Slice) -> Template:
    """The template of a slice, with as many nouns as its problems may use."""
    return load_template(piece.context, piece.frames).limited(piece.spec.num_places, piece.spec.items)


@lru_cache(maxsize=1024)
def mean_tokens(piece: Slice, tokenizer: Tokenizer) -> float:
    """The mean number of tokens of an exercise of this slice with its end, over 512 fixed draws."""
    template = template_of(piece)
    total = 0
    for probe in range(PROBES):
        problem = draw_problem(piece.spec, stream(0, "probe", probe))
        exercise = render(problem, template, stream(0, "probe words", probe), piece.style)
        total += len(tokenizer.encode(exercise.prompt + exercise.completion)) + 1
    return total / PROBES


def template_fingerprint(template: Template) -> str:
    """A hash of all the words and patterns of a template, so that an edited file is noticed."""
    return hashlib.blake2b(repr(template).encode(), digest_size=16).hexdigest()
