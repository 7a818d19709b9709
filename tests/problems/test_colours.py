"""The colours in C are those of colours.py, to the last digit, and what is no graph is refused."""

import importlib.util
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from gsm_lab.errors import SpecError
from gsm_lab.problems import Node, Operation, Problem, ProblemSpec, Quantity, draw_problem, graph, identity_at

SOURCE = Path(graph.__file__).parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gsm_lab.problems.colours", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def in_python() -> ModuleType:
    return load(SOURCE / "colours.py")


@pytest.fixture(scope="module")
def in_c(tmp_path_factory) -> ModuleType:
    """colours.c as it is now, whatever `make setup` compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("there is no C compiler, or there are no Python headers")  # then colours.py is all there is
    target = tmp_path_factory.mktemp("colours") / f"colours{sysconfig.get_config_var('EXT_SUFFIX')}"
    further = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    include = f"-I{sysconfig.get_path('include')}"
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-fPIC", "-shared", include]
    subprocess.run([*command, *further, "-o", str(target), str(SOURCE / "colours.c")], check=True)
    return load(target)


def graphs(count: int):
    for seed in range(count):
        rng = random.Random(f"colours {seed}")
        spec = ProblemSpec(
            op=rng.choice((60, 120, 200)) if seed % 100 == 0 else rng.randint(1, 18),
            mode=rng.choice(("forward", "reverse")),
            reuse=rng.choice((0.0, 0.3, 0.9)),
            copies=rng.choice((0.0, 0.5)),
            implicit_totals=0.4,
            nested_totals=0.5,
            width=rng.choice(((0, 4), (3, 5))),
            constants=rng.choice(((1, 9), (1, 600))),
            values=(0, 5000),
            distractors=(0, 8),
            operations=rng.choice((("add", "subtract"), ("add", "subtract", "multiply", "divide"))),
        )
        try:
            problem = draw_problem(spec, rng)
        except SpecError:  # width and op contradict each other
            continue
        yield problem.graph.nodes, len(problem.needed), problem.top, problem.query


def test_both_sources_give_the_same_colours(in_python, in_c):
    assert in_c.__file__ != in_python.__file__
    seen, operations = set(), set()
    for arguments in graphs(3000):
        colours = in_python.colours_of(*arguments)
        assert in_c.colours_of(*arguments) == colours
        seen.add(colours)
        operations |= {node.operation for node in arguments[0]}
    assert len(seen) > 2500
    assert operations == set(Operation)


def test_constants_of_any_size_and_sign_have_their_own_colours(in_python, in_c):
    seen = set()
    for constant in (0, 1, 255, 256, -1, -256, 2**31, 2**63 - 1, 2**63, 2**200, -(2**200)):
        nodes = (Node(Quantity(0, 0), Operation.CONSTANT, constant),)
        colours = in_python.colours_of(nodes, 1, 0, 0)
        assert in_c.colours_of(list(nodes), 1, 0, 0) == colours
        seen.add(colours[1])
    assert len(seen) == 11


LEAF = Node(Quantity(0, 0), Operation.CONSTANT, 3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(((LEAF,), 2, 0, 0), IndexError, id="more needed than there are"),
        pytest.param(((LEAF,), 1, 1, 0), IndexError, id="top out of range"),
        pytest.param(((LEAF,), 1, 0, -1), IndexError, id="asked out of range"),
        pytest.param(((), 0, 0, 0), IndexError, id="nothing"),
        pytest.param(((LEAF._replace(parents=(0,)),), 1, 0, 0), IndexError, id="its own parent"),
        pytest.param(((LEAF._replace(parents=(-1,)),), 1, 0, 0), IndexError, id="a parent before all"),
        pytest.param(((LEAF._replace(parents=("0",)),), 1, 0, 0), TypeError, id="a parent that is no number"),
        pytest.param(((LEAF._replace(parents=[0]),), 1, 0, 0), TypeError, id="parents in a list"),
        pytest.param(((LEAF._replace(minus="1"),), 1, 0, 0), TypeError, id="minus is no number"),
        pytest.param(((LEAF._replace(operation="root"),), 1, 0, 0), TypeError, id="an unknown operation"),
        pytest.param(((LEAF, Node(Quantity(0, 1), Operation.NESTED_TOTAL, None, (0,))), 2, 1, 1), IndexError, id="odd"),
        pytest.param(((3,), 1, 0, 0), TypeError, id="a number for a node"),
        pytest.param((3, 1, 0, 0), TypeError, id="no nodes"),
        pytest.param(((LEAF,), 1, 0), TypeError, id="an argument too few"),
        pytest.param(((LEAF,), 2**70, 0, 0), OverflowError, id="a huge number"),
    ],
)
def test_c_reads_nothing_that_is_not_there(in_c, arguments, error):
    with pytest.raises(error):
        in_c.colours_of(*arguments)


def test_an_unknown_level_is_refused():
    problem: Problem = draw_problem(ProblemSpec(op=3), random.Random(0))
    with pytest.raises(SpecError, match=r"level='ops': give one of structure_id, numbers_id, problem_id\."):
        identity_at(problem, "ops")
