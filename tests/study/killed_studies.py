"""Runs `gsm-lab run` in child processes that die by SIGKILL, and lets the last one end.

Children are forked before any tensor work, so each costs milliseconds.

    python killed_studies.py EXPERIMENT:RECIPE RUNS
        Dies at chosen places, once at each. A place is a line of progress, or a file that is whole under its temporary
        name and about to get its own. Prints a line for every child: where it died, or its exit code.

    python killed_studies.py EXPERIMENT:RECIPE RUNS --kills 30 [--seed 1]
        Runs the recipe in RUNS/unbroken, then dies at random moments in RUNS/killed-0, in RUNS/killed-1 when that is
        done, and so on, until all kills are spent. A moment is a number of CPU seconds after the first line of
        progress, a number of file operations, the sight of a training state that is being written, or a file that
        ends or begins a stage. Every run is compared with the unbroken one: the exit code is 0 if all files but the
        times are the same, byte for byte.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gsm_lab.study.evaluate
import gsm_lab.study.pipeline  # noqa: F401  (imported before the forks, so that no child needs to)
from gsm_lab.cli import main
from gsm_lab.study import Recipe, StageFolder, load_recipe

PLACES = (
    ("pretraining", "file", "config.json"),
    ("pretraining", "line", "base 30/120"),  # before the first state
    ("pretraining", "line", "base 90/120"),
    ("pretraining", "file", "tokenizer_config.json"),
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

Hook = Callable[[str, tuple[Any, ...]], None]
"""An audit hook: https://docs.python.org/3/library/audit_events.html"""
IsTime = Callable[[int, bool], bool]
"""Whether to kill a process, from its number and whether it has printed a line of progress."""


# ------------------------------------------------------------------------------------ children that die


class DeadlyStream:
    """Takes what is printed, and dies at a line that begins with `text`; `begun` becomes 1 with the first line."""

    def __init__(self, text: str, begun: mmap.mmap) -> None:
        self.text = text
        self.begun = begun
        self.last = ""

    def write(self, line: str) -> None:
        self.begun[0] = 1
        self.last = line.strip() or self.last
        if line.startswith(self.text + " "):
            die()

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_before_naming(name: str) -> Hook:
    """Dies when a file or folder is about to be renamed to `name`."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(arguments[1]).name == name:
            die()

    return hook


def dies_at_file_operation(count: int, below: str = "") -> Hook:
    """Dies before a file is opened for writing, renamed, cut or removed for the `count`-th time.

    Only operations on paths that contain `below` count.
    """
    left = count

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wa+x")
        if writes or event in ("os.rename", "os.remove", "os.truncate", "os.mkdir", "shutil.rmtree"):
            left -= below in str(arguments[0])
            if left == 0:
                die()

    return hook


def in_child(
    place: str,
    runs: Path,
    *,
    line: str = "\n",
    hook: Hook | None = None,
    is_time: IsTime = lambda child, begun: False,
) -> str:
    """Run the recipe in a child that dies at a line, by a hook, or when it is time; how it ended."""
    begun = mmap.mmap(-1, 1)  # shared with the child
    child = os.fork()
    if child == 0:
        printed = sys.stderr = DeadlyStream(line, begun)  # type: ignore[assignment]
        if hook is not None:
            sys.addaudithook(hook)
        sys.argv = ["gsm-lab", "run", place, "--runs", str(runs), "--threads", "1"]
        code: object = 1
        try:
            torch.set_num_threads(1)
            main()
        except SystemExit as exiting:
            code = exiting.code
        finally:
            if code:
                os.write(2, f"{printed.last}\n".encode())
            os._exit(int(code or 0))  # type: ignore[call-overload]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        if is_time(child, bool(begun[0])):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.0005)


# ------------------------------------------------------------------------------------ random moments


def after_cpu_seconds(seconds: float) -> IsTime:
    """When a process has worked for so long since its first line of progress; waiting for its turn does not count."""
    start: float | None = None

    def is_time(child: int, begun: bool) -> bool:
        nonlocal start
        if not begun:
            return False
        worked = int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
        start = worked if start is None else start
        return worked - start >= seconds

    return is_time


def at_a_state_being_written(runs: Path, number: int) -> IsTime:
    """When the `number`-th unfinished state is seen; not one that an earlier kill has left."""
    old = {*runs.glob("*/state/.state-*.part")}
    seen: set[Path] = set()

    def is_time(child: int, begun: bool) -> bool:
        with contextlib.suppress(OSError):  # it has just got its own name
            seen.update({*runs.glob("*/state/.state-*.part")} - old)
        return len(seen) >= number

    return is_time


def moment(rng: random.Random, runs: Path) -> tuple[str, dict[str, Any]]:
    """A random moment to die at: in words, and as arguments of `in_child`."""
    kind = rng.choice(("work", "work", "file", "state", "evaluation", "boundary"))
    if kind == "work":
        seconds = rng.uniform(0.0, 1.2)
        return f"after {seconds:.2f} s of work", {"is_time": after_cpu_seconds(seconds)}
    if kind == "file":
        count = rng.randrange(1, 40)
        return f"at file operation {count}", {"hook": dies_at_file_operation(count)}
    if kind == "evaluation":
        count = rng.randrange(1, 12)
        words = f"at file operation {count} of an evaluation"
        return words, {"hook": dies_at_file_operation(count, "/evaluation-")}
    if kind == "boundary":
        name = rng.choice(("config.json", "preflight.json", "tokenizer_config.json", "checkpoint", "done.json"))
        return f"at a boundary, before naming {name}", {"hook": dies_before_naming(name)}
    number = rng.randrange(1, 3)
    return f"at the sight of unfinished state {number}", {"is_time": at_a_state_being_written(runs, number)}


def phase_of(runs: Path, recipe: Recipe) -> str:
    """What was being done when a run was left."""
    for number, stage in enumerate(recipe.stages):
        folder = StageFolder(runs, recipe, number)
        if not folder.is_done:
            begun = (folder.path / "metrics.jsonl").exists()
            return f"the training of {stage.name}" if begun else f"the boundary before {stage.name}"
        if not folder.is_evaluated:
            return f"the evaluation of {stage.name}"
    return "the end"


def results_below(runs: Path, recipe: Recipe) -> dict[str, object]:
    """Every file of all stages but the times, with done.json without seconds."""
    found: dict[str, object] = {}
    for number in range(len(recipe.stages)):
        for path in sorted(StageFolder(runs, recipe, number).path.rglob("*")):
            if path.is_file() and path.name not in (".lock", "timings.jsonl"):
                found[str(path.relative_to(runs))] = path.read_bytes()
    for name in [name for name in found if Path(name).name == "done.json"]:
        found[name] = {**json.loads(found[name]), "last_call_seconds": None}  # type: ignore[arg-type]
    return found


def die_at_random(place: str, home: Path, kills: int, seed: int) -> int:
    """Spend all kills on runs of the recipe; how many files of them differ from those of the unbroken run."""
    recipe, rng = load_recipe(place), random.Random(seed)
    assert in_child(place, home / "unbroken") == "exit 0"
    number = num_killed = 0
    while num_killed < kills:
        runs = home / f"killed-{number}"
        words, arguments = moment(rng, runs)
        ended = in_child(place, runs, **arguments)
        if ended == "killed":
            num_killed += 1
            in_save = " while a state was written" if list(runs.glob("*/state/.state-*.part")) else ""
            print(f"killed in {phase_of(runs, recipe)}{in_save}, {words}", flush=True)
        else:
            print(f"killed-{number}: {ended}", flush=True)
            number += ended == "exit 0"
            if ended != "exit 0":
                return 1
    print(f"killed-{number}: {in_child(place, home / f'killed-{number}')}", flush=True)
    wanted = results_below(home / "unbroken", recipe)
    different = []
    for count in range(number + 1):
        found = results_below(home / f"killed-{count}", recipe)
        different += [
            f"killed-{count}/{name}" for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)
        ]
    print(f"{len(wanted)} files a run, {number + 1} runs, different from the unbroken run: {different or 'none'}")
    return len(different)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", metavar="EXPERIMENT:RECIPE")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    asked = parsed()
    if asked.kills:
        sys.exit(1 if die_at_random(asked.place, asked.runs, asked.kills, asked.seed) else 0)
    for phase, kind, text in PLACES:
        how: dict[str, Any] = {"line": text} if kind == "line" else {"hook": dies_before_naming(text)}
        print(f"{phase}: {in_child(asked.place, asked.runs, **how)} at {kind} {text}", flush=True)
    print(in_child(asked.place, asked.runs))
