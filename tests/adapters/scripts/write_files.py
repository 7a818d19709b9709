"""Writes what lm-eval and verl read into a folder: a task, a reward, training and validation rows."""

import sys
from pathlib import Path

from gsm_lab.adapters import drawn_exercise, write_lm_eval_task, write_verl_parquet, write_verl_reward

folder, tool = Path(sys.argv[1]), sys.argv[2]
exercises = [drawn_exercise(index, seed=0, ops=(2 + index % 2, 2 + index % 2), frames="terse") for index in range(8)]
if tool == "lm_eval":
    write_lm_eval_task(folder / "tasks", exercises, most_tokens=16)
else:
    write_verl_reward(folder / "reward.py")
    write_verl_parquet(folder / "train.parquet", exercises, "train")
