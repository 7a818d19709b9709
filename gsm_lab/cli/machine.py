"""This machine, measured."""

from pathlib import Path
from typing import Annotated

import typer

from gsm_lab.cli.options import Threads, set_threads


def bench(
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

        set_threads(threads)
        for line in bench_engine(full=full, tables=tables, only=only or (), output=output):
            print(line, flush=True)
