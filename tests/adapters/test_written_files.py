"""Files for other frameworks: the grader as one file, verl's rows, lm-eval's tasks."""

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gsm_lab.adapters import (
    bundled,
    compute_score,
    drawn_exercise,
    exercise_text,
    write_lm_eval_task,
    write_verl_parquet,
    write_verl_reward,
)
from gsm_lab.errors import DataError
from gsm_lab.problems import MUTATIONS, grade, mutate
from gsm_lab.seeds import stream

ROOT = Path(__file__).parent.parent.parent
EXERCISES = [drawn_exercise(index, seed=0, ops=(3, 9), mode=("forward", "reverse")[index % 2]) for index in range(20)]


def loaded(path: Path) -> ModuleType:
    """The module that a file defines, as frameworks load it."""
    spec = importlib.util.spec_from_file_location("written", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with nothing in it, pip included."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def run_in(python: Path, code: str, folder: Path, path: str = "", data: str = "") -> Any:
    """What the code prints as JSON, in a folder, with only `path` added to the standard library."""
    environment = {"PATH": os.environ["PATH"], **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(
        [python, "-c", code], cwd=folder, env=environment, input=data, check=True, text=True, capture_output=True
    )
    return json.loads(done.stdout)


def test_problems_grade_in_an_empty_environment(empty_python: Path, tmp_path: Path):
    code = """
import importlib.metadata, json, random
from gsm_lab.problems import *
exercise = render(draw_problem(ProblemSpec(op=9), random.Random(0)), load_template(), random.Random(0))
packages = {one.metadata["Name"] for one in importlib.metadata.distributions()}
gold = grade(exercise, exercise.completion)
wrong = grade(exercise, exercise.completion.replace("=", "= 1 +", 1))
print(json.dumps([sorted(packages), gold.verified, wrong.verified, rewards.strict(gold)]))
"""
    packages, gold, wrong, reward = run_in(empty_python, code, tmp_path, str(ROOT))
    assert packages == []
    assert (gold, wrong, reward) == (True, False, 1.0)


def test_the_written_grader_needs_nothing_but_itself(empty_python: Path, tmp_path: Path):
    write_verl_reward(tmp_path / "reward.py")
    code = """
import importlib.util, json, sys
assert importlib.util.find_spec("gsm_lab") is None
import reward
print(json.dumps([reward.compute_score(*call) for call in json.load(sys.stdin)]))
"""
    rng = stream(0, "mutations")
    texts = [(one, one.completion) for one in EXERCISES]
    for kind in MUTATIONS:
        texts += [(one, text) for one in EXERCISES if (text := mutate(one, kind, rng)) is not None]
    calls = [["gsm_lab/op", text, exercise_text(one), None, "mix"] for one, text in texts]
    got = run_in(empty_python, code, tmp_path, data=json.dumps(calls))
    assert got == [compute_score(*call) for call in calls]
    assert {one["acc"] for one in got} == {0.0, 1.0}


def test_the_written_grader_leaves_an_installed_one_alone(tmp_path: Path):
    write_verl_reward(tmp_path / "reward.py")
    before = {name for name in sys.modules if name.startswith("gsm_lab")}
    module = loaded(tmp_path / "reward.py")
    assert {name for name in sys.modules if name.startswith("gsm_lab")} == before
    assert module.grade is not grade
    assert module.compute_score("", EXERCISES[0].completion, exercise_text(EXERCISES[0]))["acc"] == 1.0
    with pytest.raises(ValueError, match="is no JSON"):
        module.compute_score("", "", "{")


def test_the_written_grader_holds_what_grading_needs_and_no_more():
    assert "_gsm_lab_problems_grade_" in bundled()
    assert "_gsm_lab_problems_draw_" not in bundled()
    assert "_MODULES[" not in bundled("gsm_lab.seeds")  # it imports nothing of ours


def test_imports_of_all_kinds_are_followed_if_they_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = {
        "problems/__init__.py": "from gsm_lab.problems import shop\nfrom gsm_lab.problems.fruit import fruit\n",
        "problems/fruit.py": "from gsm_lab.names import APPLE\ndef fruit():\n    return APPLE\n",
        "problems/shop.py": "def sold():\n    from gsm_lab.names import (\n        PEAR,\n    )\n    return PEAR\n",
        "problems/unused.py": "raise RuntimeError\n",
        "names.py": "APPLE, PEAR = 'one\\'s', r'''pear'''\n",
        "main.py": (
            "from typing import TYPE_CHECKING\nfrom gsm_lab.problems import fruit as f, shop\n"
            "if TYPE_CHECKING:\n    from gsm_lab.problems import Nothing\nresult = lambda: [f(), shop.sold()]\n"
        ),
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr("gsm_lab.adapters.bundle._PACKAGE", tmp_path)
    (tmp_path / "written.py").write_text(bundled("gsm_lab.main"))
    written = loaded(tmp_path / "written.py")
    assert written.result() == ["one's", "pear"]
    # a changed source has another name, so that two written files do not share their modules
    (tmp_path / "names.py").write_text("APPLE = PEAR = 'plum'\n")
    (tmp_path / "changed.py").write_text(bundled("gsm_lab.main"))
    assert loaded(tmp_path / "changed.py").result() == ["plum", "plum"]
    assert written.result() == ["one's", "pear"]


def test_verl_rows_have_its_columns(tmp_path: Path):
    assert write_verl_parquet(tmp_path / "train.parquet", EXERCISES, "train") == len(EXERCISES)
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    for index, (row, exercise) in enumerate(zip(rows, EXERCISES, strict=True)):
        assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
        assert row["data_source"] == f"gsm_lab/op{exercise.op}"
        assert row["prompt"] == [{"role": "user", "content": exercise.prompt}]
        assert (row["extra_info"]["split"], row["extra_info"]["index"]) == ("train", index)
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], exercise.completion, truth, row["extra_info"])["score"] == 1.0


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_verl_parquet(folder / "a.parquet", [], "train"),
        lambda folder: write_lm_eval_task(folder, []),
    ],
)
def test_no_exercise_is_refused_and_nothing_written(tmp_path: Path, write):
    with pytest.raises(DataError, match="no exercise for"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Tasks(yaml.SafeLoader):
    """Reads lm-eval's files; its functions become their names."""


Tasks.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_lm_eval_has_a_task_for_every_op_and_a_group(tmp_path: Path):
    tasks = write_lm_eval_task(tmp_path, EXERCISES, name="mine", most_tokens=77)
    ops = sorted({exercise.op for exercise in EXERCISES})
    assert tasks == tuple(f"mine_op{op}" for op in ops)
    group = yaml.load((tmp_path / "_mine.yaml").read_text(), Tasks)
    assert (group["group"], group["task"]) == ("mine", list(tasks))
    process_results = loaded(tmp_path / "utils.py").process_results
    for op, name in zip(ops, tasks, strict=True):
        task = yaml.load((tmp_path / f"{name}.yaml").read_text(), Tasks)
        assert (task["task"], task["process_results"]) == (name, "utils.process_results")
        assert task["generation_kwargs"]["max_gen_toks"] == 77
        lines = Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
        documents = [json.loads(line) for line in lines]
        assert [row["prompt"] for row in documents] == [one.prompt for one in EXERCISES if one.op == op]
        for row in documents:
            metrics = process_results(row, [row["completion"]])
            assert set(metrics) == {metric["metric"] for metric in task["metric_list"]}
            assert metrics["verified"] == 1.0


def test_adapters_import_no_framework():
    code = "import gsm_lab.adapters, sys; print({'trl', 'datasets', 'verl', 'pyarrow', 'torch'} & set(sys.modules))"
    # -S leaves out site-packages: an import of any framework would fail
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True, text=True, capture_output=True
    )
    assert done.stdout == "set()\n"
