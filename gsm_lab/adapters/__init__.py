"""Our problems and grades in the hands of other tools; each module imports its framework where it is used.

`gsm_lab.adapters.verifiers` and `gsm_lab.adapters.reasoning_gym` subclass classes of their frameworks, so they are
imported by their own names; everything else stands here.
"""

from gsm_lab.adapters.bundle import bundled
from gsm_lab.adapters.lm_eval import write_lm_eval_task
from gsm_lab.adapters.rows import drawn_exercise, exercise_text, read_rows, row_of, write_rows
from gsm_lab.adapters.scoring import compute_score, exercise_of, process_results, scores
from gsm_lab.adapters.trl import trl_dataset, trl_reward
from gsm_lab.adapters.verl import verl_row, write_verl_parquet, write_verl_reward

__all__ = [
    "bundled",
    "compute_score",
    "drawn_exercise",
    "exercise_of",
    "exercise_text",
    "process_results",
    "read_rows",
    "row_of",
    "scores",
    "trl_dataset",
    "trl_reward",
    "verl_row",
    "write_lm_eval_task",
    "write_rows",
    "write_verl_parquet",
    "write_verl_reward",
]
