"""Laws of preflight: the arithmetic is right, the probe moves nothing, and what cannot teach anything is refused."""

import json
import shutil
from pathlib import Path

import pytest

from gsm_lab.errors import TrainingError
from gsm_lab.study import (
    Recipe,
    RunOptions,
    StageFolder,
    arithmetic_of,
    load_experiment,
    source_of,
    tokenizer_of,
    train_stage,
)
from gsm_lab.study import preflight as room
from gsm_lab.study.preflight import judge, lines_of, probe

PROBE = {
    "problems": 64,
    "samples a problem": 4,
    "mean reward": 0.25,
    "lowest reward": 0.0,
    "highest reward": 1.0,
    "verified share": 0.2,
    "truncated share": 0.5,
    "zero-variance share": 0.4,
    "mean completion tokens": 20.0,
}
FOUND = {"probe": PROBE, "longest completion tokens": 30}


def arithmetic(recipe: Recipe, number: int) -> dict:
    tokenizer = tokenizer_of(recipe.task)
    return arithmetic_of(recipe, number, tokenizer, source_of(recipe, number, tokenizer))


def with_stage(recipe: Recipe, number: int, **fields: object) -> Recipe:
    stages = list(recipe.stages)
    stages[number] = stages[number].model_copy(update=fields)
    return recipe.model_copy(update={"stages": tuple(stages)})


def unlearnt(recipe: Recipe, **fields: object) -> Recipe:
    """Reinforcement learning of a model that has seen one batch."""
    base, rl = recipe.stages[0].model_copy(update={"steps": 1}), recipe.stages[-1].model_copy(update=fields)
    return recipe.model_copy(update={"stages": (base, rl)})


def written(folder: StageFolder) -> dict:
    return json.loads((folder.path / "preflight.json").read_text())


# ------------------------------------------------------------------------------------ arithmetic


def test_the_arithmetic_of_training_on_texts(small_recipe):
    found = arithmetic(small_recipe, 0)  # 120 steps of 4 rows of 128 tokens, of which completions are scored
    assert (found["rows a step"], found["tokens a row"], found["tokens a step"]) == (4, 128, 512)
    assert (found["updates"], found["tokens"]) == (120, 120 * 512)
    length = found["mean prompt tokens"] + found["mean completion tokens"]
    assert found["problems a step, about"] == pytest.approx(512 / length)
    assert found["scored tokens a step, about"] == pytest.approx(512 * found["mean completion tokens"] / length)
    everything = arithmetic(with_stage(small_recipe, 0, loss_on="all"), 0)
    assert everything["scored tokens a step, about"] == 512
    assert length <= found["longest problem tokens"] <= 128
    assert found["parameters"] == 13_472
    assert found["problems looked at"] == 2 * 200  # of the curriculum's phase, and of what follows it


def test_the_arithmetic_of_reinforcement(small_recipe):
    found = arithmetic(small_recipe, 2)  # 6 steps of 4 problems x 4 samples of at most 48 tokens, updated twice
    assert (found["prompts a step"], found["samples a prompt"], found["rollouts a step"]) == (4, 4, 16)
    assert (found["updates a step"], found["updates"], found["rollouts"]) == (2, 12, 96)
    assert (found["tokens an update, at most"], found["tokens, at most"]) == (16 * 48, 96 * 48)


def test_the_arithmetic_is_told_in_two_or_three_lines(small_recipe):
    assert lines_of(small_recipe, 0, arithmetic(small_recipe, 0)) == [
        "base: 120 updates of 4 rows x 128 tokens = 512 tokens (about 15 problems); 61,440 tokens in all",
        "base: 13,472 parameters, 128 token ids; a problem has 15 + 19 tokens on average and 36 at most",
    ]
    work, _, probed = lines_of(small_recipe, 2, arithmetic(small_recipe, 2) | {"probe": PROBE})
    assert work == (
        "RL: 6 steps of 4 problems x 4 samples = 16 completions of at most 48 tokens, 2 updates a step; "
        "96 completions in all"
    )
    assert probed == (
        "RL: probe of 64 problems x 4 samples: reward 0.250 (0 to 1), 20 % verified, 50 % truncated; "
        "expect 40 % of groups without variance, and 320 tokens an update"
    )
    larger = with_stage(small_recipe, 2, samples_per_prompt=8)  # groups of 8 vary more often than the probe's of 4
    assert "expect at most 40 % of groups" in lines_of(larger, 2, arithmetic(larger, 2) | {"probe": PROBE})[-1]


def test_a_run_says_what_a_stage_will_do_before_it_begins_and_nothing_of_done_ones(
    small_place, small_recipe, copied_runs, gsm_lab
):
    shutil.rmtree(StageFolder(copied_runs, small_recipe, 2).path)
    said = gsm_lab("run", f"{small_place}:mid-rl", "--runs", copied_runs, "--threads", "1").err.splitlines()
    assert [line.split(":")[0] for line in said[:3]] == ["RL"] * 3
    assert "6 steps of 4 problems x 4 samples = 16 completions" in said[0]
    assert said[3].startswith("RL 1/6 ")
    assert not any(line.startswith(("base", "mid")) for line in said)


# ------------------------------------------------------------------------------------ the probe


def test_what_the_probe_found_is_kept_with_the_run(small_recipe, small_runs):
    found = written(StageFolder(small_runs, small_recipe, 2))["probe"]
    assert found.keys() == PROBE.keys()
    assert (found["problems"], found["samples a problem"]) == (64, 4)
    assert 0 == found["lowest reward"] < found["mean reward"] < found["highest reward"] == 1
    assert 0 < found["zero-variance share"] < 1
    assert "probe" not in written(StageFolder(small_runs, small_recipe, 1))


def test_the_probe_does_not_change_the_training(small_recipe, small_runs, copied_runs, bytes_below, monkeypatch):
    ours, theirs = (StageFolder(home, small_recipe, 2) for home in (copied_runs, small_runs))
    shutil.rmtree(ours.path)
    monkeypatch.setattr(room, "PROBED", 3)
    monkeypatch.setattr(room, "MOST_SAMPLES", 2)
    train_stage(ours)
    assert written(ours)["probe"]["samples a problem"] == 2
    for name in ("checkpoint", "rollouts"):
        assert bytes_below(ours.path / name) == bytes_below(theirs.path / name)


def test_the_probe_has_random_streams_of_its_own(small_recipe, small_runs, monkeypatch):
    """With the streams of training, it would see the first rollouts of training; with other names, other ones."""
    asked = []
    monkeypatch.setattr(room, "stream_seed", lambda *names: asked.append(names) or 1)
    tokenizer = tokenizer_of(small_recipe.task)
    source = source_of(small_recipe, 2, tokenizer)
    model = room.Transformer.initial(room.shape_of(small_recipe.scale, tokenizer.vocab_size), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe(small_recipe, 2, tokenizer, source, model)
    assert {names[:2] for names in asked} == {(0, "stage 2 preflight")}
    assert len({*asked}) == 64
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


class Cut(Exception):
    """A run that ends in the middle."""


def test_a_stage_that_goes_on_is_not_probed_again(small_recipe, copied_runs):
    stage = StageFolder(copied_runs, small_recipe, 2)
    shutil.rmtree(stage.path)

    def cut(name, done, total, figures):
        raise Cut

    with pytest.raises(Cut):
        train_stage(stage, RunOptions(on_progress=cut))
    found = written(stage)
    found["probe"]["mean reward"] = 0.125
    (stage.path / "preflight.json").write_text(json.dumps(found))
    train_stage(stage)
    assert written(stage) == found


# ------------------------------------------------------------------------------------ what is refused


def test_a_model_that_does_not_end_its_solutions_is_refused_and_nothing_is_trained(small_recipe, tmp_path):
    stage = StageFolder(tmp_path, unlearnt(small_recipe), 1)
    message = (
        r"stage 'RL': of 64 problems x 4 completions, [\d.]+ % were cut at max_new_tokens 48, and most_truncated "
        r"allows 50 % \(gold solutions have at most \d+ tokens\): raise max_new_tokens, train the model longer before"
    )
    with pytest.raises(TrainingError, match=message):
        train_stage(stage)
    assert sorted(path.name for path in stage.path.iterdir()) == [".lock", "config.json", "preflight.json"]
    assert written(stage)["probe"]["truncated share"] > 0.5


def test_a_constant_reward_is_refused_unless_it_is_wanted(small_recipe, tmp_path):
    stage = StageFolder(tmp_path, unlearnt(small_recipe, most_truncated=1.0), 1)
    message = (
        r"every single one was rewarded with 0 \(0 % verified\): there is nothing to learn from. Choose problems .*"
        r"or set refuse_constant_reward=False"
    )
    with pytest.raises(TrainingError, match=message):
        train_stage(stage)
    assert not (stage.path / "metrics.jsonl").exists()
    wanted = unlearnt(small_recipe, most_truncated=1.0, refuse_constant_reward=False)
    same = StageFolder(tmp_path, wanted, 1)
    assert same.path == stage.path
    train_stage(same)
    assert same.is_done


def test_the_shares_that_are_allowed_are_allowed(small_recipe):
    stage = small_recipe.stages[2]
    assert stage.most_truncated == 0.5
    judge(stage, FOUND)
    with pytest.raises(TrainingError, match=r"50.1 % were cut"):
        judge(stage, {**FOUND, "probe": PROBE | {"truncated share": 0.501}})
    with pytest.raises(TrainingError, match="rewarded with 1 "):
        judge(stage, {**FOUND, "probe": PROBE | {"lowest reward": 1.0, "mean reward": 1.0}})
    judge(stage, {**FOUND, "probe": PROBE | {"lowest reward": 0.99}})


def test_only_the_arm_out_of_reach_may_have_a_constant_reward():
    known = Path(__file__).parents[2] / "experiments" / "edge_of_competence"
    for scale, accepted in (("nano", {"RL out of reach", "RL at the moving edge"}), ("tiny", None)):
        recipes = [recipe for recipe in load_experiment(f"{known}@{scale}").recipes if recipe.seed == 0]
        last = [recipe.stages[-1] for recipe in recipes]
        arms = {stage.name: stage for stage in last if stage.kind == "reinforce"}
        unrefused = {name for name, arm in arms.items() if not arm.refuse_constant_reward}
        assert unrefused == (accepted or {*arms})  # the tiny scale learns nothing, and says so
        assert len(arms) == 7
