"""Laws of grading anyone's completions: ids are matched exactly, gold is always right, and nothing is passed over."""

import json
import random
import re
from html.parser import HTMLParser

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gsm_lab.cli import app
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
    graded = grade_predictions(data, predictions(*gold(exercises)), 32)
    assert shares(graded.table, "pass@1") == {"1.000"}
    assert [row["verdict"] for row in graded.rows] == ["correct"] * 12
    assert list(graded.table.index) == sorted({one.op for one in exercises})


def test_a_wrong_step_makes_a_completion_wrong_although_its_answer_is_right(exercises, data, predictions):
    texts = [mutate(one, "false_equality", random.Random(0)) for one in exercises]
    lines = [{"id": one.problem_id, "completion": text} for one, text in zip(exercises, texts, strict=True)]
    graded = grade_predictions(data, predictions(*lines), 32)
    assert shares(graded.table, "pass@1") == {"0.000"}
    assert not any(row["verified"] for row in graded.rows)


def test_one_of_two_completions_is_half_of_pass_at_1_and_all_of_pass_at_2(exercises, data, predictions):
    lines = [{"id": one.problem_id, "completions": ["no idea", one.completion]} for one in exercises]
    graded = grade_predictions(data, predictions(*lines), 32)
    assert shares(graded.table, "pass@1") == {"0.500"}
    assert shares(graded.table, "pass@2") == {"1.000"}
    assert [row["sample"] for row in graded.rows] == [0, 1] * 12


def test_k_goes_no_further_than_the_fewest_completions_of_a_problem(exercises, data, predictions):
    lines = gold(exercises)
    lines[0]["completions"] = [exercises[0].completion] * 5
    graded = grade_predictions(data, predictions(*lines), 32)
    assert "pass@1" in graded.table
    assert "pass@2" not in graded.table


def test_the_order_of_lines_changes_no_grade(exercises, data, predictions):
    forwards = grade_predictions(data, predictions(*gold(exercises)), 1).table
    backwards = grade_predictions(data, predictions(*gold(exercises)[::-1]), 1).table
    assert forwards.equals(backwards)


# ------------------------------------------------------------------------------------ ids


def test_missing_ids_are_listed(exercises, data, predictions):
    gone = sorted(one.problem_id for one in exercises[:2])
    with pytest.raises(DataError, match=rf"^2 ids in .* are missing: {', '.join(gone)}\. Give one row for each"):
        grade_predictions(data, predictions(*gold(exercises[2:])))


def test_unknown_ids_are_listed(exercises, data, predictions):
    with pytest.raises(DataError, match=r"^1 ids in .* are unknown: feedbeef\. "):
        grade_predictions(data, predictions(*gold(exercises), {"id": "feedbeef", "completion": "x"}))


def test_an_id_that_stands_twice_is_named_with_its_line(exercises, data, predictions):
    name = exercises[3].problem_id
    with pytest.raises(DataError, match=rf"^1 ids in .* are given twice: {name} \(again in line 13\)\. "):
        grade_predictions(data, predictions(*gold(exercises), gold(exercises)[3]))


def test_ten_ids_are_named_and_all_are_counted(exercises, data, predictions):
    lines = [{"id": number, "completion": "x"} for number in range(23)]
    with pytest.raises(
        DataError, match=r"12 ids in .* are missing: .* and 2 more; 23 ids in .* are unknown:"
    ) as caught:
        grade_predictions(data, predictions(*lines))
    unknown = str(caught.value).split("are unknown: ")[1].split(" and 13 more. ")[0]
    assert unknown.split(", ") == sorted(map(str, range(23)))[:10]


def test_bad_ids_are_found_before_anything_is_graded(exercises, data, predictions):
    def never(done: int, total: int) -> None:
        raise AssertionError("graded")

    with pytest.raises(DataError, match="are missing"):
        grade_predictions(data, predictions(*gold(exercises[1:])), advance=never)


def rows_of(one: Exercise, *samples: object) -> list[dict[str, object]]:
    return [{"id": one.problem_id, "completion": "no idea", "sample": sample} for sample in samples]


def test_a_row_a_completion_is_told_apart_by_its_sample(exercises, data, predictions):
    lines = [row for one in exercises for row in rows_of(one, 5, 2)]
    lines[1]["completion"] = exercises[0].completion
    graded = grade_predictions(data, predictions(*lines))
    assert [(row["sample"], row["verdict"]) for row in graded.rows[:3]] == [
        (5, "unreadable"),
        (2, "correct"),
        (5, "unreadable"),
    ]
    assert "pass@2" in graded.table


@pytest.mark.parametrize("samples", [(0, 0), (0, None), (None, 0), (None, None)])
def test_rows_that_their_samples_do_not_tell_apart_are_refused(samples, exercises, data, predictions):
    lines = [*gold(exercises[1:]), *rows_of(exercises[0], *samples)]
    with pytest.raises(DataError, match=rf"given twice: {exercises[0].problem_id} \(again in line 13\)"):
        grade_predictions(data, predictions(*lines))


@pytest.mark.parametrize("sample", [-1, "0", 1.5, True])
def test_a_sample_is_a_whole_number(sample, exercises, data, predictions):
    with pytest.raises(DataError, match=r"line 12 of .* has sample=.*: give a whole number from 0 on"):
        grade_predictions(data, predictions(*gold(exercises[1:]), *rows_of(exercises[0], sample)))


# ------------------------------------------------------------------------------------ lines


@pytest.mark.parametrize(
    "line",
    [
        {"id": 7.5, "completion": "x"},
        {"id": True, "completion": "x"},
        {"id": None, "completion": "x"},
        {"id": "a", "completion": "x", "completions": ["x"]},
        {"id": "a", "completions": ["x", "y"], "sample": 3},
        {"id": "a", "completion": ["x"]},
        {"completion": "x"},
        {"id": "a"},
        {"id": "a", "completions": []},
        {"id": "a", "completions": ["x", None]},
        {"id": "a", "completions": "x = 2"},  # a text is no list of its letters
        {"id": "a", "completions": 3},
    ],
)
def test_a_line_of_another_form_is_named(line, exercises, data, predictions):
    with pytest.raises(DataError, match=r"line 13 of .* is not .*: give the id and at least one text"):
        grade_predictions(data, predictions(*gold(exercises), line), 1)


@pytest.mark.parametrize(
    ("line", "reason"), [("{", "is not JSON"), ("[1]", "is not a JSON object"), ("x", "is not JSON")]
)
def test_a_line_that_is_no_object_is_named(line, reason, exercises, data, predictions):
    with pytest.raises(DataError, match=rf"line 13 of .* {reason}"):
        grade_predictions(data, predictions(*gold(exercises), line), 1)


def test_blank_lines_are_passed_over_and_counted(exercises, data, predictions):
    lines = [part for line in gold(exercises) for part in (line, "  ")]
    assert len(grade_predictions(data, predictions("", *lines, "")).rows) == 12
    with pytest.raises(DataError, match=r"line 26 of .* is not JSON"):
        grade_predictions(data, predictions("", *lines, "{"))


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_said_to_be_empty(content, data, predictions):
    path = predictions()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"predictions.jsonl is empty: give a JSON Lines or Parquet file with at least"):
        grade_predictions(data, path)


@pytest.mark.parametrize(
    ("name", "content", "begins"),
    [
        ("p.csv", b"id,completion\na,b\n", "'id,completion'"),
        ("p.parquet", b"id,completion\na,b\n", "'id,completion'"),
        ("p.jsonl", b"\x1f\x8b\x08\x00", r"'\x1f\ufffd\x08\x00'"),
        ("p.json", b'[{"id": 1}]', """'[{"id": 1}]'"""),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_beginning(name, content, begins, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    message = f"{name} is neither JSON Lines nor Parquet: it begins with {begins}. Give one JSON object a line"
    with pytest.raises(DataError, match=re.escape(message)):
        grade_predictions(data, path)


def test_a_folder_of_predictions_is_refused(data, tmp_path):
    with pytest.raises(DataError, match=r"is a folder: give the data first, then predictions as a JSON Lines or Par"):
        grade_predictions(data, tmp_path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_predictions_in_the_place_of_the_data_are_named(kind, exercises, data, predictions, tmp_path):
    path = predictions(*gold(exercises))
    if kind == "parquet":
        path = tmp_path / "predictions.parquet"
        pq.write_table(pa.Table.from_pylist(gold(exercises)), path)
    with pytest.raises(DataError, match=r"holds completions, not problems: give the data first, then the predictions"):
        grade_predictions(path, data)


def test_any_bytes_and_any_text_are_graded(exercises, data, predictions):
    path = predictions(*gold(exercises[4:]))
    names = [one.problem_id.encode() for one in exercises[:4]]
    texts = [b"\xff\xfe Answer: 3.", rb"\ud800 half", rb"\u0000\u001b[2J \u202e", b"\xed\xa0\x80"]
    rows = [b'{"id": "%s", "completion": "%s"}\n' % pair for pair in zip(names, texts, strict=True)]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"".join(rows))
    graded = grade_predictions(data, path)
    assert [row["verified"] for row in graded.rows] == [True] * 8 + [False] * 4
    graded.write(path.with_name("grades.jsonl"))
    graded.write_page(path.with_name("page.html"))
    assert "[U+001B][2J [U+202E]" in path.with_name("page.html").read_text(encoding="utf-8")


def test_a_file_that_is_not_there_is_named(data, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.jsonl: give a JSON Lines or Parquet file"):
        grade_predictions(data, tmp_path / "nothing.jsonl", 1)


def test_data_that_is_not_there_is_named(predictions, exercises, tmp_path):
    with pytest.raises(DataError, match=r"there is no .*nothing: give the folder of a data set, or a file"):
        grade_predictions(tmp_path / "nothing", predictions(*gold(exercises)))


def test_data_that_is_no_exercise_is_refused(data, predictions, exercises):
    data.write_text('{"question": "How many?"}\n')
    with pytest.raises(DataError, match="not an exercise"):
        grade_predictions(data, predictions(*gold(exercises)), 1)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_end_of_a_line_ends_a_line(newline, exercises, data, predictions):
    """JSON may hold U+2028 and U+0085 as they are, and Python's splitlines would cut there."""
    lines = gold(exercises)
    lines[0]["completions"] = ["thinking\u2028and\u0085thinking"]
    graded = grade_predictions(data, predictions(*lines, newline=newline), 1)
    assert len(graded.rows) == 12
    assert graded.rows[0]["verdict"] == "unreadable"
    assert graded.rows[1]["verdict"] == "correct"


@pytest.mark.parametrize("finished", [False, [False], [True, False], "no", 0, []])
def test_what_was_cut_is_truncated_and_finished_is_a_list_as_long_as_the_texts(finished, exercises, data, predictions):
    lines = gold(exercises)
    path = predictions(*lines[1:], lines[0] | {"finished": finished})
    if finished is False or finished == [False]:
        assert grade_predictions(data, path).rows[-1]["verdict"] == "truncated"
    else:
        with pytest.raises(DataError, match=r"line 12 of .* has finished=.*: give true or false"):
            grade_predictions(data, path)


# ------------------------------------------------------------------------------------ Parquet


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_gives_the_grades_of_json_lines(kind, exercises, data, predictions, tmp_path):
    wanted = grade_predictions(data, predictions(*gold(exercises))).rows
    path = tmp_path / "predictions.parquet"
    texts = pa.array([one.completion for one in exercises]).cast(pa.string())
    ids = [one.problem_id for one in exercises]
    pq.write_table(pa.table({"id": ids, "completion": texts.cast(kind), "note": ids}), path)
    assert grade_predictions(data, path).rows == wanted


def test_parquet_may_hold_lists_and_nothing(exercises, data, tmp_path):
    path = tmp_path / "predictions.parquet"
    frame = pd.DataFrame(
        {
            "id": [one.problem_id for one in exercises],
            "completions": [[one.completion, "no idea"] for one in exercises],
            "finished": [[False, True], *[None] * 11],
            "sample": [None] * 12,
        }
    )
    frame.to_parquet(path)
    verdicts = [row["verdict"] for row in grade_predictions(data, path).rows]
    assert verdicts == ["truncated", "unreadable", *["correct", "unreadable"] * 11]


def test_a_row_of_parquet_of_another_form_is_named(exercises, data, tmp_path):
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"name": [one.problem_id for one in exercises]}), path)
    with pytest.raises(DataError, match=r"row 1 of .* is not .*: give the id and at least one text"):
        grade_predictions(data, path)


def test_parquet_without_rows_is_empty(exercises, data, tmp_path):
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "completion": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match=r"predictions.parquet is empty"):
        grade_predictions(data, path)


def test_damaged_parquet_is_named(exercises, data, tmp_path):
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"id": ["a"], "completion": ["x"]}), path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"predictions\.parquet cannot be read as Parquet after row 0"):
        grade_predictions(data, path)


def test_a_shard_alone_is_refused(tmp_path, predictions, exercises):
    source = ExerciseSource(Mixture((Slice(ProblemSpec(op=3)),)), "test", 0)
    folder = write_dataset(tmp_path / "set", source, 3)
    (shard,) = folder.glob("data/*.parquet")
    with pytest.raises(DataError, match="is a shard without its manifest: give the folder of the data set"):
        grade_predictions(shard, predictions(*gold(exercises)))


# ------------------------------------------------------------------------------------ what comes out


@pytest.fixture
def half_right(exercises, data, predictions):
    """Of every problem one gold solution, and one with a false step and the right answer."""
    rng = random.Random(0)
    lines = [
        {"id": one.problem_id, "completions": [one.completion, mutate(one, "false_equality", rng)]} for one in exercises
    ]
    return grade_predictions(data, predictions(*lines))


def test_processes_change_no_grade(half_right, exercises, data, predictions):
    lines = [{"id": one.problem_id, "completions": [one.completion, "no idea"] * 50} for one in exercises]
    path, told = predictions(*lines), []
    alone = grade_predictions(data, path, 1)
    together = grade_predictions(data, path, 1, workers=2, advance=lambda done, total: told.append((done, total)))
    assert together.rows == alone.rows
    assert told == [(500, 1200), (1000, 1200), (1200, 1200)]


def test_no_workers_are_refused(exercises, data, predictions):
    with pytest.raises(DataError, match="workers=0: give at least 1"):
        grade_predictions(data, predictions(*gold(exercises)), workers=0)


def test_the_table_tells_verified_answer_only_and_literal_apart(half_right):
    assert shares(half_right.table, "pass@1") == {"0.500"}
    assert shares(half_right.table, "answer pass@1") == {"1.000"}
    assert shares(half_right.table, "literal pass@1") == {"0.500"}
    assert list(half_right.table) == [f"{word}pass@{k}" for word in ("", "answer ", "literal ") for k in (1, 2)]


def test_a_solution_in_other_words_is_verified_and_not_literal(exercises, data, predictions):
    """Numbers may be put in and calculated at once: "so a = b + c = 7" without "3 + 4" in the middle."""
    lines = gold(exercises)
    links = re.compile(r"(= [^=.]*[a-zA-Z][^=.]*) = [^=.]* (= [0-9]+\.)")
    lines = [line | {"completions": [links.sub(r"\1 \2", text) for text in line["completions"]]} for line in lines]
    graded = grade_predictions(data, predictions(*lines))
    changed = [bool(links.search(one.completion)) for one in exercises]
    assert [row["verified"] for row in graded.rows] == [True] * 12
    assert [not row["literal"] for row in graded.rows] == changed
    assert any(changed)
    assert shares(graded.table, "pass@1") == {"1.000"}
    assert shares(graded.table, "literal pass@1") != {"1.000"}
    (line,) = [line for line in graded.lines if "word for word" in line]
    assert line.startswith(f"correct, but not word for word: {sum(changed)}; they deviate in: ")


def test_the_summary_counts_verdicts_and_errors(half_right):
    lines = list(half_right.lines)
    assert lines[0] == "24 completions: correct 12, lucky 12"
    assert "false_arithmetic " in lines[1] or "wrong_value " in lines[1]
    assert lines[2] == "correct, but not word for word: 0; they deviate in: none"
    assert len(lines) == 3


def test_grades_are_written_as_json_lines_and_as_parquet(half_right, tmp_path):
    half_right.write(tmp_path / "grades.jsonl")
    half_right.write(tmp_path / "grades.parquet")
    rows = [json.loads(line) for line in (tmp_path / "grades.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == json.loads(json.dumps(half_right.rows))
    assert pq.read_table(tmp_path / "grades.parquet").to_pylist() == rows


def test_grades_without_errors_have_the_columns_of_others(exercises, data, predictions, half_right, tmp_path):
    grade_predictions(data, predictions(*gold(exercises))).write(tmp_path / "right.parquet")
    half_right.write(tmp_path / "half.parquet")
    assert pq.read_schema(tmp_path / "right.parquet") == pq.read_schema(tmp_path / "half.parquet")


def test_grades_have_one_of_two_suffixes(half_right, tmp_path):
    with pytest.raises(DataError, match=r"grades\.csv cannot be written: give a name that ends in \.jsonl or "):
        half_right.write(tmp_path / "grades.csv")


def test_marked_texts_are_those_that_are_not_verified(half_right, exercises):
    texts = list(half_right.texts(2))
    assert len(texts) == 2
    for text, one in zip(texts, exercises, strict=False):
        assert text.startswith(f"--- {one.problem_id}  sample 1  op {one.op}  answer {one.answer}\n{one.prompt}\n")
        assert "\n= lucky" in text
    assert len(list(half_right.texts(100))) == 12


class Page(HTMLParser):
    """The words of a page, and what it loads or runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "img", "link", "iframe") or any(
            name in ("src", "href") or name.startswith("on") for name, _ in attrs
        ):
            self.foreign.append(tag)

    def handle_data(self, data):
        self.words += data


def test_the_page_holds_marked_completions_and_nothing_from_outside(exercises, data, predictions, tmp_path):
    hostile = "</li></ol></section><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    lines = [*gold(exercises[1:]), {"id": exercises[0].problem_id, "completion": hostile}]
    path = tmp_path / "page.html"
    grade_predictions(data, predictions(*lines)).write_page(path)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.foreign == []
    assert hostile in page.words
    assert page.words.index(hostile) < page.words.index(exercises[1].completion.split(". ")[0].strip())
    assert exercises[1].prompt in page.words
    assert "12 of 12 completions are shown" in page.words
    assert "@import" not in page.words
    assert "url(" not in page.words


# ------------------------------------------------------------------------------------ the command


def command(*arguments: object):
    return CliRunner().invoke(app, ["grade", *map(str, arguments)])


def test_the_command_prints_tables_and_a_summary_and_writes_what_it_is_asked_for(
    exercises, data, predictions, tmp_path
):
    path = predictions(*gold(exercises[1:]), {"id": exercises[0].problem_id, "completion": "no idea"})
    output, page = tmp_path / "grades.parquet", tmp_path / "page.html"
    done = command(data, path, "--output", output, "--page", page, "--show", 3, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert pq.read_table(output).num_rows == 12
    assert page.read_text(encoding="utf-8").count("<section>") == 12
    assert done.stdout.startswith(f"--- {exercises[0].problem_id}  sample 0")
    assert done.stdout.count("--- ") == 1
    headers = [line.split("  ")[0] for line in done.stdout.splitlines() if "pass@1" in line]
    assert headers == ["verified", "answer only", "word for word"]
    assert "12 completions: correct 11, unreadable 1" in done.stdout
    assert "grade 12/12" in done.stderr
    assert "grade" not in done.stdout


def test_the_command_refuses_another_suffix_before_it_reads_anything(tmp_path):
    refused = command(tmp_path / "nothing", tmp_path / "nothing", "--output", tmp_path / "grades.csv")
    assert refused.exit_code == 2
    assert "ends in .jsonl or .parquet" in " ".join(refused.stderr.replace("│", " ").split())


# ------------------------------------------------------------------------------------ problems of GSM-Infinite


def foreign_row(name: object, facts: str, answer: int = 6, place: str = "Fern Field") -> dict[str, object]:
    return {
        "id": name,
        "problem": facts,
        "question": f"How many adult yak does {place} have?",
        "solution": f"Answer: {answer}.",
        "op": 2,
        "mode": "forward",
        "template": "toys",
    }


SOUND = "The number of adult yak in Fern Field equals 2 plus the number of adult owl in Fern Field. "
OWLS = "The number of adult owl in Fern Field equals 4. "
FOREIGN_GOLD = (
    "Define adult owl in Fern Field as o; so o = 4. Define adult yak in Fern Field as k; so k = 2 + o = 2 + 4 = 6. "
    "Answer: 6."
)


@pytest.fixture
def foreign(tmp_path):
    def write(*rows: dict[str, object]):
        path = tmp_path / "theirs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_foreign_problems_are_graded_by_the_ids_of_their_rows(foreign, predictions):
    data = foreign(foreign_row(3, SOUND + OWLS), foreign_row("x", SOUND + OWLS))
    lines = [{"id": "3", "completion": FOREIGN_GOLD}, {"id": "x", "completion": FOREIGN_GOLD.replace("6", "7")}]
    graded = grade_predictions(data, predictions(*lines))
    assert [(row["problem_id"], row["verdict"], row["op"]) for row in graded.rows] == [
        ("3", "correct", 3),
        ("x", "wrong", 3),
    ]
    assert grade_predictions(data, predictions({"id": 3, "completion": FOREIGN_GOLD}, lines[1])).rows == graded.rows
    assert graded.ungraded == {}


def test_foreign_problems_that_cannot_be_solved_are_left_out_and_named(foreign, predictions):
    data = foreign(foreign_row(0, SOUND + OWLS), foreign_row(1, SOUND), foreign_row(2, "Nonsense. "), {"id": 4})
    lines = [{"id": number, "completions": [FOREIGN_GOLD] * 2} for number in (0, 1, 2)]
    graded = grade_predictions(data, predictions(*lines))
    assert len(graded.rows) == 2
    assert graded.ungraded == {"1": 2, "2": 2}
    assert list(graded.lines)[3:] == [
        "not graded: 4 completions of 2 problems that cannot be solved",
        *(line for line in graded.lines if line.startswith("  ")),
    ]
    told = [line for line in graded.lines if line.startswith("  ")]
    assert "1 (2): " in told[0]
    assert "the text never says how many adult owl in Fern Field there are" in told[0]
    assert "2 (2): the sentence " in told[1]


def test_a_file_without_a_problem_to_grade_is_refused(foreign, predictions):
    data = foreign(foreign_row(1, SOUND))
    with pytest.raises(DataError, match=r"none of the problems of .* can be graded: .*never says how many adult owl"):
        grade_predictions(data, predictions({"id": 1, "completion": "x"}))


def test_foreign_problems_whose_file_states_another_answer_are_named(foreign, predictions):
    data = foreign(foreign_row(0, SOUND + OWLS), foreign_row(1, SOUND + OWLS, answer=9))
    lines = [{"id": number, "completion": FOREIGN_GOLD} for number in (0, 1)]
    graded = grade_predictions(data, predictions(*lines))
    assert [row["verified"] for row in graded.rows] == [True, True]
    assert "graded by their texts, which contradict the answers of 1" in graded.lines


def test_foreign_ids_that_stand_twice_are_named(foreign, predictions):
    data = foreign(foreign_row(0, SOUND + OWLS), foreign_row("0", SOUND + OWLS))
    with pytest.raises(DataError, match=r"ids stand twice in .*: 0\. Give every problem an id of its own"):
        grade_predictions(data, predictions({"id": 0, "completion": "x"}))


def test_a_foreign_problem_without_an_id_is_named(foreign, predictions):
    data = foreign(foreign_row(0, SOUND + OWLS), foreign_row(None, SOUND + OWLS))
    with pytest.raises(DataError, match=r"line 2 of .* has the id None: give a text or a whole number"):
        grade_predictions(data, predictions({"id": 0, "completion": "x"}))


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
    graded = grade_predictions(data, predictions({"id": one.problem_id, "completions": texts}), 1)
    assert [row["verified"] for row in graded.rows] == [True, False]


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
    graded = grade_predictions(folder, predictions(*lines), 1)
    assert len(graded.rows) == 40
    assert shares(graded.table, "pass@1") == {"1.000"}
