"""Grades completions that came from anywhere: matched by id, verified against the graphs, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsm_lab.data import read_dataset
from gsm_lab.errors import DataError
from gsm_lab.evaluation import ALL, ANSWER_PASS, PASS, powers_of_two, tabulate
from gsm_lab.problems import Exercise, Grade, grade


def grade_predictions(data: Path, predictions: Path, most_k: int) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """A table of verified and answer-only pass@k per op, and every grade.

    `data` is a data set's folder or a JSON Lines file of exercises; a line of `predictions` is
    `{"id": problem_id, "completions": [text, ...]}`, or `"completion": text` for a single one. A data set may tell
    a problem twice, in other words; a completion may then solve either telling.

    Raises:
        DataError: ids that are missing, unknown or given twice (they are listed), or lines of another form.
    """
    exercises = _exercises(data)
    completions = _completions(predictions)
    for kind, ids in (("missing", exercises.keys() - completions), ("unknown", completions.keys() - exercises)):
        if ids:
            raise DataError(
                f"{len(ids)} ids in {predictions} are {kind}, such as {', '.join(sorted(ids)[:3])}: "
                f"give one line for each problem of {data}, under its problem_id."
            )
    rows = []
    for name, texts in completions.items():
        tellings = exercises[name]
        for number, text in enumerate(texts):
            result = _best_grade(tellings, text)
            rows.append(
                {
                    "stage": predictions.stem,
                    "seed": 0,
                    "problem_id": name,
                    "op": tellings[0].op,
                    "context": tellings[0].context,
                    "sample": number,
                    "tokens": len(text.split()),
                    **result.to_dict(),
                }
            )
    return _table(pd.DataFrame(rows), most_k), rows


def _table(rollouts: pd.DataFrame, most_k: int) -> pd.DataFrame:
    rollouts = rollouts.astype({"answer": "Int64"})
    fewest = int(rollouts.groupby("problem_id").size().min())
    ks = powers_of_two(min(most_k, fewest))
    table = tabulate(rollouts, np.random.default_rng(0), ks=ks)
    rows = table[table["metric"].isin([PASS, ANSWER_PASS]) & (table["seed"] == ALL) & (table["context"] == ALL)].copy()
    rows["shown"] = [f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in rows.itertuples()]
    rows["name"] = [f"{row.metric}".replace("@k", f"@{row.k}") for row in rows.itertuples()]
    order = list(dict.fromkeys(rows["name"]))
    return rows.pivot(index="op", columns="name", values="shown")[order]


def _best_grade(tellings: Sequence[Exercise], text: str) -> Grade:
    """The best grade that a text has for any telling: its id does not say which of them it answers."""
    results = [grade(exercise, text) for exercise in tellings]
    return max(results, key=lambda result: (result.verified, result.answer_correct, result.process_accuracy))


def _exercises(data: Path) -> dict[str, list[Exercise]]:
    """Every problem of a data set, with all of its tellings."""
    found: dict[str, list[Exercise]] = {}
    for exercise in read_dataset(data) if data.is_dir() else map(Exercise.from_dict, _lines(data)):
        found.setdefault(exercise.problem_id, []).append(exercise)
    return found


def _completions(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, value in enumerate(_lines(path), 1):
        texts = value.get("completions", [value.get("completion")])
        name = value.get("id")
        is_list = isinstance(texts, list) and len(texts) > 0  # a text alone would be taken for a list of letters
        if not isinstance(name, str) or not is_list or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f'line {number} of {path} is not {{"id": "...", "completions": ["...", ...]}}: '
                f"give the problem_id and at least one text."
            )
        if name in found:
            raise DataError(f"id {name} stands twice in {path} (again in line {number}): put its texts in one line.")
        found[name] = texts
    return found


def _lines(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}: give a JSON Lines file.")
    values: list[Mapping[str, Any]] = []
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")  # str.splitlines would also cut at U+2028 in a text
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} of {path} is not JSON ({error}): mend or remove it.") from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of {path} is not a JSON object: give one object a line.")
        values.append(value)
    return values
