"""The problems of a stage: its task's vocabulary, its blends as mixtures, its curriculum as one endless source.

Needs no torch, so that processes that draw problems start quickly.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass

from gsm_lab.data import ExerciseSource, Mixture, Slice, Tokenizer
from gsm_lab.problems import MOST_OP, Exercise, load_template
from gsm_lab.seeds import stream_seed
from gsm_lab.study.recipe import Blend, Mixed, Recipe, Span, Supervised, Task


def tokenizer_of(task: Task) -> Tokenizer:
    """The closed vocabulary of all of a task's contexts, with all the places that its problems may speak of."""
    places = task.places or task.spec(op=MOST_OP).num_places
    return Tokenizer.for_templates(
        [load_template(*task.template(context)).limited(places, task.items) for context in task.contexts]
    )


def mixture_of(task: Task, blend: Blend | Mixed, facts: Span | None = None) -> Mixture:
    """The slices of a blend: every op in every context, part by part."""
    parts = blend.parts if isinstance(blend, Mixed) else ((1.0, blend),)
    return Mixture(
        tuple(
            Slice(task.spec(op, facts), *task.template(context), share * op_share * context_share, task.style)
            for share, part in parts
            for op, op_share in sorted(part.ops.items())
            for context, context_share in sorted(part.contexts.items())
        ),
        blend.unit,
    )


@dataclass(frozen=True)
class Curriculum:
    """Exercises phase by phase, then those of the last source without end."""

    ends: tuple[int, ...]
    """The index after the last exercise of each phase."""
    sources: tuple[ExerciseSource, ...]

    def at(self, index: int) -> Exercise:
        """Exercise `index`, from the phase that it falls into."""
        return self.sources[bisect.bisect_right(self.ends, index)].at(index)


def source_of(recipe: Recipe, number: int, tokenizer: Tokenizer) -> Curriculum:
    """The stream of problems of stage `number`."""
    stage = recipe.stages[number]
    seed = stream_seed(recipe.seed, "stage", number)
    phases = stage.curriculum if isinstance(stage, Supervised) else ()
    split = stage.split if isinstance(stage, Supervised) else "rl"
    mixtures = [mixture_of(recipe.task, phase.blend, phase.facts) for phase in phases]
    mixtures.append(mixture_of(recipe.task, stage.blend))
    return Curriculum(
        tuple(itertools.accumulate(phase.problems for phase in phases)),
        tuple(ExerciseSource(mixture, split, seed, tokenizer=tokenizer) for mixture in mixtures),
    )
