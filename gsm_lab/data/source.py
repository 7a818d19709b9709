"""Endless exercises: number `index` of a mixture, a split and a seed is always the same exercise.

Splits share out the space of problem identities, not of indices: a problem belongs to one split, however it is told
and whoever draws it. So what is trained on in one split can never be asked in another. Which identity decides is a
setting: that of the whole problem, of its needed numbers, or of its structure. A split that owns a share s of the
identities draws 1 / s problems for each that it gives; `ExerciseSource.draw` counts them.
"""

import bisect
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from gsm_lab.data.mixture import Mixture, Slice
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import MixtureError, SpecError
from gsm_lab.problems import (
    LEVELS,
    Exercise,
    Problem,
    Template,
    check_spec,
    draw_counted,
    identity_at,
    load_template,
    padded_problem,
    render,
)
from gsm_lab.seeds import stream

SPLITS: Mapping[str, int] = MappingProxyType({"pretrain": 60, "midtrain": 12, "rl": 12, "validation": 4, "test": 12})
"""Per cent of all identities that each split owns: most for pretraining, which takes most problems."""
ATTEMPTS = 1000
"""The smallest split owns 4 %: a problem space of any size gives none of it in so many draws once in 1e17."""
PROBES = 512
Nouns = tuple[tuple[str, str], ...]
_NAMES = tuple(SPLITS)
_ENDS = tuple(itertools.accumulate(SPLITS.values()))


def split_of(identity: str) -> str:
    """The split that owns an identity: the 128-bit numbers up to 60 % are pretraining's, and so on."""
    return _NAMES[bisect.bisect_right(_ENDS, int(identity, 16) * 100 >> 128)]


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise MixtureError(f"split={split!r}: give one of {', '.join(SPLITS)}.")


@dataclass(frozen=True)
class HeldOut:
    """Structures that one split owns, whatever their identities say; no other split ever gives them.

    Raises:
        MixtureError: an unknown split, or something that is no structure id.
    """

    structures: tuple[str, ...]
    """Structure ids, as `problems.identities` gives them."""
    split: str = "test"

    def __post_init__(self) -> None:
        _check_split(self.split)
        for identity in self.structures:
            if type(identity) is not str or len(identity) != 32 or set(identity) - set("0123456789abcdef"):
                raise MixtureError(f"structures hold {identity!r}: give structure ids, 32 hexadecimal digits each.")

    @cached_property
    def known(self) -> frozenset[str]:
        """The same structures, for look-up."""
        return frozenset(self.structures)


class Drawn(NamedTuple):
    """An exercise, where it comes from, and what it took to draw it."""

    exercise: Exercise
    slice: int
    """Number of its slice in the mixture."""
    problems: int
    """Problems drawn until one belonged to the split."""
    skeletons: int
    """Skeletons drawn for them; one each, where numbers are found."""
    numbers: int
    """Times that numbers were drawn for those; one each, where they fit."""


@dataclass(frozen=True)
class ExerciseSource:
    """Exercises of a mixture that belong to one split, numbered from 0 without end.

    Raises:
        MixtureError: an unknown split or level, a slice whose nouns do not suffice, or weights or lengths in tokens
            without a tokenizer.
        TemplateError: a slice whose context or frames do not exist.
    """

    mixture: Mixture
    split: str
    seed: int
    tokenizer: Tokenizer | None = None
    """Needed where weights are shares of tokens, or lengths are counted in them."""
    split_by: str = "problem_id"
    """The identity that decides which split a problem belongs to, one of `problems.LEVELS`."""
    held_out: HeldOut | None = None
    """Structures that one split owns; to be the same in all splits of a study."""

    def __post_init__(self) -> None:
        _check_split(self.split)
        if self.split_by not in LEVELS:
            raise MixtureError(f"split_by={self.split_by!r}: give one of {', '.join(LEVELS)}.")
        if self.tokenizer is None and self.mixture.unit == "tokens":
            raise MixtureError('unit="tokens" without a tokenizer: give one, or weigh the slices in problems.')
        if self.tokenizer is None and any(piece.tokens is not None for piece in self.mixture.slices):
            raise MixtureError("a slice has a length in tokens and there is no tokenizer: give one to the source.")
        for piece in self.mixture.slices:
            template_of(piece)

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

    @cached_property
    def _ends(self) -> tuple[float, ...]:
        """Where the share of each slice but the last ends, of 0 to 1."""
        return tuple(itertools.accumulate(self.problem_shares[:-1]))

    def slice_of(self, index: int) -> int:
        """Which slice exercise `index` is drawn from."""
        return bisect.bisect_right(self._ends, stream(self.seed, "exercise", self.split, index).random())

    def at(self, index: int) -> Exercise:
        """Exercise `index`: a pure function of the source and the index.

        Raises:
            SpecError: the slice has no problem, or none that a thousand draws could find, in this split.
        """
        return self.draw(index).exercise

    def draw(self, index: int) -> Drawn:
        """Exercise `index`, and how many draws it took; one stream gives its slice, its problem and its words.

        Raises:
            SpecError: as `at`.
        """
        rng = stream(self.seed, "exercise", self.split, index)
        return self._draw(bisect.bisect_right(self._ends, rng.random()), rng)

    def check(self) -> None:
        """Draw one exercise of every slice, so that a setting that cannot be met is known before long work.

        Where answers are balanced, each of them.

        Raises:
            SpecError: as `at` would, sooner or later.
        """
        for number, piece in enumerate(self.mixture.slices):
            check_spec(piece.spec)
            self._draw(number, stream(self.seed, "check", self.split, number))

    def owner(self, problem: Problem) -> str:
        """The split that a problem belongs to."""
        if self.held_out is not None and identity_at(problem, "structure_id") in self.held_out.known:
            return self.held_out.split
        return split_of(identity_at(problem, self.split_by))

    def _draw(self, number: int, rng: Random) -> Drawn:
        """The first exercise of a slice, of those that the stream gives, that belongs to the split."""
        piece, template = self.mixture.slices[number], self.templates[number]
        if piece.tokens is not None:
            return self._draw_padded(number, piece.tokens, rng)
        num_skeletons = num_numbers = 0
        for attempt in range(1, ATTEMPTS + 1):
            problem, skeletons, numbers = draw_counted(piece.spec, rng)
            num_skeletons += skeletons
            num_numbers += numbers
            if self.owner(problem) == self.split:
                exercise = render(problem, template, rng, piece.style)
                return Drawn(exercise, number, attempt, num_skeletons, num_numbers)
        raise self._not_owned(piece)

    def _draw_padded(self, number: int, tokens: int, rng: Random) -> Drawn:
        """The same for a slice whose texts are filled up; a length is part of a problem, for distractors are."""
        piece, template = self.mixture.slices[number], self.templates[number]
        assert self.tokenizer is not None
        count = partial(num_tokens, self.tokenizer)
        for attempt in range(1, ATTEMPTS + 1):
            exercise = padded_problem(piece.spec, template, tokens, count, rng, piece.style)
            if self.owner(exercise.problem) == self.split:
                return Drawn(exercise, number, attempt, attempt, attempt)
        raise self._not_owned(piece)

    def _not_owned(self, piece: Slice) -> SpecError:
        spec = piece.spec
        return SpecError(
            f"the slice op={spec.op} {spec.mode} {piece.context} {piece.frames}: in {ATTEMPTS} draws none belonged to "
            f"the split {self.split!r} by {self.split_by}: there are too few such problems to share out; raise op, "
            f"distractors or the range of constants, or split by another identity."
        )

    def settings(self) -> dict[str, Any]:
        """Everything that decides what `at` gives, ready for JSON; contexts and frames also by their content."""
        return {
            "mixture": asdict(self.mixture),
            "templates": [template_fingerprint(template) for template in self.templates],
            "split": self.split,
            "split_by": self.split_by,
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "seed": self.seed,
            "tokenizer": None if self.tokenizer is None else self.tokenizer.fingerprint,
        }


@lru_cache(maxsize=1024)
def template_of(piece: Slice) -> Template:
    """The template of a slice, with the nouns that its texts may use.

    Raises:
        MixtureError: the context has too few nouns from there on, or its frames use none.
    """
    template = load_template(piece.context, piece.frames)
    spec = piece.spec
    if not piece.places_from and not piece.items_from:
        return template.limited(spec.num_places if piece.tokens is None else len(template.places), spec.items)
    places = _nouns_from(template, piece, "places", template.places, piece.places_from, spec.num_places)
    items = _nouns_from(template, piece, "items", template.items, piece.items_from, spec.items)
    if piece.tokens is None:  # padding needs all places that there are
        places = places[: spec.num_places]
    return replace(template, places=places, items=items[: spec.items])


def _nouns_from(
    template: Template, piece: Slice, kind: str, nouns: tuple[Nouns, ...], begin: int, num: int
) -> tuple[Nouns, ...]:
    """The places or items of a template from one of them on, if there are as many as the spec needs."""
    slot = f"{{{kind[:-1]}_number}}"
    if begin and any(slot in pattern for name, pattern in template.patterns if "names." in name):
        raise MixtureError(
            f"{kind}_from={begin} and frames={piece.frames!r} contradict each other: these frames number the {kind} "
            f"and use no nouns; leave one out."
        )
    if begin + num > len(nouns):
        raise MixtureError(
            f"{kind}_from={begin} and {num} {kind} in the spec contradict each other: {piece.context!r} has "
            f"{len(nouns)} {kind}; lower the one or the other."
        )
    return nouns[begin:]


@lru_cache(maxsize=1024)
def mean_tokens(piece: Slice, tokenizer: Tokenizer) -> float:
    """The mean number of tokens of an exercise of this slice with its end, over 512 fixed draws.

    Texts that are filled up have at most 2 % less than what is asked for: that is taken for their mean.
    """
    if piece.tokens is not None:
        return float(piece.tokens)
    template = template_of(piece)
    total = 0
    for probe in range(PROBES):
        rng = stream(0, "probe", probe)
        exercise = render(draw_counted(piece.spec, rng)[0], template, rng, piece.style)
        total += num_tokens(tokenizer, exercise.prompt + exercise.completion) + 1
    return total / PROBES


def num_tokens(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens a text has, which is quicker to know than which."""
    return len(tokenizer.encode_bytes(text)) // 4


def template_fingerprint(template: Template) -> str:
    """A hash of all the words and patterns of a template, so that an edited file is noticed."""
    return hashlib.blake2b(repr(template).encode(), digest_size=16).hexdigest()
