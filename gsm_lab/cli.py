"""The command line: the only parser, and the only place that prints.

Progress goes to stderr, results to stdout or to files; the exit code is 0 only when the work is done. Heavy packages
are imported inside the commands, so that `gsm-lab --help` is quick.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsm_lab.errors import GsmLabError, RunError

if TYPE_CHECKING:
    import pandas as pd
    from rich.live import Live
    from rich.table import Table

    from gsm_lab.data import Progress as WritingProgress
    from gsm_lab.data import Slice
    from gsm_lab.study import Job, OnProgress, RunOptions, StageFolder, SweepState, SweepWatch
    from gsm_lab.training import World

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: boxes would take as long to import as all the rest
    help="Shows what a training stage taught a language model, and how far past what it had seen.",
)
Runs = Annotated[Path, typer.Option(help="Folder of run folders.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of one process.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; if not said, the GPU where there is one.")]
Track = Annotated[
    list[str] | None,
    typer.Option(help="Also fill a tracker: tensorboard, wandb (offline) or trackio; may be repeated."),
]


def main() -> None:
    """Run the command line; our errors become one line and exit code 1."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except GsmLabError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


# ---------------------------------------------------------------------------------------------- data


@app.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Where the data set goes: shards, manifest, card.")],
    ops: Annotated[str, typer.Option(help="Ops and their shares: 2-10, or 2-4=0.2,5-10=0.8.")] = "2-10",
    modes: Annotated[str, typer.Option(help="forward, reverse, or both with shares.")] = "forward",
    contexts: Annotated[str, typer.Option(help="Contexts and their shares: zoo, or zoo=0.9,school=0.1.")] = "zoo",
    frames: Annotated[str, typer.Option(help="Frames and their shares: english, chinese, my.toml.")] = "english",
    num_problems: Annotated[int, typer.Option(help="Problems in all.")] = 10_000,
    split: Annotated[
        str, typer.Option(help="pretrain, midtrain, rl, validation, test; or several with sizes: rl=9000,test=1000.")
    ] = "pretrain",
    split_by: Annotated[
        str, typer.Option(help="What decides the split of a problem: structure_id, numbers_id or problem_id.")
    ] = "problem_id",
    unit: Annotated[str, typer.Option(help="What shares are counted in: problems or tokens.")] = "problems",
    seed: Annotated[int, typer.Option(help="Names the random streams.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of ProblemSpec or Style: depth=3-5, answers=1-50, checks=0.2 ..."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Pad every text to so many tokens.")] = None,
    only_tokens: Annotated[bool, typer.Option("--only-tokens", help="Write token arrays (uint16), no text.")] = False,
    shard_size: Annotated[int, typer.Option(help="Problems in one file.")] = 5_000,
    workers: Annotated[int, typer.Option(help="Processes; the bytes do not depend on it.")] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    shard: Annotated[str | None, typer.Option(help="Write part i of N, i/N with i from 0: for N machines.")] = None,
) -> None:
    """Write a data set: shards, a manifest with checksums, a card."""
    from gsm_lab.data import ExerciseSource, Mixture, Tokenizer, template_of, write_dataset, write_tokens

    sizes = _split_sizes(split, num_problems)
    if only_tokens and len(sizes) > 1:
        raise typer.BadParameter(f"split: token arrays hold one split, not {split}.")
    mixture = Mixture(_slices(ops, modes, contexts, frames, setting or [], tokens), unit)  # type: ignore[arg-type]
    tokenizer = Tokenizer.for_templates(dict.fromkeys(map(template_of, mixture.slices)))
    sources = [ExerciseSource(mixture, name, seed, tokenizer, split_by) for name in sizes]
    part = None if shard is None else _part(shard)
    if only_tokens:
        with _bar("generate") as advance:
            written = write_tokens(
                folder, sources[0], tokenizer, num_problems, shard_size=shard_size, workers=workers, executor=executor,
                part=part, on_shard=advance,
            )  # fmt: skip
    else:
        with _progress() as on_progress:
            written = write_dataset(
                folder, sources, list(sizes.values()), shard_size, tokenizer, workers, _dataset_line(on_progress),
                executor=executor, part=part,
            )  # fmt: skip
    print(written)


def _dataset_line(on_progress: "OnProgress") -> "Callable[[WritingProgress], None]":
    """Tells a progress line how far the writing of a data set is."""

    def tell(progress: "WritingProgress") -> None:
        figures: dict[str, Any] = {
            "problems_per_second": round(progress.problems_per_second),
            "seconds_left": round(progress.seconds_left),
        }
        if progress.tokens_per_second is not None:
            figures["tokens_per_second"] = progress.tokens_per_second
        on_progress("generate", progress.problems, progress.all_problems, figures)

    return tell


def _slices(
    ops: str, modes: str, contexts: str, frames: str, settings: list[str], tokens: int | None
) -> "tuple[Slice, ...]":
    """Every op in every mode, context and frames, by the product of their shares."""
    from itertools import product

    from gsm_lab.data import Slice
    from gsm_lab.problems import ProblemSpec, Style

    of_spec, of_style = _settings(settings)
    style = Style(**of_style)
    shares = [
        _shares(ops, "ops", _ops_of), _shares(modes, "modes"), _shares(contexts, "contexts"), _shares(frames, "frames")
    ]  # fmt: skip
    modulus = of_spec.get("modulus")
    if modulus is not None and "constants" not in of_spec:
        of_spec["constants"] = (1, max(1, min(9, modulus - 1)))
    slices = []
    for (op, op_share), (mode, mode_share), (context, context_share), (words, words_share) in product(
        *(share.items() for share in shares)
    ):
        own: dict[str, Any] = {"op": _whole(op, "ops"), "mode": mode} | of_spec
        spec = ProblemSpec(**own)
        slices.append(
            Slice(spec, context, words, op_share * mode_share * context_share * words_share, style, tokens=tokens)
        )
    return tuple(slices)


def _settings(texts: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`depth=3-5` and the like as settings of a ProblemSpec and of a Style."""
    import difflib
    from dataclasses import fields

    from gsm_lab.problems import ProblemSpec, Style

    kinds = [
        {field.name: field.type.__name__ if field.type in (bool, int, float, str) else str(field.type)
         for field in fields(owner)}
        for owner in (ProblemSpec, Style)
    ]  # fmt: skip
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for text in texts:
        name, equals, value = text.partition("=")
        owner = next((number for number, known in enumerate(kinds) if name in known), None)
        if owner is None or not equals:
            near = difflib.get_close_matches(name, [*kinds[0], *kinds[1]], 1)
            raise typer.BadParameter(
                f"set: {text!r} is no setting: write name=value with a field of ProblemSpec or Style"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
        found[owner][name] = _typed(name, value, kinds[owner][name])
    return found


def _typed(name: str, text: str, kind: str) -> Any:
    """A setting's value: a range 3-5, a list a,b,c, a number, yes or no, or a word."""
    if text.lower() == "none" and "None" in kind:
        return None
    if "tuple[str" in kind:
        return tuple(part for part in text.split(",") if part)
    if "tuple[float" in kind:
        return tuple(_number(part, name) for part in text.split(","))
    if "tuple[int" in kind:
        low, dash, high = text.partition("-")
        pair = (_whole(low, name), _whole(high if dash else low, name))
        return pair if dash or kind == "tuple[int, int]" else pair[0]
    if kind.startswith("bool"):
        if text.lower() not in ("yes", "no", "true", "false"):
            raise typer.BadParameter(f"set: {name}={text!r}: give yes or no.")
        return text.lower() in ("yes", "true")
    if kind.startswith("int"):
        return _whole(text, name)
    return _number(text, name) if kind.startswith("float") else text


def _split_sizes(text: str, num_problems: int) -> dict[str, int]:
    """`rl=9000,test=1000` as the size of each split; a name alone has all the problems."""
    if "=" not in text:
        return {text: num_problems}
    pairs = [part.partition("=") for part in text.split(",")]
    return {name: _whole(size, "split") for name, _, size in pairs}


def _part(text: str) -> tuple[int, int]:
    """`0/4` as the first of four parts."""
    number, _, parts = text.partition("/")
    return _whole(number, "shard"), _whole(parts, "shard")


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A data set that `gsm-lab generate` wrote, or a GSM-Infinite file.")],
    show: Annotated[int, typer.Option(help="How many problems to print.")] = 2,
) -> None:
    """Show problems, graphs, solutions and sizes of a data set."""
    if folder.is_file():
        _inspect_gsm_infinite(folder, show)
        return
    from collections import Counter
    from itertools import islice

    from gsm_lab.data import read_dataset
    from gsm_lab.problems import grade

    sizes: dict[str, Counter[int]] = {}
    total = distinct = 0
    seen: set[str] = set()
    for exercise in read_dataset(folder):
        if total < show:
            _print_exercise(exercise)
        total += 1
        seen.add(exercise.problem_id)
        for name, value in exercise.sizes().items():
            sizes.setdefault(name, Counter())[value] += 1
    distinct = len(seen)
    print(f"{total} problems, {distinct} distinct; all shards agree with the manifest")
    for name, counts in sizes.items():
        row = "  ".join(f"{value}:{count}" for value, count in sorted(counts.items()))
        print(f"{name:>12}  {row}")
    gold = all(grade(exercise, exercise.completion).verified for exercise in islice(read_dataset(folder), 200))
    print(f"gold solutions of the first {min(total, 200)} verified: {'yes' if gold else 'NO'}")
    if not gold:
        raise typer.Exit(1)


def _inspect_gsm_infinite(path: Path, show: int) -> None:
    """What a file of GSM-Infinite holds, solved from its texts; why, where that cannot be done."""
    from collections import Counter

    from gsm_lab.problems import read_gsm_infinite

    total: Counter[str] = Counter()
    solved: Counter[str] = Counter()
    unsolvable = []
    for number, found in enumerate(read_gsm_infinite(path)):
        total[found.mode] += 1
        if number < show:
            print(f"--- {found.id}  op {found.op}  {found.mode}  {found.template}\n{found.prompt}")
        if found.problem is None:
            unsolvable.append(f"  {found.id} (op {found.op}, {found.mode}): {found.reason}")
        else:
            solved[found.mode] += found.problem.answer == found.stated_answer
    for mode, count in total.items():
        print(f"{mode}: {solved[mode]} of {count} solved from the text to the stated answer")
    print(f"cannot be solved from their text: {len(unsolvable)}")
    print(*unsolvable, sep="\n")


def _print_exercise(exercise: Any) -> None:
    problem, names = exercise.problem, exercise.names
    sizes = "  ".join(f"{name} {size}" for name, size in exercise.sizes().items())
    print(f"--- {exercise.problem_id}  {exercise.context}/{exercise.frames}  {problem.mode}  {sizes}")
    print(exercise.prompt)
    print(exercise.completion.strip())
    needed = set(problem.needed)
    for place, node in enumerate(problem.graph.nodes):
        parents = [names[parent] for parent in node.parents]
        added = len(parents) - node.minus
        terms = ", ".join([*parents[:added], *(f"minus {name}" for name in parents[added:])])
        mark = "asked " if place == problem.query else "given " if place == problem.given else "needed"
        constant = "" if node.constant is None else f" {node.constant}"
        mark = mark if place in needed else "      "
        print(f"  {mark} {names[place]} = {problem.values[place]}: {node.operation}{constant} {terms}")


# ------------------------------------------------------------------------------------------- grading


@app.command()
def grade(
    data: Annotated[
        Path, typer.Argument(help="A data set folder, JSON Lines of exercises (Exercise.to_dict) or GSM-Infinite.")
    ],
    predictions: Annotated[
        Path, typer.Argument(help='JSON Lines or Parquet: {"id": problem_id, "completions": ["...", ...]}.')
    ],
    output: Annotated[Path | None, typer.Option(help="Write every grade here: .jsonl or .parquet.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Largest k of pass@k.")] = 32,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores unless given.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Print so many completions that are not verified, marked.")] = 0,
    page: Annotated[Path | None, typer.Option(help="Write a page of marked completions here, as HTML.")] = None,
) -> None:
    """Grade anyone's completions: pass@k by op, with intervals.

    Three times: verified, by the answer only, and word for word.
    """
    from gsm_lab.study import grade_predictions

    if output is not None and output.suffix not in (".jsonl", ".parquet"):
        raise typer.BadParameter(f"output: {output}: give a name that ends in .jsonl or .parquet.")
    with _bar("grade") as advance:
        graded = grade_predictions(data, predictions, k, workers or _cores(), advance)
    if output is not None:
        graded.write(output)
    if page is not None:
        graded.write_page(page)
    for text in graded.texts(show, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        print(f"{text}\n")
    for kind, start in (("verified", "pass"), ("answer only", "answer"), ("word for word", "literal")):
        names = [name for name in graded.table if str(name).startswith(start)]
        _print_table(graded.table[names].rename_axis(columns=kind))
        print()
    for line in graded.lines:
        print(line)


def _cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.command()
def certify(
    problems: Annotated[int, typer.Option(help="Problems for the perfect solver.")] = 10_000,
    mutations: Annotated[int, typer.Option(help="Wrong solutions of each class, in each mode.")] = 1_000,
    equivalences: Annotated[
        int | None, typer.Option(help="Right solutions written otherwise, likewise; as many if not said.")
    ] = None,
    fuzz: Annotated[int | None, typer.Option(help="Random texts; five for every problem if not said.")] = None,
    seed: Annotated[int, typer.Option(help="Names the random streams.")] = 0,
    context: Annotated[
        list[str] | None, typer.Option(help="Only this context, a name or a TOML file of yours; may be repeated.")
    ] = None,
    frames: Annotated[
        list[str] | None, typer.Option(help="Only these frames, a name or a TOML file of yours; may be repeated.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of ProblemSpec or Style, as of generate; the rest goes round."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Certify the exercises of this data set, not fresh ones.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; the figures do not depend on it.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Write all figures here, as JSON with a checksum.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write all figures here, as one HTML page.")] = None,
) -> None:
    """Prove the instrument, on fresh problems or on your own.

    The perfect solver is always right, every class of wrong step is caught, however it is written, and whatever is
    right is accepted, however it is written.

    With --context or --frames it first says everything that is wrong with a file of yours.
    """
    from gsm_lab.files import write_json, write_text
    from gsm_lab.study import certify as run

    of_spec, of_style = _settings(setting or [])
    with _bar("certify") as advance:
        certificate = run(
            problems, mutations, seed, advance, context or (), frames or (), workers,
            num_equivalences=equivalences, num_fuzz=fuzz, settings=of_spec | of_style, data=data,
        )  # fmt: skip
    if output is not None:
        write_json(output, certificate.document())
    if page is not None:
        write_text(page, certificate.page())
    for line in certificate.lines:
        print(line)
    if not certificate.holds:
        raise typer.Exit(1)


# ---------------------------------------------------------------------------------------------- runs


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="experiment:recipe, such as edge_of_competence:rl-edge-seed0.")],
    runs: Runs = Path("runs"),
    threads: Threads = 2,
    until: Annotated[int | None, typer.Option(help="Only the stages up to this number, from 0.")] = None,
    data_workers: Annotated[int, typer.Option(min=0, help="Processes that draw problems ahead; 0: none.")] = 1,
    reward_workers: Annotated[int, typer.Option(min=0, help="Processes that grade completions; 0: none.")] = 1,
    device: Device = None,
    track: Track = None,
) -> None:
    """Train and evaluate one recipe, stage by stage.

    What is there is not computed again, and what was cut goes on.

    On several GPUs: torchrun --nproc-per-node 8 -m gsm_lab run ...
    """
    from gsm_lab.study import StageFolder, load_recipe

    chosen = load_recipe(recipe)
    last = len(chosen.stages) - 1 if until is None else until
    if last not in range(len(chosen.stages)):
        raise typer.BadParameter(f"until: {until} is no stage of {recipe}: give 0 to {len(chosen.stages) - 1}.")
    folders = [StageFolder(runs, chosen, number) for number in range(last + 1)]
    is_first = _run_stages(folders, threads, device, track, data_workers=data_workers, reward_workers=reward_workers)
    if is_first:
        for folder in folders:
            print(folder.path)
        _check_records(folders, track)


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Argument(help="experiment:recipe whose stages are trained.")],
    runs: Runs = Path("runs"),
    threads: Threads = 2,
    device: Device = None,
) -> None:
    """Evaluate a recipe's trained stages: verified pass@k by op."""
    import numpy as np
    import pandas as pd

    from gsm_lab.evaluation import ALL, PASS, powers_of_two, tabulate
    from gsm_lab.study import StageFolder, evaluate_stage, load_recipe, read_rollouts

    _set_threads(threads)
    chosen = load_recipe(recipe)
    folders = [StageFolder(runs, chosen, number) for number in range(len(chosen.stages))]
    with _world(device) as world, _watched(world=world) as options:
        for folder in folders:
            evaluate_stage(folder, options)
        if not world.is_first:
            return
    rollouts = pd.concat([read_rollouts(folder) for folder in folders], ignore_index=True)
    ks = powers_of_two(chosen.evaluation.samples)
    table = tabulate(rollouts, np.random.default_rng(0), ks=ks)
    rows = table[(table["metric"] == PASS) & (table["seed"] == ALL) & (table["context"] == ALL)]
    shown = rows[rows["k"].isin([1, max(ks)])].copy()
    shown["verified"] = [f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in shown.itertuples()]
    shown["pass@"] = shown["k"].astype(str)
    _print_table(shown.pivot(index="op", columns=["stage", "pass@"], values="verified"))


@app.command()
def sweep(
    experiment: Annotated[str, typer.Argument(help="An experiment's folder, or its name below experiments/.")],
    runs: Runs = Path("runs"),
    workers: Annotated[int, typer.Option(help="Runs at the same time; on a cluster, also those that wait there.")] = 2,
    threads: Threads = 1,
    only: Annotated[str | None, typer.Option(help="Only recipes whose name contains this.")] = None,
    device: Device = None,
    track: Track = None,
    executor: Annotated[str, typer.Option(help="local, ray or submitit (SLURM): see docs/sweeps.md.")] = "local",
    gpus_per_run: Annotated[float, typer.Option(help="Ray, submitit: GPUs of each run.")] = 0,
    address: Annotated[str | None, typer.Option(help="Ray: a running cluster; one is started if not said.")] = None,
    cluster: Annotated[str, typer.Option(help="submitit: slurm, or local for trials on this machine.")] = "slurm",
    partition: Annotated[str | None, typer.Option(help="submitit: the partition of SLURM.")] = None,
    minutes: Annotated[int, typer.Option(help="submitit: longest time of a run.")] = 24 * 60,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan with its cost, and stop.")] = False,
) -> None:
    """Run what is missing of an experiment, each shared stage once.

    What fails is tried twice, and the rest goes on. Kill it whenever you like: the same command goes on.
    """
    from gsm_lab.study import (
        ExecutorSettings,
        check_trackers,
        crowding,
        fill_records,
        load_experiment,
        open_executor,
        plan,
        plan_lines,
        run_sweep,
    )

    check_trackers(track or ())
    _check_device(device)
    loaded = load_experiment(experiment)
    recipes = [recipe for recipe in loaded.recipes if only is None or only in recipe.name]
    if not recipes:
        names = ", ".join(recipe.name for recipe in loaded.recipes)
        raise typer.BadParameter(f"only: no recipe's name contains {only!r}: the names are {names}.")
    settings = ExecutorSettings(
        kind=executor, workers=workers, threads=threads, gpus=gpus_per_run, address=address, cluster=cluster,
        partition=partition, minutes=minutes,
    )  # fmt: skip
    jobs = plan(recipes)
    if dry_run:
        print("\n".join(plan_lines(jobs, runs, workers, threads)))
        return
    if notice := crowding(settings):
        _say(notice)

    def command(job: "Job") -> list[str]:
        place = f"{experiment}:{job.recipe.name}"
        options = ["--runs", str(runs), "--threads", str(threads), "--until", str(job.number)]
        options += [] if device is None else ["--device", device]
        return ["run", place, *options, *(part for kind in track or () for part in ("--track", kind))]

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that its runs end with it
    with _sweep_progress(runs, workers) as on_change:
        state = run_sweep(
            recipes, runs, command, workers=workers, threads=threads, executor=open_executor(settings, runs),
            on_change=on_change,
        )  # fmt: skip
    for failure in state.failed.values():
        _say(f"failed: {failure.text}")
    for job in state.not_run:
        _say(f"not run, for a stage that it needs failed: {job.label}")
    print(f"{len(state.done)} of {len(jobs)} runs done")
    if len(state.done) < len(jobs):
        raise typer.Exit(1)
    folders = [job.folder(runs) for job in jobs]
    for folder in folders:
        fill_records(folder, track or (), _say)
    _check_records(folders, track)


@app.command()
def edge(
    recipe: Annotated[str, typer.Argument(help="experiment:recipe whose stages are trained.")],
    stage: Annotated[str | None, typer.Option(help="Name of the stage; the last if not said.")] = None,
    ops: Annotated[str, typer.Option(help="Ops to name, as 2-20; those of the evaluation if not said.")] = "",
    k: Annotated[int, typer.Option(help="Tries that count as within reach.")] = 32,
    id_from: Annotated[float, typer.Option(help="ID has at least this pass@1.")] = 0.8,
    hard_below: Annotated[float, typer.Option(help="Hard has a pass@k below this.")] = 0.1,
    error: Annotated[float, typer.Option(help="Chance that anything in the result is wrong.")] = 0.05,
    at_most: Annotated[int, typer.Option(help="Samples of all ops together.")] = 50_000,
    runs: Runs = Path("runs"),
    threads: Threads = 2,
    device: Device = None,
) -> None:
    """Find which ops are ID, edge and hard for a trained stage."""
    from gsm_lab.evaluation import EdgeSettings
    from gsm_lab.study import FinderSettings, StageFolder, edge_folder, find_edge, load_recipe

    _set_threads(threads)
    chosen = load_recipe(recipe)
    names = [one.name for one in chosen.stages]
    if stage is not None and stage not in names:
        raise typer.BadParameter(f"stage: there is no {stage!r}: the stages are {', '.join(names)}.")
    folder = StageFolder(runs, chosen, len(names) - 1 if stage is None else names.index(stage))
    search = EdgeSettings(k=k, id_from=id_from, hard_below=hard_below, error=error, most_samples=at_most)
    settings = FinderSettings(ops=tuple(map(int, _ops_of(ops))) if ops else (), search=search)
    with _world(device) as world, _watched(world=world) as options:
        found = find_edge(folder, settings, options)
    if found is not None:
        print(found.text())
        print(edge_folder(folder, settings) / "edge.json")


@app.command()
def ledger(
    experiment: Annotated[str, typer.Argument(help="An experiment's folder, or its name below experiments/.")],
    runs: Runs = Path("runs"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """What every stage took: tokens, operations and seconds."""
    from gsm_lab.study import ledger_of, load_experiment, write_ledger

    loaded = load_experiment(experiment)
    found = ledger_of(loaded.recipes, runs)
    path = write_ledger(found, results / loaded.name)
    _print_table(found.table().set_index("stage")[["seed", "steps", "tokens", "flops", "seconds", "run_flops"]])
    print(f"ledger: {path}")


@app.command()
def report(
    experiment: Annotated[str, typer.Argument(help="An experiment's folder, or its name below experiments/.")],
    runs: Runs = Path("runs"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
) -> None:
    """Write tables, figures and one page of an experiment's runs."""
    from gsm_lab.study import load_experiment, write_report

    loaded = load_experiment(experiment)
    written = write_report(loaded, runs, results / loaded.name)
    _print_table(written.summary)
    if len(written.claims):
        _print_table(written.claims.set_index("claim")[["verdict", "difference", "low", "high", "verdict_by_seeds"]])
    print(f"figure: {written.figure}\npage: {written.page}")


@app.command()
def demo(
    runs: Runs = Path("runs/demo"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("runs/demo-results"),
    threads: Threads = 2,
    scale: Annotated[str, typer.Option(help="nano, or tiny: seconds, for tests, learns nothing.")] = "nano",
    device: Device = None,
    track: Track = None,
) -> None:
    """The whole loop on this machine, in minutes.

    Pretrain, mid-train, reinforce, evaluate, and draw the edge of competence.
    """
    from gsm_lab.study import StageFolder, demo_experiment, write_report

    experiment = demo_experiment(scale)
    recipe = experiment.recipes[0]
    folders = [StageFolder(runs, recipe, number) for number in range(len(recipe.stages))]
    if not _run_stages(folders, threads, device, track, data_workers=1, reward_workers=1):
        return
    written = write_report(experiment, runs, results)
    _print_table(written.summary)
    print(f"figure: {written.figure}\npage: {written.page}")
    _check_records(folders, track)


@app.command(name="bench")
def bench_command(
    what: Annotated[str, typer.Argument(help="problems, grading, engine, or all.")] = "all",
    threads: Threads = 2,
    full: Annotated[bool, typer.Option(help="Engine: at full size; half an hour.")] = False,
    tables: Annotated[bool, typer.Option(help="Engine: the scaling tables, too.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Engine: machine, training, sampling, step, set-up; may be repeated.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Engine: folder for engine.csv and README.md.")] = None,
) -> None:
    """Measure this machine, beside peers that do the same work."""
    if what not in ("problems", "grading", "engine", "all"):
        raise typer.BadParameter(f"{what!r}: give problems, grading, engine or all.")
    from gsm_lab.study import bench_grading, bench_problems

    for name, lines in (("problems", bench_problems), ("grading", bench_grading)):
        for line in lines() if what in (name, "all") else ():
            print(line, flush=True)
    if what in ("engine", "all"):
        from gsm_lab.study import bench_engine

        _set_threads(threads)
        for line in bench_engine(full=full, tables=tables, only=only or (), output=output):
            print(line, flush=True)


def _run_stages(
    folders: list["StageFolder"], threads: int, device: str | None, track: list[str] | None, **workers: int
) -> bool:
    """Train and evaluate the stages of one recipe; whether this process is the one that says what came of it."""
    from gsm_lab.study import check_trackers, evaluate_stage, preflight_all, train_stage

    _set_threads(threads)
    check_trackers(track or ())
    with _world(device) as world, _watched(world=world, trackers=tuple(track or ()), **workers) as options:
        preflight_all(folders)
        for folder in folders:
            train_stage(folder, options)
            evaluate_stage(folder, options)
        return world.is_first


def _world(device: str | None) -> "World":
    """The ranks that torchrun started, of which this process is one; or this process alone."""
    _check_device(device)
    from gsm_lab.training import World

    return World.from_environment(device)  # type: ignore[arg-type]


def _check_device(device: str | None) -> None:
    if device not in (None, "cpu", "cuda"):
        raise typer.BadParameter(f"device: {device!r}: give cpu or cuda.")


def _check_records(folders: list["StageFolder"], track: list[str] | None) -> None:
    """End with an error if a tracker broke, although all that counts is done."""
    from gsm_lab.study import missing_records

    if missing := missing_records(folders, track or ()):
        named = ", ".join(f"{record.kind} of {record.name}" for record in missing)
        raise RunError(f"all stages are done, but records of trackers are not whole: {named}. Run the same again.")


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------------- showing


@contextmanager
def _progress() -> Iterator["OnProgress"]:
    """Bars on a terminal, and plain lines where there is none: stage, speed, time left, loss or reward."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("CI"):
        yield _ProgressLines()
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as bars:
        speed = _Speed()
        tasks: dict[str, Any] = {}

        def on_progress(name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, completed=done, figures="")
            bars.update(tasks[name], completed=done, figures=_figures(figures, speed.of(name, figures)))

        yield on_progress


@contextmanager
def _watched(**fields: Any) -> Iterator["RunOptions"]:
    """The options of a run that a person watches: progress, and notices between, both from rank 0 only."""
    from gsm_lab.study import RunOptions

    if not fields["world"].is_first:
        yield RunOptions(**fields)
        return
    with _progress() as on_progress:
        yield RunOptions(on_progress=on_progress, on_notice=_say, **fields)


def _say(line: str) -> None:
    """A line for a person, between the lines of progress."""
    print(line, file=sys.stderr, flush=True)


class _Speed:
    """Tokens a second between two reports of one stage."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def of(self, name: str, figures: Mapping[str, Any]) -> float | None:
        import time

        if "tokens_per_second" in figures:
            return float(figures["tokens_per_second"])
        if "tokens" not in figures:
            return None
        now, tokens = time.perf_counter(), float(figures["tokens"])
        before = self._last.get(name)
        self._last[name] = (now, tokens)
        return (tokens - before[1]) / max(now - before[0], 1e-9) if before else None


_FIGURES = (
    ("loss", "loss"),
    ("reward_mean", "reward"),
    ("verified_share", "verified"),
    ("op", "op"),
    ("problems_per_second", "problems/s"),
    ("seconds_left", "seconds left"),
)


def _figures(figures: Mapping[str, Any], speed: float | None) -> str:
    """The latest figures of a stage, for a person."""
    parts = [] if speed is None else [f"{speed:,.0f} tokens/s"]
    for key, word in _FIGURES:
        value = figures.get(key)
        if value is not None and not (key == "loss" and "reward_mean" in figures):
            parts.append(f"{word} {value:.3f}" if isinstance(value, float) else f"{word} {value}")
    return "  ".join(parts)


class _ProgressLines:
    """A line for about every twentieth of a stage."""

    def __init__(self) -> None:
        self._speed = _Speed()
        self._next: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
        if done >= self._next.get(name, 0) or done == total:
            self._next[name] = done + max(1, total // 20)
            print(
                f"{name} {done}/{total}  {_figures(figures, self._speed.of(name, figures))}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def _sweep_progress(runs: Path, workers: int) -> Iterator["Callable[[SweepState], None]"]:
    """A table on a terminal, and plain lines where there is none."""
    from rich.console import Console

    from gsm_lab.study import SweepWatch

    console, watch = Console(stderr=True), SweepWatch(runs, workers)
    if not console.is_terminal or os.environ.get("CI"):
        yield _SweepLines(watch)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield _SweepTable(watch, live)


class _SweepTable:
    """A row a job, drawn anew every second."""

    def __init__(self, watch: "SweepWatch", live: "Live") -> None:
        self._watch = watch
        self._live = live
        self._next = 0.0

    def __call__(self, state: "SweepState") -> None:
        import time

        if time.monotonic() < self._next and state.running:
            return
        self._next = time.monotonic() + 1
        self._live.update(self._drawn(state), refresh=True)

    def _drawn(self, state: "SweepState") -> "Table":
        from rich.table import Table

        from gsm_lab.study import duration

        rows, left = self._watch.look(state)
        known = "" if left is None else f", {duration(left)} left"
        table = Table(caption=f"{len(state.done)} of {len(state.jobs)} done, {len(state.failed)} failed{known}")
        for name in ("stage", "seed", "state", "", "done", "left"):
            table.add_column(name, justify="right" if name in ("seed", "done", "left") else "left")
        for row in rows[: max(5, self._live.console.height - 8)]:
            time_left = "" if row.left is None or row.state == "done" else duration(row.left)
            table.add_row(row.stage, str(row.seed), row.state, row.doing, f"{row.share:.0%}", time_left)
        return table


class _SweepLines:
    """A line on stderr whenever a run of a sweep begins, ends or fails, and once a minute how far they are."""

    def __init__(self, watch: "SweepWatch") -> None:
        self._watch = watch
        self._shown: tuple[int, int, tuple[str, ...], tuple[str, ...]] | None = None
        self._next = 0.0

    def __call__(self, state: "SweepState") -> None:
        import time

        from gsm_lab.study import duration

        now = (len(state.done), len(state.failed), tuple(sorted(state.running)), tuple(sorted(state.elsewhere)))
        if now == self._shown and time.monotonic() < self._next:
            return
        has_changed, self._shown = now != self._shown, now
        if has_changed:
            running = "; ".join(job.label for job in state.jobs if job.id in state.running)
            others = "; ".join(job.label for job in state.jobs if job.id in state.elsewhere)
            _say(
                f"{now[0]} of {len(state.jobs)} done, {now[1]} failed; running: {running or 'nothing'}"
                + (f"; waiting for others at: {others}" if others else "")
            )
        if time.monotonic() >= self._next:
            is_first = not self._next
            self._next = time.monotonic() + 60
            if not is_first:
                rows, left = self._watch.look(state)
                for row in rows:
                    if row.state in ("running", "elsewhere"):
                        _say(f"  {row.text}")
                if left is not None:
                    _say(f"  {duration(left)} left in all")


@contextmanager
def _bar(name: str) -> Iterator[Any]:
    """A progress callback of (done, total)."""
    with _progress() as on_progress:
        yield lambda done, total: on_progress(name, done, total, {})


def _print_table(table: "pd.DataFrame") -> None:
    import pandas as pd

    with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.width", 250):
        print(table.to_string())


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{name}: {text!r} is not a whole number.") from None


def _ops_of(text: str) -> list[str]:
    """`2-4` as 2, 3 and 4."""
    low, dash, high = text.partition("-")
    ops = range(_whole(low, "ops"), _whole(high if dash else low, "ops") + 1)
    if not ops:
        raise typer.BadParameter(f"ops: {text!r} is empty: write the smaller number first.")
    return [str(op) for op in ops]


def _shares(text: str, name: str, keys_of: Callable[[str], list[str]] = lambda key: [key]) -> dict[str, float]:
    """`zoo=0.9,school=0.1` as shares; without shares all are alike. What stands for several keys is shared evenly."""
    parts = [part.partition("=") for part in text.split(",")]
    if len({equals for _, equals, _ in parts}) > 1:
        raise typer.BadParameter(f"{name}: {text!r} gives shares for some and not for others.")
    shares: dict[str, float] = {}
    for group, _, share in parts:
        keys = keys_of(group)
        for key in keys:
            shares[key] = shares.get(key, 0.0) + (_number(share, name) / len(keys) if parts[0][1] else 1.0)
    return shares if parts[0][1] else dict.fromkeys(shares, 1.0 / len(shares))


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{name}: {text!r} is not a share: give a number such as 0.25.") from None
