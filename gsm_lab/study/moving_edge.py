"""A curriculum that stays at the edge while it moves: what past groups of rollouts gave decides the ops to come.

A group of completions of one problem is solved (all verified), unsolved (none), or mixed. Only mixed groups have a
gradient (credit for single steps apart), and they are what is found at the edge; so an op is asked as often as its
groups have lately been mixed. A share of the prompts goes to all ops alike, so that an op which comes within reach is
noticed; shares change slowly.

The state is a function of the groups of the steps before and of nothing else, ready for JSON: saved with the training
state it goes on exactly, and `history` computes it again from the rollouts that every run keeps. Needs no torch.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gsm_lab.data import ExerciseSource
from gsm_lab.errors import DataError, RecipeError
from gsm_lab.seeds import stream, stream_seed
from gsm_lab.study.moving_settings import MovingEdge
from gsm_lab.study.recipe import Blend, Recipe, Reinforce
from gsm_lab.study.rewarding import Posed
from gsm_lab.study.sources import mixture_of

Group = tuple[int, Sequence[bool]]
"""The op of a problem, and whether each of its completions is verified."""


@dataclass(frozen=True)
class MovingState:
    """Where the curriculum is: the shares of the next step's prompts, and what they follow from.

    Raises:
        DataError: values that no step could have left.
    """

    step: int
    """Steps whose groups have been seen."""
    ops: tuple[int, ...]
    shares: tuple[float, ...]
    """Of the prompts of the next step, op by op."""
    solved: tuple[float, ...]
    """Groups of each op whose completions were all verified; those of past steps count for less."""
    mixed: tuple[float, ...]
    """Groups with a verified completion and another."""
    unsolved: tuple[float, ...]
    """Groups without a verified completion."""

    def __post_init__(self) -> None:
        columns = (self.shares, self.solved, self.mixed, self.unsolved)
        whole = all(len(column) == len(self.ops) and min(column, default=-1) >= 0 for column in columns)
        if not whole or not math.isclose(math.fsum(self.shares), 1, abs_tol=1e-6) or sorted({*self.ops}) != [*self.ops]:
            raise DataError(
                f"{self} is no state of a curriculum: give rising ops, shares that sum to 1, and a number from 0 on "
                f"for every op."
            )

    @classmethod
    def begin(cls, blend: Blend) -> MovingState:
        """Before the first step: the shares of a blend, and nothing seen.

        Raises:
            RecipeError: the shares are shares of tokens.
        """
        if blend.unit != "problems":
            raise RecipeError('the blend of a moving edge is in tokens: give unit="problems"; it moves whole prompts.')
        ops = tuple(sorted(blend.ops))
        nothing = (0.0,) * len(ops)
        return cls(0, ops, tuple(blend.ops[op] for op in ops), nothing, nothing, nothing)

    def after(self, settings: MovingEdge, groups: Iterable[Group]) -> MovingState:
        """The state once the groups of one step have been seen; their order does not matter.

        Raises:
            DataError: a group of an op that is not among these, or without completions.
        """
        counts = {name: [settings.memory * value for value in getattr(self, name)] for name in _OUTCOMES}
        for op, verified in groups:
            if op not in self.ops or not verified:
                raise DataError(f"a group has op {op} and {len(verified)} completions: its op has to be of {self.ops}.")
            counts[_outcome(verified)][self.ops.index(op)] += 1
        seen = {name: tuple(values) for name, values in counts.items()}
        return MovingState(self.step + 1, self.ops, _moved(self.shares, _target(settings, **seen), settings), **seen)

    def ops_of_prompts(self, count: int, seed: int) -> list[int]:
        """The ops of the next step's prompts: each as often as its share says, up to less than one prompt.

        Points at equal distances from a random start, each the op that it falls into.
        """
        start = stream(seed, "moving edge", self.step).random()
        ends = list(itertools.accumulate(self.shares[:-1]))
        return [self.ops[bisect.bisect_right(ends, (start + place) / count)] for place in range(count)]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, and exact: reading it back gives an equal state."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> MovingState:
        """The state that `to_dict` gave.

        Raises:
            DataError: it is something else.
        """
        names = [one.name for one in fields(cls)]
        if sorted(value) != sorted(names):
            raise DataError(f"a state of a curriculum has {sorted(names)}, not {sorted(value)}: begin the stage anew.")
        read: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in value.items()}
        return cls(**read)


_OUTCOMES = ("solved", "mixed", "unsolved")


def _outcome(verified: Sequence[bool]) -> str:
    return "solved" if all(verified) else "mixed" if any(verified) else "unsolved"


def _target(
    settings: MovingEdge, solved: Sequence[float], mixed: Sequence[float], unsolved: Sequence[float]
) -> list[float]:
    """The shares that what was seen asks for."""
    prior = settings.prior_groups
    scores = [
        ((one + prior / 2) / (one + easy + hard + prior)) ** settings.sharpness
        for easy, one, hard in zip(solved, mixed, unsolved, strict=True)
    ]
    total = math.fsum(scores)
    return [settings.explore / len(scores) + (1 - settings.explore) * score / total for score in scores]


def _moved(shares: Sequence[float], target: Sequence[float], settings: MovingEdge) -> tuple[float, ...]:
    """Shares on the straight way to the target, as far as `most_change` lets the one that moves most."""
    farthest = max(abs(goal - share) for share, goal in zip(shares, target, strict=True))
    part = 1.0 if farthest <= settings.most_change else settings.most_change / farthest
    moved = [share + part * (goal - share) for share, goal in zip(shares, target, strict=True)]
    total = math.fsum(moved)  # 1 up to rounding, which must not add up over thousands of steps
    return tuple(share / total for share in moved)


# ------------------------------------------------------------------------------------ problems in, groups out


@dataclass(frozen=True)
class MovingSource:
    """The problems of a stage whose ops move: those of a step are a function of the state before it."""

    sources: Mapping[int, ExerciseSource]
    """The endless problems of each op."""
    prompts_per_step: int
    seed: int

    def posed_at(self, state: MovingState) -> list[Posed]:
        """The problems of step `state.step`; every step has new ones."""
        first = state.step * self.prompts_per_step
        ops = state.ops_of_prompts(self.prompts_per_step, self.seed)
        return [Posed(index, self.sources[op].at(index)) for index, op in enumerate(ops, first)]


def moving_source_of(recipe: Recipe, number: int) -> MovingSource:
    """The problems of stage `number`, one of reinforcement: the ops and contexts of its blend."""
    stage = recipe.stages[number]
    assert isinstance(stage, Reinforce)
    seed = stream_seed(recipe.seed, "stage", number, "moving edge")
    sources = {}
    assert isinstance(stage.blend, Blend)
    for op in stage.blend.ops:
        blend = Blend(ops={op: 1.0}, contexts=stage.blend.contexts)
        sources[op] = ExerciseSource(mixture_of(recipe.task, blend), "rl", stream_seed(seed, op))
    return MovingSource(sources, stage.prompts_per_step, seed)


def groups_of(rollouts: Iterable[tuple[int, int, bool]]) -> list[Group]:
    """The groups of one step, from its completions: the place of the prompt, its op, and whether it is verified."""
    groups: dict[int, tuple[int, list[bool]]] = {}
    for place, op, verified in rollouts:
        groups.setdefault(place, (op, []))[1].append(verified)
    return list(groups.values())


@dataclass
class History:
    """The states of a stage, computed from the rollouts that it has kept so far.

    So the curriculum needs no place in the training state: rollouts of steps that are done again are removed first.
    """

    settings: MovingEdge
    blend: Blend
    rollouts: Path
    """The folder of the kept rollouts."""

    def __post_init__(self) -> None:
        self._states = [MovingState.begin(self.blend)]

    def before(self, step: int) -> MovingState:
        """The state before `step`.

        Raises:
            DataError: the rollouts of an earlier step are not there.
        """
        while len(self._states) <= step:
            path = self.rollouts / f"step-{len(self._states) - 1:05d}.parquet"
            if not path.exists():
                raise DataError(f"{path} is missing, and the problems of step {step} follow from it: begin anew.")
            columns = ["group", "op", "verified"]
            rows = pq.read_table(path, columns=columns).to_pylist()
            groups = groups_of(tuple(row[name] for name in columns) for row in rows)
            self._states.append(self._states[-1].after(self.settings, groups))
        return self._states[step]
