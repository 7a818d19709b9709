"""`gsm-lab bench engine`: our engine beside each peer in one run, and beside what the machine can do.

Every section stands alone. Within one, ours and the peer alternate round by round on the same work, with the same
threads and precision; the machine's matrix rate and memory bandwidth are measured anew in every round, so that a share
of them belongs to the same minute.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from gsm_lab.data import DocumentWorkers
from gsm_lab.errors import RecipeError
from gsm_lab.files import write_text
from gsm_lab.model import ModelShape, Transformer, kernels
from gsm_lab.study.engine_cost import (
    Machine,
    Product,
    Work,
    best_product,
    memory_rate,
    model_products,
    product_rate,
    sampling_work,
    training_work,
)
from gsm_lab.study.engine_peers import Generate, PlainLoop, possible_ways, quickest, transformers_model
from gsm_lab.study.engine_plan import FULL, GPU, QUICK, Bench, Plan, SampleJob, TrainJob
from gsm_lab.study.engine_step import Contestant, StepJob, prepare, run_ours
from gsm_lab.study.engine_tables import scaling
from gsm_lab.study.engine_trl import has_trl, run_trl
from gsm_lab.study.engine_work import Stopwatch, from_list, lengths_of, train, write
from gsm_lab.study.measured import Measured, alternate, csv_of, markdown_of, quotients

OURS, TRL = "ours", "TRL"
METHOD = """\
Written by `gsm-lab bench engine`. Medians, with the lowest and the highest round.

- Ours and its peer have a turn in every round, each first in turn: same work, same threads, same precision. A ratio is
  taken within a round. Peers are tried in the ways that their documentation advises; the quickest takes part, and its
  name stands in brackets.
- Training: tokens of documents, padding not counted. Our rate is the one that `fit` itself logs. The share of the
  matrix rate counts 6 operations a parameter and token (those of the head too where nothing is scored, and ours leaves
  it out), and attention with the keys that each token really sees.
- Sampling: tokens written, end tokens too, of models that stop where they have learned to. The roofline is the longer
  of the arithmetic at the matrix rate and the cache's bytes at the memory's; a prompt's keys and values are read once
  a step for all its samples. Weights are not counted, nor the work on rows that have ended.
- Step: reinforcement learning from the same weights, problems, reward and settings, each in a process of its own.
- Matrix rate and bandwidth are measured anew in every round.
"""
"""How the figures were made, for the page that shows them."""
MEBIBYTE = 1 << 20
PHASES = ("prompts", "sample", "reward", "write", "train")
"""Of a step of reinforcement learning, one after the other."""


Section = Callable[[Bench], Iterator["Measured | str"]]
"""Yields figures as they are measured, and remarks."""


def about(bench: Bench) -> Iterator[Measured | str]:
    """The machine: what it is, its matrix rate and its memory bandwidth."""
    parts = [f"Python {platform.python_version()}", f"torch {torch.__version__}", _processor()]
    if bench.device == "cuda":
        parts.append(torch.cuda.get_device_name())
    yield f"{', '.join(parts)}, {torch.get_num_threads()} threads"
    used = "in use" if kernels.available() else "NOT in use: torch does their work"
    yield f"our compiled CPU kernels are {used}"
    yield f"the processor's matrix unit is {'in use' if kernels.use_matrix_unit() else 'not used'}"
    dtype, name = bench.training_dtype, bench.precision
    product, rate = best_product(bench.large(), bench.device, dtype)
    yield Measured("machine", f"matrix rate, {name}, large ({_times(product)})", "GFLOP/s", (rate / 1e9,))
    for job in bench.plan.training:
        products = model_products(bench.material.shape(job.size), job.rows * job.length)
        product, rate = best_product(products, bench.device, dtype)
        what = f"matrix rate, {name}, best of the sizes of {job.size} parameters ({_times(product)})"
        yield Measured("machine", what, "GFLOP/s", (rate / 1e9,))
    memory = memory_rate(bench.plan.copied_bytes, bench.device)
    yield Measured("machine", "memory bandwidth", "GB/s", (memory / 1e9,))


def training(bench: Bench) -> Iterator[Measured | str]:
    """Our training loop beside a plain one of `transformers`, and how much of it waits for data."""
    for job in bench.plan.training:
        yield from _training(bench, job)
    yield _data_share(bench, bench.plan.training[0])


def _training(bench: Bench, job: TrainJob) -> Iterator[Measured | str]:
    model, tokenizer = bench.model(job.size), bench.material.tokenizer
    batches = bench.material.batches(job.rows, job.length, job.steps)
    ways = possible_ways(bench.plan.ways)
    loops = {way: PlainLoop(model, tokenizer, batches, way, bench.precision) for way in ways}
    for loop in loops.values():
        loop.rate(1)
    way = quickest(list(loops), lambda name: loops[name].rate(job.steps))
    product, _ = best_product(bench.large(), bench.device, bench.training_dtype)
    works = {
        "ours": lambda: train(model, from_list(batches), job.steps, precision=bench.precision).rate,
        "transformers": lambda: loops[way].rate(job.steps),
        "machine": lambda: product_rate(product, bench.device, bench.training_dtype),
    }
    rates = alternate(works, bench.plan.rounds)
    lengths = lengths_of(batches)
    work = training_work(model.shape, lengths).operations / sum(lengths)  # a useful token
    what = f"{_millions(model.shape)}, {job.rows} rows of {job.length}"
    yield Measured("training", f"{what}, ours", "tokens/s", rates["ours"])
    yield Measured("training", f"{what}, transformers ({way})", "tokens/s", rates["transformers"])
    ratio = quotients(rates["ours"], rates["transformers"])
    yield Measured("training", f"{what}, ours / transformers", "times", ratio, job.ratio)
    share = tuple(work * rate for rate in quotients(rates["ours"], rates["machine"]))
    yield Measured("training", f"{what}, share of the matrix rate", "share", share, job.share)
    theirs = tuple(work * rate for rate in quotients(rates["transformers"], rates["machine"]))
    yield Measured("training", f"{what}, share of the matrix rate, transformers", "share", theirs)


def _data_share(bench: Bench, job: TrainJob) -> Measured:
    """The part of the real loop spent in the source of batches; one process draws the problems, as in `run`."""
    model, material = bench.model(job.size), bench.material
    shares = []
    for _ in range(bench.plan.rounds):
        with DocumentWorkers(material.source, material.tokenizer, 1) as documents:
            packer = material.packer(job.rows, job.length, documents)
            watch = Stopwatch(packer.batch, skipped=2)
            trained = train(model, watch, job.steps, warm_up=2, precision=bench.precision)
        shares.append(watch.seconds / trained.seconds)
    what = f"{_millions(model.shape)}, share of a step that waits for its data and packs them"
    return Measured("training", what, "share", tuple(shares), 0.02, below=True)


def sampling(bench: Bench) -> Iterator[Measured | str]:
    """Our sampler beside `generate`, and beside the roofline."""
    for job in bench.plan.sampling:
        yield from _sampling(bench, job)


def _sampling(bench: Bench, job: SampleJob) -> Iterator[Measured | str]:
    model, tokenizer = bench.model(job.size), bench.material.tokenizer
    theirs = transformers_model(model, tokenizer, bench.device)
    prompts = bench.material.prompts(job.prompts)
    product, _ = best_product(bench.large(), bench.device)
    writer = _Writer(bench, model, job)
    seeds = iter(range(1, 1 << 30))

    def peer(way: Generate) -> float:
        began = time.perf_counter()
        written = way.tokens(theirs, prompts, job.samples, job.longest, tokenizer, next(seeds))
        return written / (time.perf_counter() - began)

    way = quickest(job.peers, peer)
    max_rows = quickest(job.max_rows, lambda rows: writer.rate(rows))
    works = {
        "ours": lambda: writer.rate(max_rows),
        "generate": lambda: peer(way),
        "operations": lambda: product_rate(product, bench.device),
        "bytes": lambda: memory_rate(bench.plan.copied_bytes, bench.device),
    }
    rates = alternate(works, bench.plan.rounds)
    what = f"{_millions(model.shape)}, {job.prompts} prompts x {job.samples}, up to {job.longest} tokens"
    yield f"sampling, {what}: {writer.mean_length:.0f} tokens a completion; {max_rows} rows at once (ours)"
    yield Measured("sampling", f"{what}, ours", "tokens/s", rates["ours"])
    yield Measured("sampling", f"{what}, generate ({way})", "tokens/s", rates["generate"])
    ratio = quotients(rates["ours"], rates["generate"])
    yield Measured("sampling", f"{what}, ours / generate", "times", ratio, job.ratio)
    machines = map(Machine, rates["operations"], rates["bytes"])
    roofline = tuple(
        tokens / work.seconds(machine)
        for (tokens, work), machine in zip(writer.rounds[-bench.plan.rounds :], machines, strict=True)
    )
    yield Measured("sampling", f"{what}, roofline", "tokens/s", roofline)
    share = quotients(rates["ours"], roofline)
    yield Measured("sampling", f"{what}, share of the roofline", "share", share, job.share)


class _Writer:
    """Our sampler at a job, and what each of its rounds took."""

    def __init__(self, bench: Bench, model: Transformer, job: SampleJob) -> None:
        self._model, self._job = model, job
        self._eos_id = bench.material.tokenizer.eos_id
        self._prompts = bench.material.prompts(job.prompts)
        self.rounds: list[tuple[int, Work]] = []
        """Tokens that a round wrote, and what that needed at least."""

    def rate(self, max_rows: int) -> float:
        """Tokens a second of a round, with random numbers of its own."""
        job, seed = self._job, len(self.rounds)
        began = time.perf_counter()
        groups = write(self._model, self._prompts, job.samples, job.longest, self._eos_id, max_rows, seed)
        seconds = time.perf_counter() - began
        lengths = [[len(one.ids) for one in group] for group in groups]
        work = sampling_work(self._model.shape, [len(prompt.ids) for prompt in self._prompts], lengths)
        tokens = sum(map(sum, lengths))
        self.rounds.append((tokens, work))
        return tokens / seconds

    @property
    def mean_length(self) -> float:
        """Tokens of a completion."""
        return statistics.fmean(tokens for tokens, _ in self.rounds) / (self._job.prompts * self._job.samples)


def step(bench: Bench) -> Iterator[Measured | str]:
    """A step of reinforcement learning beside TRL's, each in a process of its own."""
    prompts, samples, longest = bench.plan.step
    runners = {OURS: run_ours} | ({TRL: run_trl} if has_trl() else {})
    if TRL not in runners:
        yield "TRL is not installed: `pip install .[bench]` installs it; our step is measured alone"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        job = StepJob(
            study=bench.plan.study,
            folder=folder,
            prompts=prompts,
            samples=samples,
            longest=longest,
            threads=torch.get_num_threads(),
            device=bench.device,
            graders=bench.plan.graders,
        )
        model = bench.model(bench.plan.step_size)
        prepare(job, bench.material, model)
        if TRL in runners:
            job = quickest([replace(job, trl_rows=rows) for rows in bench.plan.trl_rows], _trl_speed)
            yield f"step: TRL's update takes {job.trl_rows} completions at once"
        contestants = {name: stack.enter_context(Contestant(name, run, job)) for name, run in runners.items()}
        reports: dict[str, list[dict[str, float]]] = {name: [] for name in runners}

        def one(name: str) -> Callable[[], float]:
            def run() -> float:
                reports[name].append(contestants[name].step())
                return reports[name][-1]["seconds"]

            return run

        alternate({name: one(name) for name in runners}, bench.plan.rounds)
    what = f"{_millions(model.shape)}, {prompts} prompts x {samples}, up to {longest} tokens"
    yield from _step_figures(what, {name: of[1:] for name, of in reports.items()})


def _trl_speed(job: StepJob) -> float:
    """Steps a second of TRL, from its second step."""
    with Contestant(TRL, run_trl, job) as contestant:
        contestant.step()
        return 1.0 / contestant.step()["seconds"]


def _step_figures(what: str, reports: dict[str, list[dict[str, float]]]) -> Iterator[Measured | str]:
    """What the reports of all counted rounds say."""

    def of(name: str, key: str) -> tuple[float, ...]:
        return tuple(report[key] for report in reports[name])

    for name in reports:
        yield Measured("step", f"{what}, {name}", "s", of(name, "seconds"))
        yield Measured("step", f"{what}, {name}, tokens sampled", "tokens", of(name, "tokens"))
        peak = of(name, "peak_bytes")[-1] / MEBIBYTE
        yield Measured("step", f"{what}, {name}, peak memory of the process", "MiB", (peak,))
    if TRL in reports:
        times = quotients(of(TRL, "seconds"), of(OURS, "seconds"))
        yield Measured("step", f"{what}, TRL / ours", "times", times, 4)
        memory = of(TRL, "peak_bytes")[-1] / of(OURS, "peak_bytes")[-1]
        yield Measured("step", f"{what}, peak memory, TRL / ours", "times", (memory,), 1)
    unused = of(OURS, "unused")
    yield Measured("step", f"{what}, rollouts of advantage 0, which ours leaves out of the update", "share", unused)
    for phase in PHASES:
        seconds = [report.get(f"{phase}_seconds", 0.0) for report in reports[OURS]]
        shares = quotients(seconds, of(OURS, "seconds"))
        yield Measured("step", f"{what}, ours, share of the phase {phase!r}", "share", shares)


def setup(bench: Bench) -> Iterator[Measured | str]:
    """How long it takes to import the package, and to ask the command line for help."""
    commands = {
        "the interpreter alone": ["-c", "pass"],
        "import gsm_lab": ["-c", "import gsm_lab"],
        "gsm-lab --help": ["-m", "gsm_lab", "--help"],
    }

    def start(arguments: Sequence[str]) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            return time.perf_counter() - began

        return run

    seconds = alternate({name: start(arguments) for name, arguments in commands.items()}, bench.plan.starts)
    for name, values in seconds.items():
        bar = None if name.startswith("the") else 0.3
        yield Measured("set-up", name, "s", values, bar, below=True)
    code = "import sys, gsm_lab.cli; print('torch' in sys.modules)"
    imports = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    yield f"the command line imports torch: {imports}"


SECTIONS: dict[str, Section] = {
    "machine": about,
    "training": training,
    "sampling": sampling,
    "step": step,
    "set-up": setup,
}


def bench_engine(
    *,
    full: bool = False,
    tables: bool = False,
    only: Sequence[str] = (),
    output: Path | None = None,
    plan: Plan | None = None,
) -> Iterator[str]:
    """Lines for a person, one figure each: the median, with the lowest and the highest of its rounds.

    Args:
        full: everything at the size that the project's bars name, half an hour; else smaller, some five minutes. A GPU
            has a plan of its own.
        tables: the scaling tables too, which take another ten minutes.
        only: sections, of `SECTIONS` and "tables"; all if empty.
        output: a folder that gets `engine.csv` and `README.md` with all figures.
        plan: what to measure; overrides `full`.

    Raises:
        RecipeError: there is no such section.
    """
    sections = dict(SECTIONS) | ({"tables": scaling} if tables or "tables" in only else {})
    if unknown := [name for name in only if name not in sections]:
        raise RecipeError(f"there is no section {unknown[0]!r}: give some of {', '.join(sections)}.")
    bench = Bench(plan or _plan(full))
    measured: list[Measured] = []
    remarks: list[str] = []
    yield f"medians of {bench.plan.rounds} rounds [lowest, highest]; everybody has a turn in every round"
    for name in only or sections:
        for line in sections[name](bench):
            if isinstance(line, Measured):
                measured.append(line)
            else:
                remarks.append(line)
            yield str(line)
    if output is not None:
        _write(output, measured, remarks)
        yield f"written: {output / 'engine.csv'}, {output / 'README.md'}"


def _plan(full: bool) -> Plan:
    if torch.cuda.is_available():
        return GPU
    return FULL if full else QUICK


def _write(folder: Path, measured: Sequence[Measured], remarks: Iterable[str]) -> None:
    """All figures as a table for programs, and as a page for people."""
    page = ["# The engine", "", METHOD, *(f"- {remark}" for remark in remarks), "", markdown_of(measured)]
    write_text(folder / "engine.csv", csv_of(measured))
    write_text(folder / "README.md", "\n".join(page))


def _millions(shape: ModelShape) -> str:
    return f"{shape.parameters / 1e6:.1f} M parameters"


def _times(product: Product) -> str:
    return " x ".join(map(str, product))


def _processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
