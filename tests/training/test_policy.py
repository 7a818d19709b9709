"""The gradient of the reinforcement loop: on policy at first, EOS trained, the same however rows are put together."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, Transformer, sample
from gsm_lab.training import token_logprobs, token_weights
from gsm_lab.training.policy import (
    PolicyObjective,
    Trajectory,
    accumulate_policy_gradient,
    micro_batches,
    reference_logprobs,
    sampled_logits,
)

EOS = 1
OBJECTIVE = PolicyObjective(clip_low=0.2, clip_high=0.28, kl_coefficient=0.0, temperature=1.0)
PROMPTS = [(3, 4, 5), (6,), (7, 8, 9, 10, 11, 12), (2, 2)]


def sampled(model, temperature: float = 1.0, normaliser="token_mean") -> list[Trajectory]:
    """Three completions each of four prompts, with made-up advantages."""
    rng = np.random.default_rng(0)
    groups = sample(
        model, PROMPTS, [rng.random((3, 9)) for _ in PROMPTS], max_new_tokens=9, eos_id=EOS, temperature=temperature
    )
    flat = [(prompt, one) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]
    weights = token_weights([len(one.ids) for _, one in flat], normaliser, 9)
    return [
        Trajectory(prompt, one.ids, one.logprobs, float(rng.normal()), weight)
        for (prompt, one), weight in zip(flat, weights, strict=True)
    ]


def gradient_of(model, gradients, trajectories, max_tokens: int = 10_000, objective=OBJECTIVE):
    model.zero_grad()
    measured = accumulate_policy_gradient(model, micro_batches(trajectories, max_tokens), objective)
    return measured, gradients(model)


@pytest.fixture
def lively():
    """A model whose probabilities differ from token to token and from place to place, before any training."""

    def model(seed: int = 0) -> Transformer:
        shape = ModelShape(16, 2, 32, heads=2, kv_heads=1, ffn=48, max_positions=32, tied_embeddings=False)
        model = Transformer.initial(shape, seed)
        with torch.no_grad():
            model.lm_head.weight.mul_(12.0)
        return model

    return model


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_update_is_on_policy(temperature, lively, gradients):
    model = lively()
    trajectories = sampled(model, temperature)
    same = dataclasses.replace(OBJECTIVE, temperature=temperature)
    measured, _ = gradient_of(model, gradients, trajectories, objective=same)
    assert measured.mismatch < 1e-5
    assert measured.clipped == 0
    other = dataclasses.replace(OBJECTIVE, temperature=temperature + 0.3)  # near miss: another temperature
    assert gradient_of(model, gradients, trajectories, objective=other)[0].mismatch > 0.1


def test_after_an_update_the_ratio_leaves_one(lively, gradients):
    model = lively()
    trajectories = sampled(model)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.2)
    measured, _ = gradient_of(model, gradients, trajectories)
    assert measured.mismatch > 0.01
    assert measured.clipped > 0


@pytest.mark.parametrize("normaliser", ["token_mean", "sequence_mean", "constant"])
def test_the_gradient_does_not_depend_on_micro_batches_padding_or_order(normaliser, lively, gradients):
    model = lively()
    trajectories = sampled(model, normaliser=normaliser)
    whole, wanted = gradient_of(model, gradients, trajectories)
    shuffled = list(trajectories)
    random.Random(0).shuffle(shuffled)
    for rows, max_tokens in ((trajectories, 1), (trajectories, 30), (shuffled, 45), (shuffled, 10_000)):
        measured, found = gradient_of(model, gradients, rows, max_tokens)
        assert measured.loss == pytest.approx(whole.loss, abs=1e-6)
        assert measured.tokens == whole.tokens
        assert measured.entropy == pytest.approx(whole.entropy, rel=1e-5)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-5)


def test_weights_of_each_micro_batch_alone_would_give_another_gradient(lively, gradients):
    """Near miss of the law above: denominators taken from the part instead of the whole (trl#5619)."""
    model = lively()
    trajectories = sampled(model)
    _, wanted = gradient_of(model, gradients, trajectories)
    own = [dataclasses.replace(row, weight=1 / len(row.ids) / len(trajectories)) for row in trajectories]
    _, found = gradient_of(model, gradients, own)
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) > 1e-3


def test_rows_with_advantage_zero_may_be_left_out(lively, gradients):
    model = lively()
    rows = [dataclasses.replace(row, advantage=row.advantage * (i % 3 > 0)) for i, row in enumerate(sampled(model))]
    _, wanted = gradient_of(model, gradients, rows)
    _, found = gradient_of(model, gradients, [row for row in rows if row.advantage != 0])
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)


def test_micro_batches_hold_every_row_once_and_no_more_than_asked(tiny_model):
    trajectories = sampled(tiny_model())
    for max_tokens in (1, 20, 40, 10_000):
        micros = micro_batches(trajectories, max_tokens)
        assert sum(len(micro.ids_N) for micro in micros) == sum(len(row.ids) for row in trajectories)
        assert all(len(micro.tokens_M) <= max_tokens or len(micro.texts.segments) <= 2 for micro in micros)
        assert sorted(token for micro in micros for token in micro.ids_N.tolist()) == sorted(
            token for row in trajectories for token in row.ids
        )


def test_every_sampled_token_is_scored_the_last_one_too(lively):
    """The scored positions are exactly the sampled ones, also when the prompt is one token long."""
    model = lively()
    for prompt, ids in (((6,), (5, 9, EOS)), ((3, 4, 5), (EOS,))):
        [micro] = micro_batches([Trajectory(prompt, ids, (0.0,) * len(ids), 1.0, 1.0)], 100)
        found = token_logprobs(sampled_logits(model, micro), micro.ids_N)
        logprobs_TV = model(torch.tensor([prompt + ids]))[0].log_softmax(-1)
        wanted = [logprobs_TV[len(prompt) - 1 + i, token].item() for i, token in enumerate(ids)]
        assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_good_completion_teaches_where_to_stop(tiny_model):
    prompt, ids = (3, 4), (5, 6, EOS)

    def eos_logprob(model) -> float:
        return model(torch.tensor([prompt + ids[:-1]]))[0, -1].log_softmax(-1)[EOS].item()

    def after_one_step(advantage: float) -> float:
        model = tiny_model()
        micros = micro_batches([Trajectory(prompt, ids, (-2.7,) * 3, advantage, 1 / 3)], 100)
        accumulate_policy_gradient(model, micros, dataclasses.replace(OBJECTIVE, clip_low=0.9, clip_high=9.0))
        with torch.no_grad():
            for value in model.parameters():
                if value.grad is not None:
                    value -= 0.1 * value.grad
        return eos_logprob(model)

    assert after_one_step(+1.0) > eos_logprob(tiny_model()) + 1e-3
    assert after_one_step(-1.0) < eos_logprob(tiny_model()) - 1e-3


def test_a_token_that_equals_the_padding_is_a_token_like_others(tiny_model, gradients):
    """Padding is id 0 on the right; a 0 that was sampled is scored, whatever stands beside it (trl#4970)."""
    model = tiny_model()
    short = Trajectory((3,), (0, 0, EOS), (-2.7,) * 3, 1.0, 0.1)
    long = Trajectory((0, 0, 5), (0, 7, 0, 0, 0), (-2.7,) * 5, -1.0, 0.1)
    together, found = gradient_of(model, gradients, [short, long])
    apart, wanted = gradient_of(model, gradients, [short, long], max_tokens=1)
    assert together.tokens == apart.tokens == 8
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)


def test_against_itself_the_kl_is_exactly_zero_and_has_no_graph(lively, gradients):
    model = lively()
    micros = micro_batches(sampled(model), 40)
    references = reference_logprobs(model, micros, 1.0)
    assert not any(values.requires_grad for values in references)
    objective = dataclasses.replace(OBJECTIVE, kl_coefficient=0.5)
    measured = accumulate_policy_gradient(model, micros, objective, references)
    assert measured.kl == 0.0
    with_kl = gradients(model)
    _, without = gradient_of(model, gradients, sampled(model), 40)
    for name, value in without.items():  # the KL is at its minimum: no gradient of its own
        torch.testing.assert_close(with_kl[name], value, atol=1e-6, rtol=0)
    other = reference_logprobs(lively(seed=1), micros, 1.0)  # near miss: another model
    assert accumulate_policy_gradient(model, micros, objective, other).kl > 0.1


def test_no_rows_no_gradient(tiny_model, gradients):
    measured, found = gradient_of(tiny_model(), gradients, [])
    assert (measured.tokens, measured.mean(measured.entropy), found) == (0, None, {})


def test_a_loss_that_is_not_finite_is_refused(tiny_model):
    model = tiny_model()
    micros = micro_batches([Trajectory((3,), (4,), (-900.0,), -1.0, 1.0)], 100)  # a ratio of e^897
    with pytest.raises(TrainingError, match="policy loss is inf"):
        accumulate_policy_gradient(model, micros, OBJECTIVE)
    large = micro_batches([Trajectory((3,), (4,), (-30.0,), -1.0, 1.0)], 100)  # near miss: a ratio of e^27
    assert accumulate_policy_gradient(tiny_model(), large, OBJECTIVE).loss > 1e11
