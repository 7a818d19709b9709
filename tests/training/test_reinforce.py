"""The reinforcement loop on tasks of three tokens: it learns, keeps everything, and refuses what cannot work."""

import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gsm_lab.errors import CheckpointError, TrainingError
from gsm_lab.training import (
    GroupName,
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    reinforce,
    rollout_uniforms,
)
from gsm_lab.training.rollouts import rollouts_path, write_rollouts

EOS = 1
SETTINGS = ReinforceSettings(
    steps=3,
    group_size=6,
    max_new_tokens=3,
    eos_id=EOS,
    seed=0,
    save_every=2,
    optimizer=OptimizerSettings(kind="adamw", learning_rate=0.005),
    schedule=Schedule(kind="constant"),
)


def prompts_at(step: int) -> list[Prompt]:
    wanted = [2 + (step + place) % 3 for place in range(4)]
    return [Prompt((token, 5), f"repeat-{token}", payload=token) for token in wanted]


def repeats(completions) -> list[Scored]:
    """Half a point for the prompt's first token, half for stopping after it."""
    scores = []
    for wanted, ids, finished in completions:
        reward = 0.5 * (ids[0] == wanted) + 0.5 * (len(ids) == 2 and finished)
        verdict = "correct" if reward == 1.0 else "wrong" if finished else "truncated"
        scores.append(Scored(reward, verdict, reward == 1.0, {"first": ids[0]}))
    return scores


def constant(completions) -> list[Scored]:
    return [Scored(0.25, "wrong", False) for _ in completions]


def run(model, folder, reward=repeats, prompts=prompts_at, **changes):
    lines = []
    settings = dataclasses.replace(SETTINGS, **changes)
    summary = reinforce(model, prompts, reward, settings, folder, on_metrics=lines.append)
    return summary, lines


def sevens(completions) -> list[Scored]:
    """A point for beginning with 7: one completion in sixteen does so before training."""
    return [Scored(float(ids[0] == 7), "any", ids[0] == 7) for _, ids, _ in completions]


@pytest.mark.parametrize("changes", [{}, {"updates_per_rollout": 2, "divide_by_std": True, "kl_coefficient": 0.001}])
def test_the_reward_rises(changes, tmp_path, tiny_model):
    summary, lines = run(tiny_model(), tmp_path, sevens, steps=36, group_size=16, save_every=50, **changes)
    assert summary.finished
    assert np.mean([line["reward_mean"] for line in lines[:3]]) < 0.2
    assert np.mean([line["verified_share"] for line in lines[-3:]]) > 0.9


def test_the_turned_reward_falls(tmp_path, tiny_model):
    """Near miss: the sign turned round."""

    def turned(completions):
        return [dataclasses.replace(scored, reward=-scored.reward) for scored in sevens(completions)]

    _, lines = run(tiny_model(), tmp_path, turned, steps=36, group_size=16, save_every=50)
    assert np.mean([line["verified_share"] for line in lines[-3:]]) < 0.05


def test_rejection_sampling_is_supervised_training_on_what_was_accepted(tmp_path, tiny_model):
    """Without a baseline the gradient is that of the accepted completions' log-likelihood, over all sampled tokens."""
    _, lines = run(tiny_model(), tmp_path, sevens, steps=1, group_size=16, credit="none")
    table = pq.read_table(rollouts_path(tmp_path / "rollouts", 0)).to_pandas()
    accepted = table[table["reward"] == 1.0]
    assert 0 < len(accepted) < len(table)
    assert (table["advantage"] == table["reward"]).all()
    model, total = tiny_model(), 0.0
    for row in accepted.itertuples():
        prompt, ids = torch.tensor([int(row.prompt.removeprefix("repeat-")), 5]), torch.tensor(row.ids)
        both = torch.cat([prompt, ids])[None]
        hidden_TD = model.hidden(both, torch.arange(both.shape[1])[None])[0]
        logprobs_TV = torch.log_softmax(model.head(hidden_TD[len(prompt) - 1 : -1]), dim=-1)
        total = total - logprobs_TV.gather(1, ids[:, None]).sum()
    (total / table["ids"].map(len).sum()).backward()
    norm = torch.stack([one.grad.norm() for one in model.parameters() if one.grad is not None]).norm()
    assert lines[0]["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_rejection_sampling_makes_what_is_accepted_likelier(tmp_path, tiny_model):
    _, lines = run(tiny_model(), tmp_path, sevens, steps=36, group_size=16, save_every=50, credit="none")
    assert np.mean([line["verified_share"] for line in lines[-3:]]) > 0.9


def stepped(completions) -> list[Scored]:
    """The same point, but as that of a step at the first token; the reward says nothing."""
    return [Scored(0.0, one.verdict, one.verified, steps=((0, one.reward),)) for one in sevens(completions)]


def test_credit_of_steps_is_learnt_from(tmp_path, tiny_model):
    _, lines = run(tiny_model(), tmp_path, stepped, steps=36, group_size=16, save_every=50, credit="steps")
    assert np.mean([line["verified_share"] for line in lines[-3:]]) > 0.9
    table = pq.read_table(rollouts_path(tmp_path / "rollouts", 0)).to_pandas()
    assert [list(places) for places in table["step_places"]] == [[0]] * len(table)
    assert {float(rewards[0]) for rewards in table["step_rewards"]} == {0.0, 1.0}


@pytest.mark.parametrize("step", [(3, 0.1), (-1, 0.1), (0, math.nan), (0, "much")], ids=str)
def test_a_step_that_cannot_be_is_refused(step, tmp_path, tiny_model):
    def wrong(completions):
        return [Scored(0.0, "any", False, steps=(step,)) for _ in completions]

    with pytest.raises(TrainingError, match=r"the reward gave a step of sample 0 .* give finite numbers, at places"):
        run(tiny_model(), tmp_path, wrong, steps=1, credit="steps")
    assert not list(tmp_path.glob("rollouts/*"))


def test_a_reward_that_tells_no_steps_is_refused_where_they_get_credit(tmp_path, tiny_model):
    with pytest.raises(TrainingError, match=r'credit is "steps" and the reward gives none: fill .Scored'):
        run(tiny_model(), tmp_path, sevens, steps=1, credit="steps")


def test_groups_whose_steps_agree_have_no_variance(tmp_path, tiny_model):
    def agreeing(completions):
        return [Scored(0.0, "any", False, steps=((0, 0.5),)) for _ in completions]

    _, lines = run(tiny_model(), tmp_path / "a", agreeing, steps=1, credit="steps")
    assert (lines[0]["zero_variance_share"], lines[0]["trained_tokens"]) == (1.0, 0)
    _, lines = run(tiny_model(), tmp_path / "b", stepped, steps=1, group_size=16, credit="steps")
    assert lines[0]["zero_variance_share"] < 1  # near miss: the rewards agree, the steps do not
    assert lines[0]["trained_tokens"] > 0


def test_near_miss_without_that_credit_nothing_is_learnt(tmp_path, tiny_model):
    _, lines = run(tiny_model(), tmp_path, stepped, steps=3, group_size=16, save_every=50)
    assert [line["gradient_norm"] for line in lines] == [None] * 3


def test_a_step_at_the_end_is_the_reward_of_the_whole(tmp_path, tiny_model):
    """And at the first token it is not: later tokens could not change it."""

    def ending(completions):
        scored = zip(completions, sevens(completions), strict=True)
        return [Scored(0.0, "any", False, steps=((len(ids) - 1, one.reward),)) for (_, ids, _), one in scored]

    found = {}
    for name, reward, credit in (("whole", sevens, "group"), ("end", ending, "steps"), ("begin", stepped, "steps")):
        _, lines = run(tiny_model(), tmp_path / name, reward, steps=1, group_size=16, credit=credit)
        found[name] = lines[0]["gradient_norm"]
    assert found["end"] == pytest.approx(found["whole"], rel=1e-5)
    assert abs(found["begin"] - found["whole"]) > 1e-3 * found["whole"]


@pytest.mark.parametrize("tokens", [1, 7, 10_000])
def test_credit_of_steps_does_not_depend_on_micro_batches(tokens, tmp_path, tiny_model):
    def both(completions):
        scored = zip(completions, sevens(completions), strict=True)
        return [dataclasses.replace(one, steps=((0, len(ids) / 3), (len(ids) - 1, 0.5))) for (_, ids, _), one in scored]

    _, lines = run(tiny_model(), tmp_path / "a", both, steps=1, group_size=16, credit="steps")
    _, again = run(
        tiny_model(), tmp_path / "b", both, steps=1, group_size=16, credit="steps", micro_batch_tokens=tokens
    )
    assert again[0]["gradient_norm"] == pytest.approx(lines[0]["gradient_norm"], rel=1e-5)


def test_metrics_say_what_happened(tmp_path, tiny_model):
    _, lines = run(tiny_model(), tmp_path, group_size=16)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == lines
    for step, line in enumerate(lines):
        table = pq.read_table(rollouts_path(tmp_path / "rollouts", step)).to_pandas()
        assert line["step"] == step
        assert set(table["step"]) == {step}
        assert len(table) == 64
        assert line["reward_mean"] == pytest.approx(table["reward"].mean())
        assert line["verified_share"] == table["verified"].mean()
        assert line["truncated_share"] == pytest.approx((~table["finished"]).mean())
        assert line["verdict_shares"] == pytest.approx(table["verdict"].value_counts(normalize=True).to_dict())
        assert line["zero_variance_share"] == pytest.approx((table.groupby("group")["reward"].nunique() == 1).mean())
        assert line["length_mean"] == pytest.approx(table["ids"].map(len).mean())
        assert line["surprisal"] == pytest.approx(-np.concatenate(table["logprobs"]).mean(), rel=1e-5)
        assert table.groupby("group")["advantage"].sum().abs().max() < 1e-9
        assert line["mismatch"] < 1e-5
    assert lines[-1]["rollouts"] == 192
    assert lines[-1]["updates"] + lines[-1]["skipped_updates"] == 3


def test_every_rollout_is_kept_with_its_ids_and_the_rewards_columns(tmp_path, tiny_model):
    run(tiny_model(), tmp_path)
    table = pq.read_table(tmp_path / "rollouts" / "step-00001.parquet").to_pandas()
    assert list(table["prompt"].unique()) == ["repeat-3", "repeat-4", "repeat-2"]  # steps begin one token further
    assert list(table["group"].unique()) == [0, 1, 2, 3]  # the first and the last are the same prompt, and two groups
    assert [ids[0] for ids in table["ids"]] == list(table["first"])
    assert all((ids[-1] == EOS) == finished for ids, finished in zip(table["ids"], table["finished"], strict=True))
    assert all(len(ids) == 3 for ids, finished in zip(table["ids"], table["finished"], strict=True) if not finished)
    assert all(len(row.ids) == len(row.logprobs) for row in table.itertuples())


def test_an_end_at_the_very_limit_is_not_truncated(tmp_path, tiny_model):
    run(tiny_model(), tmp_path, steps=3, group_size=40, save_every=50)
    tables = [pq.read_table(path).to_pandas() for path in (tmp_path / "rollouts").iterdir()]
    at_limit = [row for table in tables for row in table.itertuples() if len(row.ids) == 3]
    assert {row.finished for row in at_limit if row.ids[-1] == EOS} == {True}
    assert {row.finished for row in at_limit if row.ids[-1] != EOS} == {False}


def test_a_completion_has_its_own_random_stream():
    def drawn(step=0, group=0, key="a", stage="rl", seed=0, samples=4):
        return rollout_uniforms(GroupName(seed, stage, step, group, key), samples, length=5)

    np.testing.assert_array_equal(drawn(), drawn())
    np.testing.assert_array_equal(drawn()[:2], drawn(samples=2))
    everything = [drawn(), drawn(step=1), drawn(group=1), drawn(key="b"), drawn(stage="other"), drawn(seed=1)]
    numbers = np.concatenate(everything)
    assert len(np.unique(numbers)) == numbers.size  # no two streams share a number
    assert numbers.min() >= 0 > numbers.max() - 1


def test_rows_at_once_and_micro_batches_change_no_rollout(tmp_path, tiny_model):
    one, other = tiny_model(), tiny_model()
    run(one, tmp_path / "one", steps=2)
    run(other, tmp_path / "other", steps=2, rollout_rows=5, micro_batch_tokens=9)
    tables = [pq.read_table(tmp_path / name / "rollouts/step-00001.parquet").to_pandas() for name in ("one", "other")]
    assert [list(ids) for ids in tables[0]["ids"]] == [list(ids) for ids in tables[1]["ids"]]
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        # AdamW divides by the gradient's size, so rounding in the seventh digit shows in the third of a tiny one
        torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


def test_a_constant_reward_moves_nothing_and_is_counted(tmp_path, tiny_model, same_weights):
    model = tiny_model()
    _, lines = run(model, tmp_path, constant)
    assert same_weights(model, tiny_model())
    assert [line["zero_variance_share"] for line in lines] == [1.0] * 3
    assert lines[-1]["skipped_updates"] == 3
    assert lines[-1]["unused_rollouts"] == 72
    assert (lines[-1]["entropy"], lines[-1]["gradient_norm"]) == (None, None)


def test_leaving_out_groups_without_variance_is_exact(tmp_path, tiny_model, same_weights):
    """Half of the groups are constant; the same gradient comes of a reward that says so with other numbers."""

    def by_place(step: int) -> list[Prompt]:
        return [dataclasses.replace(prompt, payload=place) for place, prompt in enumerate(prompts_at(step))]

    def shifted(by: float):
        def reward(completions):
            place = completions[0][0]
            if place < 2:
                return [Scored(by, "flat", False) for _ in completions]
            wanted = 2 + place % 3
            return repeats([(wanted, ids, finished) for _, ids, finished in completions])

        return reward

    models = [tiny_model(), tiny_model()]
    lines = [run(model, tmp_path / str(i), shifted(10.0 * i), by_place)[1] for i, model in enumerate(models)]
    assert same_weights(*models)
    assert lines[0][0]["zero_variance_share"] >= 0.5
    assert lines[0][0]["loss"] == lines[1][0]["loss"]


def test_the_kl_is_zero_at_first_and_its_reference_stays(tmp_path, tiny_model):
    _, lines = run(tiny_model(), tmp_path / "kl", steps=6, kl_coefficient=0.01)
    assert lines[0]["kl"] == 0.0
    assert lines[-1]["kl"] > 1e-4  # the policy moves, the reference does not
    assert run(tiny_model(), tmp_path / "none")[1][0]["kl"] is None


def test_a_strong_kl_keeps_the_policy_where_it_began(tmp_path, tiny_model):
    frozen = {"steps": 15, "group_size": 12, "save_every": 50, "updates_per_rollout": 2}
    _, free = run(tiny_model(), tmp_path / "free", **frozen, kl_coefficient=1e-9)
    _, held = run(tiny_model(), tmp_path / "held", **frozen, kl_coefficient=10.0)
    assert held[-1]["kl"] < free[-1]["kl"] / 10


def test_what_the_reward_raises_goes_through(tmp_path, tiny_model):
    def broken(completions):
        raise ZeroDivisionError("the grader broke")

    model = tiny_model()
    with pytest.raises(ZeroDivisionError, match="the grader broke"):
        run(model, tmp_path, broken)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda completions: constant(completions)[:-1], "5 scores for 6 completions of prompt 'repeat-2'"),
        (lambda completions: [Scored(math.nan, "wrong", False) for _ in completions], "is nan: give a finite number"),
        (lambda completions: [Scored(0.0, "wrong", False, {"ids": 1}) for _ in completions], "names that are taken"),
    ],
)
def test_scores_that_make_no_sense_are_refused(reward, message, tmp_path, tiny_model):
    model = tiny_model()
    with pytest.raises(TrainingError, match=message):
        run(model, tmp_path, reward)


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(tmp_path, tiny_model):
    def long(step):
        return [Prompt((2,) * 30, "long")]

    model = tiny_model()
    with pytest.raises(TrainingError, match=r"'long' of step 0 has 30 tokens; with max_new_tokens 3 .* 32 positions"):
        run(model, tmp_path, prompts=long)
    fits = run(tiny_model(), tmp_path, constant, lambda step: [Prompt((2,) * 29, "fits")])[0]
    assert fits.finished


def test_a_step_without_prompts_is_refused(tmp_path, tiny_model):
    model = tiny_model()
    with pytest.raises(TrainingError, match="step 0 has no prompts"):
        run(model, tmp_path, prompts=lambda step: [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_size": 1},
        {"temperature": 0.0},
        {"updates_per_rollout": 0},
        {"normaliser": "mean"},
        {"credit": "mine"},
        {"credit": "none", "divide_by_std": True},
        {"kl_coefficient": -1.0},
        {"clip_low": math.nan},
    ],
)
def test_settings_that_make_no_sense_are_not_born(wrong):
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        dataclasses.replace(SETTINGS, **wrong)


def test_stopping_and_going_on_ends_where_never_stopping_ends(tmp_path, tiny_model, same_weights):
    whole, parts = tiny_model(), tiny_model()
    run(whole, tmp_path / "whole")
    settings = SETTINGS
    first = reinforce(parts, prompts_at, repeats, settings, tmp_path / "parts", should_stop=lambda: True)
    assert (first.step, first.finished) == (1, False)
    parts = tiny_model()
    reinforce(parts, prompts_at, repeats, settings, tmp_path / "parts")
    assert same_weights(whole, parts)
    for file in ("metrics.jsonl", *(f"rollouts/step-0000{step}.parquet" for step in range(3))):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_rollouts_after_the_state_are_dropped(tmp_path, tiny_model):
    run(tiny_model(), tmp_path)
    write_rollouts(rollouts_path(tmp_path / "rollouts", 7), 7, [], [])
    (tmp_path / "rollouts" / ".step-00007.parquet.abc.part").touch()
    run(tiny_model(), tmp_path)
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        f"step-0000{step}.parquet" for step in range(3)
    ]


def test_another_seed_does_not_go_on_in_the_same_folder(tmp_path, tiny_model):
    run(tiny_model(), tmp_path)
    model = tiny_model()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run(model, tmp_path, seed=1)
    run(tiny_model(), tmp_path, micro_batch_tokens=64)  # near miss: what only costs memory may change
