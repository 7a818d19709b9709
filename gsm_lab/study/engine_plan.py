"""What `gsm-lab bench engine` measures: jobs of a quick run, jobs at the size that the bars name, and their models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from gsm_lab.model import Transformer
from gsm_lab.study.engine_cost import COPIED_BYTES, LARGE, Product, large_products
from gsm_lab.study.engine_peers import WAYS, Generate
from gsm_lab.study.engine_work import SIZES, Material, grown, on_device
from gsm_lab.study.presets import STUDIES
from gsm_lab.training import Precision


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Training to measure."""

    size: str
    """A name in `SIZES`."""
    rows: int
    length: int
    """Packed tokens a row."""
    steps: int
    """Of a round."""
    ratio: float | None = None
    """What is asked for: times the peer's rate."""
    share: float | None = None
    """What is asked for: share of the machine's matrix rate."""


@dataclass(frozen=True, kw_only=True)
class SampleJob:
    """Sampling to measure."""

    size: str
    prompts: int
    samples: int
    longest: int
    """New tokens at most."""
    max_rows: tuple[int, ...]
    """Completions at once that our sampler is tried with."""
    peers: tuple[Generate, ...]
    """The ways that `generate` is tried."""
    ratio: float | None = None
    share: float | None = None
    """What is asked for: share of the roofline."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the scaling tables step through; everything else is as in the first jobs of the plan."""

    rounds: int = 3
    tokens: int = 4096
    """Of a round of training, at least."""
    lengths: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    """Of documents in training, and of prompt and completion together in sampling."""
    written: int = 64
    """New tokens of each completion in the table of lengths."""
    sizes: tuple[str, ...] = tuple(SIZES)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Rows of a batch in training."""
    at_once: tuple[int, ...] = (16, 64, 256, 1024)
    """Completions that are written at once."""
    groups: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Samples of a prompt, the number of completions being the same."""
    completions: int = 256
    workers: tuple[int, ...] = (0, 1, 2)
    """Processes that draw problems."""
    drawn: int = 20_000
    """Problems that they draw."""
    graders: tuple[int, ...] = (0, 1, 2)
    """Processes that grade for a step of reinforcement learning."""
    graded: tuple[int, int, int] = (64, 16, 176)
    """Prompts, samples of each and new tokens of that step."""
    ranks: tuple[int, ...] = (1, 2)
    """Processes that train together, each with its share of the threads."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of everything is measured."""

    study: str = "nano-wide"
    rounds: int = 5
    teaching_steps: int = 400
    """Training steps of the smallest model, whose texts all sizes write."""
    training: tuple[TrainJob, ...]
    ways: tuple[str, ...]
    """Those of `WAYS` that the plain loop is tried with."""
    sampling: tuple[SampleJob, ...]
    step_size: str = "0.8 M"
    step: tuple[int, int, int]
    """Prompts, samples of each and new tokens of a step of reinforcement learning."""
    graders: int = 0
    """Processes that grade for our step."""
    trl_rows: tuple[int, ...] = (64,)
    """Completions at once that TRL's update is tried with."""
    sides: tuple[int, ...] = LARGE
    """Of the large matrices."""
    copied_bytes: int = COPIED_BYTES
    starts: int = 7
    """How often each command is started to measure how long that takes."""
    tables: Tables = Tables()


_GENERATE = tuple(Generate(rows, cache) for cache in ("dynamic", "static") for rows in (64, 256, 1024))
QUICK = Plan(
    training=(
        TrainJob(size="0.8 M", rows=4, length=256, steps=16, ratio=1.6, share=0.5),
        TrainJob(size="10 M", rows=8, length=256, steps=2, ratio=1.3, share=0.7),
    ),
    ways=WAYS[:2],
    sampling=(
        SampleJob(
            size="0.8 M",
            prompts=64,
            samples=16,
            longest=256,
            max_rows=(256, 1024),
            peers=_GENERATE[:3],
            ratio=4,
            share=0.4,
        ),
        SampleJob(
            size="10 M", prompts=8, samples=16, longest=256, max_rows=(128,), peers=_GENERATE[:1], ratio=6, share=0.4
        ),
    ),
    step=(32, 16, 176),
)
"""About five minutes on two cores. Sampling with 10 M parameters is cut to 8 prompts."""
FULL = Plan(
    rounds=7,
    training=(
        TrainJob(size="0.8 M", rows=4, length=256, steps=30, ratio=1.6, share=0.5),
        TrainJob(size="10 M", rows=8, length=256, steps=5, ratio=1.3, share=0.7),
    ),
    ways=WAYS,
    sampling=tuple(
        SampleJob(
            size=size,
            prompts=64,
            samples=16,
            longest=256,
            max_rows=(64, 256, 1024),
            peers=_GENERATE,
            ratio=ratio,
            share=0.4,
        )
        for size, ratio in (("0.8 M", 4), ("10 M", 6))
    ),
    step=(32, 16, 176),
    trl_rows=(16, 64, 256),
)
"""Everything at the size that the bars name: about half an hour, most of it the peers'."""


GPU = Plan(
    training=(
        TrainJob(size="10 M", rows=64, length=512, steps=20),
        TrainJob(size="30 M", rows=64, length=512, steps=20, share=0.35),
    ),
    ways=WAYS,
    sampling=tuple(
        SampleJob(size=size, prompts=64, samples=16, longest=256, max_rows=(256, 1024), peers=_GENERATE)
        for size in ("10 M", "30 M")
    ),
    step_size="30 M",
    step=(64, 16, 256),
    trl_rows=(64, 256, 1024),
)
"""On a GPU, where smaller jobs measure only how long it takes to ask for them."""


@dataclass(frozen=True)
class Bench:
    """What all sections share."""

    plan: Plan

    @cached_property
    def material(self) -> Material:
        return Material(STUDIES[self.plan.study]())

    @cached_property
    def teacher(self) -> Transformer:
        """The smallest model, trained a little."""
        return self.material.trained(self.plan.teaching_steps)

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def precision(self) -> Precision:
        """Of training, ours and the peers'; sampling is in float32 everywhere."""
        return "bfloat16" if self.device == "cuda" else "float32"

    @property
    def training_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def model(self, size: str) -> Transformer:
        """The model of that size, on the device."""
        shape = self.material.shape(size)
        model = self.teacher if shape == self.teacher.shape else grown(self.teacher, shape)
        return on_device(model, self.device)

    def large(self) -> list[Product]:
        return large_products((4096, 8192) if self.device == "cuda" else self.plan.sides)
