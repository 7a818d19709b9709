"""Experiments: all of their recipes run, what they took, and what came of them."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsm_lab.cli.options import Device, Experiment, Results, Runs, Threads, Track, check_device
from gsm_lab.cli.progress import print_table, say, sweep_progress
from gsm_lab.cli.runs import check_records, check_trained

if TYPE_CHECKING:
    from gsm_lab.study import Job


def sweep(
    experiment: Experiment,
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
    check_device(device)
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
        say(notice)

    def command(job: "Job") -> list[str]:
        place = f"{experiment}:{job.recipe.name}"
        options = ["--runs", str(runs), "--threads", str(threads), "--until", str(job.number)]
        options += [] if device is None else ["--device", device]
        return ["run", place, *options, *(part for kind in track or () for part in ("--track", kind))]

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that its runs end with it
    with sweep_progress(runs, workers) as on_change:
        state = run_sweep(
            recipes, runs, command, workers=workers, threads=threads, executor=open_executor(settings, runs),
            on_change=on_change,
        )  # fmt: skip
    for failure in state.failed.values():
        say(f"failed: {failure.text}")
    for job in state.not_run:
        say(f"not run, for a stage that it needs failed: {job.label}")
    print(f"{len(state.done)} of {len(jobs)} runs done")
    if len(state.done) < len(jobs):
        raise typer.Exit(1)
    folders = [job.folder(runs) for job in jobs]
    for folder in folders:
        fill_records(folder, track or (), say)
    check_records(folders, track)


def ledger(
    experiment: Experiment,
    runs: Runs = Path("runs"),
    results: Results = Path("results"),
) -> None:
    """What every stage took: tokens, operations and seconds."""
    from gsm_lab.study import ledger_of, load_experiment, plan, write_ledger

    loaded = load_experiment(experiment)
    folders = [job.folder(runs) for job in plan(loaded.recipes)]
    check_trained(folders, ["sweep", experiment, "--runs", str(runs)])
    found = ledger_of(loaded.recipes, runs)
    path = write_ledger(found, results / loaded.name)
    print_table(found.table().set_index("stage")[["seed", "steps", "tokens", "flops", "seconds", "run_flops"]])
    print(f"ledger: {path}")


def report(
    experiment: Experiment,
    runs: Runs = Path("runs"),
    results: Results = Path("results"),
) -> None:
    """Write tables, figures and one page of an experiment's runs."""
    from gsm_lab.study import load_experiment, write_report

    loaded = load_experiment(experiment)
    written = write_report(loaded, runs, results / loaded.name)
    print_table(written.summary)
    if len(written.claims):
        print_table(written.claims.set_index("claim")[["verdict", "difference", "low", "high", "verdict_by_seeds"]])
    print(f"figure: {written.figure}\npage: {written.page}")
