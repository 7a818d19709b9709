"""The table of what the grader accepts, row by row as docs/grading.md has it."""

import random
import re
from pathlib import Path

import pytest

from gsm_lab.problems import (
    ERRORS,
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    Quantity,
    examine,
    grade,
    load_template,
    render,
)

PAGE = (Path(__file__).parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
A, B, C, D, E = [Quantity(place, place) for place in range(5)]
FORWARD = Problem(
    DependencyGraph(
        (
            Node(A, Operation.CONSTANT, 3),
            Node(B, Operation.PLUS, 2, (0,)),
            Node(C, Operation.COPY, None, (0,)),
            Node(D, Operation.TIMES, 400, (0, 1, 2)),
            Node(E, Operation.TIMES, 2, (1,)),
        )
    ),
    3,
)
REVERSE = Problem(
    DependencyGraph(
        (Node(A, Operation.CONSTANT, 5), Node(B, Operation.TIMES, 2, (0,)), Node(C, Operation.PLUS, 4, (1,)))
    ),
    0,
    given=2,
)
PARTS = {"forward": ("a", "b", "c", "d", "answer"), "reverse": ("x", "b", "c", "given", "move", "divide", "answer")}


def rows() -> list[tuple[str, tuple[str, ...]]]:
    """The mode and the cells of every row of both tables."""
    found = []
    for mode, section in zip(PARTS, re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:3], strict=True):
        for line in section.splitlines():
            cells = tuple(cell.strip() for cell in line.strip()[1:-1].split("|"))
            if len(cells) == 6 and cells[3] in ("yes", "no"):
                found.append((mode, cells))
    return found


def gold_statements(mode: str) -> dict[str, str]:
    """The gold solution of the page, statement by statement."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1 + list(PARTS).index(mode)]
    text = " ".join(line[2:] for line in section.splitlines() if line.startswith("> ")).replace("\\*", "*")
    statements = [statement + "." for statement in text.rstrip(".").split(". ")]
    return dict(zip(PARTS[mode], statements, strict=True))


def exercise_of(mode: str) -> Exercise:
    problem = FORWARD if mode == "forward" else REVERSE
    return render(problem, load_template("zoo", "english"), random.Random(0))


def told(text: str, exercise: Exercise) -> str:
    """The text with the names of quantities for their capital letters."""
    letters = dict(zip("ABCDE" if exercise.problem.given is None else "XBC", exercise.names, strict=True))
    return re.sub(r"\b([ABCDEX])\b", lambda found: letters[found[1]], text)


def test_the_page_has_both_tables():
    assert len(rows()) == 62
    modes = {mode for mode, _ in rows()}
    assert modes == set(PARTS)


@pytest.mark.parametrize(("mode", "cells"), rows(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_row_of_the_table_is_true(mode: str, cells: tuple[str, ...]):
    what, parts, written, literal, semantic, named = cells
    exercise = exercise_of(mode)
    gold = gold_statements(mode)
    replaced = PARTS[mode] if parts == "all" else parts.split(", ")
    texts = ["" if part in replaced else statement for part, statement in gold.items()]
    texts[PARTS[mode].index(replaced[-1] if parts != "all" else "answer")] = written.strip("`")
    if what == "steps in another order":
        texts = [texts[0], texts[2], texts[1], *texts[3:]]
    solution = told("\n".join(texts), exercise)
    result = grade(exercise, solution)
    assert (result.literal, result.verified) == (literal == "yes", semantic == "yes"), (solution, result)
    wanted = set(filter(None, named.split(", ")))
    if result.verified:
        assert set(result.deviation) == wanted
    else:
        assert {kind for kind in ERRORS if getattr(result, kind)} >= wanted
    marks = examine(exercise, solution).marks
    assert sum(mark.gain for mark in marks) == pytest.approx(result.process_accuracy)


def test_every_class_of_error_is_told():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE) == list(ERRORS)
