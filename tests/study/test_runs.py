"""Laws of bad input: what is foreign, damaged or impossible is named with its remedy, and changes nothing."""

import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from gsm_lab.errors import RecipeError, RunError, StorageError, TokenError, TrainingError
from gsm_lab.study import (
    Blend,
    Phase,
    Recipe,
    StageFolder,
    evaluate_stage,
    preflight_all,
    read_rollouts,
    train_stage,
    write_report,
)


def with_stage(recipe: Recipe, number: int, **fields: object) -> Recipe:
    """The recipe with other fields in one stage."""
    stages = list(recipe.stages)
    stages[number] = stages[number].model_copy(update=fields)
    return recipe.model_copy(update={"stages": tuple(stages)})


# ------------------------------------------------------------------------------------ foreign and damaged folders


@pytest.mark.parametrize("done", [True, False])
def test_the_folder_of_another_recipe_is_named_and_left_alone(
    done, small_recipe, small_place, copied_runs, gsm_lab, bytes_below
):
    folder = StageFolder(copied_runs, small_recipe, 2)
    config = json.loads((folder.path / "config.json").read_text())
    (folder.path / "config.json").write_text(json.dumps(config | {"seed": 7}))
    if not done:
        (folder.path / "done.json").unlink()
    before = bytes_below(copied_runs)
    refused = gsm_lab("run", f"{small_place}:mid-rl", "--runs", copied_runs, "--threads", "1")
    assert refused.code == 1
    assert refused.err == (
        f"error: {folder.path} belongs to another recipe (it differs in seed): "
        f"move it away, or choose another folder with --runs.\n"
    )
    assert bytes_below(copied_runs) == before


def test_a_folder_with_its_own_config_is_accepted(small_place, copied_runs, gsm_lab, bytes_below):
    before = bytes_below(copied_runs)
    assert gsm_lab("run", f"{small_place}:mid-rl", "--runs", copied_runs, "--threads", "1").code == 0
    assert bytes_below(copied_runs) == before


def test_a_folder_that_is_not_ours_is_refused(small_recipe, tmp_path):
    folder = StageFolder(tmp_path, small_recipe, 0)
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"holds files but no config.json, so it is no run folder of ours: move it away"):
        train_stage(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "thesis.tex"]


def test_what_a_killed_writer_left_is_ours(small_recipe, tmp_path):
    folder = StageFolder(tmp_path, small_recipe, 0)
    folder.path.mkdir()
    (folder.path / ".config.json.x.part").write_text("{")
    (folder.path / ".checkpoint.x.part").mkdir()
    folder.open()
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_what_a_killed_writer_left_is_not_taken_into_the_checkpoint(small_recipe, copied_runs):
    folder = StageFolder(copied_runs, small_recipe, 0)
    names = sorted(path.name for path in folder.checkpoint.iterdir())
    undone(folder, "done.json", "checkpoint")
    (folder.path / "tokenizer" / ".tokenizer_config.json.x.part").write_text("{")
    train_stage(folder)
    assert sorted(path.name for path in folder.checkpoint.iterdir()) == names


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_of_a_done_stage_is_refused(name, small_recipe, copied_runs):
    file = StageFolder(copied_runs, small_recipe, 0).checkpoint / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name} is missing or has changed .* remove .* and run the recipe again"):
        train_stage(StageFolder(copied_runs, small_recipe, 0))


def test_nothing_is_built_on_a_damaged_checkpoint(small_recipe, copied_runs):
    base, mid = (StageFolder(copied_runs, small_recipe, number) for number in range(2))
    (base.checkpoint / "model.safetensors").unlink()
    shutil.rmtree(mid.path)
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        train_stage(mid)
    assert not mid.path.exists()


def test_a_damaged_evaluation_is_not_reported(small, small_recipe, copied_runs, tmp_path):
    folder = StageFolder(copied_runs, small_recipe, 1)
    (folder.evaluation / "op-002.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"op-002.parquet is missing or has changed: remove .* and evaluate again"):
        write_report(small, copied_runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["config.json", "done.json"])
def test_a_file_that_is_no_json_is_named(name, small_recipe, copied_runs):
    folder = StageFolder(copied_runs, small_recipe, 0)
    (folder.path / name).write_text('{"seed": ')
    with pytest.raises(RunError, match=rf"{name} is missing or damaged .*: remove its folder"):
        train_stage(folder)


def test_a_stage_that_is_not_trained_is_not_evaluated(small_recipe, tmp_path):
    folder = StageFolder(tmp_path, small_recipe, 0)
    with pytest.raises(RunError, match="is not trained to its end: run the recipe first"):
        evaluate_stage(folder)
    with pytest.raises(RunError, match="is not complete: run the recipe, or `gsm-lab evaluate`"):
        read_rollouts(folder)


def test_a_report_of_runs_that_are_not_complete_lists_them(small, small_recipe, copied_runs, tmp_path):
    (StageFolder(copied_runs, small_recipe, 1).evaluation / "done.json").unlink()
    with pytest.raises(RunError, match=r"1 of 4 runs of 'small' are not complete in .* \(mid, seed 0\)"):
        write_report(small, copied_runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_stage_is_held_by_one_process_at_a_time(small_recipe, tmp_path):
    folder = StageFolder(tmp_path, small_recipe, 0)
    other = FileLock(folder.path / ".lock", timeout=0)
    with folder.locked(), pytest.raises(TimeoutError):
        other.acquire()
    with other:
        assert other.is_locked


def test_who_waits_for_a_stage_says_for_whom(small_recipe, tmp_path):
    folder = StageFolder(tmp_path, small_recipe, 0)
    with ThreadPoolExecutor(1) as threads:
        with folder.locked():
            said: list[str] = []
            waiting = threads.submit(lambda: folder.locked(said.append).__enter__())
            while not said:
                time.sleep(0.01)
            assert not waiting.done()
        waiting.result(timeout=30)
    assert said == [f"waiting for {folder.path}, which is held by process {os.getpid()} on {platform.node()}"]


def test_who_does_not_wait_says_nothing(small_recipe, tmp_path):
    folder, said = StageFolder(tmp_path, small_recipe, 0), []
    for _ in range(2):
        with folder.locked(said.append):
            pass
    assert said == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.jsonl", None, r"metrics.jsonl is missing: remove .* and run the recipe again"),
        ("metrics.jsonl", '{"step": 1}\n{"st', r"metrics.jsonl is damaged \(.*\): remove its folder"),
        ("timings.jsonl", "[", r"timings.jsonl is damaged \(.*\): remove its folder"),
        ("done.json", "{}", r"done.json is damaged: it holds no checksums. Remove its folder"),
        ("done.json", "[]", r"done.json is damaged: it holds no checksums. Remove its folder"),
        ("done.json", '{"checkpoint": {}}', r"done.json is damaged: it holds no checksums. Remove its folder"),
        ("preflight.json", None, r"preflight.json is missing or damaged .*: remove its folder"),
        ("evaluation/done.json", "{}", r"done.json is damaged: it holds no checksums. Remove its folder"),
    ],
)
def test_what_a_report_cannot_read_is_named(name, content, message, small, small_recipe, copied_runs, tmp_path):
    folder = StageFolder(copied_runs, small_recipe, 1)
    file = folder.path / name.replace("evaluation", folder.evaluation.name)
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        write_report(small, copied_runs, tmp_path / "results")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "results").exists()


# ------------------------------------------------------------------------------------ what cannot work


def with_evaluation(recipe: Recipe, **fields: object) -> Recipe:
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=fields)})


def with_positions(recipe: Recipe, number: int) -> Recipe:
    return recipe.model_copy(update={"scale": recipe.scale.model_copy(update={"max_positions": number})})


CANNOT_WORK = {
    "a length limit below the gold solutions": (
        lambda recipe: with_stage(recipe, 2, max_new_tokens=12),
        r"stage 'RL': a gold solution has \d+ tokens and max_new_tokens is 12: raise it",
    ),
    "answers that do not fit behind the prompts": (
        lambda recipe: with_stage(recipe, 2, max_new_tokens=127),
        r"stage 'RL': a prompt has \d+ tokens, max_new_tokens is 127, and the model has 128 positions",
    ),
    "rows below the problems": (
        lambda recipe: with_stage(recipe, 1, row_length=20),
        r"stage 'mid': a problem has \d+ tokens and a packed row 20: raise row_length",
    ),
    "rows below the problems of an early phase": (
        lambda recipe: with_stage(
            recipe, 1, row_length=60, curriculum=(Phase(problems=300, blend=Blend(ops={7: 1.0})),)
        ),
        r"stage 'mid': a problem has \d+ tokens and a packed row 60: raise row_length",
    ),
    "jumps that are no share": (
        lambda recipe: with_stage(recipe, 1, jumping_documents=1.5),
        r"give shares from 0 to 1",
    ),
    "a weight decay below 0": (
        lambda recipe: with_stage(
            recipe, 2, optimization=recipe.stages[2].optimization.model_copy(update={"weight_decay": -1.0})
        ),
        r"weight_decay -1\.0",
    ),
    "a model below the problems": (
        lambda recipe: with_positions(recipe, 20),
        r"stage 'base': a problem has \d+ tokens and the model 20 positions: raise scale\.max_positions",
    ),
    "an evaluation that would cut gold solutions": (
        lambda recipe: with_evaluation(recipe, max_new_tokens=12),
        r"evaluation: a gold solution has \d+ tokens and max_new_tokens is 12",
    ),
    "more test problems than there are": (
        lambda recipe: with_evaluation(recipe, problems_per_op=50),
        r"evaluation: op 2 in 'zoo' has \d+ test problems .*problems_per_op is 50: lower it",
    ),
}
"""Mostly of the last stage or the evaluation: a check that came late would have trained the first stages in vain."""


@pytest.mark.parametrize("what", CANNOT_WORK)
def test_what_cannot_work_is_refused_before_anything_is_trained(what, small_recipe, tmp_path):
    change, message = CANNOT_WORK[what]
    folders = [StageFolder(tmp_path, change(small_recipe), number) for number in range(3)]
    with pytest.raises((RecipeError, TokenError, TrainingError), match=message):
        preflight_all(folders)
    assert list(tmp_path.iterdir()) == []


def test_what_just_fits_is_accepted(small_recipe, tmp_path):
    """The near miss: the longest problem has 36 to 45 tokens, its solution at most 30."""
    recipe = with_stage(with_stage(small_recipe, 1, row_length=64), 2, max_new_tokens=32)
    preflight_all([StageFolder(tmp_path, recipe, number) for number in range(3)])


def test_a_recipe_that_cannot_work_ends_with_code_1_and_no_run(small_recipe, tmp_path, gsm_lab):
    recipes = Path(__file__).with_name("small").joinpath("recipes.py").read_text()
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "recipes.py").write_text(
        recipes.replace("    max_new_tokens=48,\n    reward", "    max_new_tokens=12,\n    reward")
    )
    refused = gsm_lab("run", f"{bad}:mid-rl", "--runs", tmp_path / "runs", "--threads", "1")
    assert refused.code == 1
    assert refused.err.startswith("error: stage 'RL': a gold solution has ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("until", [-1, 3])
def test_a_stage_that_the_recipe_does_not_have_is_refused(until, small_place, tmp_path, gsm_lab):
    refused = gsm_lab("run", f"{small_place}:mid-rl", "--runs", tmp_path / "runs", f"--until={until}")
    assert refused.code == 2
    assert "give 0 to 2" in " ".join(refused.err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_a_run_goes_until_the_stage_that_was_asked_for(small_recipe, small_place, copied_runs, gsm_lab):
    done = gsm_lab("run", f"{small_place}:mid-rl", "--runs", copied_runs, "--until=1", "--threads", "1")
    assert done.out.splitlines() == [str(StageFolder(copied_runs, small_recipe, number).path) for number in range(2)]


# ------------------------------------------------------------------------------------ full disks


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: a write past it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def undone(folder: StageFolder, *names: str) -> None:
    """Remove results of a stage."""
    for name in names:
        path = folder.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


DISKS = {
    "the config": ((".",), 200, "config.json"),
    "a state": ((".",), 20_000, "state-00000040"),
    "the tokenizer": (("done.json", "checkpoint", "tokenizer"), 1_000, "tokenizer.json"),
    "the checkpoint": (("done.json", "checkpoint", "tokenizer"), 20_000, "checkpoint"),
    "an evaluation": (("evaluation",), 1_000, "op-002.parquet"),
}
"""What is missing of the base stage, the largest file that the disk has room for, and what cannot be written."""


@pytest.mark.parametrize("what", DISKS)
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    what, small_recipe, small_place, small_runs, copied_runs, gsm_lab, bytes_below
):
    missing, size, file = DISKS[what]
    base = StageFolder(copied_runs, small_recipe, 0)
    undone(base, *(base.evaluation.name if name == "evaluation" else name for name in missing))
    command = ("run", f"{small_place}:mid-rl", "--until=0", "--runs", copied_runs, "--threads", "1")
    with files_up_to(size):
        full = gsm_lab(*command)
    assert full.code == 1
    errors = [line for line in full.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"{file} could not be written" in errors[0]
    assert "run the same command again" in errors[0]
    assert not base.is_done or not base.is_evaluated
    assert not list(copied_runs.rglob("*.part"))
    again = gsm_lab(*command)
    assert again.code == 0, again.err
    theirs = StageFolder(small_runs, small_recipe, 0)
    for name in ("checkpoint", "evaluation"):
        assert bytes_below(getattr(base, name)) == bytes_below(getattr(theirs, name))


def test_a_full_disk_leaves_no_half_report(small_place, small_runs, tmp_path, gsm_lab):
    command = ("report", small_place, "--runs", small_runs, "--results", tmp_path)
    with files_up_to(30_000):
        full = gsm_lab(*command)
    assert full.code == 1
    assert "could not be written" in full.err
    assert not list(tmp_path.rglob("report.html"))
    assert not list(tmp_path.rglob("*.part"))
    whole = gsm_lab(*command)
    assert whole.code == 0
    assert (tmp_path / "small" / "report.html").is_file()


def test_a_home_that_is_a_file_is_refused(small_recipe, tmp_path):
    home = tmp_path / "runs"
    home.write_text("a file")
    with pytest.raises(StorageError, match=r"cannot be written .*: choose another folder with --runs"):
        train_stage(StageFolder(home, small_recipe, 0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written_is_refused(small_recipe, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        train_stage(StageFolder(tmp_path, small_recipe, 0))
