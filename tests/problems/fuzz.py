"""Throws texts at the grader for a while, keeping those that reach new lines of it: `python tests/problems/fuzz.py`.

Ends with code 1 where a law is broken, and shows the text. Where modules of the grader are compiled, it runs on a copy
of their sources, for only the lines of those can be watched.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gsm_lab
from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    compiled_modules,
    draw_problem,
    known_frames,
    load_template,
    render,
)
from gsm_lab.problems.grammar import FORMS
from gsm_lab.problems.style import TRACE_ORDERS
from gsm_lab.study.fuzz import explore


def odd_exercises(count: int, seed: int = 0) -> list[Exercise]:
    """Exercises of all modes, frames, forms and orders."""
    exercises = []
    for number in range(count):
        rng = random.Random(f"odd {seed} {number}")
        style = Style(form=FORMS[number % 3], trace_order=rng.choice(TRACE_ORDERS), checks=0.3, recovery=0.3)
        mode = ("forward", "reverse")[number % 2]
        spec = ProblemSpec(
            op=2 + number % 17,
            mode=mode,
            nested_totals=0.4,
            modulus=rng.choice([None, 10]) if number % 2 == 0 else None,
        )
        template = load_template("zoo", known_frames()[number % len(known_frames())])
        exercises.append(render(draw_problem(spec, rng), template, rng, style))
    return exercises


def run_from_sources() -> int:
    """Run this command again where nothing is compiled; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "gsm_lab"
        shutil.copytree(Path(gsm_lab.__file__).parent, sources, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
        environment = os.environ | {"PYTHONPATH": folder}
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if compiled_modules():
        return run_from_sources()
    found = explore(odd_exercises(120, arguments.seed), arguments.seconds, arguments.seed)
    print(f"{found.texts} texts, {found.kept} kept; {found.reached} of {found.lines} lines of the grader reached")
    print("not reached:", " ".join(found.missed))
    for finding in found.findings[:20]:
        print(f"BROKEN: {finding.law}\n  {finding.exercise.frames}, {finding.exercise.style.form}: {finding.text!r}")
    return 1 if found.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
