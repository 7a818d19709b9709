"""Grades: those of anyone's completions, and the proof that they are right."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gsm_lab.cli.progress import bar, print_table
from gsm_lab.cli.values import settings_of


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
    with bar("grade") as advance:
        graded = grade_predictions(data, predictions, k, workers or _cores(), advance)
    if output is not None:
        graded.write(output)
    if page is not None:
        graded.write_page(page)
    for text in graded.texts(show, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        print(f"{text}\n")
    for kind, start in (("verified", "pass"), ("answer only", "answer"), ("word for word", "literal")):
        names = [name for name in graded.table if str(name).startswith(start)]
        print_table(graded.table[names].rename_axis(columns=kind))
        print()
    for line in graded.lines:
        print(line)


def _cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

    of_spec, of_style = settings_of(setting or [])
    with bar("certify") as advance:
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
