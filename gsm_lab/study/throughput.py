"""How fast problems are made on this machine, and how many draws they take; reasoning-gym is the yardstick."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gsm_lab.data import ExerciseSource, Mixture, Slice, Tokenizer, without_collector, write_tokens
from gsm_lab.problems import ProblemSpec, Template, draw_counted, draw_problem, load_template, read_problem, render
from gsm_lab.seeds import stream

ROUNDS = 5
SECONDS = 0.4
"""About how long a round takes."""
MODES = ("forward", "reverse")
YARDSTICK = ("gsm_symbolic", "chain_sum")
BARS = {("forward", 10): 10_000, ("reverse", 10): 8_000, ("forward", 20): 5_000, ("forward", 50): 1_500}
"""Full rows a second on one core that the project asks of itself."""


def bench_problems() -> Iterator[str]:
    """Lines for a person, one process: medians of five rounds, with the lowest and the highest.

    A full row is item i of a data set: its random stream, graph, text, gold solution, sizes and three identities. As
    when data sets are written, Python does not search for cycles meanwhile, neither in our work nor in others'.
    """
    template = load_template("zoo", "english")
    yield f"one process, medians of {ROUNDS} rounds [lowest, highest]; rounds of all kinds take turns"
    yield from _draws()
    works: dict[str, Callable[[int], object]] = {}
    for mode in MODES:
        for op in (2, 5, 10, 20, 50, 100, 200):
            spec = ProblemSpec(op=op, mode=mode)
            works[f"{mode} op {op}"] = _row_of(spec, template)
    works |= _yardstick()
    rates = _rates(works)
    for mode in MODES:
        for op in (2, 5, 10, 20, 50, 100, 200):
            rate = rates[f"{mode} op {op}"]
            bar = BARS.get((mode, op))
            asked = f"; asked for: {bar:,}" if bar else ""
            per_op = 1e6 / statistics.median(rate) / op
            yield f"full rows a second, {mode}, op {op}: {_spread(rate)}; {per_op:.1f} microseconds an op{asked}"
    for name in YARDSTICK:
        if name in rates:
            ours, theirs = rates["forward op 10"], rates[name]
            ratio = statistics.median(our / their for our, their in zip(ours, theirs, strict=True))
            yield f"reasoning-gym {name}, items a second: {_spread(theirs)}; our op 10 rows / its items: {ratio:.2f}"
    if not set(YARDSTICK) & rates.keys():
        yield "reasoning-gym is not installed: make bench installs it"
    texts = [
        render(draw_problem(ProblemSpec(op=10), stream(0, "bench", i)), template, stream(1, i)) for i in range(200)
    ]
    solved = _rates({"solver": lambda index: read_problem(texts[index % 200].prompt, template)})["solver"]
    yield f"texts read without their graph a second, op 10: {_spread(solved)}"
    yield from _tokens()


def _row_of(spec: ProblemSpec, template: Template) -> Callable[[int], object]:
    def row(index: int) -> object:
        rng = stream(0, "bench", index)
        exercise = render(draw_problem(spec, rng), template, rng)
        return exercise.identities, exercise.sizes()

    return row


def _draws(problems_an_op: int = 10) -> Iterator[str]:
    """Draws of a skeleton, and of its numbers, for one problem, over all ops."""
    for mode in MODES:
        skeletons = numbers = problems = 0
        for op in range(1, 201):
            for index in range(problems_an_op):
                _, more_skeletons, more_numbers = draw_counted(
                    ProblemSpec(op=op, mode=mode), stream(0, mode, op, index)
                )
                skeletons += more_skeletons
                numbers += more_numbers
                problems += 1
        yield (
            f"draws for an accepted problem, {mode}, op 1 to 200 ({problems:,} problems): "
            f"{skeletons / problems:.4f} of the graph, {numbers / problems:.4f} of its numbers"
        )


def _yardstick() -> dict[str, Callable[[int], object]]:
    """reasoning-gym's data sets, if it is installed."""
    try:
        import reasoning_gym
    except ImportError:
        return {}
    datasets: dict[str, Any] = {name: reasoning_gym.create_dataset(name, size=10**6, seed=0) for name in YARDSTICK}
    return {name: dataset.__getitem__ for name, dataset in datasets.items()}


def _rates(works: dict[str, Callable[[int], object]]) -> dict[str, list[float]]:
    """Items a second of every kind of work, round by round; in every round each has its turn."""
    counts = {}
    for name, work in works.items():
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS / 4:  # also what fills the tables that are kept
            work(count)
            count += 1
        counts[name] = max(10, count * 4)
    rates: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS):
        for name, work in works.items():
            first = number * counts[name]
            with without_collector():
                began = time.perf_counter()
                for index in range(first, first + counts[name]):
                    work(index)
                rates[name].append(counts[name] / (time.perf_counter() - began))
    return rates


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} [{min(rates):,.0f}, {max(rates):,.0f}]"


def _tokens() -> Iterator[str]:
    """Token arrays on disk, op 2 to 10, with one and two processes; so many that the start is a small part."""
    kinds = {
        "english, 1 context": ("english", ("zoo",), 100_000_000),
        "terse, 3 contexts": ("terse", ("zoo", "school", "festival"), 20_000_000),
    }
    for kind, (frames, contexts, num_tokens) in kinds.items():
        slices = [
            Slice(ProblemSpec(op=op), context, frames, 1 / (9 * len(contexts)))
            for op in range(2, 11)
            for context in contexts
        ]
        tokenizer = Tokenizer.for_templates([load_template(context, frames).plain for context in contexts])
        source = ExerciseSource(Mixture(tuple(slices)), "pretrain", 0)
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                write_tokens(
                    Path(folder) / "tokens", source, tokenizer, num_tokens=num_tokens, shard_size=5_000, workers=workers
                )
                seconds = time.perf_counter() - began
            yield (
                f"tokens a second written to disk, op 2 to 10, {kind}, {workers} process{'es' if workers > 1 else ''}, "
                f"{num_tokens:,} tokens, start included: {num_tokens / seconds:,.0f}"
            )
