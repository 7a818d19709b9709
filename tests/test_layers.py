"""The data flows one way: a package imports only packages above it in design.md, and only from their root."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gsm_lab"
FOUNDATIONS = ("errors", "seeds", "files", "lazy")
MAY_IMPORT = {
    "errors": (),
    "seeds": (),
    "files": ("errors",),
    "lazy": (),
    "problems": FOUNDATIONS,
    "data": (*FOUNDATIONS, "problems"),
    "model": (*FOUNDATIONS, "data"),
    "training": (*FOUNDATIONS, "data", "model"),
    "evaluation": (*FOUNDATIONS, "problems", "data"),
    "study": (*FOUNDATIONS, "problems", "data", "model", "training", "evaluation"),
    "adapters": (*FOUNDATIONS, "problems"),
    "cli": (*FOUNDATIONS, "problems", "data", "model", "training", "evaluation", "study", "adapters"),
    "__main__": ("cli",),
}


def imports_of(source: str) -> Iterator[str]:
    """Full names of the modules that a source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "gsm_lab")


def wrong_imports(part: str, source: str) -> list[str]:
    """Imports of a module of `part` that break the one direction, or reach into another package's rooms."""
    wrong = []
    for name in imports_of(source):
        parts = name.split(".")
        if parts[0] != "gsm_lab" or len(parts) == 1 or parts[1] == part:
            continue
        if parts[1] not in MAY_IMPORT[part] or len(parts) > 2:
            wrong.append(name)
    return wrong


MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path):
    if path != PACKAGE / "__init__.py":
        assert not wrong_imports(part_of(path), path.read_text())


def test_a_wrong_direction_is_seen():
    assert wrong_imports("model", "from gsm_lab.problems import grade") == ["gsm_lab.problems"]
    assert wrong_imports("training", "from gsm_lab.model.sampler import sample") == ["gsm_lab.model.sampler"]
    assert wrong_imports("study", "from gsm_lab.model import sample") == []


def test_problems_need_the_standard_library_only():
    for path in MODULES:
        if part_of(path) in ("problems", *FOUNDATIONS):
            foreign = {name.split(".")[0] for name in imports_of(path.read_text())} - sys.stdlib_module_names
            assert foreign <= {"gsm_lab"}, path


def test_problems_work_without_our_dependencies():
    code = (
        "import random, sys; from gsm_lab.problems import *; template = load_template();"
        "exercise = render(draw_problem(ProblemSpec(op=9), random.Random(0)), template, random.Random(0));"
        "assert grade(exercise, exercise.completion).verified; assert 'numpy' not in sys.modules"
    )
    # -S leaves out site-packages: only the standard library and our source are on the path
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys, gsm_lab.cli; heavy = {'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
