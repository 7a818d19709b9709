"""A setting out of range, or two that contradict each other, are refused by name."""

import dataclasses
import random

import pytest

from gsm_lab.errors import SpecError
from gsm_lab.problems import ProblemSpec, Style, draw_problem
from gsm_lab.problems.spec import MOST_DISTRACTORS


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"op": 0}, "op=0: give a number from 1 to 200"),
        ({"op": 201}, "op=201"),
        ({"op": 10.5}, "op=10.5: give a whole number"),
        ({"op": True}, "op=True: give a whole number"),
        ({"op": "5"}, "op='5': give a whole number"),
        ({"mode": "backward"}, "mode='backward': give one of"),
        ({"depth": 0}, r"depth=\(0, 0\): give a least and a greatest"),
        ({"depth": (3, 201)}, r"depth=\(3, 201\)"),
        ({"depth": (4, 3)}, r"depth=\(4, 3\): give a least and a greatest"),
        ({"depth": [3, 4]}, r"depth=\[3, 4\]: give a tuple of two whole numbers"),
        ({"width": (5, 3)}, r"width=\(5, 3\): give a least and a greatest"),
        ({"width": 21}, r"width=\(21, 21\)"),
        ({"width": -1}, r"width=\(-1, -1\)"),
        ({"width": True}, "width=True: give a tuple of two whole numbers"),
        ({"width": None}, "width=None"),
        ({"operation_weights": ("a", "b", "c")}, "operation_weights=.* contradict"),
        ({"distractor_kinds": ("dead_end", "dead_end")}, "distractor_kinds=.*give each once"),
        ({"distractors": (4, 2)}, r"distractors=\(4, 2\): give a least and a greatest"),
        ({"distractors": ()}, r"distractors=\(\): give a tuple of two whole numbers"),
        ({"distractors": MOST_DISTRACTORS + 1}, r"distractors=\(.*: give a least and a greatest"),
        ({"distractors": 2, "facts": 3}, "distractors=.* and facts=.* contradict"),
        ({"distractor_kinds": ("wild",)}, "distractor_kinds='wild': give one of"),
        ({"distractor_kinds": ["independent"]}, "distractor_kinds=.*give a tuple"),
        ({"distractor_kinds": ()}, "distractor_kinds is empty and distractors are not"),
        ({"facts": 0}, r"facts=\(0, 0\)"),
        ({"facts": ()}, r"facts=\(\): give a tuple of two whole numbers"),
        ({"implicit_totals": -0.1}, "implicit_totals=-0.1: give a number from 0 to 1"),
        ({"nested_totals": 1.1}, "nested_totals=1.1"),
        ({"reuse": 1.5}, "reuse=1.5"),
        ({"copies": float("nan")}, "copies=nan"),
        ({"composites": "a"}, "composites=a"),
        ({"reuse": True}, "reuse=True"),
        ({"places": 1}, "places=1: give a number from 2 to 580"),
        ({"places": 581}, "places=581"),
        ({"places": 2.0}, "places=2.0: give a whole number"),
        ({"items": 1}, "items=1: give a number from 2 to 10"),
        ({"items": 11}, "items=11"),
        ({"op": 50, "places": 2}, "op=50, .*places=2.* contradict each other"),
        ({"facts": 300, "places": 5}, r"facts=\(300, 300\) and places=5, items=10 contradict"),
        ({"operations": ["add"]}, r"operations=\['add'\]: give a tuple"),
        ({"operations": ("power",)}, "operations='power': give one of"),
        ({"operations": ("add", "add")}, "operations=.*give each once"),
        ({"operation_weights": (1.0,)}, "operation_weights=.* and operations=.* contradict"),
        ({"operation_weights": (1.0, 0.0, 1.0)}, "operation_weights=.*above 0 for each operation"),
        ({"operation_weights": (1.0, float("nan"), 1.0)}, "operation_weights=.*above 0 for each operation"),
        ({"operations": ("divide",), "modulus": 23}, "operations=.* and modulus=23 contradict"),
        ({"constants": (3, 2)}, r"constants=\(3, 2\): give a least and a greatest"),
        ({"constants": (-1, 2)}, r"constants=\(-1, 2\)"),
        ({"constants": 3}, "constants=3: give a tuple"),
        ({"values": (9, 0)}, r"values=\(9, 0\)"),
        ({"values": (0, 10**9 + 1)}, "values="),
        ({"constants": (1, 9), "values": (2, 100)}, "constants=.* and values=.* contradict"),
        ({"constants": (1, 9), "values": (0, 8)}, "constants=.* and values=.* contradict"),
        ({"modulus": 1, "constants": (0, 0)}, "modulus=1: give a number from 2"),
        ({"modulus": 10.5}, "modulus=10.5: give a whole number"),
        ({"modulus": 7}, "constants=.* and modulus=7 contradict"),
        ({"mode": "reverse", "modulus": 23}, "mode='reverse' and modulus=23 contradict"),
        ({"answers": (5, 4)}, r"answers=\(5, 4\)"),
        ({"answers": (0, 1001)}, r"answers=\(0, 1001\)"),
        ({"answers": (0, 23), "modulus": 23}, r"answers=\(0, 23\)"),
        ({"mode": "reverse", "answers": (0, 5)}, r"answers=\(0, 5\)"),
        ({"balanced": True}, "balanced=True and answers=None contradict"),
        ({"balanced": 1}, "balanced=1: give True or False"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_at_birth(setting: dict, message: str):
    with pytest.raises(SpecError, match=message):
        ProblemSpec(**{"op": 5} | setting)


def test_the_default_range_of_reverse_answers_stays_within_the_values():
    assert ProblemSpec(op=5, mode="reverse").answer_range == (1, 20)
    assert ProblemSpec(op=5, mode="reverse", values=(0, 15)).answer_range == (1, 15)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"op": 50, "depth": 2, "width": 3}, r"op=50 cannot be reached with width=\(3, 3\), depth=\(2, 2\)"),
        ({"op": 5, "depth": 9}, r"op=5 cannot be reached with .*depth=\(9, 9\)"),
        ({"op": 5, "width": 9}, r"op=5 cannot be reached with width=\(9, 9\)"),
        ({"op": 6, "width": 1, "copies": 0}, r"op=6 cannot be reached with width=\(1, 1\), copies=0"),
        ({"op": 2, "width": 0}, r"op=2 cannot be reached with width=\(0, 0\)"),
        ({"op": 8, "width": 2, "operations": ("multiply",)}, r"op=8 .*operations=\('multiply',\)"),
    ],
)
def test_what_arithmetic_forbids_is_refused_at_the_first_draw(setting: dict, message: str):
    # leaf (1) and one step of two operands each: only odd ops; a definition of 9 parents costs 18; ...
    spec = ProblemSpec(**setting)
    with pytest.raises(SpecError, match=message):
        draw_problem(spec, random.Random(0))


@pytest.mark.parametrize(
    "setting",
    [
        {"op": 7, "depth": 2, "width": 3, "reuse": 0},  # composite of three leaves: 3 + 1 + 3
        {"op": 9, "depth": 9},
        {"op": 18, "width": 9},
        {"op": 7, "width": 1, "copies": 0},
        {"op": 1, "width": 0},
    ],
)
def test_and_just_what_it_allows_is_drawn(setting: dict):
    sizes = draw_problem(ProblemSpec(**setting), random.Random(0)).sizes()
    assert {name: sizes[name] for name in setting if name in sizes} == {
        name: value for name, value in setting.items() if name in sizes
    }


def test_numbers_that_cannot_stay_in_range_name_the_settings():
    spec = ProblemSpec(op=21, values=(1, 9), operations=("multiply",), copies=0, width=1)
    with pytest.raises(
        SpecError, match=r"op=21 contradicts values=\(1, 9\), constants=\(1, 9\), answers=None or operations="
    ):
        draw_problem(spec, random.Random(0))


def test_one_number_stands_for_exactly_that_number():
    spec = ProblemSpec(op=12, depth=4, width=3, distractors=2, answers=7)
    assert spec == ProblemSpec(op=12, depth=(4, 4), width=(3, 3), distractors=(2, 2), answers=(7, 7))
    assert hash(spec) == hash(ProblemSpec(op=12, depth=(4, 4), width=(3, 3), distractors=(2, 2), answers=(7, 7)))
    assert ProblemSpec(op=3, facts=7).facts == (7, 7)


def test_a_spec_survives_its_own_fields():
    spec = ProblemSpec(op=9, mode="reverse", depth=4, operation_weights=(1.0, 2.0, 3.0))
    assert ProblemSpec(**dataclasses.asdict(spec)) == spec


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"trace_order": "backwards"}, "trace_order='backwards': give one of"),
        ({"sentence_order": "leaf_first"}, "sentence_order='leaf_first': give one of"),
        ({"form": "poem"}, "form='poem': give one of"),
        ({"checks": 1.5}, "checks=1.5: give a chance from 0 to 1"),
        ({"recovery": -1}, "recovery=-1"),
        ({"recovery": float("nan")}, "recovery=nan"),
    ],
)
def test_unknown_styles_are_refused(setting: dict, message: str):
    with pytest.raises(SpecError, match=message):
        Style(**setting)
