"""Sweeps an experiment, and prints which share of its runs' time goes into the machinery of the sweep.

    python tests/study/scripts/sweep_overhead.py HOME [EXPERIMENT] [--workers 2]

A job's time is that from its submission to the moment when the sweep knew that it had ended. Of that, training is
`last_call_seconds` of its done.json: from the first problem to the last step, with preflight and the start of the
processes that draw and grade. Testing is the time between the first and the last file of the evaluation. The rest is
the machinery: starting a process, imports, reading the recipe, checks, locks, writing the checkpoint, and the wait for
the next poll. Beside it stands what the sweep's own process has used of a processor.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from gsm_lab.study import load_experiment, plan

ROOT = Path(__file__).parents[3]
OVERHEAD = Path(__file__).with_name("overhead")


def cpu_seconds(process: int) -> float:
    """Of a process alone, without its children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sweep(place: str, runs: Path, workers: int) -> tuple[float, float]:
    """Sweep; seconds on the wall, and seconds of a processor."""
    command = [sys.executable, "-m", "gsm_lab", "sweep", place, "--runs", str(runs), "--workers", str(workers)]
    began, used = time.monotonic(), 0.0
    sweeping = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    while sweeping.poll() is None:
        used = cpu_seconds(sweeping.pid)
        time.sleep(0.25)
    if sweeping.returncode:
        sys.exit(sweeping.returncode)
    return time.monotonic() - began, used


def main(home: Path, place: str, workers: int) -> None:
    wall, used = sweep(place, home, workers)
    jobs, work = 0.0, 0.0
    print(f"{'stage':<24} {'job':>8} {'training':>9} {'testing':>8} {'machinery':>10}")
    for job in plan(load_experiment(place).recipes):
        folder, taken = job.folder(home), home / "logs" / f"{job.id}.json"
        if not taken.exists():  # it was done before a sweep came to it
            continue
        seconds = json.loads(taken.read_text())["seconds"]
        training = json.loads((folder.path / "done.json").read_text())["last_call_seconds"]
        ends = [(folder.evaluation / name).stat().st_mtime for name in ("config.json", "done.json")]
        testing = ends[1] - ends[0]
        jobs, work = jobs + seconds, work + training + testing
        rest = seconds - training - testing
        print(f"{job.label:<24} {seconds:8.2f} {training:9.2f} {testing:8.2f} {rest:10.2f}")
    print(
        f"machinery: {jobs - work:.1f} of {jobs:.1f} s of jobs, {(jobs - work) / jobs:.2%}; "
        f"the sweep's own process: {used:.1f} s of a processor in {wall:.1f} s, {used / wall:.2%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("place", metavar="EXPERIMENT", nargs="?", default=str(OVERHEAD))
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    main(asked.home, asked.place, asked.workers)
