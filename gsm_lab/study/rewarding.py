"""Rewarding: completions as token ids in, scores and what is kept of each completion out.

Needs no torch, so that processes that only grade start quickly and stay small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gsm_lab.data import Tokenizer
from gsm_lab.problems import Exercise, Grade, examine, grade, rewards
from gsm_lab.study.recipe import Recipe, Reinforce
from gsm_lab.training import Scored

COLUMN_TYPES = {
    "op": pa.int32(),
    "context": pa.string(),
    "answer_correct": pa.bool_(),
    "answer": pa.int64(),
    "process_accuracy": pa.float64(),
    "first_error": pa.string(),
    "completion": pa.string(),
}
"""What is kept of every completion, in training and in tests."""
REWARD_COLUMN = "reward_true"
"""The reward of a rollout as it would be without noise; each term of the reward has a column, too."""


@dataclass(frozen=True)
class Posed:
    """An exercise and its number: completions are compared within a number, also if two exercises are the same."""

    index: int
    """Its place in the stage's stream of problems."""
    exercise: Exercise


@dataclass(frozen=True)
class RewardOf:
    """Decodes, grades and rewards completions; a group of completions may be given alone, but not in parts."""

    tokenizer: Tokenizer
    composition: rewards.Composition
    seed: int
    """With `stage`, names the random streams of a verifier's noise."""
    stage: str
    step_weight: float | None = None
    """Of the rewards of single steps; None where no step gets any, and grading is quicker."""

    def __call__(self, completions: Sequence[tuple[object, tuple[int, ...], bool]]) -> list[Scored]:
        groups: dict[int, list[int]] = {}
        attempts: list[_Attempted] = []
        seen: dict[tuple[int, tuple[int, ...], bool], _Attempted] = {}
        for place, (posed, ids, finished) in enumerate(completions):
            assert isinstance(posed, Posed)
            key = (posed.index, ids, finished)
            if key not in seen:  # a policy often says the same: that is read once
                seen[key] = self._attempted(posed, ids, finished)
            attempts.append(seen[key])
            groups.setdefault(posed.index, []).append(place)
        scored: dict[int, Scored] = {}
        for index, group in groups.items():
            members = [attempts[place].as_sample(index, sample) for sample, place in enumerate(group)]
            scores = self.composition.scores(members, self.seed, self.stage)
            scored |= {place: attempts[place].scored(score) for place, score in zip(group, scores, strict=True)}
        return [scored[place] for place in range(len(attempts))]

    def _attempted(self, posed: Posed, ids: tuple[int, ...], finished: bool) -> _Attempted:
        text = self.tokenizer.decode(ids)
        if self.step_weight is None:
            result, steps = grade(posed.exercise, text, finished), None
        else:
            found = examine(posed.exercise, text, finished)
            result = found.grade
            places = rewards.at_tokens(rewards.computed_steps(found), self.tokenizer.ends(ids))
            last = len(ids) - 1  # the token behind a step ends it: another one there might go on with its number
            steps = tuple((min(place + 1, last), self.step_weight * gain) for place, gain in places)
        columns = rollout_columns(posed.exercise, text, result)
        typed = {name: pa.scalar(value, COLUMN_TYPES[name]) for name, value in columns.items()}
        return _Attempted(posed.exercise, text, len(ids), result, typed, steps)


@dataclass(frozen=True)
class _Attempted:
    """A completion as it was read: the same for every sample that says it."""

    exercise: Exercise
    text: str
    tokens: int
    grade: Grade
    columns: Mapping[str, Any]
    steps: tuple[tuple[int, float], ...] | None

    def as_sample(self, index: int, sample: int) -> rewards.Attempt:
        """The attempt of one sample."""
        return rewards.Attempt(self.exercise, self.text, self.tokens, self.grade, (index, sample))

    def scored(self, score: rewards.Score) -> Scored:
        """With the score of one sample."""
        terms = {f"reward_{name}": value for name, value in score.parts.items()} | {REWARD_COLUMN: score.reward_true}
        typed = {name: pa.scalar(value, pa.float64()) for name, value in terms.items()}
        columns = {**self.columns, **typed}
        return Scored(score.reward, self.grade.verdict.value, self.grade.verified, columns, self.steps)


def reward_of(recipe: Recipe, number: int, tokenizer: Tokenizer) -> RewardOf:
    """The reward that stage `number`, one of reinforcement, names."""
    stage = recipe.stages[number]
    assert isinstance(stage, Reinforce)
    step_weight = stage.step_weight if stage.credit == "steps" else None
    return RewardOf(tokenizer, stage.composition, recipe.seed, f"stage {number}", step_weight)


def rollout_columns(exercise: Exercise, text: str, result: Grade) -> dict[str, Any]:
    """The values of `COLUMN_TYPES` for one completion."""
    return {
        "op": exercise.op,
        "context": exercise.context,
        "answer_correct": result.answer_correct,
        "answer": result.answer,
        "process_accuracy": result.process_accuracy,
        "first_error": result.first_error,
        "completion": text,
    }
