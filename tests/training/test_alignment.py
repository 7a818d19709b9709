"""Which token gets which credit, by closed form: a model in which every number of the head belongs to two tokens.

The model is a bigram table: the next token depends on the last one alone, so that the gradient of the head is a sum
over (last token, next token), worked out by hand. Float64 but for what the trainer keeps of a rollout (float32).
Shapes: V words in the vocabulary.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer, sample
from gsm_lab.training import batch_loss, token_weights
from gsm_lab.training.policy import PolicyObjective, Trajectory, accumulate_policy_gradient, micro_batches
from gsm_lab.training.supervised import accumulate_gradient

WORDS, EOS, SCALE = 8, 1, (1 / 8 + 1e-6) ** -0.5
"""The final norm makes of a one-hot vector of width 8 one of length SCALE."""
TABLE_VV = torch.randn(WORDS, WORDS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(1)
"""Row: the last token; column: the next one."""
OBJECTIVE = PolicyObjective(clip_low=0.2, clip_high=0.28, kl_coefficient=0.0, temperature=1.0)
TEXT = [3, 0, 4, 4, 7, 2, EOS]


def bigram_model() -> Transformer:
    """Layers that add nothing, one-hot embeddings, and the logarithms of the table for a head."""
    shape = ModelShape(WORDS, 1, WORDS, heads=2, kv_heads=1, ffn=8, max_positions=32, tied_embeddings=False)
    model = Transformer(shape).double()
    weights = {**model.state_dict(), "model.embed_tokens.weight": torch.eye(WORDS, dtype=torch.float64)}
    weights["lm_head.weight"] = TABLE_VV.log().T / SCALE
    model.load_state_dict(weights)
    return model


def by_the_table(text) -> list[float]:
    return [TABLE_VV[last, following].log().item() for last, following in itertools.pairwise(text)]


def backwards(text) -> list[float]:
    """Near miss: the table read the other way, as a shift by one in the wrong direction would."""
    return [TABLE_VV[following, last].log().item() for last, following in itertools.pairwise(text)]


def test_texts_are_scored_by_the_table(rows_of):
    total = batch_loss(bigram_model(), rows_of([TEXT])).item()
    assert total == pytest.approx(-sum(by_the_table(TEXT)), abs=1e-12)
    assert abs(total + sum(backwards(TEXT))) > 0.1


def test_rollouts_are_scored_by_the_table():
    def mismatch(logprobs) -> float:
        """The largest |ratio - 1| when these are the log-probabilities of the policy that sampled."""
        rollout = Trajectory((3, 0), tuple(TEXT[2:]), tuple(logprobs), 1.0, 1.0)
        return accumulate_policy_gradient(bigram_model(), micro_batches([rollout], 100), OBJECTIVE).mismatch

    assert mismatch(by_the_table(TEXT[1:])) < 1e-6
    assert mismatch(backwards(TEXT[1:])) > 0.1


def test_the_sampler_draws_by_the_table():
    uniforms = np.random.default_rng(0).random((4, 9))
    [samples] = sample(bigram_model().float(), [[3, 0]], [uniforms], max_new_tokens=9, eos_id=EOS)
    for one in samples:
        assert one.logprobs == pytest.approx(by_the_table((0, *one.ids)), abs=1e-5)
        assert one.logprobs != pytest.approx(backwards((0, *one.ids)), abs=0.1)


# --- the policy gradient -------------------------------------------------------------------------------------------

PROMPTS_AND_IDS = [
    ((3, 0), (4, 4, EOS)),
    ((5,), (2, 7, 0, 0, 6, 2)),
    ((2, 6, 6, 2), (EOS,)),
    ((3, 0), (3, 3, EOS)),
    ((7, 5), (6, EOS)),
]
"""Of several lengths, and two of one prompt; the second was cut at the limit; 0, the padding, is sampled too."""
ADVANTAGES = (0.7, -0.4, 1.3, -1.1, 0.9)


def rollouts(normaliser="token_mean") -> list[Trajectory]:
    weights = token_weights([len(ids) for _, ids in PROMPTS_AND_IDS], normaliser, 6)
    return [
        Trajectory(prompt, ids, tuple(by_the_table(prompt[-1:] + ids)), advantage, weight)
        for (prompt, ids), advantage, weight in zip(PROMPTS_AND_IDS, ADVANTAGES, weights, strict=True)
    ]


def found_gradient(rows) -> torch.Tensor:
    """Of the head, by (last token, next token): what the trainer computes."""
    model = bigram_model()
    accumulate_policy_gradient(model, micro_batches(rows, 1000), OBJECTIVE)
    return model.lm_head.weight.grad.T / SCALE


def wanted_gradient(rows) -> torch.Tensor:
    """The same by hand: on policy a token t after s adds -advantage * weight * (one-hot(t) - P(. | s))."""
    gradient_VV = torch.zeros(WORDS, WORDS, dtype=torch.float64)
    for row in rows:
        for last, following in itertools.pairwise((row.prompt[-1], *row.ids)):
            towards_V = torch.eye(WORDS, dtype=torch.float64)[following] - TABLE_VV[last]
            gradient_VV[last] -= row.advantage * row.weight * towards_V
    return gradient_VV


def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("normaliser", ["token_mean", "sequence_mean", "constant"])
def test_every_sampled_token_gets_its_own_rollouts_advantage_and_weight(normaliser):
    rows = rollouts(normaliser)
    assert furthest(found_gradient(rows), wanted_gradient(rows)) < 1e-6
    for other in {"token_mean", "sequence_mean", "constant"} - {normaliser}:  # near miss: another denominator
        assert furthest(found_gradient(rows), wanted_gradient(rollouts(other))) > 1e-3


def without_its_end(rows):
    return [dataclasses.replace(row, ids=tuple(token for token in row.ids if token != EOS)) for row in rows]


def with_an_end_that_was_not_written(rows):
    return [dataclasses.replace(row, ids=(*row.ids, EOS)) if row.ids[-1] != EOS else row for row in rows]


def with_the_prompt(rows):
    return [dataclasses.replace(row, prompt=row.prompt[:1], ids=(*row.prompt[1:], *row.ids)) for row in rows]


def without_what_equals_the_padding(rows):
    return [dataclasses.replace(row, ids=tuple(token for token in row.ids if token != 0)) for row in rows]


def with_the_neighbours_advantage(rows):
    return [
        dataclasses.replace(row, advantage=other.advantage)
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]


def with_all_credit_on_the_last_token(rows):
    return [
        dataclasses.replace(row, prompt=row.prompt + row.ids[:-1], ids=row.ids[-1:], weight=row.weight * len(row.ids))
        for row in rows
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        without_its_end,
        with_an_end_that_was_not_written,
        with_the_prompt,
        without_what_equals_the_padding,
        with_the_neighbours_advantage,
        with_all_credit_on_the_last_token,
    ],
)
def test_near_miss_credit_elsewhere_is_another_gradient(wrong):
    assert furthest(found_gradient(rollouts()), wanted_gradient(wrong(rollouts()))) > 1e-3


def end_after(row) -> float:
    """The log-probability of the end after the row's last word, when one step was made for the row alone."""
    model = bigram_model()
    accumulate_policy_gradient(model, micro_batches([row], 1000), OBJECTIVE)
    head_VV = model.lm_head.weight.detach() - 0.1 * model.lm_head.weight.grad
    return float((head_VV * SCALE).log_softmax(0)[EOS, 4])


def test_a_good_completion_teaches_to_stop_where_it_stopped():
    good = dataclasses.replace(rollouts()[0], advantage=1.0)
    assert good.ids == (4, 4, EOS)
    before = TABLE_VV[4, EOS].log().item()
    assert end_after(good) > before + 0.01
    assert end_after(dataclasses.replace(good, advantage=-1.0)) < before - 0.01
    cut = dataclasses.replace(good, ids=(4, 4), logprobs=good.logprobs[:2])  # near miss: the end is not trained
    assert end_after(cut) < before + 0.001


# --- supervised ----------------------------------------------------------------------------------------------------


def test_only_the_completion_is_learnt_and_its_end_with_it(rows_of):
    texts = [TEXT, [3, 0, 5, EOS]]

    def wanted(scored_pairs) -> torch.Tensor:
        gradient_VV = torch.zeros(WORDS, WORDS, dtype=torch.float64)
        for last, following in scored_pairs:
            gradient_VV[last] += (TABLE_VV[last] - torch.eye(WORDS, dtype=torch.float64)[following]) / len(scored_pairs)
        return gradient_VV

    model = bigram_model()
    accumulate_gradient(model, rows_of(texts, prompt_length=2))
    found = model.lm_head.weight.grad.T / SCALE
    completions = [pair for text in texts for pair in itertools.pairwise(text[1:])]
    assert furthest(found, wanted(completions)) < 1e-12
    everything = [pair for text in texts for pair in itertools.pairwise(text)]
    unended = [pair for pair in completions if pair[1] != EOS]
    assert furthest(found, wanted(everything)) > 1e-3  # near miss: the prompt is learnt too
    assert furthest(found, wanted(unended)) > 1e-3  # near miss: the end is not
