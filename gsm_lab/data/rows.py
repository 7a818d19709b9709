"""Exercises as rows of a table, and rows as exercises: one row a column's worth of facts, nothing said twice.

What all exercises of a slice have in common, its style and its template with the grammar of its solutions, is not in
the rows but once in the manifest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from gsm_lab.data.source import Drawn, ExerciseSource
from gsm_lab.errors import DataError
from gsm_lab.problems import LEVELS, Exercise, Problem

SIZES = (
    "op",
    "steps",
    "binary_ops",
    "depth",
    "width",
    "distractors",
    "independent",
    "reachable",
    "dead_end",
)
KINDS = ("mode", "context", "frames", "language")
"""What rows are counted by, beside their op."""
SCHEMA = pa.schema(
    [
        *((level, pa.string()) for level in reversed(LEVELS)),
        ("split", pa.string()),
        ("slice", pa.int32()),
        *((kind, pa.string()) for kind in KINDS),
        *((size, pa.int32()) for size in SIZES),
        ("disorder", pa.float32()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("answer", pa.int64()),
        ("graph", pa.string()),
        ("names", pa.list_(pa.string())),
        ("sentences", pa.list_(pa.int32())),
    ]
)
"""`slice` is its number in the mixture of the split; `graph` is JSON, every node as [place, item, each, operation,
constant, parents, minus]; `names` are what the solution calls the nodes, `sentences` those that the text defines, in
its order. `disorder` is null where the text has no two sentences to put in order."""
DICTIONARIES = ["split", "slice", *KINDS, *SIZES, "names.list.element"]
"""Columns of few different values."""
READ = ["split", "slice", "context", "frames", "prompt", "completion", "graph", "names", "sentences"]
"""The columns that `exercises_of` reads."""
Common = Mapping[str, Any]
"""What all exercises of a slice have in common, as JSON gives it: "style" and "grammar"."""


def table_of(drawn: Sequence[Drawn], source: ExerciseSource) -> pa.Table:
    """The rows of these exercises of a source."""
    exercises = [one.exercise for one in drawn]
    identities = [exercise.identities for exercise in exercises]
    sizes = [exercise.sizes() for exercise in exercises]
    disorder = [exercise.disorder for exercise in exercises]
    languages = [template.language for template in source.templates]
    size = len(drawn)
    columns = {
        **{level: [getattr(identity, level) for identity in identities] for level in LEVELS},
        "split": [source.split] * size,
        "slice": [one.slice for one in drawn],
        "mode": [exercise.problem.mode for exercise in exercises],
        "context": [exercise.context for exercise in exercises],
        "frames": [exercise.frames for exercise in exercises],
        "language": [languages[one.slice] for one in drawn],
        **{name: [of[name] for of in sizes] for name in SIZES},
        "disorder": [None if share != share else share for share in disorder],  # nan, in no order
        "prompt": [exercise.prompt for exercise in exercises],
        "completion": [exercise.completion for exercise in exercises],
        "answer": [exercise.answer for exercise in exercises],
        "graph": [graph_text(exercise.problem) for exercise in exercises],
        "names": [exercise.names for exercise in exercises],
        "sentences": [exercise.sentences for exercise in exercises],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def graph_text(problem: Problem) -> str:
    """The JSON of what `Exercise.to_dict` says of a problem, without spaces; by hand, which is quicker."""
    nodes = []
    for (place, item, each), operation, constant, parents, minus in problem.graph.nodes:
        item_text = "null" if item is None else item
        constant_text = "null" if constant is None else constant
        parents_text = ",".join(map(str, parents)) if parents else ""
        each_text = "true" if each else "false"
        nodes.append(
            f'[{place},{item_text},{each_text},"{operation._value_}",{constant_text},[{parents_text}],{minus}]'
        )
    modulus = "null" if problem.modulus is None else problem.modulus
    given = "null" if problem.given is None else problem.given
    return f'{{"nodes":[{",".join(nodes)}],"query":{problem.query},"modulus":{modulus},"given":{given}}}'


def exercises_of(table: pa.Table, common: Mapping[str, Sequence[Common]]) -> Iterator[Exercise]:
    """The exercises of these rows, given what the slices of every split have in common.

    Raises:
        DataError: a row that is no exercise.
    """
    for batch in table.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            try:
                value = {"problem": json.loads(row["graph"]), **common[row["split"]][row["slice"]], **row}
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise DataError(f"a row is no exercise ({error!r}): generate the data set again.") from error
            yield Exercise.from_dict(value)
