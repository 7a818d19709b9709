"""Laws of the whole loop: its page holds all it shows, and nothing but the recipe decides the weights."""

import base64
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from gsm_lab.data import Tokenizer
from gsm_lab.errors import RunError
from gsm_lab.files import sha256_of
from gsm_lab.model import load_checkpoint
from gsm_lab.study import (
    Blend,
    Recipe,
    RunOptions,
    StageFolder,
    Supervised,
    context_labels,
    demo_experiment,
    evaluate_stage,
    load_experiment,
    read_gold,
    read_rollouts,
    source_of,
    tokenizer_of,
    train_stage,
    uniform,
)
from gsm_lab.study import test_problems as problems_of_the_test

ROOT = Path(__file__).parents[2]
KILLED = Path(__file__).with_name("killed_studies.py")


# ------------------------------------------------------------------------------------ the demo, end to end


def test_the_demo_ends_with_a_table_a_figure_and_a_page(demo):
    assert demo.first.returncode == 0, demo.first.stderr
    *table, figure, page = demo.first.stdout.splitlines()
    for column in ("ID pass@1", "ID pass@4", "edge pass@1", "hard pass@4"):
        assert column in table[0]
    assert [re.split(r" {2,}", line)[0] for line in table[2:]] == ["base", "mid-trained", "mid-trained, RL on the edge"]
    assert figure == f"figure: {demo.results}/edge_of_competence.png"
    assert page == f"page: {demo.results}/report.html"
    assert Path(figure.partition(" ")[2]).read_bytes().startswith(b"\x89PNG")
    assert Path(page.partition(" ")[2]).stat().st_size > 10_000


def test_the_demo_says_on_stderr_how_far_it_is(demo):
    for line in ("base 30/30 ", "test base 5/5 ", "mid-trained 10/10 ", "mid-trained, RL on the edge 4/4 "):
        assert line in demo.first.stderr


FROM_OUTSIDE = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?\s*(?:https?:)?//""")
"""Whatever a browser would fetch. The names of XML namespaces look like addresses and are none."""


def fetched_by(page: str) -> list[str]:
    return FROM_OUTSIDE.findall(page) + re.findall(r"<script[^>]+src|<link|@import|<iframe", page)


def test_the_page_holds_all_it_shows(demo):
    page = (demo.results / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert fetched_by(page) == []
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(images) == page.count("<img ") >= 3
    for image in images:
        drawing = base64.b64decode(image).decode()
        assert fetched_by(drawing) == []
        assert "</svg>" in drawing


@pytest.mark.parametrize(
    "page", ['<img src="https://x.org/a.png">', "<img src='//x.org/a.png'>", "<script src=a.js>", "url(http://x.org)"]
)
def test_the_check_sees_what_a_page_would_fetch(page):
    assert fetched_by(page)


def test_every_number_of_the_page_can_be_recomputed_from_a_file(demo):
    table = pd.read_parquet(demo.results / "table.parquet")
    shown = re.findall(r"<td>(\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\]", (demo.results / "report.html").read_text())
    known = {tuple(f"{value:.3f}" for value in row) for row in table[["value", "low", "high"]].to_numpy()}
    assert len(shown) >= 18  # 3 stages x 3 bands x pass@1 and pass@4
    assert {*shown[:18]} <= known
    runs = json.loads((demo.results / "runs.json").read_text())["runs"]
    assert {run["id"] for run in runs} == {path.name for path in demo.runs.iterdir()}


def test_running_the_demo_again_computes_nothing(demo, bytes_below):
    runs = {path: path.stat().st_mtime_ns for path in demo.runs.rglob("*") if path.is_file() and path.name != ".lock"}
    before = bytes_below(demo.runs) | bytes_below(demo.results)
    again = demo.again()
    assert again.returncode == 0, again.stderr
    assert again.stdout == demo.first.stdout
    assert again.stderr == ""  # not one line of progress
    assert bytes_below(demo.runs) | bytes_below(demo.results) == before
    assert {path: path.stat().st_mtime_ns for path in runs} == runs


# ------------------------------------------------------------------------------------ killed and resumed


def results_below(folder: Path, bytes_below) -> dict[str, object]:
    """Every file of a run but its times, with done.json without seconds."""
    found: dict[str, object] = dict(bytes_below(folder))
    for name in [name for name in found if Path(name).name == "timings.jsonl"]:
        del found[name]
    for name in [name for name in found if Path(name).name == "done.json"]:
        found[name] = json.loads(found[name])
        found[name].pop("last_call_seconds", None)
    return found


def test_a_killed_recipe_leaves_the_bytes_of_an_unbroken_one(
    small_recipe, small_place, small_runs, tmp_path, bytes_below, folders_of
):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(KILLED), f"{small_place}:{small_recipe.name}", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *kills, last = [line for line in done.stdout.splitlines() if ": " in line or line.startswith("exit")]
    assert last == "exit 0", done.stdout
    assert all(": killed at " in line for line in kills), done.stdout
    assert {line.split(":")[0] for line in kills} == {"pretraining", "mid-training", "reinforcement", "evaluation"}
    for folder, unbroken in zip(
        folders_of(tmp_path / "runs", small_recipe), folders_of(small_runs, small_recipe), strict=True
    ):
        ours, theirs = results_below(folder.path, bytes_below), results_below(unbroken.path, bytes_below)
        assert ours.keys() == theirs.keys()  # so nothing is left of writers that were killed
        assert [name for name in ours if ours[name] != theirs[name]] == []


def test_every_stage_moves_the_weights_so_equal_bytes_mean_something(small_recipe, small_runs, folders_of):
    weights = [
        (folder.checkpoint / "model.safetensors").read_bytes() for folder in folders_of(small_runs, small_recipe)
    ]
    assert len({*weights}) == 3
    rewards = pd.concat(
        pd.read_parquet(file) for file in (folders_of(small_runs, small_recipe)[-1].path / "rollouts").glob("*.parquet")
    )["reward"]
    assert rewards.nunique() > 1


def test_another_seed_gives_other_bytes(small_recipe, small_runs, tmp_path):
    other = small_recipe.until(0).model_copy(update={"seed": 1})
    ours = train_stage(StageFolder(tmp_path, other, 0)) / "model.safetensors"
    theirs = StageFolder(small_runs, small_recipe, 0).checkpoint / "model.safetensors"
    assert ours.stat().st_size == theirs.stat().st_size
    assert ours.read_bytes() != theirs.read_bytes()


def test_worker_processes_that_draw_problems_change_no_weight(small_recipe, small_runs, tmp_path):
    first = small_recipe.until(0)
    ours = train_stage(StageFolder(tmp_path, first, 0), RunOptions(data_workers=1)) / "model.safetensors"
    assert ours.read_bytes() == (StageFolder(small_runs, first, 0).checkpoint / "model.safetensors").read_bytes()


def test_worker_processes_that_grade_change_no_byte(small_recipe, small_runs, copied_runs, bytes_below):
    ours, theirs = (StageFolder(home, small_recipe, 2) for home in (copied_runs, small_runs))
    shutil.rmtree(ours.path)
    train_stage(ours, RunOptions(reward_workers=2))
    for name in ("checkpoint", "rollouts"):
        assert bytes_below(ours.path / name) == bytes_below(theirs.path / name)


def test_evaluating_changes_no_training(small_recipe, small_runs, tmp_path, bytes_below, folders_of):
    """Trained without a single evaluation; `small_runs` was evaluated after every stage."""
    train_stage(folders_of(tmp_path, small_recipe)[-1])
    for ours, theirs in zip(folders_of(tmp_path, small_recipe), folders_of(small_runs, small_recipe), strict=True):
        assert not ours.is_evaluated
        assert theirs.is_evaluated
        assert bytes_below(ours.checkpoint) == bytes_below(theirs.checkpoint)


def test_the_gold_of_every_test_problem_is_weighed(small_recipe, small_runs):
    """By another way: the whole text through the model at once, and every next token's log-probability."""
    folder = StageFolder(small_runs, small_recipe, 2)
    gold = read_gold(folder)
    exercises = [one for op in small_recipe.evaluation.ops for one in problems_of_the_test(small_recipe, op)]
    assert gold["problem_id"].tolist() == [exercise.problem_id for exercise in exercises]
    assert gold["op"].tolist() == [exercise.op for exercise in exercises]
    model, tokenizer = load_checkpoint(folder.checkpoint), Tokenizer.load(folder.checkpoint)
    for exercise, row in zip(exercises, gold.itertuples(), strict=True):
        prompt, text = tokenizer.encode(exercise.prompt), tokenizer.encode(exercise.prompt + exercise.completion)
        ids = torch.tensor([*text, tokenizer.eos_id])
        with torch.no_grad():
            hidden_TD = model.hidden(ids[None], torch.arange(len(ids))[None])[0]
            logprobs_TV = torch.log_softmax(model.head(hidden_TD).double(), dim=-1)
        own = -logprobs_TV[:-1].gather(1, ids[1:, None])[len(prompt) - 1 :].sum()
        assert row.tokens == len(ids) - len(prompt)
        assert row.nll == pytest.approx(float(own), rel=1e-4)


def test_a_stage_that_was_reinforced_on_an_op_finds_its_gold_likelier(small_recipe, small_runs):
    base, mid = (read_gold(StageFolder(small_runs, small_recipe, number)) for number in range(2))
    assert mid.loc[mid["op"] == 3, "nll"].mean() < base.loc[base["op"] == 3, "nll"].mean()


def test_contexts_in_other_frames_are_tested_under_their_own_names(small_recipe, tmp_path):
    task = small_recipe.task.model_copy(update={"contexts": ("zoo", "zoo:symbolic")})
    few = {"contexts": task.contexts, "ops": (2,), "problems_per_op": 3, "samples": 2}
    evaluation = small_recipe.evaluation.model_copy(update=few)
    stage = small_recipe.stages[0].model_copy(update={"steps": 2, "curriculum": ()})
    recipe = small_recipe.model_copy(update={"task": task, "evaluation": evaluation, "stages": (stage,)})
    assert context_labels(recipe) == ["zoo"] * 3 + ["zoo:symbolic"] * 3
    exercises = problems_of_the_test(recipe, 2)
    assert [exercise.frames for exercise in exercises] == ["terse"] * 3 + ["symbolic"] * 3
    folder = StageFolder(tmp_path, recipe, 0)
    train_stage(folder)
    evaluate_stage(folder)
    for table in (read_rollouts(folder), read_gold(folder)):
        assert {*table["context"]} == {"zoo", "zoo:symbolic"}
        assert {*table.loc[table["context"] == "zoo", "problem_id"]} == {one.problem_id for one in exercises[:3]}


def test_evaluating_later_gives_the_same_completions(small_recipe, copied_runs, small_runs):
    folder = StageFolder(copied_runs, small_recipe, 0)
    (folder.evaluation / "done.json").unlink()
    (folder.evaluation / "op-003.parquet").unlink()
    evaluate_stage(folder)
    theirs = read_rollouts(StageFolder(small_runs, small_recipe, 0))
    pd.testing.assert_frame_equal(read_rollouts(folder), theirs)


def test_a_damaged_part_of_an_evaluation_that_was_cut_is_made_again(small_recipe, copied_runs, small_runs):
    folder = StageFolder(copied_runs, small_recipe, 0)
    (folder.evaluation / "done.json").unlink()
    part = folder.evaluation / "op-002.parquet"
    part.write_bytes(part.read_bytes()[:100])
    evaluate_stage(folder)
    theirs = read_rollouts(StageFolder(small_runs, small_recipe, 0))
    pd.testing.assert_frame_equal(read_rollouts(folder), theirs)


@pytest.mark.parametrize("cut", [False, True])
def test_an_evaluation_of_other_weights_is_refused(cut, small_recipe, copied_runs):
    folder = StageFolder(copied_runs, small_recipe, 0)
    done = json.loads((folder.path / "done.json").read_text())
    weights = folder.checkpoint / "model.safetensors"
    weights.write_bytes((StageFolder(copied_runs, small_recipe, 1).checkpoint / weights.name).read_bytes())
    done["checkpoint"][weights.name] = sha256_of(weights)
    (folder.path / "done.json").write_text(json.dumps(done))
    if cut:
        (folder.evaluation / "done.json").unlink()
    else:
        with pytest.raises(RunError, match="was made with other weights"):
            read_rollouts(folder)
    with pytest.raises(RunError, match=r"was made with other weights .* remove it and evaluate again"):
        evaluate_stage(folder)


def test_rollouts_of_training_are_one_table(small_recipe, small_runs, folders_of):
    files = sorted((folders_of(small_runs, small_recipe)[-1].path / "rollouts").glob("*.parquet"))
    assert len({str(pq.read_schema(file)) for file in files}) == 1
    assert len(pd.read_parquet(files[0].parent)) == sum(len(pd.read_parquet(file)) for file in files)


def test_a_new_evaluation_keeps_the_training_and_the_old_one(small_recipe, copied_runs):
    old = StageFolder(copied_runs, small_recipe, 0)
    evaluation = small_recipe.evaluation.model_copy(update={"samples": 3})
    new = dataclasses.replace(old, recipe=small_recipe.model_copy(update={"evaluation": evaluation}))
    assert new.is_done
    assert not new.is_evaluated
    evaluate_stage(new)
    assert len(read_rollouts(new)) == 2 * 4 * 3  # ops x problems x samples
    assert len(read_rollouts(old)) == 2 * 4 * 2


def test_the_command_evaluates_what_is_missing_and_shows_every_stage(small_place, copied_runs, gsm_lab):
    for done in copied_runs.glob("*/evaluation-*/done.json"):
        done.unlink()
    shown = gsm_lab("evaluate", f"{small_place}:mid-rl", "--runs", copied_runs, "--threads", "1")
    assert shown.code == 0, shown.err
    stages, ks, _, *rows = shown.out.splitlines()
    assert stages.split() == ["stage", "RL", "base", "mid"]
    assert ks.split() == ["pass@", "1", "2"] + ["1", "2"] * 2
    assert [row.split()[0] for row in rows] == ["2", "3"]
    assert shown.out == gsm_lab("evaluate", f"{small_place}:mid-rl", "--runs", copied_runs, "--threads", "1").out


# ------------------------------------------------------------------------------------ data of the stages


def problems_of(recipe: Recipe, number: int, count: int) -> set[str]:
    source = source_of(recipe, number, tokenizer_of(recipe.task))
    return {source.at(index).problem_id for index in range(count)}


@pytest.mark.parametrize("scale", ["tiny", "nano"])
def test_no_problem_is_in_two_stages_or_in_a_stage_and_the_test(scale):
    recipe = demo_experiment(scale).recipes[0]
    tests = {one.problem_id for op in recipe.evaluation.ops for one in problems_of_the_test(recipe, op)}
    pretrain, midtrain, rl = (problems_of(recipe, number, 150) for number in range(3))
    assert min(len(tests), len(pretrain), len(midtrain), len(rl)) >= 20
    assert not pretrain & midtrain
    assert not pretrain & rl
    assert not midtrain & rl
    assert not tests & (pretrain | midtrain | rl)


def test_two_stages_of_one_split_may_share_problems():
    """The near miss: the check can find what two stages share."""
    recipe = demo_experiment("tiny").recipes[0]
    base = recipe.stages[0]
    twice = recipe.model_copy(update={"stages": (base, base.model_copy(update={"blend": uniform(2, 2)}))})
    assert problems_of(twice, 0, 150) & problems_of(twice, 1, 150)


def test_the_second_stage_of_one_split_begins_with_other_problems():
    recipe = demo_experiment("tiny").recipes[0]
    base = recipe.stages[0].model_copy(update={"blend": uniform(5, 5)})
    twice = recipe.model_copy(update={"stages": (base, base)})
    first, second = (source_of(twice, number, tokenizer_of(twice.task)) for number in range(2))
    assert [first.at(index).problem_id for index in range(20)] != [second.at(index).problem_id for index in range(20)]


def test_a_curriculum_goes_from_phase_to_phase_to_the_end(small_recipe):
    base = small_recipe.stages[0]
    assert isinstance(base, Supervised)
    first = base.curriculum[0].model_copy(update={"problems": 10, "blend": Blend(ops={4: 1.0}), "facts": None})
    second = first.model_copy(update={"problems": 5, "blend": Blend(ops={5: 1.0})})
    stage = base.model_copy(update={"curriculum": (first, second), "blend": Blend(ops={3: 1.0})})
    recipe = small_recipe.model_copy(update={"stages": (stage,)})
    source = source_of(recipe, 0, tokenizer_of(recipe.task))
    assert [source.at(index).op for index in range(20)] == [4] * 10 + [5] * 5 + [3] * 5


def test_all_recipes_are_tested_on_the_same_problems_and_none_twice():
    one, *others = load_experiment(f"{ROOT}/experiments/edge_of_competence@tiny").recipes
    for op in one.evaluation.ops:
        ids = [exercise.problem_id for exercise in problems_of_the_test(one, op)]
        assert len(ids) == len({*ids}) == one.evaluation.problems_per_op
        assert all([exercise.problem_id for exercise in problems_of_the_test(other, op)] == ids for other in others)


# ------------------------------------------------------------------------------------ for other tools


def test_the_checkpoint_of_a_stage_is_a_transformers_model_with_its_tokenizer(small_recipe, small_runs):
    transformers = pytest.importorskip("transformers")
    folder = StageFolder(small_runs, small_recipe, 2).checkpoint
    ours, tokenizer = load_checkpoint(folder), Tokenizer.load(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [one.prompt + one.completion for op in (2, 3) for one in problems_of_the_test(small_recipe, op)]
    assert len(texts) == 8
    for text in texts:
        ids = tokenizer.encode(text)
        assert their_tokenizer(text)["input_ids"] == ids
        with torch.no_grad():
            logits_TV = theirs(torch.tensor([ids])).logits[0]
            own_logits_TV = ours.head(ours.hidden(torch.tensor([ids]), torch.arange(len(ids))[None])[0])
        torch.testing.assert_close(own_logits_TV, logits_TV, atol=1e-5, rtol=0)
        assert not torch.allclose(own_logits_TV[1:], logits_TV[:-1], atol=1e-5)
    assert theirs.generation_config.eos_token_id in (tokenizer.eos_id, [tokenizer.eos_id])
