"""tests/README.md tells the truth: all 42 traps have a row, and every test it names is there."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
README = (TESTS / "README.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Trap -> the cells with its tests and with its near miss."""
    found = re.findall(r"^\| (D\d+) \|[^|]+\|([^|]+)\|([^|]+)\|$", text, flags=re.MULTILINE)
    return {trap: (tests, near_miss) for trap, tests, near_miss in found}


@lru_cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def missing(text: str) -> list[str]:
    """The tests that a text names and that do not exist."""
    return [
        f"{file}::{name}"
        for file, name in NAMED.findall(text)
        if not (TESTS / file).is_file() or name not in names_in(TESTS / file)
    ]


def test_every_trap_has_a_row_in_order():
    assert list(rows(README)) == [f"D{number}" for number in range(1, 43)]
    assert len(re.findall(r"^\| D\d+ \|", README, flags=re.MULTILINE)) == 42


@pytest.mark.parametrize("trap", [f"D{number}" for number in range(1, 43)])
def test_a_row_names_tests_and_a_near_miss_or_says_why_there_are_none(trap: str):
    tests, near_miss = rows(README)[trap]
    if not tests.strip().startswith("Does not apply: "):
        assert NAMED.search(tests)
        assert near_miss.strip()


def test_every_test_that_is_named_exists():
    assert len(NAMED.findall(README)) > 42
    assert missing(README) == []


def test_near_miss_a_test_that_does_not_exist_is_found():
    there = "`test_layers.py::test_a_wrong_direction_is_seen`"
    text = f"| D1 | a trap | {there}, `test_traps.py::test_no` | `nowhere.py::test_x` |"
    assert missing(text) == ["test_traps.py::test_no", "nowhere.py::test_x"]
    assert rows(text).keys() == {"D1"}
