"""Runs `gsm-lab sweep` in processes that die by SIGKILL at random moments, until it is done, again and again.

python swept_studies.py EXPERIMENT HOME --kill sweep|workers [--kills 10] [--seed 1]
    Sweeps EXPERIMENT in HOME/unbroken, then in HOME/killed-0 with kills at random moments, in HOME/killed-1 when
    that is done, and so on until all kills are spent. Either the sweep itself is killed and started again, while
    its runs live on; or one of its runs, or the process that starts them. Prints a line a kill, then every stage
    whose training began more often than it should have, and every result that differs from the unbroken sweep's.
    The exit code is 0 if there are none.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gsm_lab.study import Experiment, load_experiment, plan, write_report

ROOT = Path(__file__).parents[2]


def sweep(place: str, runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gsm_lab", "sweep", place, "--runs", str(runs), "--workers", "2"]
    runs.mkdir(parents=True, exist_ok=True)
    with open(runs.with_suffix(".log"), "ab") as printed:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)


def children_of(parent: int) -> list[int]:
    """Processes that live and were started by this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, of = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z":
                found.append(int(entry.name))
    return found


def begun(experiment: Experiment, runs: Path) -> Counter[str]:
    """How often the training of every stage began or was gone on with: each time it says what it is about to do."""
    counts: Counter[str] = Counter()
    for job in plan(experiment.recipes):
        stage = job.recipe.stages[job.number]
        log = runs / "logs" / f"{job.id}.log"
        said = rf"^{re.escape(stage.name)}: [\d,]+ parameters, "
        counts[stage.name] = len(re.findall(said, log.read_text(errors="replace"), re.MULTILINE)) if log.exists() else 0
    return counts


def results(experiment: Experiment, runs: Path, home: Path) -> dict[str, object]:
    """The checksums of all checkpoints and evaluations, the logs, and the tables of the report."""
    found: dict[str, object] = {}
    for job in plan(experiment.recipes):
        folder = job.folder(runs)
        found[f"{job.label}: checkpoint"] = folder.result()
        found[f"{job.label}: evaluation"] = folder.evaluated()
        found[f"{job.label}: metrics"] = folder.metrics().read_bytes()
    write_report(experiment, runs, home)
    for table in ("table.csv", "differences.csv"):
        found[table] = (home / table).read_bytes()
    return found


def done_marks(runs: Path) -> dict[str, tuple[int, int]]:
    """Every mark of a trained stage, with what changes when it is written anew."""
    marks = {}
    for path in runs.glob("*/done.json"):
        stat = path.stat()
        marks[path.parent.name] = (stat.st_ino, stat.st_mtime_ns)
    return marks


class Killer:
    """Spends kills on sweeps of one experiment."""

    def __init__(self, place: str, home: Path, kind: str, kills: int, seed: int) -> None:
        self.place = place
        self.home = home
        self.kind = kind
        self.left = kills
        self.rng = random.Random(seed)
        self.marks: dict[Path, dict[str, tuple[int, int]]] = {}
        self.wrong: list[str] = []

    def sweep_until_done(self, runs: Path) -> int:
        """Sweep, killing as long as there are kills left; how many were spent."""
        spent = 0
        while True:
            said = runs.with_suffix(".log")
            before = said.stat().st_size if said.exists() else 0
            sweeping = sweep(self.place, runs)
            while said.stat().st_size == before and sweeping.poll() is None:  # it is not at work yet
                time.sleep(0.02)
            for moment in self.moments():
                if not self.wait(sweeping, runs, moment):
                    break
                spent += self.kill(sweeping, runs)
                if self.kind == "sweep":
                    sweeping.wait()
                    break
            if self.left and sweeping.poll() == -signal.SIGKILL:
                continue
            code = self.wait_for_end(sweeping, runs)
            if code == 0:
                return spent
            if code not in (1, -signal.SIGKILL):  # 1: the same run was killed twice
                self.wrong.append(f"{runs.name}: the sweep ended with {code}")
                return spent
            print(f"{runs.name}: the sweep ended with {code}; the same command again", flush=True)

    def moments(self) -> Iterator[float]:
        while self.left:
            yield self.rng.uniform(0.0, 6.0)

    def wait(self, sweeping: subprocess.Popen[bytes], runs: Path, seconds: float) -> bool:
        """Let it work for so long; whether it is still there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and sweeping.poll() is None:
            self.see(runs)
            time.sleep(0.02)
        return sweeping.poll() is None

    def wait_for_end(self, sweeping: subprocess.Popen[bytes], runs: Path) -> int:
        while sweeping.poll() is None:
            self.see(runs)
            time.sleep(0.02)
        self.see(runs)
        return sweeping.returncode

    def see(self, runs: Path) -> None:
        """Notice a result that is written a second time."""
        known = self.marks.setdefault(runs, {})
        for name, mark in done_marks(runs).items():
            if known.setdefault(name, mark) != mark:
                self.wrong.append(f"{runs.name}: {name} was finished twice")
                known[name] = mark

    def kill(self, sweeping: subprocess.Popen[bytes], runs: Path) -> int:
        starters = children_of(sweeping.pid)
        at_work = [run for starter in starters for run in children_of(starter)]
        if self.kind == "sweep":
            victim, what = sweeping.pid, "the sweep"
        elif at_work and self.rng.random() < 0.8:
            victim, what = self.rng.choice(at_work), "a run"
        elif starters:
            victim, what = starters[0], "the starter"
        else:
            return 0
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        self.left -= 1
        print(f"killed {what} in {runs.name}, {len(done_marks(runs))} trained, {len(at_work)} at work", flush=True)
        return 1


def main(place: str, home: Path, kind: str, kills: int, seed: int) -> int:
    experiment = load_experiment(place)
    killer = Killer(place, home, kind, kills, seed)
    unbroken = home / "unbroken"
    assert sweep(place, unbroken).wait() == 0
    wanted = results(experiment, unbroken, home / "results-unbroken")
    wrong = [f"unbroken: {name} began {n} times" for name, n in begun(experiment, unbroken).items() if n != 1]
    number = 0
    while killer.left:
        runs = home / f"killed-{number}"
        spent = killer.sweep_until_done(runs)
        counts = begun(experiment, runs)
        print(f"{runs.name}: {spent} kills; training began: {json.dumps(counts)}", flush=True)
        if kind == "sweep":
            wrong += [f"{runs.name}: {name} began {n} times" for name, n in counts.items() if n != 1]
        elif counts.total() > len(counts) + spent:
            wrong.append(f"{runs.name}: {counts.total()} beginnings of {len(counts)} stages after {spent} kills")
        found = results(experiment, runs, home / f"results-{runs.name}")
        wrong += [f"{runs.name}: {name} differs" for name in wanted if wanted[name] != found[name]]
        number += 1
    wrong += killer.wrong
    print(f"{kills} kills, {number} sweeps, {len(wanted)} results each; wrong: {'; '.join(wrong) or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", metavar="EXPERIMENT")
    parser.add_argument("home", type=Path)
    parser.add_argument("--kill", choices=("sweep", "workers"), required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    sys.exit(main(asked.place, asked.home, asked.kill, asked.kills, asked.seed))
