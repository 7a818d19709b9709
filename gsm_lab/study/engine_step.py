"""Steps of reinforcement learning in a process of its own that is told when to go; here ours, in `engine_trl.py` TRL's.

Only a process of its own shows how much memory a step takes. The parent starts all contestants, and lets one of them
do one step while the others wait. They have the same weights, problems, reward and settings, and learn so little that
the policy, and with it the length of what it writes, stays what it was. What goes through the pipes is JSON.

Where Linux keeps it we read `VmHWM`: `ru_maxrss` of a process that was started by a larger one begins with the memory
of that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from gsm_lab.errors import RunError
from gsm_lab.model import load_checkpoint, save_checkpoint
from gsm_lab.study.engine_work import Material
from gsm_lab.study.presets import STUDIES
from gsm_lab.study.recipe import Recipe
from gsm_lab.study.rewarding import RewardOf, reward_of
from gsm_lab.training import OptimizerSettings, Prompt, ReinforceSettings, Schedule, reinforce

LEARNING_RATE = 1e-6
"""So low that the policy of the last round is still that of the first."""
REWARD = "mix"
"""Half the answer, half the steps: groups that agree on it are rare, also when the model can do little."""
MOST_STEPS = 10_000
PATIENCE = 10.0
"""Seconds that a process gets to end by itself."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class StepJob:
    """A step, for both."""

    study: str
    """A name in `STUDIES`, whose problems are learned from."""
    folder: str
    """Holds the model to begin from, as `checkpoint`, with its tokenizer; each gets a folder of its own beside it."""
    prompts: int
    samples: int
    """Of each prompt."""
    longest: int
    """New tokens at most."""
    threads: int
    device: str = "cpu"
    graders: int = 0
    """Processes that grade for ours while it samples; their memory is not counted."""
    trl_rows: int = 64
    """Completions that TRL trains on at once; it accumulates their gradients."""

    @property
    def checkpoint(self) -> Path:
        return Path(self.folder) / "checkpoint"

    def recipe(self) -> Recipe:
        """The study's, with the bench's reward."""
        study = STUDIES[self.study]()
        stage = study.reinforce.model_copy(update={"reward": REWARD})
        return Material(dataclasses.replace(study, reinforce=stage)).recipe


def prepare(job: StepJob, material: Material, model: Any) -> None:
    """Write the model that both begin from."""
    tokenizer = material.tokenizer
    folder = Path(job.folder) / "tokenizer"
    tokenizer.save(folder)
    save_checkpoint(job.checkpoint, model, folder, tokenizer.eos_id, tokenizer.pad_id)


Runner = Callable[[Connection, Mapping[str, Any]], None]
"""What a process does: steps, one for every message, for the job of these fields."""


class Contestant:
    """A process that does a step whenever it is asked; to be used in a `with` statement.

    Raises:
        RunError: the process ended early.
    """

    def __init__(self, name: str, run: Runner, job: StepJob) -> None:
        context = get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(theirs, dataclasses.asdict(job)))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()  # which it takes for the end
        self._process.join(PATIENCE)
        self._process.terminate()
        self._process.join()

    def step(self) -> dict[str, float]:
        """Do one step: its `seconds`, sampled `tokens`, and the process's `peak_bytes` so far.

        Ours also gives its seconds by phase, and the share of rollouts that are `unused` because their advantage is 0.
        """
        try:
            self._pipe.send_bytes(b"go")
            report: dict[str, float] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise RunError(
                f"the process that does the step of {self.name} ended with exit code {self._process.exitcode}: "
                f"its error stands above; a lack of memory leaves none, then bench with fewer prompts."
            ) from error
        return report


class Gate:
    """In a contestant: waits for the word before every step, and reports after it."""

    def __init__(self, pipe: Connection, device: str) -> None:
        self._pipe, self._device = pipe, device
        self._began = 0.0

    def wait(self) -> None:
        """Until the parent wants a step; when it has gone, so do we."""
        try:
            self._pipe.recv_bytes()
        except (EOFError, OSError):
            sys.exit(0)
        self._began = time.perf_counter()

    def report(self, **figures: float) -> None:
        """Tell the parent what the step took, with other figures of it."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began
        figures |= {"seconds": seconds, "peak_bytes": float(peak_bytes(self._device))}
        self._pipe.send_bytes(json.dumps(figures).encode())


def peak_bytes(device: str = "cpu") -> int:
    """The most memory that this process has had in use: of the GPU, where it works on one."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def problems_of(job: StepJob) -> tuple[Material, RewardOf, Callable[[int], list[Prompt]]]:
    """Where the problems come from, what rewards them, and those of every step."""
    recipe = job.recipe()
    study = STUDIES[job.study]()
    material = Material(study)
    reward = reward_of(recipe, 1, material.tokenizer)
    return material, reward, lambda step: material.prompts(job.prompts, step)


def run_ours(pipe: Connection, fields: Mapping[str, Any]) -> None:
    """In a process of its own: `reinforce`, as it is, with a gate between two steps."""
    job = StepJob(**fields)
    torch.set_num_threads(job.threads)
    material, reward, prompts_at = problems_of(job)
    model = load_checkpoint(job.checkpoint).to(job.device)
    settings = ReinforceSettings(
        steps=MOST_STEPS,
        group_size=job.samples,
        max_new_tokens=job.longest,
        eos_id=material.tokenizer.eos_id,
        seed=0,
        optimizer=OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE),
        schedule=Schedule(kind="constant", warmup_steps=0),
        save_every=MOST_STEPS,
        reward_workers=job.graders,
    )
    folder = Path(job.folder) / "ours"
    gate = Gate(pipe, job.device)
    before = {"tokens": 0, "unused_rollouts": 0}

    def after_step(metrics: Mapping[str, Any]) -> None:
        sampled, unused = (metrics[name] - before[name] for name in before)
        before.update((name, metrics[name]) for name in before)
        gate.report(tokens=sampled, unused=unused / (job.prompts * job.samples), **_phases(folder))
        gate.wait()

    gate.wait()
    reinforce(model, prompts_at, reward, settings, folder, on_metrics=after_step)


def _phases(folder: Path) -> dict[str, float]:
    """The seconds that the loop itself noted for each phase of its last step."""
    last = json.loads((folder / "timings.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in last.items() if name.endswith("_seconds")}
