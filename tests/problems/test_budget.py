"""What can be spent is what brute force finds: every op, depth and width, and none besides."""

import itertools
import random
from functools import cache

import pytest

from gsm_lab.errors import SpecError
from gsm_lab.problems import ProblemSpec, draw_problem
from gsm_lab.problems.budget import ANY_HEIGHT, DEEP, WIDE, Budget, Shape, plan_for, shapes_for

MOST = 16
"""Ops up to this are compared."""
SETTINGS = {
    "default": {},
    "only copies": {"operations": ()},
    "no copies": {"copies": 0},
    "all copies": {"copies": 1.0},
    "no composites": {"composites": 0},
    "all composites": {"composites": 1.0, "copies": 0},
    "products alone": {"operations": ("multiply",), "copies": 0},
    "nothing": {"operations": (), "copies": 0},
}


def allowed(settings: dict) -> list[tuple[int, bool]]:
    """The definitions that the settings allow, as (parents, constant): said again, apart from `shapes_for`."""
    operations = settings.get("operations", ("add", "subtract", "multiply"))
    copies, composites = settings.get("copies", 0.15), settings.get("composites", 0.25)
    groups = "add" in operations or "subtract" in operations
    return [
        (parents, constant)
        for parents in range(1, 5)
        for constant in (False, True)
        if (parents > 1 and groups and (composites > 0 if constant else composites < 1))
        or (parents == 1 and (operations and copies < 1 if constant else copies > 0))
    ]


@cache
def trees(shapes: tuple[tuple[int, bool], ...], op: int) -> frozenset[tuple[int, int]]:
    """(depth, width) of every tree of exactly that op."""
    found = {(1, 0)} if op == 1 else set()
    for parents, constant in shapes:
        for ops in itertools.combinations_with_replacement(range(1, op), parents):
            if sum(ops) + parents + constant != op:
                continue
            for below in itertools.product(*(trees(shapes, part) for part in ops)):
                depth, width = max(depth for depth, _ in below), max(width for _, width in below)
                found.add((1 + depth, max(parents, width)))
    return frozenset(found)


@pytest.mark.parametrize("name", SETTINGS)
def test_attainable_ops_depths_and_widths_are_those_of_brute_force(name: str):
    settings = SETTINGS[name]
    for widest in (1, 2, 4):
        shapes = tuple(shape for shape in allowed(settings) if shape[0] <= widest)
        for op, least in itertools.product(range(1, MOST + 1), range(widest + 1)):
            fitting = {depth for depth, width in trees(shapes, op) if least <= width}
            for depth in range(1, 8):
                spec = ProblemSpec(op=op, width=(least, widest), depth=depth, **settings)
                assert reachable(spec) == (depth in fitting), spec
            assert reachable(ProblemSpec(op=op, width=(least, widest), **settings)) == bool(fitting)


def reachable(spec: ProblemSpec) -> bool:
    try:
        plan_for(spec)
    except SpecError:
        return False
    return True


def test_a_range_of_depths_keeps_those_that_exist():
    shapes = tuple(allowed({}))
    for op in range(1, 12):
        exist = {depth for depth, _ in trees(tuple(shape for shape in shapes if shape[0] <= 3), op)}
        assert set(plan_for(ProblemSpec(op=op, depth=(1, 200))).heights) == {depth - 1 for depth in exist}


def test_sets_of_budgets_are_those_of_brute_force():
    shapes = ((1, False), (2, True), (3, False))
    budget = Budget(tuple(Shape(parents, constant, 1.0) for parents, constant in shapes), 3)
    for height in range(5):
        alone = {op - 1 for op in range(1, MOST) if any(depth <= height + 1 for depth, _ in trees(shapes, op))}
        deep = {op - 1 for op in range(1, MOST) if any(depth == height + 1 for depth, _ in trees(shapes, op))}
        wide = {op - 1 for op in range(1, MOST)
                if any(depth <= height + 1 and width == 3 for depth, width in trees(shapes, op))}  # fmt: skip
        both = {op - 1 for op in range(1, MOST) if (height + 1, 3) in trees(shapes, op)}
        assert bits(budget.within(height)) == alone
        assert bits(budget.within(height, 2)) == {
            one + other for one in alone for other in alone if one + other < MOST - 1
        }
        assert bits(budget.owing(height, DEEP, 0)) == deep
        assert bits(budget.owing(height, WIDE, 0)) == wide
        assert bits(budget.owing(height, DEEP | WIDE, 0)) == both
        assert bits(budget.owing(height, WIDE, 1)) == {
            one + other for one in wide for other in alone if one + other < MOST - 1
        }
    assert bits(budget.within(ANY_HEIGHT)) == {op - 1 for op in range(1, MOST) if trees(shapes, op)}
    assert bits(budget.owing(ANY_HEIGHT, WIDE, 0)) == {
        op - 1 for op in range(1, MOST) if any(width == 3 for _, width in trees(shapes, op))
    }


def bits(number: int) -> set[int]:
    return {bit for bit in range(MOST - 1) if number >> bit & 1}


def test_shapes_cost_what_they_add_to_a_leaf():
    for shape in shapes_for(ProblemSpec(op=5, width=4)):
        # the definition's operands and its new leaves, less the leaf in whose place it stands
        assert shape.cost == shape.parents + shape.constant + shape.parents - 1


@pytest.mark.parametrize("name", ["default", "no copies", "all composites", "only copies"])
def test_every_attainable_size_is_drawn_and_no_other(name: str):
    settings = SETTINGS[name]
    shapes = tuple(shape for shape in allowed(settings) if shape[0] <= 2)
    for op in range(1, 9):
        exist = trees(shapes, op)
        if not exist:
            continue
        spec = ProblemSpec(op=op, width=(0, 2), reuse=0, **settings)
        sizes = [draw_problem(spec, random.Random(f"{op} {seed}")).sizes() for seed in range(300)]
        assert {(size["depth"], size["width"]) for size in sizes} <= exist
        for depth, width in exist:
            size = draw_problem(
                ProblemSpec(op=op, depth=depth, width=width, reuse=0, **settings), random.Random(op)
            ).sizes()
            assert (size["op"], size["depth"], size["width"]) == (op, depth, width)
