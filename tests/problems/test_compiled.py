"""Compiled or not, the modules give the same problems, texts and identities; an outdated compiled module is refused."""

import copy
import os
import pickle
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import gsm_lab
from gsm_lab.problems import (
    ProblemSpec,
    compiled_modules,
    draw_problem,
    examine,
    grade,
    load_template,
    mutate,
    render,
)
from gsm_lab.problems.trace import read_trace

SOURCE = Path(gsm_lab.__file__).parent
DIGEST = """
import hashlib, random
from gsm_lab.problems import *
digest = hashlib.sha256()
for number in range(300):
    rng = random.Random(number)
    mode = ("forward", "reverse")[number % 2]
    spec = ProblemSpec(
        op=1 + number % 60, mode=mode, depth=(1, 20) if number % 3 else None, width=(0, 5), implicit_totals=0.4,
        nested_totals=0.4, operations=("add", "subtract", "multiply", "divide"), answers=(1, 40),
        balanced=mode == "reverse",
    )
    style = Style(trace_order=("leaf_first", "random", "goal_directed")[number % 3], checks=0.3, recovery=0.3)
    exercise = render(draw_problem(spec, rng), load_template("zoo", "english"), rng, style)
    digest.update(repr((exercise.prompt, exercise.completion, exercise.identities, exercise.sizes())).encode())
print(digest.hexdigest(), *compiled_modules())
"""


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True, check=False)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A copy of the sources without compiled modules."""
    shutil.copytree(SOURCE, tmp_path / "gsm_lab", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return tmp_path


@pytest.mark.skipif(not compiled_modules(), reason="nothing is compiled: no C compiler, or no make setup")
def test_compiled_modules_give_the_same_as_their_sources(plain: Path):
    compiled, *names = run(DIGEST, SOURCE.parent).stdout.split()
    assert run(DIGEST, plain).stdout.split() == [compiled]
    assert names == list(compiled_modules())


def test_an_outdated_compiled_module_is_refused(plain: Path):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    old = plain / "gsm_lab" / "problems" / f"draw{suffix}"
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    refused = run("import gsm_lab.problems", plain)
    assert refused.returncode == 1
    assert f"draw{suffix} was compiled from an older draw.py: run `make setup`" in refused.stderr


def test_a_module_that_is_older_than_its_source_in_c_is_refused(plain: Path):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    problems = plain / "gsm_lab" / "problems"
    (problems / f"colours{suffix}").write_bytes(b"")
    os.utime(problems / f"colours{suffix}", (2, 2))
    os.utime(problems / "colours.py", (1, 1))
    refused = run("import gsm_lab.problems", plain)
    assert refused.returncode == 1
    assert f"colours{suffix} was compiled from an older colours.c: run `make setup`" in refused.stderr


def test_everything_that_grading_gives_can_be_pickled_and_copied():
    """Compiled or not: grades and marks go through pipes between processes."""
    rng = random.Random(5)
    exercise = render(draw_problem(ProblemSpec(op=6, mode="reverse"), rng), load_template(), rng)
    wrong = mutate(exercise, "wrong_value", rng) or ""
    statements = read_trace(exercise.completion, exercise.grammar)
    for value in (exercise, grade(exercise, wrong), examine(exercise, wrong), statements):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
