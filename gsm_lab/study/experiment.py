"""Experiments: recipes with a question, found in a folder by its name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal, Self

from pydantic import Field, model_validator

from gsm_lab.errors import RecipeError
from gsm_lab.study.recipe import Frozen, Recipe


class Claim(Frozen):
    """A statement that an experiment tests: how one stage differs from another, on equal problems and seeds."""

    name: str
    """A few words that tables call it by."""
    text: str
    """The statement, as whoever made it would put it."""
    source: str
    """Who made it: a paper's number and section, or the prediction of the experiment's README."""
    stage: str
    baseline: str
    band: str
    context: str = "all"
    metric: str = "pass@k"
    """A metric of `gsm_lab.evaluation`."""
    k: int | None = 1
    """Tries a problem; None for metrics that have none."""
    expects: Literal["gain", "loss", "no gain", "no loss", "no change"] = "gain"
    smallest: float = Field(0.02, gt=0)
    """The smallest difference that counts, in the unit of the metric: a gain or a loss is at least as large, and no
    change is a smaller one."""


class Axis(Frozen):
    """What an experiment varies, for its figure: lines over the levels of one factor."""

    label: str
    """The factor and its unit, as the axis says it."""
    series: dict[str, dict[str, str]]
    """For each line, the stage at each level; levels stand in the order in which lines bring them up."""
    context: str = "all"
    """The context whose problems are shown."""


class Experiment(Frozen):
    """What `experiments/<name>/recipes.py` defines as EXPERIMENT."""

    name: str
    title: str
    """The headline of its figures."""
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    bands: dict[str, tuple[int, int]]
    """Lowest and highest op of each named range: ID, edge, hard."""
    baseline: str
    """The stage that the others are compared with."""
    claims: tuple[Claim, ...] = ()
    """What is tested; each gets a verdict in the report."""
    axes: tuple[Axis, ...] = ()
    """What is varied; each gets a figure in the report."""

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        names = [recipe.name for recipe in self.recipes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the names {twice} stand for several recipes: give every recipe its own.")
        if self.baseline not in self.stage_names:
            raise ValueError(f"no stage has the baseline's name {self.baseline!r}: give one of {self.stage_names}.")
        ids: dict[tuple[int, str], str] = {}
        for recipe in self.recipes:
            names = [stage.name for stage in recipe.stages]
            if len(set(names)) < len(names):
                raise ValueError(f"recipe {recipe.name!r} has stages {names}: give every stage its own name.")
            for number, name in enumerate(names):
                if ids.setdefault((recipe.seed, name), recipe.stage_id(number)) != recipe.stage_id(number):
                    raise ValueError(
                        f"several stages with seed {recipe.seed} are called {name!r} (one in {recipe.name!r}), so that "
                        f"no table could tell them apart: name them after what differs."
                    )
        return self

    @model_validator(mode="after")
    def _can_be_reported(self) -> Self:
        first = self.recipes[0]
        if other := next((recipe.name for recipe in self.recipes if recipe.evaluation != first.evaluation), None):
            raise ValueError(f"recipes {first.name!r} and {other!r} are evaluated differently: give all the same.")
        ops = first.evaluation.ops
        empty = [name for name, (low, high) in self.bands.items() if not any(low <= op <= high for op in ops)]
        if empty or "edge" not in self.bands:
            raise ValueError(
                f"the bands are {self.bands} and the tested ops {ops}: "
                f"give every band a tested op, and call one of them 'edge'."
            )
        return self

    @model_validator(mode="after")
    def _claims_are_tested(self) -> Self:
        names = [claim.name for claim in self.claims]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the names {twice} stand for several claims: give every claim its own.")
        stages, samples = {*self.stage_names}, self.recipes[0].evaluation.samples
        for claim in self.claims:
            if unknown := {claim.stage, claim.baseline} - stages:
                raise ValueError(f"claim {claim.name!r} compares {sorted(unknown)}: give stages of {sorted(stages)}.")
            if claim.band not in self.bands or not (claim.k is None or 1 <= claim.k <= samples):
                raise ValueError(
                    f"claim {claim.name!r} is about the band {claim.band!r} with k={claim.k}: give one of "
                    f"{list(self.bands)} and a k up to the {samples} samples of the evaluation."
                )
        for axis in self.axes:
            if unknown := {stage for line in axis.series.values() for stage in line.values()} - stages:
                raise ValueError(f"axis {axis.label!r} shows {sorted(unknown)}: give stages of {sorted(stages)}.")
        return self

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name.

        Raises:
            RecipeError: there is none.
        """
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        names = ", ".join(recipe.name for recipe in self.recipes)
        raise RecipeError(f"experiment {self.name!r} has no recipe {name!r}: give one of {names}.")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Every stage's name once, in the order in which recipes bring them up."""
        return tuple(dict.fromkeys(stage.name for recipe in self.recipes for stage in recipe.stages))


def load_experiment(place: str | Path) -> Experiment:
    """The experiment in a folder, given by its path or by its name below `experiments/`.

    `edge_of_competence@micro` is the experiment at another scale, if its recipes.py defines `experiment(scale)`.

    Raises:
        RecipeError: there is no such folder, or it defines no valid experiment.
    """
    name, at, scale = str(place).partition("@")
    module, file = _load_module(name)
    if at:
        make = getattr(module, "experiment", None)
        if not callable(make):
            raise RecipeError(
                f"{file} defines no experiment(scale), so there is no {str(place)!r}: leave out @{scale}."
            )
        with _errors_of(file):
            experiment = make(scale)
    else:
        experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise RecipeError(f"{file} defines no EXPERIMENT: give the name EXPERIMENT to a gsm_lab.study.Experiment.")
    return experiment


def _load_module(place: str) -> tuple[ModuleType, Path]:
    """The module of an experiment's recipes, and its file."""
    folder = Path(place)
    if not (folder / "recipes.py").is_file():
        folder = Path("experiments") / place
    file = folder / "recipes.py"
    if not file.is_file():
        known = sorted(path.parent.name for path in Path("experiments").glob("*/recipes.py"))
        raise RecipeError(
            f"there is no experiment {str(place)!r}: give a folder with a recipes.py"
            + (f", or one of {', '.join(known)}." if known else ".")
        )
    name = f"gsm_lab_experiment_{folder.name}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    with _errors_of(file):
        specification.loader.exec_module(module)
    return module, file


@contextmanager
def _errors_of(file: Path) -> Iterator[None]:
    """Whatever a file of the user's own does wrong becomes an error that names the file."""
    try:
        yield
    except Exception as error:
        raise RecipeError(f"{file} defines no valid recipes ({type(error).__name__}): {error}") from error


def load_recipe(place: str) -> Recipe:
    """The recipe written as `experiment:name`, such as `edge_of_competence:rl-edge-seed0`.

    Raises:
        RecipeError: it is not written so, or there is none.
    """
    experiment, colon, name = place.rpartition(":")
    if not colon:
        raise RecipeError(
            f"{place!r} names no recipe: write it as experiment:recipe, for example edge_of_competence:rl-edge-seed0."
        )
    return load_experiment(experiment).recipe(name)
