"""One recipe: trained, evaluated, and its edge found."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsm_lab.cli.options import Device, Results, Runs, Threads, Track, check_device, set_threads
from gsm_lab.cli.progress import print_table, watched
from gsm_lab.cli.values import ops_of
from gsm_lab.errors import RunError

if TYPE_CHECKING:
    from gsm_lab.study import StageFolder
    from gsm_lab.training import World

MOST_NAMED = 5
"""Stages that an error names."""


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
        check_records(folders, track)


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

    chosen = load_recipe(recipe)
    folders = [StageFolder(runs, chosen, number) for number in range(len(chosen.stages))]
    check_trained(folders, ["run", recipe, "--runs", str(runs)])
    set_threads(threads)
    with _world(device) as world, watched(world=world) as options:
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
    print_table(shown.pivot(index="op", columns=["stage", "pass@"], values="verified"))


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

    chosen = load_recipe(recipe)
    names = [one.name for one in chosen.stages]
    if stage is not None and stage not in names:
        raise typer.BadParameter(f"stage: there is no {stage!r}: the stages are {', '.join(names)}.")
    folder = StageFolder(runs, chosen, len(names) - 1 if stage is None else names.index(stage))
    check_trained([folder], ["run", recipe, "--runs", str(runs), "--until", str(folder.number)])
    search = EdgeSettings(k=k, id_from=id_from, hard_below=hard_below, error=error, most_samples=at_most)
    settings = FinderSettings(ops=tuple(map(int, ops_of(ops))) if ops else (), search=search)
    set_threads(threads)
    with _world(device) as world, watched(world=world) as options:
        found = find_edge(folder, settings, options)
    if found is not None:
        print(found.text())
        print(edge_folder(folder, settings) / "edge.json")


def demo(
    runs: Runs = Path("runs/demo"),
    results: Results = Path("runs/demo-results"),
    threads: Threads = 2,
    scale: Annotated[
        str,
        typer.Option(
            help="nano or nano-wide, for processors; micro, small or paper, for GPUs; or tiny: seconds, for tests, "
            "learns nothing."
        ),
    ] = "nano",
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
    print_table(written.summary)
    print(f"figure: {written.figure}\npage: {written.page}")
    check_records(folders, track)


def _run_stages(
    folders: list["StageFolder"], threads: int, device: str | None, track: list[str] | None, **workers: int
) -> bool:
    """Train and evaluate the stages of one recipe; whether this process is the one that says what came of it."""
    from gsm_lab.study import check_trackers, evaluate_stage, preflight_all, train_stage

    set_threads(threads)
    check_trackers(track or ())
    with _world(device) as world, watched(world=world, trackers=tuple(track or ()), **workers) as options:
        preflight_all(folders)
        for folder in folders:
            train_stage(folder, options)
            evaluate_stage(folder, options)
        return world.is_first


def _world(device: str | None) -> "World":
    """The ranks that torchrun started, of which this process is one; or this process alone."""
    check_device(device)
    from gsm_lab.training import World

    return World.from_environment(device)  # type: ignore[arg-type]


def check_trained(folders: Sequence["StageFolder"], command: Sequence[str]) -> None:
    """End with an error that names the command which trains them, if some stages are not trained."""
    if missing := [folder for folder in folders if not folder.is_done]:
        labels = [f"{folder.recipe.stages[folder.number].name}, seed {folder.recipe.seed}" for folder in missing]
        more = f"; and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise RunError(
            f"not trained to the end in {missing[0].home}: {'; '.join(labels[:MOST_NAMED])}{more}. "
            f"Run `gsm-lab {shlex.join(command)}` first."
        )


def check_records(folders: list["StageFolder"], track: list[str] | None) -> None:
    """End with an error if a tracker broke, although all that counts is done."""
    from gsm_lab.study import missing_records

    if missing := missing_records(folders, track or ()):
        named = ", ".join(f"{record.kind} of {record.name}" for record in missing)
        raise RunError(f"all stages are done, but records of trackers are not whole: {named}. Run the same again.")
