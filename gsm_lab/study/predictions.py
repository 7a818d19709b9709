"""Grades completions that came from anywhere: matched by id, verified against the graphs, in one table and one page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from gsm_lab.data import read_dataset
from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, ANSWER_PASS, COLUMNS, PASS, powers_of_two, tabulate
from gsm_lab.files import whole_file, write_bytes, write_text
from gsm_lab.problems import ERRORS, Examination, Exercise, Grade, Verdict, examine, grade, marking, parse_gsm_infinite

CHUNK = 500
"""Completions that a worker grades at a time."""
MOST_NAMED = 10
"""Ids that an error names."""
MOST_ON_PAGE = 200
MOST_SHOWN = 30
"""Bytes of a file of another kind that an error shows."""
SUFFIXES = (".jsonl", ".parquet")
"""What grades can be written as."""
PARQUET = b"PAR1"


class Completion(NamedTuple):
    """One text, and whose problem it answers."""

    id: str
    sample: int
    text: str
    finished: bool


@dataclass(frozen=True)
class Problems:
    """What is to be solved."""

    tellings: Mapping[str, Sequence[Exercise]]
    """Every problem by its id, in all of its wordings."""
    unreadable: Mapping[str, str]
    """Ids of foreign problems that cannot be graded, and why."""
    disputed: Sequence[str] = ()
    """Ids of foreign problems whose own file states another answer than their text has."""


@dataclass(frozen=True)
class Graded:
    """All grades, beside what they are about."""

    problems: Problems
    completions: Sequence[Completion]
    """Those that could be graded."""
    grades: Sequence[Grade]
    stage: str
    table: pd.DataFrame
    """pass@k by op: verified, of the answer alone, and word for word in the grammar, each with its interval."""
    ungraded: Mapping[str, int]
    """How many completions each problem has that cannot be graded."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row a completion, in the order of the predictions, with the columns that `tabulate` wants and more."""
        rows = []
        for one, result in zip(self.completions, self.grades, strict=True):
            telling = self.problems.tellings[one.id][0]
            rows.append(
                {
                    "stage": self.stage,
                    "seed": 0,
                    "problem_id": one.id,
                    "op": telling.op,
                    "context": telling.context,
                    "sample": one.sample,
                    "tokens": len(one.text.split()),
                    **result.to_dict(),
                }
            )
        return rows

    @property
    def lines(self) -> Iterator[str]:
        """What became of the completions, for a person: verdicts, errors, deviations, and what was not graded."""
        verdicts = Counter(result.verdict for result in self.grades)
        yield f"{len(self.grades)} completions: {_counts({verdict: verdicts[verdict] for verdict in Verdict})}"
        errors = {kind: sum(getattr(result, kind) > 0 for result in self.grades) for kind in ERRORS}
        yield f"completions with an error: {_counts(errors)}"
        loose = [result for result in self.grades if result.verified and not result.literal]
        deviations = Counter(what for result in loose for what in result.deviation)
        yield f"correct, but not word for word: {len(loose)}; they deviate in: {_counts(deviations)}"
        if self.problems.disputed:
            yield f"graded by their texts, which contradict the answers of {_named(self.problems.disputed)}"
        if self.ungraded:
            num_completions = sum(self.ungraded.values())
            yield f"not graded: {num_completions} completions of {len(self.ungraded)} problems that cannot be solved"
            for name, number in self.ungraded.items():
                yield f"  {name} ({number}): {self.problems.unreadable[name]}"

    def examined(self, most: int, only_unverified: bool) -> Iterator[tuple[Completion, Exercise, Examination]]:
        """Marked completions, at most so many: first those that are not verified, then those that deviate."""
        ranks = [result.verified + (result.verified and result.literal) for result in self.grades]
        numbers = sorted(range(len(ranks)), key=ranks.__getitem__)
        chosen = (number for number in numbers if not (only_unverified and ranks[number]))
        for number in islice(chosen, most):
            one = self.completions[number]
            exercise = _best_telling(self.problems.tellings[one.id], one)
            yield one, exercise, examine(exercise, one.text, one.finished)

    def texts(self, most: int, colour: bool = False) -> Iterator[str]:
        """The first completions that are not verified, marked for a terminal."""
        for one, exercise, examination in self.examined(most, only_unverified=True):
            heading = f"--- {one.id}  sample {one.sample}  op {exercise.op}  answer {exercise.answer}"
            above = marking.visible(f"{heading}\n{exercise.prompt}")
            yield f"{above}\n{marking.mark_text(examination, one.text, colour)}"

    def write(self, path: Path) -> None:
        """Every grade, as JSON Lines or as Parquet.

        Raises:
            DataError: the name ends in neither of `SUFFIXES`.
        """
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path} cannot be written: give a name that ends in {' or '.join(SUFFIXES)}.")
        if path.suffix == ".jsonl":
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
            write_bytes(path, "".join(lines).encode("utf-8", "replace"))
            return
        columns = {name: pa.array([row[name] for row in self.rows], _PARQUET_TYPES.get(name)) for name in self.rows[0]}
        with whole_file(path) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="zstd")

    def write_page(self, path: Path) -> None:
        """The table and marked completions as a page that asks for nothing from outside."""
        cases = [
            (one, exercise, Markup(marking.mark_html(examination, one.text)))
            for one, exercise, examination in self.examined(MOST_ON_PAGE, only_unverified=False)
        ]
        environment = jinja2.Environment(autoescape=True)
        environment.filters["visible"] = marking.visible
        page = environment.from_string(_PAGE).render(
            graded=self, lines=list(self.lines), cases=cases, style=Markup(marking.MARK_STYLE)
        )
        write_text(path, page)


_FINDING = pa.struct([("statement", pa.int64()), ("kind", pa.string()), ("message", pa.string())])
_PARQUET_TYPES = {
    "answer": pa.int64(),
    "first_error": pa.string(),
    "deviation": pa.list_(pa.string()),
    "findings": pa.list_(_FINDING),
}
"""The types of columns that may hold nothing at all."""


def grade_predictions(
    data: Path,
    predictions: Path,
    most_k: int = 32,
    workers: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Graded:
    """Every completion graded, in so many processes.

    `data` is a data set's folder, a JSON Lines file of exercises, or a file of GSM-Infinite, whose ids are those of its
    rows. A row of `predictions`, JSON Lines or Parquet, is `{"id": problem_id, "completions": [text, ...]}`, or
    `"completion": text` for a single one; rows of one id need a `sample`, a number that tells them apart. `"finished":
    false`, for a row or a list of them, says that a text was cut. A data set may tell a problem twice, in other words;
    a completion may then solve either telling. Bytes that are no UTF-8 count as U+FFFD.

    Raises:
        DataError: ids that are missing, unknown or given twice (they are listed), rows of another form, or a killed
            worker.
    """
    if workers < 1:
        raise DataError(f"workers={workers}: give at least 1.")
    problems = _problems(data)
    given = _completions(predictions, problems, data)
    completions = [one for one in given if one.id in problems.tellings]
    if not completions:
        raise DataError(f"none of the problems of {data} can be graded: {next(iter(problems.unreadable.values()))}.")
    grades: list[Grade] = []
    for part in _graded(problems, completions, workers):
        grades += part
        advance(len(grades), len(completions))
    return Graded(
        problems,
        completions,
        grades,
        predictions.stem,
        _table(problems, completions, grades, most_k),
        dict(Counter(one.id for one in given if one.id in problems.unreadable)),
    )


# ------------------------------------------------------------------------------------------ grading

_Part = tuple[dict[str, Sequence[Exercise]], list[Completion]]


def _graded(problems: Problems, completions: Sequence[Completion], workers: int) -> Iterator[list[Grade]]:
    """The grades of all completions, some at a time, in their order."""
    firsts = range(0, len(completions), CHUNK)
    parts = (_part(problems, completions[first : first + CHUNK]) for first in firsts)
    if workers == 1 or len(firsts) == 1:
        yield from map(grade_part, parts)
        return
    pool = ProcessPoolExecutor(min(workers, len(firsts)), mp_context=get_context("spawn"))
    try:
        yield from pool.map(grade_part, parts)
    except BrokenProcessPool as error:
        raise DataError(
            f"one of {workers} workers was killed, for want of memory perhaps: run the same command with fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _part(problems: Problems, completions: Sequence[Completion]) -> _Part:
    return {one.id: problems.tellings[one.id] for one in completions}, list(completions)


def grade_part(part: _Part) -> list[Grade]:
    """The grades of some completions."""
    tellings, completions = part
    return [_grade_of(_best_telling(tellings[one.id], one), one) for one in completions]


def _grade_of(exercise: Exercise, one: Completion) -> Grade:
    return grade(exercise, one.text, one.finished)


def _best_telling(tellings: Sequence[Exercise], one: Completion) -> Exercise:
    """The telling for which a text has its best grade: its id does not say which of them it answers."""
    if len(tellings) == 1:
        return tellings[0]

    def rank(exercise: Exercise) -> tuple[bool, bool, bool, float]:
        result = _grade_of(exercise, one)
        return result.verified, result.literal, result.answer_correct, result.process_accuracy

    return max(tellings, key=rank)


def _table(problems: Problems, completions: Sequence[Completion], grades: Sequence[Grade], most_k: int) -> pd.DataFrame:
    """One stage counts a completion as verified if it is correct, the other if it is so word for word."""
    rollouts = pd.DataFrame(
        {
            "stage": "semantic",
            "seed": 0,
            "op": [problems.tellings[one.id][0].op for one in completions],
            "context": "any",
            "problem_id": [one.id for one in completions],
            "sample": [one.sample for one in completions],
            "tokens": 0,
            **{
                name: [getattr(result, name) for result in grades]
                for name in ("verified", "answer_correct", "answer", "process_accuracy")
            },
            "verdict": [result.verdict.value for result in grades],
        }
    ).astype({"answer": "Int64"})
    is_literal = [result.literal for result in grades]
    literal = rollouts.assign(
        stage="literal",
        verified=is_literal,
        verdict=rollouts["verdict"].where(np.array(is_literal) | ~rollouts["verified"], Verdict.LUCKY.value),
    )
    fewest = int(rollouts.groupby("problem_id").size().min())
    both = pd.concat([rollouts, literal], ignore_index=True)[list(COLUMNS)]
    table = tabulate(both, np.random.default_rng(0), ks=powers_of_two(min(most_k, fewest)))
    rows = table[(table["seed"] == ALL) & (table["context"] == ALL)]
    columns: dict[str, dict[Any, str]] = {}
    for stage, metric, word in (("semantic", PASS, ""), ("semantic", ANSWER_PASS, ""), ("literal", PASS, "literal ")):
        for row in rows[(rows["stage"] == stage) & (rows["metric"] == metric)].itertuples():
            name = word + metric.replace("@k", f"@{row.k}")
            columns.setdefault(name, {})[row.op] = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    return pd.DataFrame(columns).rename_axis("op")


def _counts(counts: Mapping[str, int]) -> str:
    """What there is of each kind, the most frequent first."""
    found = sorted(((number, kind) for kind, number in counts.items() if number), key=lambda pair: -pair[0])
    return ", ".join(f"{kind} {number}" for number, kind in found) or "none"


# ------------------------------------------------------------------------------------------ reading


def _problems(data: Path) -> Problems:
    if not data.exists():
        raise DataError(f"there is no {data}: give the folder of a data set, or a file of exercises or GSM-Infinite.")
    if data.is_dir():
        return Problems(_by_id((one.problem_id, one) for one in read_dataset(data)), {})
    rows = list(_rows(data))
    if any("graph" in row for _, row in rows[:1]):
        raise DataError(f"{data} is a shard without its manifest: give the folder of the data set.")
    if any("problem" not in row and {"completion", "completions"} & {*row} for _, row in rows[:1]):
        raise DataError(f"{data} holds completions, not problems: give the data first, then the predictions.")
    if all(isinstance(row.get("problem"), str) for _, row in rows[:1]):
        return _foreign_problems(rows, data)
    exercises = (Exercise.from_dict(row) for _, row in rows)
    return Problems(_by_id((one.problem_id, one) for one in exercises), {})


def _by_id(pairs: Iterable[tuple[str, Exercise]]) -> dict[str, list[Exercise]]:
    found: dict[str, list[Exercise]] = {}
    for name, exercise in pairs:
        found.setdefault(name, []).append(exercise)
    return found


def _foreign_problems(rows: Sequence[tuple[str, Mapping[str, Any]]], data: Path) -> Problems:
    """The problems of GSM-Infinite; one that its reader cannot make out is kept by its id, with the reason."""
    exercises: dict[str, list[Exercise]] = {}
    unreadable: dict[str, str] = {}
    disputed, twice = [], []
    for where, row in rows:
        name = _id_of(row)
        if name is None:
            raise DataError(f"{where} of {data} has the id {row.get('id')!r}: give a text or a whole number.")
        if name in exercises or name in unreadable:
            twice.append(name)
            continue
        try:
            foreign = parse_gsm_infinite(row)
            if foreign.reason is not None:
                unreadable[name] = foreign.reason
                continue
            exercises[name] = [foreign.exercise()]
        except DataError as error:
            unreadable[name] = str(error)
            continue
        if exercises[name][0].answer != foreign.stated_answer:
            disputed.append(name)
    if twice:
        raise DataError(f"ids stand twice in {data}: {_named(twice)}. Give every problem an id of its own.")
    return Problems(exercises, unreadable, disputed)


def _completions(path: Path, problems: Problems, data: Path) -> list[Completion]:
    """All completions, each of a known problem, and at least one of each problem that can be graded."""
    found: list[Completion] = []
    seen: dict[str, set[int | None]] = {}
    twice: dict[str, str] = {}
    for where, row in _rows(path, ("id", "sample", "completion", "completions", "finished")):
        name, sample, texts, finished = _read_row(row, where, path)
        before = seen.setdefault(name, set())
        if before and (sample is None or None in before or sample in before):
            twice.setdefault(name, where)
        before.add(sample)
        found += [
            Completion(name, number if sample is None else sample, text, whole)
            for number, (text, whole) in enumerate(zip(texts, finished, strict=True))
        ]
    complaints = {
        "missing": sorted(problems.tellings.keys() - seen),
        "unknown": sorted(seen.keys() - problems.tellings.keys() - problems.unreadable.keys()),
        "given twice": [f"{name} (again in {where})" for name, where in twice.items()],
    }
    if any(complaints.values()):
        texts = [f"{len(ids)} ids in {path} are {kind}: {_named(ids)}" for kind, ids in complaints.items() if ids]
        raise DataError(
            f"{'; '.join(texts)}. Give one row for each problem of {data}, under its id, with all of its texts, or a "
            f"row a text, told apart by a number called sample."
        )
    return found


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(ids[:MOST_NAMED]) + more


def _read_row(row: Mapping[str, Any], where: str, path: Path) -> tuple[str, int | None, list[str], list[bool]]:
    """Whose completions a row holds, which sample it is, the texts, and whether each came to its end."""
    name, sample = _id_of(row), row.get("sample")
    one, many = row.get("completion"), row.get("completions")
    texts: Any = [one] if many is None else many
    is_list = isinstance(texts, list) and len(texts) > 0  # a text alone would be taken for a list of letters
    is_single = many is None or (one is None and sample is None)
    if name is None or not is_list or not is_single or not all(isinstance(text, str | bytes) for text in texts):
        raise DataError(
            f'{where} of {path} is not {{"id": "...", "completions": ["...", ...]}}, nor one with a "completion": '
            f"give the id and at least one text."
        )
    if sample is not None and (type(sample) is not int or sample < 0):
        raise DataError(f"{where} of {path} has sample={sample!r}: give a whole number from 0 on, or leave it out.")
    finished = row.get("finished")
    ends = finished if isinstance(finished, list) else [finished is None or finished] * len(texts)
    if len(ends) != len(texts) or not all(type(end) is bool for end in ends):
        raise DataError(
            f"{where} of {path} has finished={finished!r}: give true or false, or a list of them, one for each text."
        )
    return name, sample, [_text(text) for text in texts], ends


def _id_of(row: Mapping[str, Any]) -> str | None:
    """A text, or a whole number as one; anything else is no id."""
    name = row.get("id")
    if isinstance(name, str | bytes):
        return _text(name)
    return str(name) if type(name) is int else None


def _text(value: str | bytes) -> str:
    """The text of any bytes; JSON may also name halves of characters, which no file can hold."""
    content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return content.decode("utf-8", "replace")


def _rows(path: Path, wanted: Sequence[str] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row stands, and the row, one at least; of Parquet, only the wanted columns, or all."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the data first, then predictions as a JSON Lines or Parquet file.")
    if not path.is_file():
        raise DataError(f"there is no file {path}: give a JSON Lines or Parquet file.")
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET)) == PARQUET
    rows = _parquet_rows(path, wanted) if is_parquet else _json_rows(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} is empty: give a JSON Lines or Parquet file with at least one row.")
    return chain([first], rows)


def _parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if not wanted or name in wanted]
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet after row {number} ({error}): write it again, texts that are no UTF-8 "
            f"as binary."
        ) from error


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of all lines that are not blank."""
    parts = path.read_bytes().split(b"\n")  # str.splitlines would also cut at U+2028 in a text
    lines = [(number, part.removeprefix(b"\xef\xbb\xbf").strip()) for number, part in enumerate(parts, 1)]
    lines = [(number, line) for number, line in lines if line]
    if lines and not lines[0][1].startswith(b"{"):
        begins = ascii(lines[0][1][:MOST_SHOWN].decode("utf-8", "replace"))
        raise DataError(
            f"{path} is neither JSON Lines nor Parquet: it begins with {begins}. Give one JSON object a line, or "
            f"Parquet."
        )
    for number, line in lines:
        try:
            value = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"line {number} of {path} is not JSON ({error}): give one whole object a line, so mend or remove it."
            ) from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of {path} is not a JSON object: give one object a line.")
        yield f"line {number}", value


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Grades of {{ graded.stage }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right; white-space: nowrap }
.wide { overflow-x: auto }
{{ style }}</style>
<h1>Grades of {{ graded.stage }}</h1>
<div class="wide"><table><thead><tr><th>op</th>{% for name in graded.table.columns %}<th>{{ name }}</th>{% endfor %}
</tr></thead><tbody>
{% for op, row in graded.table.iterrows() %}<tr><th>{{ op }}</th>
{%- for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<p>pass@k counts verified completions: the right answer by right steps. Literal ones are so word for word. Brackets hold
95 % intervals.</p>
<ul>{% for line in lines %}<li><bdi>{{ line | visible }}</bdi></li>{% endfor %}</ul>
<p>{{ cases | length }} of {{ graded.grades | length }} completions are shown: first those that are not verified, then
those that are not word for word.</p>
{% for one, exercise, marked in cases %}
<section>
<h2><bdi>{{ one.id | visible }}</bdi>, sample {{ one.sample }}</h2>
<details><summary>The problem (op {{ exercise.op }}, answer {{ exercise.answer }})</summary>
<p><bdi>{{ exercise.prompt | visible }}</bdi></p></details>
{{ marked }}
</section>
{% endfor %}
</html>
"""
