"""The ledger: what every stage of a run took, in tokens, floating-point operations and seconds, phase by phase.

All is read from the folders of finished stages. Phases of tokens and operations:

- `prompt`: prompts of rollouts as they are read for sampling, once for all rollouts of a prompt.
- `generated`: sampled tokens.
- `trained`: forward and backward. Supervised: every token read, those of problems too. Reinforcement: sampled tokens
  with a gradient, once an update.
- `reference`: the forward pass of the KL's reference policy over the tokens that are trained.

Operations are those that the result needs, as in `engine_cost`: forward two for each parameter but those of a table
that is only looked up, the output head only where a prediction is asked for, attention over the keys that a token
sees; backward twice as many. A prompt is counted once for all rollouts of its group, in training too; where a device
reads it once a rollout, that is its own choice, as padding is.

Lengths are known as means: of a step's prompts, of its rollouts and of those with a gradient; of a supervised stage's
problems, as preflight found them. Attention grows with the mean square, which is greater, so it is counted too low; of
all operations that is 0.1 to 0.3 % at the `nano` scale, and in the smallest model of the tests, where attention weighs
most, 2 % at most (`tests/study/test_ledger.py` counts the true lengths).

Not counted: the optimiser, whose products do not depend on the tokens (Muon's are a good part of the work on a small
batch; seconds have them), and what changes no weights: preflight's probe, evaluations.

Seconds are of the clock on the wall, of the first rank, and of the steps that the result stands on: what a kill cost
is not among them. Grading that runs beside sampling has only its rest in `grading`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from gsm_lab.errors import RecipeError, RunError
from gsm_lab.files import write_text
from gsm_lab.model import ModelShape
from gsm_lab.study.budgets import Exchange
from gsm_lab.study.engine_cost import multiplied_parameters
from gsm_lab.study.recipe import Recipe, Reinforce, Supervised
from gsm_lab.study.runs import StageFolder, read_json, read_lines
from gsm_lab.study.settings import shape_of

CURRENCIES = ("tokens", "flops", "seconds")
"""What a stage's cost is counted in."""
PHASE_OF_SECONDS = {
    "sample_seconds": "sampling",
    "reward_seconds": "grading",
    "train_seconds": "training",
    "seconds": "training",
    "prompts_seconds": "other",
    "write_seconds": "other",
    "compile_seconds": "other",
}
"""Where the columns of `timings.jsonl` belong."""
NOT_ON_THE_WALL = frozenset({"grading_cpu_seconds"})
"""Of the graders' processors: it passes while others wait, or sample."""


@dataclass(frozen=True)
class Passes:
    """A number for every phase: of tokens, or of floating-point operations."""

    prompt: float = 0
    generated: float = 0
    trained: float = 0
    reference: float = 0

    @property
    def total(self) -> float:
        return self.prompt + self.generated + self.trained + self.reference

    def __add__(self, other: Passes) -> Passes:
        return Passes(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Seconds:
    """Seconds by what was done."""

    sampling: float = 0.0
    """Reading prompts and writing completions."""
    grading: float = 0.0
    training: float = 0.0
    """Updates, with the reference's pass; of supervised training also the drawing of its problems."""
    other: float = 0.0
    """Drawing prompts, writing rollouts, compiling."""

    @property
    def total(self) -> float:
        return self.sampling + self.grading + self.training + self.other


@dataclass(frozen=True)
class StageCost:
    """What one stage took."""

    id: str
    stage: str
    """Its name."""
    seed: int
    kind: str
    """supervised or reinforce."""
    steps: int
    parameters: int
    tokens: Passes
    flops: Passes
    seconds: Seconds

    def total(self, currency: str) -> float:
        """All phases together.

        Raises:
            RecipeError: an unknown currency.
        """
        if currency not in CURRENCIES:
            raise RecipeError(f"the currency is {currency!r}: give one of {', '.join(CURRENCIES)}.")
        phases: Passes | Seconds = getattr(self, currency)
        return phases.total


@dataclass(frozen=True)
class Ledger:
    """The stages of some recipes, each once, each with those it stands on."""

    lines: tuple[tuple[StageCost, ...], ...]
    """For every stage those from the base up to it: the last is the stage itself."""

    def table(self) -> pd.DataFrame:
        """One row a stage: its own cost by phase; and that of all it stands on, the base apart.

        `base_` is the first stage, `arm_` all after it up to this one, `run_` both. A base's own arm is 0. The columns
        `tokens`, `flops` and `seconds` add up to what all stages took, since each has one row.
        """
        return pd.DataFrame([_row(line) for line in self.lines])

    def costs(self, stage: str) -> tuple[StageCost, ...]:
        """The costs of the stages of that name, one for each seed.

        Raises:
            RecipeError: there is none.
        """
        found = tuple(line[-1] for line in self.lines if line[-1].stage == stage)
        if not found:
            names = ", ".join(dict.fromkeys(line[-1].stage for line in self.lines))
            raise RecipeError(f"no stage is called {stage!r}: give one of {names}.")
        return found


def _row(line: Sequence[StageCost]) -> dict[str, Any]:
    own = line[-1]
    row: dict[str, Any] = {name: getattr(own, name) for name in ("stage", "seed", "kind", "id", "steps", "parameters")}
    for currency in CURRENCIES:
        row |= {f"{phase}_{currency}": value for phase, value in asdict(getattr(own, currency)).items()}
        row[currency] = own.total(currency)
    for currency in CURRENCIES:
        base, arm = line[0].total(currency), sum(one.total(currency) for one in line[1:])
        row |= {f"base_{currency}": base, f"arm_{currency}": arm, f"run_{currency}": base + arm}
    return row


def ledger_of(recipes: Iterable[Recipe], home: Path) -> Ledger:
    """The ledger of all stages of some recipes whose runs are below `home`; a shared stage is there once.

    Raises:
        RunError: a stage is not trained, or a file of it is missing or damaged.
    """
    costs: dict[str, StageCost] = {}
    lines: dict[str, tuple[StageCost, ...]] = {}
    for recipe in recipes:
        line: tuple[StageCost, ...] = ()
        for number in range(len(recipe.stages)):
            folder = StageFolder(home, recipe, number)
            stage = folder.path.name
            costs[stage] = costs.get(stage) or stage_cost(folder)
            line = lines.setdefault(stage, (*line, costs[stage]))
    return Ledger(tuple(lines.values()))


def write_ledger(ledger: Ledger, folder: Path) -> Path:
    """Write the table as `ledger.csv` into an experiment's results; its path."""
    path = folder / "ledger.csv"
    write_text(path, ledger.table().to_csv(index=False, float_format="%.10g"))
    return path


def measured_exchange(midtrain: Sequence[StageCost], reinforce: Sequence[StageCost], currency: str) -> Exchange:
    """What a step of either stage cost on average; several seeds of a stage are taken together.

    Raises:
        RecipeError: no stages, stages of another kind or of models of several sizes, or an unknown currency.
    """
    for costs, kind in ((midtrain, "supervised"), (reinforce, "reinforce")):
        wrong = sorted({one.stage for one in costs if one.kind != kind})
        if not costs or wrong:
            raise RecipeError(f"the costs of {wrong or 'no stage'} were given for a {kind} stage: give such stages.")
    sizes = sorted({one.parameters for one in (*midtrain, *reinforce)})
    if len(sizes) > 1:
        raise RecipeError(f"the stages belong to models of {sizes} parameters: give stages of one model.")
    return Exchange(currency, _per_step(midtrain, currency), _per_step(reinforce, currency))


def _per_step(costs: Sequence[StageCost], currency: str) -> float:
    return math.fsum(one.total(currency) for one in costs) / sum(one.steps for one in costs)


# ---------------------------------------------------------------------------------------------- reading a stage


def stage_cost(folder: StageFolder) -> StageCost:
    """What a finished stage took, from its files.

    Raises:
        RunError: the stage is not trained to its end, or a file of it is missing, damaged or of an older version.
    """
    recipe, stage = folder.recipe, folder.recipe.stages[folder.number]
    if not folder.is_done:
        raise RunError(f"{folder.path} is not trained to its end: run the recipe first.")
    found = read_json(folder.path / "preflight.json")
    try:
        shape = shape_of(recipe.scale, found["vocabulary"])
        lines = _metrics(folder)
        if isinstance(stage, Supervised):
            length = found["mean prompt tokens"] + found["mean completion tokens"]
            tokens = Passes(trained=lines[-1]["tokens"])
            flops = Passes(trained=supervised_flops(shape, lines[-1]["tokens"], lines[-1]["scored_tokens"], length))
        else:
            tokens, flops = _of_rollouts(shape, stage, lines)
    except KeyError as error:
        raise RunError(
            f"{folder.path} does not say {error}: it was made by an earlier version. "
            f"Remove it and run the recipe again."
        ) from error
    return StageCost(
        id=folder.path.name,
        stage=stage.name,
        seed=recipe.seed,
        kind=stage.kind,
        steps=stage.steps,
        parameters=shape.parameters,
        tokens=tokens,
        flops=flops,
        seconds=_seconds(folder.path / "timings.jsonl", len(lines)),
    )


def _metrics(folder: StageFolder) -> list[dict[str, Any]]:
    """The lines of a stage's metrics, which go to its end."""
    stage = folder.recipe.stages[folder.number]
    folder.result()  # a done.json that is damaged is named
    path = folder.metrics()
    lines = read_lines(path)
    steps = lines[-1]["step"] + isinstance(stage, Reinforce) if lines else 0  # rollouts are numbered from 0
    whole = isinstance(stage, Supervised) or len(lines) == stage.steps
    done = read_json(folder.path / "done.json")
    if steps != stage.steps or not whole or lines[-1]["tokens"] != done["tokens"]:
        raise RunError(
            f"{path} is damaged: it has {len(lines)} lines up to step {steps}, where done.json has {done['tokens']} "
            f"tokens after {stage.steps} steps. Remove {folder.path} and run the recipe again."
        )
    return lines


def _seconds(path: Path, lines: int) -> Seconds:
    timings = read_lines(path)
    if len(timings) != lines:
        raise RunError(
            f"{path} has {len(timings)} lines and metrics.jsonl {lines}: it is damaged. "
            f"Remove {path.parent} and run the recipe again."
        )
    columns = {name for line in timings for name in line if name.endswith("seconds")} - NOT_ON_THE_WALL
    if unknown := sorted(columns - {*PHASE_OF_SECONDS}):
        raise RunError(f"{path} has {', '.join(unknown)}, of no known phase: add it to PHASE_OF_SECONDS.")
    phases: dict[str, list[float]] = {}
    for name in columns:
        phases.setdefault(PHASE_OF_SECONDS[name], []).extend(line.get(name, 0.0) for line in timings)
    return Seconds(**{phase: math.fsum(values) for phase, values in phases.items()})


@dataclass(frozen=True)
class StepCounts:
    """What a step of reinforcement learning sampled, and how much of it had a gradient."""

    prompts: int
    prompt_tokens: int
    """Once for all rollouts of a prompt."""
    rollouts: int
    tokens: int
    """Sampled."""
    live_prompts: int
    """With a rollout that has a gradient."""
    live_rollouts: int
    live_tokens: int


def _of_rollouts(shape: ModelShape, stage: Reinforce, lines: Sequence[Mapping[str, Any]]) -> tuple[Passes, Passes]:
    """Tokens and operations of a stage of reinforcement learning."""
    tokens, flops = Passes(), Passes()
    for step in _steps(stage, lines):
        has_reference = stage.kl_weight > 0
        tokens += Passes(
            prompt=step.prompt_tokens,
            generated=step.tokens,
            trained=step.live_tokens * stage.updates_per_rollout,
            reference=step.live_tokens * has_reference,
        )
        flops += rollout_flops(shape, step, stage.updates_per_rollout, has_reference)
    return tokens, flops


def _steps(stage: Reinforce, lines: Sequence[Mapping[str, Any]]) -> Iterator[StepCounts]:
    """Every step by itself, from metrics that are sums since the first."""
    sums = ("prompt_tokens", "rollouts", "unused_rollouts", "tokens", "trained_tokens")
    for before, line in pairwise([dict.fromkeys(sums, 0), *lines]):
        new = {name: line[name] - before[name] for name in sums}
        without_gradient = 0.0 if stage.kl_weight > 0 else line["zero_variance_share"]  # a KL pulls at every rollout
        yield StepCounts(
            prompts=stage.prompts_per_step,
            prompt_tokens=new["prompt_tokens"],
            rollouts=new["rollouts"],
            tokens=new["tokens"],
            live_prompts=round(stage.prompts_per_step * (1 - without_gradient)),
            live_rollouts=new["rollouts"] - new["unused_rollouts"],
            live_tokens=new["trained_tokens"],
        )


# ---------------------------------------------------------------------------------------------- operations


def forward_flops(shape: ModelShape, tokens: float, predicted: float, keys: float) -> float:
    """Operations of reading tokens, predicting behind some of them, and attending to keys: the sum over all tokens."""
    head = shape.vocab_size * shape.width
    body = multiplied_parameters(shape) - head
    return 2.0 * body * tokens + 2.0 * head * predicted + 4.0 * shape.layers * shape.width * keys


def supervised_flops(shape: ModelShape, tokens: int, scored: int, length: float) -> float:
    """Operations of training on so many tokens, of which some are scored, in texts of this length."""
    return 3.0 * forward_flops(shape, tokens, scored, tokens * (length + 1) / 2)


def rollout_flops(shape: ModelShape, step: StepCounts, updates: int, has_reference: bool) -> Passes:
    """Operations of a step of reinforcement learning, by phase.

    The last token of a rollout is predicted, and not read.
    """
    prompt = step.prompt_tokens / step.prompts
    read = step.tokens - step.rollouts
    live_read = step.live_tokens - step.live_rollouts
    live_tokens = step.live_prompts * prompt + live_read
    live_keys = step.live_prompts * _seen(prompt) + _seen_behind(prompt, step.live_rollouts, live_read)
    again = forward_flops(shape, live_tokens, step.live_tokens, live_keys)
    return Passes(
        prompt=forward_flops(shape, step.prompt_tokens, step.prompts, step.prompts * _seen(prompt)),
        generated=forward_flops(shape, read, read, _seen_behind(prompt, step.rollouts, read)),
        trained=3.0 * again * updates,
        reference=again * has_reference,
    )


def _seen(length: float) -> float:
    """Keys that the tokens of a text see, each itself and those before it."""
    return length * (length + 1) / 2


def _seen_behind(prompt: float, rollouts: int, read: int) -> float:
    """Keys that the `read` tokens of some rollouts see, each behind a prompt of its own."""
    if not rollouts:
        return 0.0
    return prompt * read + rollouts * _seen(read / rollouts)
