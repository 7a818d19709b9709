"""What GSM-Infinite wrote is read as it stands: solved if the text settles the answer, explained if it does not."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gsm_lab.errors import DataError
from gsm_lab.problems import Exercise, grade
from gsm_lab.problems.graph import Operation
from gsm_lab.problems.gsm_infinite import ForeignProblem, parse_gsm_infinite, read_gsm_infinite

OLD = "The number of red kite in Old Shop equals 2"
NEW = "The number of red kite in New Shop equals 7"
FAR = "The number of red kite in Far Shop equals 3"
HOW_MANY = "How many red kite does Tall Shop have?"
EXISTS = "The number of tin drum in Old Shop exists, and its number is greater than 0"
UNKNOWN = "How many tin drum does Old Shop have?"
SAMPLE = Path(
    os.environ.get("GSM_INFINITE_SAMPLE", Path(__file__).parents[3] / "shared" / "data" / "gsm_infinite_sample.jsonl")
)


def row(facts: Sequence[str], question: str, mode: str = "forward", answer: int = 5) -> dict[str, Any]:
    """A row as the generator writes it, of our own nouns."""
    return {
        "id": 7,
        "problem": "".join(f"{fact}. " for fact in facts),
        "question": question,
        "solution": f"Define red kite in Tall Shop as x; so x = 1. Answer: {answer}.",
        "op": 4,
        "mode": mode,
        "template": "toys_in_shops",
    }


def forward(*facts: str, question: str = HOW_MANY) -> ForeignProblem:
    return parse_gsm_infinite(row(facts, question))


def reverse(*facts: str, answer: int = 5) -> ForeignProblem:
    return parse_gsm_infinite(row((EXISTS, *facts), UNKNOWN, "reverse", answer))


def answer_of(foreign: ForeignProblem) -> int:
    assert foreign.reason is None
    assert foreign.problem is not None
    return foreign.problem.answer


def reason_of(foreign: ForeignProblem) -> str:
    assert foreign.problem is None
    assert foreign.names == foreign.dropped == ()
    return str(foreign.reason)


@pytest.mark.parametrize(
    ("definition", "operation", "constant", "minus", "answer"),
    [
        ("9", Operation.CONSTANT, 9, 0, 9),
        ("{new}", Operation.COPY, None, 0, 7),
        ("the sum of {old} and {new}", Operation.SUM, None, 0, 9),
        ("the sum of {old}, {new}, and {far}", Operation.SUM, None, 0, 12),
        ("the difference between {new} and {old}", Operation.DIFFERENCE, None, 1, 5),
        ("4 plus {new}", Operation.PLUS, 4, 0, 11),
        ("4 times {new}", Operation.TIMES, 4, 0, 28),
        ("4 plus the sum of {old} and {new}", Operation.PLUS, 4, 0, 13),
        ("2 times the sum of {old}, {new}, and {far}", Operation.TIMES, 2, 0, 24),
        ("4 plus the difference between {new} and {old}", Operation.PLUS, 4, 1, 9),
        ("3 times the difference between {new} and {old}", Operation.TIMES, 3, 1, 15),
        ("9 plus the difference between {old} and {new}", Operation.PLUS, 9, 1, 4),
    ],
)
def test_each_pattern_is_its_operation(definition, operation, constant, minus, answer):
    names = {key: f"the number of red kite in {key.title()} Shop" for key in ("old", "new", "far")}
    foreign = forward(f"The number of red kite in Tall Shop equals {definition.format(**names)}", OLD, NEW, FAR)
    assert answer_of(foreign) == answer
    node = foreign.problem.graph.nodes[foreign.problem.query]
    assert (node.operation, node.constant, node.minus) == (operation, constant, minus)


def test_a_problem_keeps_what_its_file_says_of_it():
    foreign = forward(NEW, "The number of red kite in Tall Shop equals the number of red kite in New Shop")
    assert (foreign.id, foreign.op, foreign.mode, foreign.template) == (7, 4, "forward", "toys_in_shops")
    assert foreign.stated_answer == 5
    assert foreign.prompt == (
        "The number of red kite in New Shop equals 7. The number of red kite in Tall Shop equals the number of red "
        "kite in New Shop. How many red kite does Tall Shop have?"
    )
    assert foreign.names == ("red kite in New Shop", "red kite in Tall Shop")


# Exercises: what grading needs, in the names of the file's own solutions.


def test_an_exercise_takes_solutions_as_the_file_words_them():
    foreign = forward(
        OLD,
        "The number of tin drum in Old Shop equals 3 times the number of red kite in Old Shop",
        question="What is the total number of toys in Old Shop?",
    )
    exercise = foreign.exercise()
    solution = (
        "Define red kite in Old Shop as k; so k = 2. Define tin drum in Old Shop as D; so D = 3 * k = 3 * 2 = 6. "
        "Define total number of toys in Old Shop as t; so t = {terms} = 8. Answer: 8."
    )
    assert grade(exercise, solution.format(terms="k + D = 2 + 6")).verified
    assert not grade(exercise, solution.format(terms="k + k = 2 + 2")).verified
    assert (exercise.context, exercise.frames, exercise.prompt) == ("toys_in_shops", "english", foreign.prompt)
    assert exercise.asked_name == "total number of toys in Old Shop"
    assert foreign.solution == row([OLD], HOW_MANY)["solution"]


@pytest.mark.parametrize(
    "foreign",
    [
        forward(OLD, "The number of red kite in Tall Shop equals 3 plus the number of red kite in Old Shop"),
        reverse("The number of red kite in Old Shop equals 3 times the number of tin drum in Old Shop",
                "The total number of toys in Old Shop equals 12", answer=3),
    ],
    ids=["forward", "reverse"],
)  # fmt: skip
def test_the_gold_solution_of_an_exercise_is_right_and_it_survives_json(foreign):
    exercise = foreign.exercise()
    assert grade(exercise, exercise.completion).literal
    assert Exercise.from_dict(json.loads(json.dumps(exercise.to_dict()))) == exercise


def test_sentences_are_in_the_order_of_the_text_and_a_told_total_is_none():
    foreign = reverse(
        "The total number of toys in Old Shop equals 12",
        "The number of red kite in Old Shop equals 3 plus the number of yo-yo in Far Shop",
        "The number of yo-yo in Far Shop equals 2",
    )
    exercise = foreign.exercise()
    assert [exercise.names[place] for place in exercise.sentences] == [
        "tin drum in Old Shop",
        "red kite in Old Shop",
        "yo-yo in Far Shop",
    ]
    assert exercise.disorder == 1.0  # of the one pair: yo-yos are told after what is computed from them


def test_a_problem_that_is_not_settled_makes_no_exercise():
    foreign = forward("The number of red kite in Tall Shop equals the number of yo-yo in Old Shop")
    with pytest.raises(DataError, match="problem 7 cannot be graded: the text never says how many yo-yo in Old Shop"):
        foreign.exercise()


def test_the_last_stated_answer_counts():
    given = row([NEW], "How many red kite does New Shop have?")
    assert parse_gsm_infinite({**given, "solution": "Answer: 1. No. Answer: 7."}).stated_answer == 7


def test_a_total_sums_all_kinds_of_its_place_and_no_others():
    foreign = forward(
        OLD,
        "The number of tin drum in Old Shop equals 4",
        NEW,
        question="What is the total number of toys in Old Shop?",
    )
    assert answer_of(foreign) == 6
    assert foreign.names[foreign.problem.query] == "total number of toys in Old Shop"
    assert foreign.problem.graph.nodes[foreign.problem.query].operation is Operation.TOTAL


def test_a_kind_mentioned_only_as_a_parent_belongs_to_the_total():
    foreign = forward(
        OLD,
        "The number of red kite in Far Shop equals the number of tin drum in Old Shop",
        question="What is the total number of toys in Old Shop?",
    )
    assert reason_of(foreign) == "the text never says how many tin drum in Old Shop there are"


def test_a_told_total_is_solved_for_the_unknown():
    foreign = reverse(
        "The number of red kite in Old Shop equals 3 plus the number of tin drum in Old Shop",
        "The total number of toys in Old Shop equals 11",
    )
    assert answer_of(foreign) == 4  # x + (3 + x) = 11
    assert foreign.mode == foreign.problem.mode == "reverse"
    assert foreign.names[foreign.problem.given] == "total number of toys in Old Shop"
    assert foreign.problem.values[foreign.problem.given] == 11


def test_a_told_quantity_with_a_definition_is_solved_too():
    foreign = reverse(
        "The number of red kite in New Shop equals 2 times the number of tin drum in Old Shop",
        "The number of red kite in New Shop equals 6",
    )
    assert answer_of(foreign) == 3
    assert foreign.names[foreign.problem.given] == "red kite in New Shop"


def test_of_several_told_quantities_the_one_that_depends_on_the_unknown_is_taken():
    facts = (NEW, "The total number of toys in New Shop equals 7", "The total number of toys in Old Shop equals 4")
    foreign = reverse(*facts)
    assert answer_of(foreign) == 4
    assert foreign.names[foreign.problem.given] == "total number of toys in Old Shop"


def test_told_quantities_that_disagree_on_the_unknown_leave_no_answer():
    copy = "The number of red kite in New Shop equals the number of tin drum in Old Shop"
    told = ("The total number of toys in Old Shop equals 4", "The total number of toys in New Shop equals {}")
    assert answer_of(reverse(copy, told[0], told[1].format(4))) == 4
    assert "no positive whole number x of tin drum in Old Shop" in reason_of(reverse(copy, told[0], told[1].format(5)))


@pytest.mark.parametrize("told", [5, 0])
def test_an_equation_needs_a_positive_whole_solution(told):
    copy = "The number of red kite in Old Shop equals the number of tin drum in Old Shop"
    assert answer_of(reverse(copy, "The total number of toys in Old Shop equals 6")) == 3
    reason = reason_of(reverse(copy, f"The total number of toys in Old Shop equals {told}"))
    assert f"2 * x + 0 = {told} (total number of toys in Old Shop)" in reason


# Lost premises: the generator writes the sentence of the unknown in place of another one.


def test_a_lost_premise_is_named():
    foreign = reverse(
        EXISTS,
        "The number of red kite in Old Shop equals 2 times the number of yo-yo in Old Shop",
        "The total number of toys in Old Shop equals 11",
    )
    assert reason_of(foreign) == "the text never says how many yo-yo in Old Shop there are"


def test_of_several_lost_premises_the_first_is_named():
    foreign = forward(
        "The number of red kite in Tall Shop equals the sum of the number of yo-yo in Old Shop and the number of tin "
        "drum in Old Shop"
    )
    assert reason_of(foreign) == "the text never says how many yo-yo in Old Shop there are"


def test_a_told_total_that_lost_all_its_kinds_is_named():
    foreign = reverse(EXISTS, "The total number of toys in New Shop equals 11")
    assert reason_of(foreign) == "the text never says what the total number of toys in New Shop is made of"


def test_a_told_quantity_that_lost_its_definition_is_no_equation():
    foreign = reverse(EXISTS, NEW, "The number of red kite in Far Shop equals the number of tin drum in Old Shop")
    assert reason_of(foreign) == "the text never says how red kite in New Shop depends on tin drum in Old Shop"


def test_a_text_without_numbers_is_explained():
    assert "never says how anything depends on tin drum in Old Shop" in reason_of(reverse())


def test_a_lost_kind_that_changes_the_answer_leaves_no_problem():
    told = "The total number of toys in Old Shop equals 6"
    assert answer_of(reverse(told, answer=6)) == 6
    assert "the text says 6, its solution 3" in reason_of(reverse(EXISTS, told, answer=3))


def test_a_repeated_sentence_that_changes_nothing_is_harmless():
    assert answer_of(reverse(EXISTS, "The total number of toys in Old Shop equals 6", answer=6)) == 6


def test_another_quantity_that_only_exists_is_undefined():
    foreign = forward(EXISTS, "The number of red kite in Tall Shop equals 2 times the number of tin drum in Old Shop")
    assert reason_of(foreign) == "the text never says how many tin drum in Old Shop there are"


# Distractors: left out if no graph can have them, and nothing else changes.

ASKED = "The number of red kite in Tall Shop equals 4"


@pytest.mark.parametrize(
    ("facts", "dropped"),
    [
        (
            ["The number of red kite in Old Shop equals 2 times the total number of toys in Old Shop"],
            ("red kite in Old Shop", "total number of toys in Old Shop"),
        ),
        (
            ["The number of red kite in Old Shop equals 2 times the number of yo-yo in Old Shop"],
            ("red kite in Old Shop", "yo-yo in Old Shop"),
        ),
        ([OLD, "The number of red kite in Old Shop equals 3"], ("red kite in Old Shop",)),
        (
            [OLD, "The number of red kite in Old Shop equals 3 plus the number of red kite in Tall Shop"],
            ("red kite in Old Shop",),
        ),
        (
            [
                NEW,
                "The number of red kite in Old Shop equals the difference between the number of red kite in Tall Shop "
                "and the number of red kite in New Shop",
                "The number of yo-yo in Old Shop equals 9 plus the number of red kite in Old Shop",
            ],
            ("red kite in Old Shop", "yo-yo in Old Shop"),
        ),
    ],
    ids=["circular", "undefined", "two numbers", "a number and another definition", "negative and what rests on it"],
)
def test_impossible_distractors_are_dropped(facts, dropped):
    foreign = forward(ASKED, *facts)
    assert answer_of(foreign) == 4
    assert foreign.dropped == dropped
    assert not set(dropped) & set(foreign.names)


def test_possible_distractors_stay():
    twice = "The number of red kite in Old Shop equals 2 times the number of red kite in Tall Shop"
    foreign = forward(ASKED, twice, twice, "The number of red kite in Old Shop equals 8", NEW)
    assert foreign.dropped == ()
    assert set(foreign.names) == {f"red kite in {place} Shop" for place in ("Tall", "Old", "New")}


def test_what_is_needed_must_not_be_negative():
    foreign = forward(
        OLD,
        NEW,
        "The number of red kite in Tall Shop equals 4 plus the difference between the number of red kite in Old Shop "
        "and the number of red kite in New Shop",  # 4 + (2 - 7)
    )
    assert reason_of(foreign) == "the number of red kite in Tall Shop rests on one that the text makes negative"


def test_what_is_needed_must_not_be_circular():
    foreign = forward(
        "The number of red kite in Tall Shop equals the number of yo-yo in Tall Shop",
        "The number of yo-yo in Tall Shop equals the number of red kite in Tall Shop",
    )
    assert reason_of(foreign) == "the text defines red kite in Tall Shop by way of itself"


def test_what_is_needed_must_not_be_defined_twice():
    foreign = forward(ASKED, "The number of red kite in Tall Shop equals 5")
    assert reason_of(foreign) == "the text says two different things of red kite in Tall Shop"


def test_an_unknown_must_not_be_told():
    foreign = reverse("The number of tin drum in Old Shop equals 4", "The total number of toys in Old Shop equals 4")
    assert reason_of(foreign) == "the text says two different things of tin drum in Old Shop"


def test_what_is_needed_must_agree_with_what_is_told():
    foreign = forward(ASKED, NEW, "The number of red kite in Tall Shop equals the number of red kite in New Shop")
    assert reason_of(foreign) == "the text tells another number of red kite in Tall Shop than it implies"


# What is no problem of this format is an error, which says where.


@pytest.mark.parametrize(
    ("facts", "question", "sentence"),
    [
        ([ASKED, "The number of red kite in Old Shop is 2"], HOW_MANY, "The number of red kite in Old Shop is 2"),
        (["The number of red kite equals 2"], HOW_MANY, "The number of red kite equals 2"),
        ([ASKED + " or 5"], HOW_MANY, ASKED + " or 5"),
        (
            ["The average number of bead per red kite in Old Shop equals 2"],
            HOW_MANY,
            "The average number of bead per red kite in Old Shop equals 2",
        ),
        (
            ["The number of red kite in Old Shop equals the sum of the number of yo-yo in Far Shop"],
            HOW_MANY,
            "The number of red kite in Old Shop equals the sum of",
        ),
        ([ASKED], "Why are there so many red kite in Tall Shop?", "Why are there so many red kite in Tall Shop?"),
        ([ASKED], "What is the reason?", "What is the reason?"),
    ],
)
def test_a_sentence_of_no_known_pattern_is_quoted(facts, question, sentence):
    with pytest.raises(DataError, match=re.escape(f'the sentence "{sentence}') + ".* matches no pattern"):
        parse_gsm_infinite(row(facts, question))


@pytest.mark.parametrize("group", ["sum of {old} and {old}", "difference between {old}, {new}, and {far}"])
def test_a_group_that_no_node_can_have_is_refused(group):
    names = {key: f"the number of red kite in {key.title()} Shop" for key in ("old", "new", "far")}
    with pytest.raises(DataError, match="matches no pattern"):
        forward(OLD, NEW, FAR, f"The number of red kite in Tall Shop equals the {group.format(**names)}")


def test_two_kinds_of_totals_in_a_place_are_refused():
    facts = [
        "The number of red kite in Tall Shop equals the total number of toys in Old Shop",
        "The number of yo-yo in Tall Shop equals the total number of beads in Old Shop",
    ]
    with pytest.raises(DataError, match="two kinds of totals"):
        parse_gsm_infinite(row(facts, HOW_MANY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solution": None}, r"fields \['solution'\]"),
        ({"op": "4", "id": 2.5}, r"fields \['id', 'op'\]"),
        ({"mode": "sideways"}, "mode='sideways': one of"),
        ({"mode": "reverse"}, "mode='reverse', but its text is forward"),
        ({"solution": "Define nothing."}, 'no "Answer: N."'),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(DataError, match=message):
        parse_gsm_infinite({**row([ASKED], HOW_MANY), **change})


@pytest.mark.parametrize(
    ("line", "message"), [(b"{", "no JSON"), (b"[1]", "a JSON list"), (b"\xff", "no JSON"), (b"{}", "fields")]
)
def test_a_wrong_line_is_numbered(tmp_path, line, message):
    path = tmp_path / "problems.jsonl"
    path.write_bytes(json.dumps(row([ASKED], HOW_MANY)).encode() + b"\n" + line + b"\n")
    problems = read_gsm_infinite(path)
    assert answer_of(next(problems)) == 4
    with pytest.raises(DataError, match=rf"problems\.jsonl, line 2: .*{message}"):
        next(problems)


@pytest.mark.skipif(not SAMPLE.is_file(), reason=f"no {SAMPLE}: set GSM_INFINITE_SAMPLE to a file of GSM-Infinite")
def test_a_real_sample_is_solved_but_for_its_lost_premises():
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    problems = list(read_gsm_infinite(SAMPLE))
    assert len(rows) == len(problems) > 0
    for given, foreign in zip(rows, problems, strict=True):
        repeated = given["problem"].count("exists, and its number is greater than 0") > 1
        assert foreign.problem is not None or repeated, f"{foreign.id}: {foreign.reason}"
        if foreign.problem is None:
            continue
        assert answer_of(foreign) == foreign.stated_answer, foreign.id
        assert foreign.problem.op == foreign.op, foreign.id
        exercise = foreign.exercise()
        assert grade(exercise, exercise.completion).literal, foreign.id
        needed = {foreign.names[place] for place in foreign.problem.needed}
        assert needed == set(re.findall(r"Define (.+?) as \w;", given["solution"])), foreign.id
