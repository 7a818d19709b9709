"""Runs `gsm-lab run` in child processes that die by SIGKILL at chosen places, and lets the last one end.

Started by test_pipeline.py as `python killed_studies.py EXPERIMENT:RECIPE RUNS`. Children are forked before any tensor
work, so each costs milliseconds. Prints a line for every child: where it died, or its exit code.

A place is a line of progress, or a file that is whole under its temporary name and about to get its own.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import gsm_lab.study.evaluate
import gsm_lab.study.pipeline  # noqa: F401  (imported before the forks, so that no child needs to)
from gsm_lab.cli import main

PLACES = (
    ("pretraining", "file", "config.json"),
    ("pretraining", "line", "base 30/120"),  # before the first state
    ("pretraining", "line", "base 90/120"),
    ("pretraining", "file", "checkpoint"),
    ("pretraining", "file", "done.json"),
    ("evaluation", "file", "op-003.parquet"),
    ("evaluation", "file", "done.json"),
    ("mid-training", "line", "mid 10/20"),
    ("mid-training", "file", "state-00000020"),
    ("reinforcement", "file", "step-00001.parquet"),
    ("reinforcement", "line", "RL 3/6"),
    ("reinforcement", "file", "state-00000006"),
    ("evaluation", "line", "test RL 1/2"),
)


class DeadlyStream:
    """Takes what is printed, and dies at a line that begins with `text`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def write(self, line: str) -> None:
        if line.startswith(self.text + " "):
            die()

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_before_naming(name: str) -> Any:
    """An audit hook that dies when a file or folder is about to be renamed to `name`."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(arguments[1]).name == name:
            die()

    return hook


def in_child(kind: str, text: str, place: str, runs: str) -> str:
    """Run the recipe in a child that dies at a place; how it ended."""
    child = os.fork()
    if child == 0:
        sys.stderr = DeadlyStream(text if kind == "line" else "\n")  # type: ignore[assignment]
        if kind == "file":
            sys.addaudithook(dies_before_naming(text))
        sys.argv = ["gsm-lab", "run", place, "--runs", runs, "--threads", "1"]
        code: object = 1
        try:
            torch.set_num_threads(1)
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            os._exit(int(code or 0))  # type: ignore[call-overload]
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


if __name__ == "__main__":
    for phase, kind, text in PLACES:
        print(f"{phase}: {in_child(kind, text, *sys.argv[1:])} at {kind} {text}", flush=True)
    print(in_child("line", "\n", *sys.argv[1:]))
