"""What a data set holds, counted from its columns: rows, sizes, different problems, overlaps, and how many there are.

How many structures exist is estimated from those seen once and twice (Chao 1984, bias-corrected form): with D different
ones seen, f1 of them once and f2 twice, at least about D + f1 (f1 - 1) / (2 (f2 + 1)) exist. The share of all draws
that falls on structures already seen is about 1 - f1 / n after n draws (Good 1953, after Turing).
"""

import binascii
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gsm_lab.data.rows import KINDS, SIZES
from gsm_lab.problems import LEVELS

Identities = NDArray[np.bytes_]
"""16 bytes each."""


def census(paths: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """What the files of every split hold, alone and compared."""
    tables = {
        split: pa.concat_tables([pq.read_table(path, columns=[*KINDS, *SIZES]) for path in own])
        for split, own in paths.items()
    }
    drawn = {split: {level: identity_column(own, level) for level in LEVELS} for split, own in paths.items()}
    different = {split: {level: np.unique(own[level]) for level in LEVELS} for split, own in drawn.items()}
    structures = np.concatenate([own["structure_id"] for own in drawn.values()])
    return {
        "splits": {
            split: {
                "rows": table.num_rows,
                "different": {level: len(different[split][level]) for level in LEVELS},
                "rows_by": {column: _counts(table, column) for column in ("op", *KINDS)},
                "sizes": {size: _spread(table, size) for size in SIZES},
            }
            for split, table in tables.items()
        },
        "overlap": [
            {
                "splits": [one, other],
                **{level: shared(different[one][level], different[other][level]) for level in LEVELS},
            }
            for one, other in combinations(paths, 2)
        ],
        "structures": structures_by(pa.concat_tables(tables.values()), structures),
    }


def identity_column(paths: Sequence[Path], level: str) -> Identities:
    """The identities of all rows of these files, in order."""
    parts = []
    for path in paths:
        for chunk in pq.read_table(path, columns=[level]).column(level).chunks:
            text = chunk.buffers()[2]
            if text is not None:
                begin = 32 * chunk.offset
                parts.append(binascii.unhexlify(memoryview(text)[begin : begin + 32 * len(chunk)]))
    return np.frombuffer(b"".join(parts), dtype="S16")


def shared(one: Identities, other: Identities) -> int:
    """How many different identities are in both."""
    return len(np.intersect1d(one, other))


def structures_by(table: pa.Table, structures: Identities) -> list[dict[str, Any]]:
    """For every op and mode: how many structures were drawn, and how many there may be."""
    ops = table.column("op").to_numpy()
    modes = np.asarray(table.column("mode").to_pylist())
    return [
        {"op": int(op), "mode": str(mode), **richness(structures[(ops == op) & (modes == mode)])}
        for op in np.unique(ops)
        for mode in np.unique(modes[ops == op])
    ]


def richness(drawn: Identities) -> dict[str, Any]:
    """How many different things were drawn and may exist, and the share of further draws that would be known ones."""
    counts = np.unique(drawn, return_counts=True)[1]
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return {
        "draws": len(drawn),
        "different": len(counts),
        "once": once,
        "twice": twice,
        "chao1": len(counts) + once * (once - 1) / (2 * (twice + 1)),
        "coverage": 1 - once / len(drawn),
        "is_all": once == 0,
    }


def _counts(table: pa.Table, column: str) -> list[list[Any]]:
    """Pairs of a value and the number of its rows, in order of the value."""
    return sorted([pair["values"], pair["counts"]] for pair in table.column(column).value_counts().to_pylist())


def _spread(table: pa.Table, size: str) -> dict[str, float]:
    values = table.column(size).to_numpy()
    return {"least": int(values.min()), "mean": int(values.sum()) / len(values), "greatest": int(values.max())}
