"""A data set is a table for others too: pandas, DuckDB, Polars and Hugging Face's datasets open it as it lies."""

import json
import os
import subprocess
import sys

import pandas as pd
import pyarrow.dataset
import pytest

from gsm_lab.data import ExerciseSource, read_dataset, read_manifest, write_dataset
from gsm_lab.data.rows import SCHEMA


@pytest.fixture(scope="module")
def folder(mixture, tmp_path_factory):
    sources = [ExerciseSource(mixture, split, 4) for split in ("pretrain", "test")]
    return write_dataset(tmp_path_factory.mktemp("data") / "set", sources, [30, 20], 20)


@pytest.fixture(scope="module")
def exercises(folder):
    return list(read_dataset(folder))


def test_pandas_opens_the_folder_of_the_table(folder, exercises):
    frame = pd.read_parquet(folder / "data")
    assert list(frame.columns) == SCHEMA.names
    assert list(frame["prompt"]) == [exercise.prompt for exercise in exercises]
    assert frame.groupby("split")["op"].count().to_dict() == {"pretrain": 30, "test": 20}
    assert [tuple(names) for names in frame["names"]] == [exercise.names for exercise in exercises]


def test_arrow_opens_the_folder_of_the_table(folder, exercises):
    table = pyarrow.dataset.dataset(folder / "data").to_table(columns=["answer"])
    assert table.column("answer").to_pylist() == [exercise.answer for exercise in exercises]


def test_duckdb_opens_the_files(folder, exercises):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select split, op, count(*), avg(disorder) from '{folder}/data/*.parquet' group by all order by all"
        ).fetchall()
    counts = read_manifest(folder)["splits"]
    assert [(split, op, number) for split, op, number, _ in rows] == [
        (split, op, number) for split in ("pretrain", "test") for op, number in counts[split]["rows_by"]["op"]
    ]
    assert all(0 <= mean <= 1 for *_, mean in rows)  # no order is null, which no mean counts; nan would spoil it


def test_polars_scans_the_files(folder, exercises):
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(folder / "data" / "*.parquet").filter(polars.col("split") == "test").collect()
    assert frame["completion"].to_list() == [exercise.completion for exercise in exercises[30:]]


LOAD = """
import datasets, json, sys
loaded = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2])
print(json.dumps({split: list(rows["problem_id"]) for split, rows in loaded.items()}))
"""


def test_datasets_loads_the_folder_by_its_card_split_by_split(folder, exercises, tmp_path):
    """In a process of its own, for it reads its settings when it is imported; without network."""
    pytest.importorskip("datasets.load")  # a folder of data sets may be called "datasets", too
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(folder), str(tmp_path / "cache")]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    identities = [exercise.problem_id for exercise in exercises]
    assert json.loads(done.stdout.splitlines()[-1]) == {"pretrain": identities[:30], "test": identities[30:]}
