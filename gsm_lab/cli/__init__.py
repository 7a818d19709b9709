"""The command line: the only parser, and the only place that prints.

Progress goes to stderr, results to stdout or to files; the exit code is 0 only when the work is done. Heavy packages
are imported inside the commands, so that `gsm-lab --help` is quick.
"""

import os
import sys

import typer

from gsm_lab.cli.data import generate, inspect
from gsm_lab.cli.grading import certify, grade
from gsm_lab.cli.machine import bench
from gsm_lab.cli.runs import demo, edge, evaluate, run
from gsm_lab.cli.sweeps import ledger, report, sweep
from gsm_lab.errors import GsmLabError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: boxes would take as long to import as all the rest
    help="Shows what a training stage taught a language model, and how far past what it had seen.",
)
for command in (generate, inspect, grade, certify, run, evaluate, sweep, edge, ledger, report, demo, bench):
    app.command()(command)


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
