"""lm-evaluation-harness: a folder with one task for every op, and a group of them all.

write_lm_eval_task(Path("tasks/gsm_lab"), exercises)
lm_eval --model hf --model_args pretrained=... --include_path tasks/gsm_lab --tasks gsm_lab
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gsm_lab.adapters.bundle import bundled
from gsm_lab.adapters.rows import row_of
from gsm_lab.adapters.scoring import scores
from gsm_lab.errors import DataError
from gsm_lab.files import write_text
from gsm_lab.problems import Exercise, grade

_TASK = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {documents}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{completion}}}}"
target_delimiter: ""
num_fewshot: 0
generation_kwargs:
  until: []
  do_sample: false
  max_gen_toks: {most_tokens}
process_results: !function utils.process_results
metric_list:
{metrics}metadata:
  version: 1.0
"""
_METRIC = "  - metric: {name}\n    aggregation: mean\n    higher_is_better: {higher}\n"
_GROUP_METRIC = "  - metric: {name}\n    aggregation: mean\n    weight_by_size: true\n"


def write_lm_eval_task(
    folder: Path, exercises: Iterable[Exercise], name: str = "gsm_lab", most_tokens: int = 1024
) -> tuple[str, ...]:
    """Write the tasks `name_op2`, `name_op3` ..., their group `name`, the documents and the grader; returns the tasks.

    Generation ends at the end of the sequence or after `most_tokens`. The paths of the documents are absolute: where
    the folder is moved, write it again.

    Raises:
        DataError: there is no exercise.
        StorageError: a file could not be written.
    """
    by_op: dict[int, list[dict[str, Any]]] = defaultdict(list)
    names: tuple[str, ...] = ()
    for exercise in exercises:
        by_op[exercise.op].append(row_of(exercise))
        names = names or tuple(scores(grade(exercise, exercise.completion)))
    if not by_op:
        raise DataError(f"no exercise for the tasks in {folder}: give at least one.")
    tasks = {op: f"{name}_op{op}" for op in sorted(by_op)}
    metrics = "".join(_METRIC.format(name=one, higher=str(one not in ("lucky", "unreadable")).lower()) for one in names)
    for op, task in tasks.items():
        documents = folder.resolve() / f"{task}.jsonl"
        write_text(documents, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in by_op[op]))
        text = _TASK.format(task=task, documents=json.dumps(str(documents)), most_tokens=most_tokens, metrics=metrics)
        write_text(folder / f"{task}.yaml", text)
    listing = "".join(f"  - {task}\n" for task in tasks.values())
    group_metrics = "".join(_GROUP_METRIC.format(name=one) for one in names)
    write_text(folder / f"_{name}.yaml", f"group: {name}\ntask:\n{listing}aggregate_metric_list:\n{group_metrics}")
    write_text(folder / "utils.py", bundled())
    return tuple(tasks.values())
