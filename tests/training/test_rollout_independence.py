"""A rollout is a function of the policy, its prompt and its named stream: of nothing else that happens in a run."""

import copy
import dataclasses
import itertools
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer, sample
from gsm_lab.training import (
    GroupName,
    Optimizer,
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    TorchSampler,
    reinforce,
    rollout_uniforms,
)

EOS = 1
SETTINGS = ReinforceSettings(
    steps=3,
    group_size=6,
    max_new_tokens=5,
    eos_id=EOS,
    seed=0,
    optimizer=OptimizerSettings(kind="adamw", learning_rate=0.01),
    schedule=Schedule(kind="constant"),
)


def prompts_at(step: int) -> list[Prompt]:
    return [Prompt(tuple(range(2, 3 + length)), f"p{length}", payload=step) for length in (1, 4, 2, 6)]


def sevens(completions) -> list[Scored]:
    return [Scored(float(7 in ids), "any", 7 in ids) for _, ids, _ in completions]


def lively(seed: int = 0) -> Transformer:
    """A model whose next token depends much on all that it has read; so what it reads shows in what it writes."""
    shape = ModelShape(vocab_size=16, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
    return Transformer.initial(shape, seed, std=0.4)


def run(model, folder, *, prompts=prompts_at, reward=sevens, sampler=None, on_metrics=None, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return reinforce(model, prompts, reward, settings, folder, sampler=sampler, on_metrics=on_metrics)


def tokens(folder, step: int = 0) -> dict[int, list[list[int]]]:
    """Group -> the ids of each of its rollouts."""
    table = pq.read_table(folder / "rollouts" / f"step-{step:05d}.parquet").to_pandas()
    return {group: [ids.tolist() for ids in rows["ids"]] for group, rows in table.groupby("group")}


@pytest.mark.parametrize("rows_at_once", [1, 5, 24])
def test_tokens_do_not_depend_on_how_many_are_written_at_once(rows_at_once, tmp_path):
    run(lively(), tmp_path / "usual", steps=1)
    run(lively(), tmp_path / "other", steps=1, rollout_rows=rows_at_once)
    assert tokens(tmp_path / "other") == tokens(tmp_path / "usual")


def in_other_company(step: int) -> list[Prompt]:
    """The first and the third prompt stay where they are."""
    first, _, third, _ = prompts_at(step)
    return [first, Prompt((9,) * 20, "long"), third]


def changed_groups(folder, sampler) -> set[int]:
    """Which groups of the first step have other tokens in other company."""
    for name, prompts in (("usual", prompts_at), ("company", in_other_company)):
        run(lively(), folder / name, prompts=prompts, sampler=sampler, steps=1)
    usual, company = tokens(folder / "usual"), tokens(folder / "company")
    return {group for group in company if company[group] != usual[group]}


def test_tokens_do_not_depend_on_the_other_prompts(tmp_path):
    assert changed_groups(tmp_path, TorchSampler()) == {1}


def test_near_miss_prompts_padded_to_the_longest_depend_on_it(tmp_path):
    def padded(model, prompts, names, **settings):
        longest = max(len(prompt.ids) for prompt in prompts)
        rows = [Prompt((0,) * (longest - len(prompt.ids)) + prompt.ids, prompt.key) for prompt in prompts]
        return TorchSampler()(model, rows, names, **settings)

    assert changed_groups(tmp_path, padded) == {0, 1, 2}


def evaluation_of(model):
    """What an evaluation does to a process: samples from the model, and draws from every global stream."""

    def evaluate(metrics) -> None:
        model.eval()
        sample(model, [[3, 4]], [np.random.random((2, 5))], max_new_tokens=5, eos_id=EOS)
        torch.manual_seed(random.randrange(1000))
        np.random.seed(42)

    return evaluate


def evaluating_changes_nothing(prompts, folder, same_weights) -> bool:
    """Whether a run that is evaluated after every step has the rollouts and weights of one that is not."""
    watched, alone = lively(), lively()
    np.random.seed(0)
    run(watched, folder / "watched", prompts=prompts, on_metrics=evaluation_of(watched))
    np.random.seed(0)
    run(alone, folder / "alone", prompts=prompts)
    rollouts = all(
        (folder / "watched/rollouts" / path.name).read_bytes() == path.read_bytes()
        for path in (folder / "alone/rollouts").iterdir()
    )
    return rollouts and same_weights(watched, alone)


def test_an_evaluation_in_between_changes_no_rollout_and_no_weight(tmp_path, same_weights):
    assert evaluating_changes_nothing(prompts_at, tmp_path, same_weights)


def test_near_miss_prompts_from_the_global_stream_are_disturbed_by_an_evaluation(tmp_path, same_weights):
    def drawn(step):
        return [Prompt((int(np.random.randint(2, 16)), 5), f"p{place}") for place in range(4)]

    assert not evaluating_changes_nothing(drawn, tmp_path, same_weights)


# --- streams -------------------------------------------------------------------------------------------------------


def share_no_number(stream_of) -> bool:
    """Whether no number comes twice, in the streams of 3 seeds x 3 steps x 4 prompts (of two keys) x 4 samples."""
    names = [
        GroupName(seed, "rl", step, group, f"p{group % 2}")
        for seed, step, group in itertools.product(range(3), range(3), range(4))
    ]
    numbers = np.stack([stream_of(name) for name in names])
    assert numbers.shape == (36, 4, 5)
    return len(np.unique(numbers)) == numbers.size


def test_no_two_streams_share_a_number():
    def one_for_every_prompt(name):
        return np.random.default_rng([42, name.seed, name.step]).random((4, 5))

    def one_for_every_key(name):
        return np.random.default_rng([name.seed, name.step, int(name.key[1:])]).random((4, 5))

    def one_for_every_sample(name):
        return np.tile(np.random.default_rng([name.seed, name.step, name.group]).random(5), (4, 1))

    def sum_of_seed_and_step(name):
        return np.random.default_rng([name.seed + name.step, name.group]).random((4, 5))

    assert share_no_number(lambda name: rollout_uniforms(name, 4, 5))
    for wrong in (one_for_every_prompt, one_for_every_key, one_for_every_sample, sum_of_seed_and_step):
        assert not share_no_number(wrong), wrong


# --- the policy that samples is the one that was trained -----------------------------------------------------------


def mismatch(model, one, prompt) -> float:
    """The largest difference between the log-probabilities of a sample and those of a full pass of `model`."""
    with torch.no_grad():
        logprobs = model(torch.tensor([[*prompt, *one.ids]]))[0].log_softmax(-1)
    full = [logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(one.ids)]
    return float(np.abs(np.subtract(full, one.logprobs)).max())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_after_a_step_the_sampler_has_the_new_weights(kind):
    model, prompt, uniforms = lively(), (3, 4, 5), np.random.default_rng(0).random((1, 8))
    optimizer = Optimizer(model, OptimizerSettings(kind=kind, learning_rate=0.01))
    for wanted in (5, 6, 7):
        [[before]] = sample(model, [prompt], [uniforms], max_new_tokens=8, eos_id=EOS)
        old = copy.deepcopy(model)
        model(torch.tensor([[3, 4, 5, 6]]))[0, :, wanted].sum().neg().backward()
        optimizer.step(1.0)
        [[after]] = sample(model, [prompt], [uniforms], max_new_tokens=8, eos_id=EOS)
        assert mismatch(model, after, prompt) < 1e-5
        assert mismatch(old, before, prompt) < 1e-5
        assert mismatch(old, after, prompt) > 0.01  # near miss: weights of before the step
        assert mismatch(model, before, prompt) > 0.01


def test_weights_that_were_loaded_are_those_that_sample():
    model, other, prompt = lively(), lively(seed=1), (3, 4, 5)
    uniforms = [np.random.default_rng(0).random((2, 8))]
    [first] = sample(model, [prompt], uniforms, max_new_tokens=8, eos_id=EOS)
    model.load_state_dict(other.state_dict())
    [samples] = sample(model, [prompt], uniforms, max_new_tokens=8, eos_id=EOS)
    assert samples == sample(other, [prompt], uniforms, max_new_tokens=8, eos_id=EOS)[0]
    assert samples != first


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_changes_no_probability(training):
    model, prompt = lively(), (3, 4, 5)
    model.train(training)
    [[one]] = sample(model, [prompt], [np.random.default_rng(0).random((1, 8))], max_new_tokens=8, eos_id=EOS)
    model.train()
    assert mismatch(model, one, prompt) < 1e-5
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # near miss: a training mode that drops a tenth of the weights
        for parameter in model.parameters():
            parameter *= (torch.rand(parameter.shape, generator=generator) > 0.1) / 0.9
    assert mismatch(model, one, prompt) > 0.01


# --- ends ----------------------------------------------------------------------------------------------------------


def test_each_of_two_end_tokens_finishes_a_rollout(tmp_path):
    lines = {1: [], (1, 2): []}
    for eos_id, found in lines.items():
        run(lively(), tmp_path / str(eos_id), steps=1, group_size=40, eos_id=eos_id, on_metrics=found.append)
    table = pq.read_table(tmp_path / "(1, 2)/rollouts/step-00000.parquet").to_pandas()
    assert {ids[-1] for ids in table["ids"][table["finished"]]} == {1, 2}
    assert not any({1, 2} & {*ids[:-1]} for ids in table["ids"])
    assert all(len(ids) == 5 and ids[-1] not in (1, 2) for ids in table["ids"][~table["finished"]])
    assert lines[1, 2][0]["truncated_share"] == pytest.approx((~table["finished"]).mean())
    assert lines[1][0]["truncated_share"] > lines[1, 2][0]["truncated_share"]  # near miss: only the first counts
    other = tokens(tmp_path / "1")
    assert any(2 in ids[:-1] for rows in other.values() for ids in rows)


# --- a reward that breaks ------------------------------------------------------------------------------------------


def breaks_in_the_second_step(completions) -> list[Scored]:
    if completions[0][0] == 1:
        raise TimeoutError("the grader did not answer")
    return sevens(completions)


def zeros_instead(completions) -> list[Scored]:
    try:
        return breaks_in_the_second_step(completions)
    except TimeoutError:
        return [Scored(0.0, "wrong", False) for _ in completions]


def test_a_reward_that_breaks_once_leaves_no_trace_of_a_zero(tmp_path, same_weights):
    whole, broken, mended, swallowed = (lively() for _ in range(4))
    run(whole, tmp_path / "whole", save_every=1)
    with pytest.raises(TimeoutError, match="did not answer"):
        run(broken, tmp_path / "mended", save_every=1, reward=breaks_in_the_second_step)
    assert [path.name for path in (tmp_path / "mended/rollouts").iterdir()] == ["step-00000.parquet"]
    run(mended, tmp_path / "mended", save_every=1)
    assert same_weights(mended, whole)
    # near miss: an error that becomes a reward of 0 trains, and trains something else
    run(swallowed, tmp_path / "swallowed", reward=zeros_instead)
    assert not same_weights(swallowed, whole)
