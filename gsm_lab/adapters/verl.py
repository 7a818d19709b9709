"""verl: the reward as a file of its own, and the Parquet files that it trains and validates on.

    write_verl_reward(Path("reward.py"))
    write_verl_parquet(Path("train.parquet"), exercises, "train")

    reward.custom_reward_function.path=/abs/reward.py reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.reward=mix data.train_files=train.parquet data.val_files=test.parquet

verl averages validation metrics over each data source, and ours is named by op: the curve over op is in its log.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gsm_lab.adapters.bundle import bundled
from gsm_lab.adapters.rows import row_of
from gsm_lab.errors import DataError
from gsm_lab.files import whole_file, write_text
from gsm_lab.problems import Exercise


def write_verl_reward(path: Path) -> None:
    """Write `compute_score` and all it needs as one Python file, which works wherever there is a Python 3.11."""
    write_text(path, bundled())


def verl_row(exercise: Exercise, split: str, index: int) -> dict[str, Any]:
    """An exercise in the columns that verl reads; its ground truth is the exercise itself, as JSON."""
    row = row_of(exercise, messages=True)
    return {
        "data_source": f"gsm_lab/op{exercise.op}",
        "prompt": row["prompt"],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": row["exercise"]},
        "extra_info": {
            "split": split,
            "index": index,
            **{key: row[key] for key in ("problem_id", "answer", "op", "mode", "context", "frames")},
        },
    }


def write_verl_parquet(path: Path, exercises: Iterable[Exercise], split: str) -> int:
    """Write one row an exercise; returns how many there are.

    Raises:
        DataError: there is no exercise.
        StorageError: the file could not be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [verl_row(exercise, split, index) for index, exercise in enumerate(exercises)]
    if not rows:
        raise DataError(f"no exercise for {path}: give at least one, for a file without rows has no columns.")
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    return len(rows)
