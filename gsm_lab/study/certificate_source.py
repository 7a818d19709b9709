"""Where the exercises of a certificate come from: drawn from settings, or read from a data set."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from gsm_lab.data import ExerciseSource, Mixture, Slice, best_guesses, read_dataset
from gsm_lab.errors import TemplateError
from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    Template,
    draw_problem,
    faults,
    known_contexts,
    known_frames,
    load_template,
    read_template,
    render,
)
from gsm_lab.seeds import stream

OPS = range(1, 51)
MOST_OF_DATA = 20_000
"""So many exercises of a data set are looked at."""
Pairs = tuple[tuple[str, str], ...]
Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Source:
    """Where exercises come from: drawn, or read from a data set; number `index` is always the same one."""

    seed: int
    pairs: Pairs = ()
    settings: Settings = ()
    data: str | None = None

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that there are."""
        settings = dict(self.settings)
        if self.data is not None:
            return tuple(sorted({exercise.problem.mode for exercise in _exercises_of(self.data)}))
        if settings.get("modulus") is not None:
            return ("forward",)
        return (settings["mode"],) if "mode" in settings else ("forward", "reverse")

    @property
    def of_spec(self) -> dict[str, Any]:
        """The settings that are those of a `ProblemSpec`, with constants that fit a modulus."""
        given = {name: value for name, value in self.settings if name not in Style.__dataclass_fields__}
        modulus = given.get("modulus")
        return given if modulus is None else {"constants": (1, max(1, min(9, modulus - 1)))} | given

    def exercise(self, part: str, index: int, mode: str | None = None) -> tuple[Exercise, Template, random.Random]:
        """Exercise `index` of a part, of one mode if asked for, and a stream to go on with."""
        rng = stream(self.seed, "certify", part, mode or "", index)
        if self.data is None:
            return self._drawn(index, mode, rng)
        exercises = [one for one in _exercises_of(self.data) if mode in (None, one.problem.mode)]
        exercise = exercises[index % len(exercises)]
        return exercise, load_template(exercise.context, exercise.frames), rng

    def _drawn(self, index: int, mode: str | None, rng: random.Random) -> tuple[Exercise, Template, random.Random]:
        """Modes, ops and templates go round, the rest is drawn, but for what the settings say."""
        modes = self.modes
        mode = mode or modes[index % len(modes)]
        number = index // len(modes)
        context, frames = self.pairs[number % len(self.pairs)]
        template = load_template(context, frames)
        of_spec = self.of_spec
        of_style = {name: value for name, value in self.settings if name not in of_spec}
        spec = _spec(OPS[number % len(OPS)], mode, of_spec, rng)
        style = Style(**_drawn_style(rng) | of_style)
        return render(draw_problem(spec, rng), template, rng, style), template, rng


def _spec(op: int, mode: str, settings: Mapping[str, Any], rng: random.Random) -> ProblemSpec:
    modulus = rng.choice([None, None, 10, 23]) if mode == "forward" else None
    if {"modulus", "operations", "constants", "values", "answers"} & set(settings):
        modulus = settings.get("modulus")
    drawn: dict[str, Any] = {
        "op": op,
        "mode": mode,
        "width": (0, rng.choice([2, 3, 5])),
        "implicit_totals": 0.3,
        "nested_totals": 0.3,
        "reuse": rng.choice([0.0, 0.2, 0.5]),
        "copies": rng.choice([0.15, 0.4]),
        "composites": rng.choice([0.25, 0.7]),
        "operations": ("add", "subtract", "multiply", "divide") if modulus is None else ("add", "subtract", "multiply"),
        "modulus": modulus,
    }
    if modulus is None and rng.random() < 0.2 and not {"constants", "values", "answers"} & set(settings):
        drawn |= {"constants": (1, 900), "values": (0, 100_000)}
    return ProblemSpec(**drawn | dict(settings))


def _drawn_style(rng: random.Random) -> dict[str, Any]:
    return {
        "sentence_order": rng.choice(["shuffled", "computation", "reversed"]),
        "trace_order": rng.choice(["leaf_first", "random", "goal_directed"]),
        "form": rng.choice(["steps", "steps", "steps", "think", "answer_only"]),
        "checks": rng.choice([0.0, 0.3]),
        "recovery": rng.choice([0.0, 0.3]),
        "rules": rng.random() < 0.5,
    }


@lru_cache(maxsize=2)
def _exercises_of(folder: str) -> tuple[Exercise, ...]:
    """The first exercises of a data set."""
    return tuple(islice(read_dataset(folder), MOST_OF_DATA))


def guesses_of(source: Source, num: int, op_and_mode: tuple[int, str]) -> list[dict[str, Any]]:
    """How far guessing goes in problems of one op and mode."""
    op, mode = op_and_mode
    of_spec: dict[str, Any] = {"op": op, "mode": mode} | source.of_spec
    spec = ProblemSpec(**of_spec)
    template = load_template(*source.pairs[0])
    streams = (stream(source.seed, "certify", "guess", op, mode, index) for index in range(num))
    return best_guesses(render(draw_problem(spec, rng), template, rng) for rng in streams)


def identities_of(source: Source, num: int, split: str) -> list[str]:
    """The identities of the first problems of a split."""
    if source.data is not None:
        return sorted({exercise.problem_id for exercise in read_dataset(source.data, split)})
    of_spec: dict[str, Any] = {"op": 8} | source.of_spec
    spec = ProblemSpec(**of_spec)
    drawn = ExerciseSource(Mixture((Slice(spec, *source.pairs[0]),)), split, source.seed)
    return sorted({drawn.at(index).problem_id for index in range(num)})


def pairs_of(contexts: tuple[str, ...], frames: tuple[str, ...]) -> Pairs:
    """Every context with all frames that have words for it.

    A context that is given tells its own language: frames of another one are left out unless they were asked for.
    """
    pairs = []
    for context in contexts or known_contexts():
        for one in frames or known_frames():
            try:
                read_template(context, one)
            except TemplateError:
                if frames or not context.endswith(".toml") or one == "english":
                    raise
                continue
            pairs.append((context, one))
    return tuple(pairs)


def own_faults(pair: tuple[str, str]) -> list[str]:
    """What is wrong with a template, in all of its places if a file of it was given; tests check those of gsm_lab."""
    template = read_template(*pair)
    return list(faults(template if any(name.endswith(".toml") for name in pair) else template.plain))
