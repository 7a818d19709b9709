"""Scaling tables: what training and sampling cost by length, model size, batch, group size and number of workers.

Each table changes one thing and leaves the rest as it is in the bench. Tokens are real where lengths have to be; in the
table of lengths they are drawn at random, because the task has no texts of 2048 tokens.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsm_lab.data import DocumentWorkers, DrawnDocuments, PackedRows
from gsm_lab.errors import RunError
from gsm_lab.model import Transformer, load_checkpoint, save_checkpoint
from gsm_lab.study.engine_peers import PlainLoop
from gsm_lab.study.engine_plan import Bench
from gsm_lab.study.engine_step import Contestant, StepJob, prepare, run_ours
from gsm_lab.study.engine_work import Material, from_list, train, write
from gsm_lab.study.measured import Measured, alternate
from gsm_lab.study.presets import STUDIES
from gsm_lab.study.sources import source_of
from gsm_lab.training import Prompt, World

LOCALHOST = "127.0.0.1"


def scaling(bench: Bench) -> Iterator[Measured | str]:
    """All tables, one after the other."""
    for table in (by_length, by_size, by_batch, by_rows_at_once, by_group, by_workers, by_graders, by_ranks):
        yield from table(bench)


def by_length(bench: Bench) -> Iterator[Measured]:
    """One document a row, in as many rows as make the same number of tokens; prompts of what writing leaves of it."""
    plan, job = bench.plan.tables, bench.plan.training[0]
    model, section = bench.model(job.size), "by length"
    for length in plan.lengths:
        batch = whole_rows(max(1, max(plan.lengths) // length), length, model.shape.vocab_size)
        yield from _training_row(bench, section, f"{length} tokens", model, [batch], with_peer=True)
    for length in plan.lengths:
        prompt, samples = length - plan.written, bench.plan.sampling[0].samples
        if prompt > 0:
            prompts = random_prompts(max(1, plan.completions // samples), prompt, model.shape.vocab_size)
            what = f"prompt of {prompt} tokens, {plan.written} written"
            yield _sampling_row(bench, section, what, model, prompts, samples, plan.written, ends=False)


def by_size(bench: Bench) -> Iterator[Measured]:
    """The five sizes, with the batch and the prompts of the bench."""
    plan, job, sampling = bench.plan.tables, bench.plan.training[0], bench.plan.sampling[0]
    section = "by model size"
    batches = bench.material.batches(job.rows, job.length, 4)
    prompts = bench.material.prompts(max(1, plan.completions // sampling.samples))
    for size in plan.sizes:
        yield from _training_row(bench, section, f"{size} parameters", bench.model(size), batches, with_peer=True)
    for size in plan.sizes:
        what, model = f"{size} parameters", bench.model(size)
        yield _sampling_row(bench, section, what, model, prompts, sampling.samples, sampling.longest)


def by_batch(bench: Bench) -> Iterator[Measured]:
    """Rows of a training batch."""
    job = bench.plan.training[0]
    model = bench.model(job.size)
    for rows in bench.plan.tables.batches:
        batches = bench.material.batches(rows, job.length, 4)
        yield from _training_row(bench, "by batch", f"{rows} rows of {job.length}", model, batches)


def by_rows_at_once(bench: Bench) -> Iterator[Measured]:
    """Completions that the sampler writes at once, of the same prompts."""
    job = bench.plan.sampling[0]
    model, prompts = bench.model(job.size), bench.material.prompts(job.prompts)
    for rows in bench.plan.tables.at_once:
        what = f"{rows} completions at once"
        yield _sampling_row(bench, "by batch", what, model, prompts, job.samples, job.longest, max_rows=rows)


def by_group(bench: Bench) -> Iterator[Measured]:
    """Samples of a prompt: as many completions, of fewer prompts."""
    plan, job = bench.plan.tables, bench.plan.sampling[0]
    model = bench.model(job.size)
    for samples in plan.groups:
        prompts = bench.material.prompts(max(1, plan.completions // samples))
        yield _sampling_row(bench, "by group size", f"{samples} a prompt", model, prompts, samples, job.longest)


def by_workers(bench: Bench) -> Iterator[Measured]:
    """Processes that draw and encode problems ahead; 0 draws them in the process that trains."""
    plan, material = bench.plan.tables, bench.material
    source = source_of(material.recipe, 0, material.tokenizer)
    for workers in plan.workers:
        documents = (
            DocumentWorkers(source, material.tokenizer, workers)
            if workers
            else nullcontext(DrawnDocuments(source, material.tokenizer))
        )
        with documents as provider:
            provider.document(0)  # which starts them
            began = time.perf_counter()
            for index in range(1, plan.drawn + 1):
                provider.document(index)
            rate = plan.drawn / (time.perf_counter() - began)
        yield Measured("by workers", f"{workers} processes that draw", "problems/s", (rate,))


def by_graders(bench: Bench) -> Iterator[Measured]:
    """Processes that grade while others are still being sampled: our step of reinforcement learning, and how long the
    process that trains grades itself, or waits for the others.
    """
    plan, (prompts, samples, longest) = bench.plan.tables, bench.plan.tables.graded
    for graders in plan.graders:
        with tempfile.TemporaryDirectory() as folder:
            job = StepJob(
                study=bench.plan.study,
                folder=folder,
                prompts=prompts,
                samples=samples,
                longest=longest,
                threads=torch.get_num_threads(),
                device=bench.device,
                graders=graders,
            )
            prepare(job, bench.material, bench.model(bench.plan.step_size))
            with Contestant("ours", run_ours, job) as contestant:
                contestant.step()
                reports = [contestant.step() for _ in range(plan.rounds)]
        what = f"step of {prompts} prompts x {samples}, {graders} processes that grade"
        yield Measured("by workers", what, "s", tuple(report["seconds"] for report in reports))
        shares = tuple(report["reward_seconds"] / report["seconds"] for report in reports)
        yield Measured("by workers", f"{what}, share of it for rewards", "share", shares, 0.02, below=True)


def by_ranks(bench: Bench) -> Iterator[Measured]:
    """Processes that train one model together on the CPU, the threads divided among them."""
    plan, job = bench.plan.tables, bench.plan.training[0]
    model, threads = bench.model(job.size), torch.get_num_threads()
    for ranks in plan.ranks:
        steps = max(2, plan.tokens // (job.rows * job.length))
        own = max(1, threads // ranks)
        settings = {"ranks": ranks, "threads": own, "rows": job.rows, "length": job.length, "steps": steps}
        rates = [rate_of_ranks(model, study=bench.plan.study, **settings) for _ in range(plan.rounds)]
        yield Measured("by workers", f"training, {ranks} ranks, {own} threads each", "tokens/s", tuple(rates))


def _training_row(
    bench: Bench,
    section: str,
    what: str,
    model: Transformer,
    batches: Sequence[PackedRows],
    with_peer: bool = False,
) -> Iterator[Measured]:
    """Useful tokens a second of training, ours and if wanted the plain loop's on packed rows."""
    steps = max(2, -(-bench.plan.tables.tokens // batches[0].num_tokens))
    works: dict[str, Callable[[], float]] = {
        "ours": lambda: train(model, from_list(batches), steps, precision=bench.precision).rate
    }
    if with_peer:
        loop = PlainLoop(model, bench.material.tokenizer, batches, "packed", bench.precision)
        works["transformers"] = lambda: loop.rate(steps)
    for name, rates in alternate(works, bench.plan.tables.rounds).items():
        yield Measured(section, f"training, {what}, {name}", "tokens/s", rates)


def _sampling_row(
    bench: Bench,
    section: str,
    what: str,
    model: Transformer,
    prompts: Sequence[Prompt],
    samples: int,
    longest: int,
    *,
    ends: bool = True,
    max_rows: int = 256,
) -> Measured:
    """Tokens a second of our sampler."""
    eos = (bench.material.tokenizer.eos_id,) if ends else ()
    rounds = iter(range(1 << 30))

    def ours() -> float:
        began = time.perf_counter()
        groups = write(model, prompts, samples, longest, eos, max_rows, next(rounds))
        return sum(len(one.ids) for group in groups for one in group) / (time.perf_counter() - began)

    return Measured(
        section, f"sampling, {what}, ours", "tokens/s", alternate({"ours": ours}, bench.plan.tables.rounds)["ours"]
    )


def whole_rows(rows: int, length: int, vocab_size: int) -> PackedRows:
    """Rows of one document each, of random tokens, all of which are scored."""
    tokens = np.random.default_rng(length).integers(0, vocab_size, (rows, length + 1), dtype=np.int32)
    mask = np.ones((rows, length), np.bool_)
    mask[:, -1] = False  # in a real row nothing follows the last token of a document
    return PackedRows(
        tokens=np.ascontiguousarray(tokens[:, :-1]),
        targets=np.ascontiguousarray(tokens[:, 1:]),
        positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        documents=np.zeros((rows, length), np.int32),
        loss_mask=mask,
    )


def random_prompts(count: int, length: int, vocab_size: int) -> list[Prompt]:
    """Prompts of random tokens."""
    tokens = np.random.default_rng(length).integers(0, vocab_size, (count, length))
    return [Prompt(tuple(map(int, ids)), f"random-{number}") for number, ids in enumerate(tokens)]


@dataclass(frozen=True, kw_only=True)
class RankJob:
    """Training that several processes share."""

    folder: str
    """Holds the model, as `checkpoint`; the run goes beside it."""
    study: str
    ranks: int
    threads: int
    """Of each rank."""
    rows: int
    length: int
    steps: int


def rate_of_ranks(model: Transformer, **settings: Any) -> float:
    """Useful tokens a second of `fit` with several ranks, each a process of its own; `settings` of a `RankJob`.

    Raises:
        RunError: a process ended early.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "checkpoint", model, None, eos_id=0, pad_id=0)
        job = RankJob(folder=folder, **settings)
        receiver, sender = context.Pipe(duplex=False)
        port = _free_port()
        processes = [
            context.Process(target=_one_rank, args=(sender, rank, port, dataclasses.asdict(job)), daemon=True)
            for rank in range(job.ranks)
        ]
        for process in processes:
            process.start()
        sender.close()
        try:
            return float(receiver.recv_bytes())
        except EOFError as error:
            raise RunError("a process that trains with others ended early: its error stands above.") from error
        finally:
            for process in processes:
                process.join(10)
                process.terminate()


def _one_rank(sender: Connection, rank: int, port: int, fields: Mapping[str, Any]) -> None:
    """In a process of its own: train with the others; the first of them sends the rate."""
    job = RankJob(**fields)
    torch.set_num_threads(job.threads)
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job.ranks, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in variables.items()} | {"MASTER_ADDR": LOCALHOST}
    material = Material(STUDIES[job.study]())
    batches = material.batches(job.rows, job.length, job.steps)
    folder = Path(job.folder)
    with World.from_environment("cpu") as world:
        trained = train(
            load_checkpoint(folder / "checkpoint"), from_list(batches), job.steps, world=world, folder=folder / "run"
        )
        if world.is_first:
            sender.send_bytes(str(trained.rate).encode())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])
