"""What a sweep will cost, from what stages of its kind took before in the same folder of runs.

The best that is known counts: what sweeps measured of jobs that differ in seed, name and earlier stages only; else
what their training and evaluation took by their own files; else the seconds per token of the most similar stage with
the same model, and of the most similar evaluation. All seconds are of the clock on the wall, whatever else the machine
had to do then.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from gsm_lab.errors import RunError
from gsm_lab.study.ledger import NOT_ON_THE_WALL
from gsm_lab.study.recipe import Evaluation, Recipe
from gsm_lab.study.runs import read_json, read_lines
from gsm_lab.study.sweep_notes import taken


class Planned(Protocol):
    """A stage to be costed; as `Job`."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def number(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def needs(self) -> str | None: ...


@dataclass(frozen=True)
class Cost:
    """What a job is expected to take."""

    seconds: float
    test_share: float
    """Of it, for the evaluation."""
    source: str
    """Where that is known from: "measured", "by files", "per token"."""


@dataclass(frozen=True)
class Test:
    """What an evaluation took."""

    seconds: float
    work: float
    """Tokens of all its samples, at most."""


@dataclass(frozen=True)
class Past:
    """What a stage took that is done."""

    kind: str
    """All that its training does, but the seed."""
    model: str
    """Its scale, and whether it is supervised."""
    work: float
    """Tokens of all its steps, at most."""
    tokens_per_step: float
    training: float
    """Seconds of its steps."""
    tests: Mapping[str, Test]
    """What evaluations took, by their ids."""
    measured: float | None
    """Seconds from beginning to end, as a sweep saw it."""
    measured_evaluation: str | None


def past_of(home: Path) -> list[Past]:
    """Everything that is done in a folder of runs."""
    return [past for folder in sorted(home.glob("*/done.json")) if (past := _past(home, folder.parent)) is not None]


def _past(home: Path, folder: Path) -> Past | None:
    try:
        identity = read_json(folder / "config.json")
        training = _seconds_in(read_lines(folder / "timings.jsonl"))
        kind, model, work, per_step = _kind_of(identity)
    except (RunError, LookupError, TypeError):  # of another time, or damaged: no past of ours
        return None
    found = taken(home, folder.name)
    tests = {}
    for evaluation in folder.glob("evaluation-*"):
        test = _test_in(evaluation)
        if test is not None:
            tests[evaluation.name.removeprefix("evaluation-")] = test
    return Past(
        kind, model, work, per_step, training, tests,
        None if found is None else found.seconds, None if found is None else found.evaluation,
    )  # fmt: skip


def _test_in(evaluation: Path) -> Test | None:
    """What the evaluation in a folder took; None if it is not done, or not as ours are."""
    names = ("config.json", "done.json")
    if not all((evaluation / name).exists() for name in names):
        return None
    try:
        work = _work_of(read_json(evaluation / "config.json")["settings"])
    except (RunError, LookupError, TypeError):  # of another time, or damaged
        return None
    begun, ended = ((evaluation / name).stat().st_mtime for name in names)
    return Test(max(0.0, ended - begun), work)


def _seconds_in(lines: Iterable[Mapping[str, Any]]) -> float:
    return math.fsum(
        value for line in lines for name, value in line.items()
        if name.endswith("seconds") and name not in NOT_ON_THE_WALL
    )  # fmt: skip


def _kind_of(identity: Mapping[str, Any]) -> tuple[str, str, float, float]:
    """The kind of the last stage of an identity, its model, its tokens, and those of a step."""
    stage = identity["stages"][-1]
    shared = {name: identity[name] for name in ("task", "scale", "micro_batch_tokens")}
    if stage["kind"] == "supervised":
        per_step = stage["rows"] * stage["row_length"]
    else:
        per_step = stage["prompts_per_step"] * stage["samples_per_prompt"] * stage["max_new_tokens"]
    kind = json.dumps({**shared, "stage": stage}, sort_keys=True)
    model = json.dumps([identity["scale"], stage["kind"]], sort_keys=True)
    return kind, model, float(stage["steps"] * per_step), float(per_step)


def _work_of(evaluation: Mapping[str, Any]) -> float:
    """The tokens of all samples of an evaluation, at most."""
    problems = len(evaluation["ops"]) * len(evaluation["contexts"]) * evaluation["problems_per_op"]
    return float(problems * evaluation["samples"] * evaluation["max_new_tokens"])


def costs_of(jobs: Sequence[Planned], past: Sequence[Past]) -> dict[str, Cost]:
    """What every job will take from nothing to its end; jobs of which nothing is known are left out."""
    costs = {job.id: _cost(job, past) for job in jobs}
    return {name: cost for name, cost in costs.items() if cost is not None}


def _cost(job: Planned, past: Sequence[Past]) -> Cost | None:
    identity = json.loads(json.dumps(job.recipe.identity(job.number)))
    kind, model, work, per_step = _kind_of(identity)
    evaluation = job.recipe.evaluation
    same = [one for one in past if one.kind == kind]
    alike = [one for one in past if one.model == model and one.work and one.training]
    scale = json.dumps(identity["scale"], sort_keys=True)
    test = _test_seconds(evaluation, same) or _test_seconds(evaluation, [one for one in past if scale in one.model])
    seen = [one.measured for one in same if one.measured is not None and one.measured_evaluation == evaluation.id]
    if seen:
        return _cost_of(fmean(seen), test, "measured")
    if same:
        return _cost_of(fmean(one.training for one in same) + test, test, "by files")
    if alike:
        nearest = min(alike, key=lambda one: abs(math.log(one.tokens_per_step / per_step)))
        return _cost_of(nearest.training / nearest.work * work + test, test, "per token")
    return None


def _test_seconds(evaluation: Evaluation, past: Sequence[Past]) -> float:
    """What an evaluation takes: as it did before, else as the most similar one did for each of its tokens."""
    if known := [one.tests[evaluation.id].seconds for one in past if evaluation.id in one.tests]:
        return fmean(known)
    work = _work_of(evaluation.model_dump())
    others = [test for one in past for test in one.tests.values() if test.seconds]
    if not others:
        return 0.0
    nearest = min(others, key=lambda test: abs(math.log(test.work / work)))
    return nearest.seconds / nearest.work * work


def _cost_of(seconds: float, test: float, source: str) -> Cost:
    return Cost(seconds, min(1.0, test / seconds) if seconds else 0.0, source)


def wall_seconds(jobs: Sequence[Planned], left: Mapping[str, float], workers: int) -> float:
    """How long `workers` take for the jobs in `left`, each with its seconds, by the order and the needs of `jobs`."""
    now, last = 0.0, 0.0
    waiting = [job for job in jobs if job.id in left]
    running: list[tuple[float, str]] = []
    ended: set[str] = set()
    while waiting or running:
        for job in [job for job in waiting if job.needs is None or job.needs not in left or job.needs in ended]:
            if len(running) < workers:
                waiting.remove(job)
                heapq.heappush(running, (now + left[job.id], job.id))
        if not running:
            return last  # what waits needs what is not among the jobs' own
        now, name = heapq.heappop(running)
        ended.add(name)
        last = now
    return last
