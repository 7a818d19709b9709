"""The laws of the losses: signs, denominators, groups, and which KL has which gradient. Float64 throughout."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gsm_lab.errors import TrainingError
from gsm_lab.training import (
    aggregate,
    clipped_surrogate,
    group_advantages,
    kl_penalty,
    kl_values,
    next_token_loss,
    step_advantages,
    token_entropy,
    token_logprobs,
    token_weights,
)

DOUBLE = torch.float64


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


# --- next_token_loss ---------------------------------------------------------------------------------------------


def bigram_logits(table_VV: torch.Tensor, tokens_BT: torch.Tensor) -> torch.Tensor:
    return table_VV.log()[tokens_BT]


def test_a_token_is_predicted_from_the_one_before_it():
    table_VV = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], dtype=DOUBLE)
    text = [0, 1, 1, 2, 0]
    tokens_BT, targets_BT = torch.tensor([text[:-1]]), torch.tensor([text[1:]])
    mask_BT = torch.ones(1, 4, dtype=torch.bool)
    wanted = -sum(math.log(table_VV[a, b]) for a, b in itertools.pairwise(text))  # 0.2, 0.8, 0.1, 0.3
    found = next_token_loss(bigram_logits(table_VV, tokens_BT), targets_BT, mask_BT)
    assert float(found.total) == pytest.approx(wanted, abs=1e-12)
    assert found.tokens == 4
    shifted = next_token_loss(bigram_logits(table_VV, targets_BT), tokens_BT, mask_BT)  # near miss: the other way
    assert abs(float(shifted.total) - wanted) > 0.1


def test_only_masked_positions_get_a_gradient():
    logits_BTV = torch.randn(2, 5, 7, dtype=DOUBLE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask_BT = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    next_token_loss(logits_BTV, torch.ones(2, 5, dtype=torch.long), mask_BT).total.backward()
    touched_BT = logits_BTV.grad.abs().sum(-1) > 0
    assert torch.equal(touched_BT, mask_BT)


def test_sums_and_counts_of_parts_add_up_to_the_whole():
    generator = torch.Generator().manual_seed(1)
    logits_BTV = torch.randn(6, 5, 7, dtype=DOUBLE, generator=generator)
    targets_BT = torch.randint(7, (6, 5), generator=generator)
    mask_BT = torch.rand(6, 5, generator=generator) < 0.4
    whole = next_token_loss(logits_BTV, targets_BT, mask_BT)
    parts = [next_token_loss(logits_BTV[r], targets_BT[r], mask_BT[r]) for r in (slice(0, 1), slice(1, 3), slice(3, 6))]
    assert sum(part.tokens for part in parts) == whole.tokens
    assert float(sum(part.total for part in parts)) == pytest.approx(float(whole.total), abs=1e-12)


def test_an_empty_mask_is_a_zero_loss_with_a_zero_gradient():
    logits_BTV = torch.randn(2, 3, 4, dtype=DOUBLE, requires_grad=True)
    loss = next_token_loss(logits_BTV, torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool))
    loss.total.backward()
    assert (loss.total.item(), loss.tokens) == (0.0, 0)
    assert float(logits_BTV.grad.abs().max()) == 0.0
    nothing = torch.full((6,), -100)  # near miss: a mean that divides by no tokens
    assert torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), nothing).isnan()


# --- log-probabilities and entropy -------------------------------------------------------------------------------


def test_entropy_is_log_v_when_uniform_and_zero_when_certain():
    assert token_entropy(torch.zeros(1, 8, dtype=DOUBLE)).item() == pytest.approx(math.log(8), abs=1e-12)
    certain = torch.full((1, 8), -1e4, dtype=DOUBLE)
    certain[0, 3] = 1e4
    assert token_entropy(certain).item() == 0.0


def test_entropy_is_not_the_surprisal_of_what_was_sampled():
    logits_NV = doubles(0.9, 0.1).log()[None]
    entropy = token_entropy(logits_NV).item()
    assert entropy == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), abs=1e-12)
    surprisals = [-token_logprobs(logits_NV, torch.tensor([token])).item() for token in (0, 1)]
    assert 0.9 * surprisals[0] + 0.1 * surprisals[1] == pytest.approx(entropy, abs=1e-12)  # equal only on average
    assert all(abs(surprisal - entropy) > 0.1 for surprisal in surprisals)


def test_temperature_divides_the_logits():
    logits_NV = doubles(1.0, 2.0, 4.0)[None]
    found = token_logprobs(logits_NV, torch.tensor([1]), temperature=0.5).item()
    assert found == pytest.approx(4.0 - math.log(math.exp(2) + math.exp(4) + math.exp(8)), abs=1e-12)
    assert found != pytest.approx(token_logprobs(logits_NV, torch.tensor([1])).item(), abs=0.1)


# --- step_advantages ---------------------------------------------------------------------------------------------


def test_a_token_gets_what_its_own_step_and_later_ones_are_better_than_the_mean_step():
    """Two rollouts of one group, whose steps earn 0.5, 0.1, 0.0 and 0.2: 0.2 in the mean."""
    found = step_advantages([[(1, 0.5), (3, 0.1)], [(0, 0.0), (2, 0.2)]], [5, 3], [7, 7])
    assert found[0] == pytest.approx((0.2, 0.2, -0.1, -0.1, 0.0))
    assert found[1] == pytest.approx((-0.2, 0.0, 0.0))


def test_steps_of_other_groups_do_not_count():
    one, two = [(1, 0.5), (3, 0.1)], [(0, 0.0), (2, 0.2)]
    alone = step_advantages([one, two], [5, 3], [7, 7])
    apart = step_advantages([one, [(0, 9.0)], two, [(0, 1.0)]], [5, 1, 3, 1], [7, 8, 7, 8])
    assert apart[::2] == alone
    assert step_advantages([one, [(0, 9.0)], two], [5, 1, 3], [7, 7, 7])[::2] != alone  # near miss: in the group


def test_steps_that_all_earn_the_same_give_exactly_nothing():
    assert step_advantages([[(0, 0.1)] * 3, [(1, 0.1)]], [2, 2], [0, 0]) == [(0.0, 0.0), (0.0, 0.0)]
    assert step_advantages([[], []], [2, 1], [0, 0], divide_by_std=True) == [(0.0, 0.0), (0.0,)]
    assert step_advantages([], [], []) == []


def test_one_step_a_rollout_is_the_advantage_of_its_reward_within_the_group():
    rewards, groups = [0.3, 0.9, 0.0, 1.0, 0.5], [0, 0, 0, 1, 1]
    for divide in (False, True):
        whole = group_advantages(doubles(*rewards), torch.tensor(groups), divide_by_std=divide)
        found = step_advantages([[(2, one)] for one in rewards], [3] * 5, groups, divide_by_std=divide)
        for tokens, wanted in zip(found, whole.tolist(), strict=True):
            assert tokens == pytest.approx([wanted] * 3)


# --- group_advantages --------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(-100, 100)), min_size=1, max_size=30),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_advantages_of_a_group_sum_to_zero_wherever_its_rows_stand(rows, divide_by_std, rng):
    rows = rows + rows  # every group has two rollouts or more
    groups, rewards = torch.tensor([group for group, _ in rows]), doubles(*[reward for _, reward in rows])
    found = group_advantages(rewards, groups, divide_by_std=divide_by_std)
    for group in groups.unique():
        assert float(found[groups == group].sum()) == pytest.approx(0.0, abs=1e-9)
    order = list(range(len(rows)))
    rng.shuffle(order)
    shuffled = group_advantages(rewards[order], groups[order], divide_by_std=divide_by_std)
    torch.testing.assert_close(shuffled, found[order], atol=1e-9, rtol=1e-9)


def test_two_groups_of_the_same_prompt_stay_two_groups():
    rewards = doubles(1, 0, 1, 1)
    apart = group_advantages(rewards, torch.tensor([0, 0, 1, 1]))
    merged = group_advantages(rewards, torch.tensor([0, 0, 0, 0]))  # what grouping by text would do
    assert apart.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert merged.tolist() == [0.25, -0.75, 0.25, 0.25]


def test_golden_advantages_of_one_success_in_four():
    rewards, group = doubles(1, 0, 0, 0), torch.zeros(4, dtype=torch.long)
    assert group_advantages(rewards, group).tolist() == [0.75, -0.25, -0.25, -0.25]
    # variance with n - 1: (9/16 + 3/16) / 3 = 1/4, deviation 1/2, plus epsilon 1e-6
    wanted = [0.75 / 0.500001] + [-0.25 / 0.500001] * 3
    assert group_advantages(rewards, group, divide_by_std=True).tolist() == pytest.approx(wanted, abs=1e-12)
    population = 0.75 / (math.sqrt(3 / 16) + 1e-6)  # near miss: the deviation with n
    assert abs(group_advantages(rewards, group, divide_by_std=True)[0].item() - population) > 0.1


@pytest.mark.parametrize("divide_by_std", [False, True])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, 1e9 + 0.1])
def test_a_constant_group_gives_exactly_zero(reward, divide_by_std):
    found = group_advantages(doubles(*[reward] * 7), torch.zeros(7, dtype=torch.long), divide_by_std=divide_by_std)
    assert found.tolist() == [0.0] * 7


def test_a_hair_of_difference_does_not_explode():
    rewards = doubles(0.0, *[0.95] * 7)
    found = group_advantages(rewards, torch.zeros(8, dtype=torch.long), divide_by_std=True)
    assert float(found.abs().max()) <= 8
    residue = doubles(0.95, *[0.95 + 1e-12] * 7)  # rounding in the reward, not a difference in quality
    assert float(group_advantages(residue, torch.zeros(8, dtype=torch.long), divide_by_std=True).abs().max()) < 1e-5
    others = rewards[1:]  # near miss: mean and deviation of the others, which agree with one another
    assert float((rewards[0] - others.mean()) / (others.std() + 1e-6)) < -1e5


def test_leave_one_out_is_the_centred_advantage_stretched():
    rewards = doubles(3.0, 1.0, -2.0, 0.5)
    centred = group_advantages(rewards, torch.zeros(4, dtype=torch.long))
    others = (rewards.sum() - rewards) / 3
    torch.testing.assert_close(rewards - others, centred * 4 / 3)  # RLOO = G / (G - 1) x centred


def test_a_group_of_one_is_refused():
    rewards, groups = doubles(1, 0, 1), torch.tensor([0, 0, 1])
    with pytest.raises(TrainingError, match="group_size 2 or more"):
        group_advantages(rewards, groups)
    assert group_advantages(rewards[:2], groups[:2]).tolist() == [0.5, -0.5]  # near miss: two are a group


def test_a_reward_that_is_not_finite_is_refused():
    rewards, groups = doubles(1, float("nan")), torch.tensor([0, 0])
    with pytest.raises(TrainingError, match="not finite"):
        group_advantages(rewards, groups)


# --- clipped_surrogate -------------------------------------------------------------------------------------------


def has_the_right_slope(surrogate, advantage: float, ratio: float, clipped: bool) -> bool:
    """Whether the gradient is the slope of the values, and 0 exactly where it is to be clipped."""
    old = doubles(-2.0)
    logprob = (old + math.log(ratio)).requires_grad_()
    surrogate(logprob, old, doubles(advantage), 0.2, 0.28).sum().backward()

    def loss(value: torch.Tensor) -> float:
        return surrogate(value, old, doubles(advantage), 0.2, 0.28).item()

    step = 1e-6
    difference = (loss(logprob.detach() + step) - loss(logprob.detach() - step)) / (2 * step)
    wanted = 0.0 if clipped else -advantage * ratio
    return logprob.grad.item() == pytest.approx(difference, abs=1e-8) == pytest.approx(wanted, abs=1e-8)


REGIMES = [
    (+1.0, 1.1, False),
    (+1.0, 1.5, True),  # a good token is already likelier by more than the clip
    (+1.0, 0.5, False),  # it has become less likely: pull it back
    (-1.0, 0.9, False),
    (-1.0, 0.5, True),  # a bad token is already less likely by more than the clip
    (-1.0, 1.5, False),  # it has become likelier: push it down
]


@pytest.mark.parametrize(("advantage", "ratio", "clipped"), REGIMES)
def test_the_gradient_is_zero_in_the_two_clipped_regimes_only(advantage, ratio, clipped):
    assert has_the_right_slope(clipped_surrogate, advantage, ratio, clipped)


def of_the_wrong_sign(logprobs, old, advantages, low, high):
    return -clipped_surrogate(logprobs, old, advantages, low, high)


def clipped_on_both_sides(logprobs, old, advantages, low, high):
    return -advantages * (logprobs - old).exp().clamp(1 - low, 1 + high)


def of_the_larger_gain(logprobs, old, advantages, low, high):
    ratio = (logprobs - old).exp()
    return torch.minimum(-advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high))


def without_a_clip(logprobs, old, advantages, low, high):
    return -advantages * (logprobs - old).exp()


def with_a_detached_ratio(logprobs, old, advantages, low, high):
    return -advantages * (logprobs - old).exp().detach().clamp(1 - low, 1 + high) * logprobs


@pytest.mark.parametrize(
    "wrong", [of_the_wrong_sign, clipped_on_both_sides, of_the_larger_gain, without_a_clip, with_a_detached_ratio]
)
def test_near_miss_other_surrogates_fail_in_some_regime(wrong):
    assert not all(has_the_right_slope(wrong, *regime) for regime in REGIMES)


def test_on_policy_the_surrogate_is_the_policy_gradient():
    logprobs = doubles(-1.0, -2.0, -0.5).requires_grad_()
    advantages = doubles(0.3, -0.7, 0.0)
    clipped_surrogate(logprobs, logprobs.detach(), advantages, 0.2, 0.28).sum().backward()
    assert torch.equal(logprobs.grad, -advantages)


def test_the_two_widths_of_the_clip_are_told_apart():
    logprob = doubles(math.log(1.25)).requires_grad_()
    clipped_surrogate(logprob, doubles(0.0), doubles(1.0), 0.2, 0.28).sum().backward()
    assert logprob.grad.item() != 0.0  # 1.25 is within 1.28, though outside 1.2


# --- KL ----------------------------------------------------------------------------------------------------------

LOGITS = doubles(0.3, -0.8, 1.1)
REFERENCE = doubles(-0.5, 0.4, 0.2).log_softmax(0)


def reverse_kl(logits: torch.Tensor) -> torch.Tensor:
    logprobs = logits.log_softmax(0)
    return (logprobs.exp() * (logprobs - REFERENCE)).sum()


def forward_kl(logits: torch.Tensor) -> torch.Tensor:
    return (REFERENCE.exp() * (REFERENCE - logits.log_softmax(0))).sum()


def gradient_of(function, at: torch.Tensor = LOGITS) -> torch.Tensor:
    logits = at.clone().requires_grad_()
    function(logits).backward()
    return logits.grad


def expected_under(sampler: torch.Tensor, term) -> torch.Tensor:
    """The mean of a loss over tokens that `sampler` drew: its probabilities are numbers, not part of the graph."""
    return lambda logits: (sampler.exp() * term(logits.log_softmax(0))).sum()


ON_POLICY = LOGITS.log_softmax(0)


def test_k1_and_k3_have_the_value_of_the_kl_and_k3_is_never_negative():
    kl = reverse_kl(LOGITS).item()
    for estimator in ("k1", "k3"):
        assert (ON_POLICY.exp() * kl_values(ON_POLICY, REFERENCE, estimator)).sum().item() == pytest.approx(
            kl, abs=1e-12
        )
    assert kl_values(ON_POLICY, REFERENCE, "k1").min() < 0 <= kl_values(ON_POLICY, REFERENCE, "k3").min()
    k2 = (ON_POLICY.exp() * kl_values(ON_POLICY, REFERENCE, "k2")).sum().item()
    assert abs(k2 - kl) > 1e-3  # k2 is biased


def test_in_a_loss_k1_has_no_gradient_and_k3_that_of_the_other_kl():
    k1 = gradient_of(expected_under(ON_POLICY, lambda logprobs: kl_values(logprobs, REFERENCE, "k1")))
    k2 = gradient_of(expected_under(ON_POLICY, lambda logprobs: kl_values(logprobs, REFERENCE, "k2")))
    k3 = gradient_of(expected_under(ON_POLICY, lambda logprobs: kl_values(logprobs, REFERENCE, "k3")))
    torch.testing.assert_close(k1, torch.zeros(3, dtype=DOUBLE))
    torch.testing.assert_close(k2, gradient_of(reverse_kl))
    torch.testing.assert_close(k3, gradient_of(forward_kl))
    assert not torch.allclose(gradient_of(reverse_kl), gradient_of(forward_kl), atol=1e-2)


@pytest.mark.parametrize(
    "sampler", [ON_POLICY, doubles(1.0, 0.5, -0.3).log_softmax(0)], ids=["on policy", "off policy"]
)
def test_the_penalty_has_value_and_gradient_of_reverse_kl_on_policy_and_off_it(sampler):
    penalty = expected_under(sampler, lambda logprobs: kl_penalty(logprobs, sampler, REFERENCE))
    torch.testing.assert_close(penalty(LOGITS), reverse_kl(LOGITS))
    torch.testing.assert_close(gradient_of(penalty), gradient_of(reverse_kl))


def test_near_miss_a_ratio_outside_the_gradient_gives_that_of_another_kl():
    def detached(logprobs: torch.Tensor) -> torch.Tensor:
        return (logprobs - ON_POLICY).exp().detach() * kl_values(logprobs, REFERENCE, "k3")

    found = gradient_of(expected_under(ON_POLICY, detached))
    torch.testing.assert_close(found, gradient_of(forward_kl))
    assert not torch.allclose(found, gradient_of(reverse_kl), atol=1e-2)


def test_off_policy_k2_no_longer_has_the_gradient_of_the_kl():
    sampler = doubles(1.0, 0.5, -0.3).log_softmax(0)
    k2 = gradient_of(expected_under(sampler, lambda logprobs: kl_values(logprobs, REFERENCE, "k2")))
    assert not torch.allclose(k2, gradient_of(reverse_kl), atol=1e-2)


# --- denominators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normaliser", "short", "long"),
    [
        ("token_mean", 1 / 22, 1 / 22),
        ("sequence_mean", 1 / (2 * 2), 1 / (2 * 20)),
        ("constant", 1 / (2 * 50), 1 / (2 * 50)),
    ],
)
def test_the_weight_of_a_token_is_its_closed_form(normaliser, short, long):
    assert token_weights([2, 20], normaliser, 50) == pytest.approx([short, long], abs=1e-15)
    for other in {"token_mean", "sequence_mean", "constant"} - {normaliser}:
        assert token_weights([2, 20], other, 50) != pytest.approx([short, long], abs=1e-3)


@pytest.mark.parametrize("normaliser", ["token_mean", "sequence_mean", "constant"])
def test_a_rollout_without_tokens_changes_no_denominator(normaliser):
    assert token_weights([2, 0, 20], normaliser, 50) == [
        token_weights([2, 20], normaliser, 50)[0],
        0.0,
        token_weights([2, 20], normaliser, 50)[1],
    ]
    assert token_weights([0, 0], normaliser, 50) == [0.0, 0.0]
    assert token_weights([2, 1, 20], normaliser, 50)[0] < token_weights([2, 20], normaliser, 50)[0]  # near miss


@pytest.mark.parametrize("normaliser", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("cut", [[8], [4, 4], [1] * 8, [3, 1, 2, 2]])
def test_every_cut_of_a_batch_gives_the_same_loss(normaliser, cut):
    generator = torch.Generator().manual_seed(2)
    lengths = [3, 1, 7, 2, 5, 5, 1, 9]
    losses = [torch.randn(length, dtype=DOUBLE, generator=generator) for length in lengths]
    weights = token_weights(lengths, normaliser, 12)
    spread = [torch.full((length,), weight, dtype=DOUBLE) for length, weight in zip(lengths, weights, strict=True)]
    whole = aggregate(torch.cat(losses), torch.cat(spread))
    first, parts = 0, []
    for size in cut:
        rows = slice(first, first + size)
        parts.append(aggregate(torch.cat(losses[rows]), torch.cat(spread[rows])))
        first += size
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-14)
    own = [
        aggregate(losses[r], torch.full_like(losses[r], token_weights([lengths[r]], "token_mean")[0])) for r in range(8)
    ]
    assert (
        abs(float(sum(own)) / 8 - float(aggregate(torch.cat(losses), torch.full((33,), 1 / 33, dtype=DOUBLE)))) > 1e-3
    )


def test_a_normaliser_that_cannot_divide_is_refused():
    with pytest.raises(TrainingError, match="divides by 0"):
        token_weights([1], "constant")


def test_an_unknown_normaliser_is_refused():
    with pytest.raises(TrainingError, match="choose one of token_mean"):
        token_weights([1], "mean")
