"""Laws of grading anyone's completions: ids are matched exactly, gold is always right, and nothing is passed over."""

import json
import random

import pytest

from gsm_lab.data import ExerciseSource, Mixture, Slice, write_dataset
from gsm_lab.errors import DataError
from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    draw_problem,
    grade,
    load_template,
    mutate,
    problem_id,
    render,
)
from gsm_lab.study import grade_predictions


@pytest.fixture(scope="module")
def exercises() -> list[Exercise]:
    template = load_template("zoo", "english")
    rngs = [random.Random(number) for number in range(12)]
    found = [render(draw_problem(ProblemSpec(op=4 + rng.randrange(3)), rng), template, rng, Style()) for rng in rngs]
    assert len({one.problem_id for one in found}) == 12
    return found


@pytest.fixture
def data(exercises, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in exercises))
    return path


@pytest.fixture
def predictions(tmp_path):
    """Writes lines of predictions, and gives their file."""

    def write(*lines: object, newline: str = "\n"):
        path = tmp_path / "predictions.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_text("".join(text + newline for text in texts), encoding="utf-8")
        return path

    return write


def gold(exercises: list[Exercise]) -> list[dict[str, object]]:
    return [{"id": one.problem_id, "completions": [one.completion]} for one in exercises]


def shares(table, name: str) -> set[str]:
    """The values of a column, without their intervals."""
    return {text.split()[0] for text in table[name]}


def test_gold_completions_are_all_right(exercises, data, predictions):
    table, grades = grade_predictions(data, predictions(*gold(exercises)), 32)
    assert shares(table, "pass@1") == {"1.000"}
    assert [row["verdict"] for row in grades] == ["correct"] * 12
    assert list(table.index) == sorted({one.op for one in exercises})


def test_a_wrong_step_makes_a_completion_wrong_although_its_answer_is_right(exercises, data, predictions):
    texts = [mutate(one, "false_equality", random.Random(0)) for one in exercises]
    lines = [{"id": one.problem_id, "completion": text} for one, text in zip(exercises, texts, strict=True)]
    table, grades = grade_predictions(data, predictions(*lines), 32)
    assert shares(table, "pass@1") == {"0.000"}
    assert not any(row["verified"] for row in grades)


def test_one_of_two_completions_is_half_of_pass_at_1_and_all_of_pass_at_2(exercises, data, predictions):
    lines = [{"id": one.problem_id, "completions": ["no idea", one.completion]} for one in exercises]
    table, grades = grade_predictions(data, predictions(*lines), 32)
    assert shares(table, "pass@1") == {"0.500"}
    assert shares(table, "pass@2") == {"1.000"}
    assert [row["sample"] for row in grades] == [0, 1] * 12


def test_k_goes_no_further_than_the_fewest_completions_of_a_problem(exercises, data, predictions):
    lines = gold(exercises)
    lines[0]["completions"] = [exercises[0].completion] * 5
    table, _ = grade_predictions(data, predictions(*lines), 32)
    assert "pass@1" in table
    assert "pass@2" not in table


def test_the_order_of_lines_changes_no_grade(exercises, data, predictions):
    forwards, _ = grade_predictions(data, predictions(*gold(exercises)), 1)
    backwards, _ = grade_predictions(data, predictions(*gold(exercises)[::-1]), 1)
    assert forwards.equals(backwards)


# ------------------------------------------------------------------------------------ ids


def test_missing_ids_are_listed(exercises, data, predictions):
    gone = sorted(one.problem_id for one in exercises[:2])
    with pytest.raises(DataError, match=rf"2 ids in .* are missing, such as {', '.join(gone)}: give one line for each"):
        grade_predictions(data, predictions(*gold(exercises[2:])), 1)


def test_unknown_ids_are_listed(exercises, data, predictions):
    with pytest.raises(DataError, match=r"1 ids in .* are unknown, such as feedbeef: "):
        grade_predictions(data, predictions(*gold(exercises), {"id": "feedbeef", "completion": "x"}), 1)


def test_an_id_that_stands_twice_is_named_with_its_line(exercises, data, predictions):
    name = exercises[3].problem_id
    with pytest.raises(
        DataError, match=rf"id {name} stands twice in .* \(again in line 13\): put its texts in one line"
    ):
        grade_predictions(data, predictions(*gold(exercises), gold(exercises)[3]), 1)


# ------------------------------------------------------------------------------------ lines


@pytest.mark.parametrize(
    "line",
    [
        {"id": 7, "completion": "x"},
        {"completion": "x"},
        {"id": "a"},
        {"id": "a", "completions": []},
        {"id": "a", "completions": ["x", None]},
        {"id": "a", "completions": "x = 2"},  # a text is no list of its letters
        {"id": "a", "completions": 3},
    ],
)
def test_a_line_of_another_form_is_named(line, exercises, data, predictions):
    with pytest.raises(DataError, match=r"line 13 of .* is not .*: give the problem_id and at least one text"):
        grade_predictions(data, predictions(*gold(exercises), line), 1)


@pytest.mark.parametrize(
    ("line", "reason"), [("{", "is not JSON"), ("[1]", "is not a JSON object"), ("", "is not JSON")]
)
def test_a_line_that_is_no_object_is_named(line, reason, exercises, data, predictions):
    with pytest.raises(DataError, match=rf"line 13 of .* {reason}"):
        grade_predictions(data, predictions(*gold(exercises), line), 1)


def test_bytes_that_are_no_text_are_named(exercises, data, predictions):
    path = predictions(*gold(exercises))
    path.write_bytes(path.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 13 of .* is not JSON"):
        grade_predictions(data, path, 1)


def test_a_file_that_is_not_there_is_named(data, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.jsonl: give a JSON Lines file"):
        grade_predictions(data, tmp_path / "nothing.jsonl", 1)


def test_data_that_is_no_exercise_is_refused(data, predictions, exercises):
    data.write_text('{"question": "How many?"}\n')
    with pytest.raises(DataError, match="not an exercise"):
        grade_predictions(data, predictions(*gold(exercises)), 1)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_end_of_a_line_ends_a_line(newline, exercises, data, predictions):
    """JSON may hold U+2028 and U+0085 as they are, and Python's splitlines would cut there."""
    lines = gold(exercises)
    lines[0]["completions"] = ["thinking\u2028and\u0085thinking"]
    _, grades = grade_predictions(data, predictions(*lines, newline=newline), 1)
    assert len(grades) == 12
    assert grades[0]["verdict"] == "unreadable"
    assert grades[1]["verdict"] == "correct"


# ------------------------------------------------------------------------------------ a problem told twice


@pytest.fixture(scope="module")
def tellings() -> list[Exercise]:
    """One problem in two wordings, with other names for its quantities."""
    problem = draw_problem(ProblemSpec(op=4), random.Random(0))
    template = load_template("zoo", "english")
    found = [render(problem, template, random.Random(number), Style()) for number in range(2)]
    assert found[0].problem_id == found[1].problem_id == problem_id(problem)
    assert not grade(found[1], found[0].completion).verified
    return found


@pytest.mark.parametrize("number", [0, 1])
def test_a_solution_of_either_telling_is_right_and_a_mutated_one_of_none(number, tellings, tmp_path, predictions):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in tellings))
    one = tellings[number]
    texts = [one.completion, mutate(one, "false_equality", random.Random(0))]
    _, rows = grade_predictions(data, predictions({"id": one.problem_id, "completions": texts}), 1)
    assert [row["verified"] for row in rows] == [True, False]


def test_a_data_set_with_repeats_gives_gold_full_marks(tmp_path, predictions):
    """Few problems of op 2 exist without distractors, so 40 draws repeat some."""
    spec = ProblemSpec(op=2, distractors=(0, 0))
    source = ExerciseSource(Mixture((Slice(spec),)), "test", 0)
    folder = write_dataset(tmp_path / "set", source, 40)
    texts: dict[str, list[str]] = {}
    for index in range(40):
        exercise = source.at(index)
        texts.setdefault(exercise.problem_id, []).append(exercise.completion)
    assert len(texts) < 40
    lines = [{"id": name, "completions": completions} for name, completions in texts.items()]
    table, grades = grade_predictions(folder, predictions(*lines), 1)
    assert len(grades) == 40
    assert shares(table, "pass@1") == {"1.000"}
