"""Law 7: a gradient does not depend on how its rows are cut, padded, ordered or packed.

Each law stands beside a wrong way that the same comparison catches. In float64 what is equal is equal to 1e-12 of the
largest entry; float32, which may take another path through the model, has its own rounding. What is wrong differs by
a thousandth or more in either.
"""

import dataclasses
import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import token_weights
from gsm_lab.training.policy import (
    PolicyObjective,
    Trajectory,
    accumulate_policy_gradient,
    micro_batches,
    reference_logprobs,
)
from gsm_lab.training.supervised import accumulate_gradient

OTHER = 1e-3
NORMALISERS = ("token_mean", "sequence_mean", "constant")
CUTS = ([8], [4, 4], [2, 2, 2, 2], [1] * 8, [3, 1, 2, 2])
OBJECTIVE = PolicyObjective(clip_low=0.2, clip_high=0.28, kl_coefficient=0.1, temperature=0.9)
LENGTHS = ((3, 5), (1, 9), (6, 1), (3, 4), (1, 7), (6, 7), (3, 2), (7, 8))
"""Of prompt and completion; prompts of one length are the same prompt, as those of a group are."""


def lively(seed: int) -> Transformer:
    """A model in float64 in which every parameter shows in the logits."""
    shape = ModelShape(16, 2, 32, heads=2, kv_heads=1, ffn=48, max_positions=64)
    model = Transformer.initial(shape, seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest entry."""
    return float((one - other).abs().max() / other.abs().max())


@dataclass(frozen=True)
class Trainer:
    """Gradients of one model, all parameters in one vector."""

    model: Transformer
    reference: Transformer
    same: float
    """How far apart two equal gradients may be."""

    def of_rollouts(self, parts) -> torch.Tensor:
        """When each part passes through the model by itself."""
        for rows in parts:
            micros = micro_batches(rows, 10_000)
            references = reference_logprobs(self.reference, micros, OBJECTIVE.temperature)
            accumulate_policy_gradient(self.model, micros, OBJECTIVE, references)
        return self._gradient()

    def of_texts(self, rows, micro_batch_rows: int = 0) -> torch.Tensor:
        accumulate_gradient(self.model, rows, micro_batch_rows)
        return self._gradient()

    def _gradient(self) -> torch.Tensor:
        found = torch.cat([value.grad.flatten() for value in self.model.parameters() if value.grad is not None])
        self.model.zero_grad()
        return found


@pytest.fixture(params=[(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["float64", "float32"])
def trainer(request) -> Trainer:
    dtype, same = request.param
    return Trainer(lively(0).to(dtype), lively(1).to(dtype), same)


# --- rollouts ------------------------------------------------------------------------------------------------------


def rollouts(normaliser: str) -> list[Trajectory]:
    """Eight of several lengths, off policy enough that some are clipped; the padding's id 0 is among their tokens."""
    rng = np.random.default_rng(0)
    weights = token_weights([length for _, length in LENGTHS], normaliser, 9)
    policy, rows = lively(0), []
    for (before, length), weight in zip(LENGTHS, weights, strict=True):
        text = [*range(before), *rng.integers(0, 4, length).tolist()]
        with torch.no_grad():
            logprobs = (policy(torch.tensor([text]))[0] / OBJECTIVE.temperature).log_softmax(-1)
        old = [logprobs[place - 1, text[place]].item() + rng.normal(0, 0.3) for place in range(before, before + length)]
        rows.append(Trajectory(tuple(text[:before]), tuple(text[before:]), tuple(old), rng.normal(), weight))
    return rows


def cut_into(rows, sizes):
    ends = list(itertools.accumulate(sizes))
    return [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def weighted(rows, lengths, normaliser) -> list[Trajectory]:
    weights = token_weights(lengths, normaliser, 9)
    return [dataclasses.replace(row, weight=weight) for row, weight in zip(rows, weights, strict=False)]


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_how_rollouts_are_cut_does_not_matter(sizes, normaliser, trainer):
    rows = rollouts(normaliser)
    assert distance(trainer.of_rollouts(cut_into(rows, sizes)), trainer.of_rollouts([rows])) < trainer.same


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_near_miss_denominators_of_the_parts_are_another_gradient(normaliser, trainer):
    """The mean of the parts' own losses; with parts of one size only `token_mean` would notice."""
    rows, sizes = rollouts(normaliser), [3, 1, 2, 2]
    own = []
    for part in cut_into(rows, sizes):
        part = weighted(part, [len(row.ids) for row in part], normaliser)
        own.append([dataclasses.replace(row, weight=row.weight / len(sizes)) for row in part])
    assert distance(trainer.of_rollouts(own), trainer.of_rollouts([rows])) > OTHER


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_the_order_of_rollouts_does_not_matter(normaliser, trainer):
    rows = rollouts(normaliser)
    wanted = trainer.of_rollouts([rows])
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert distance(trainer.of_rollouts([shuffled]), wanted) < trainer.same
        assert distance(trainer.of_rollouts(cut_into(shuffled, [3, 1, 2, 2])), wanted) < trainer.same
    advantages = [row.advantage for row in rows[1:] + rows[:1]]  # near miss: one column is shuffled, the other not
    mixed = [dataclasses.replace(row, advantage=one) for row, one in zip(rows, advantages, strict=True)]
    assert distance(trainer.of_rollouts([mixed]), wanted) > OTHER


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_a_masked_rollout_and_the_padding_it_brings_do_not_matter(normaliser, trainer):
    rows = rollouts(normaliser)
    wanted = trainer.of_rollouts([rows])
    lengths = [len(row.ids) for row in rows]
    masked = Trajectory((5,) * 20, (6,) * 20, (-2.0,) * 20, 1.0, 0.0)
    padded = [*weighted(rows, [*lengths, 0], normaliser), masked]  # any other row, padded to it, has 25 pads or more
    assert distance(trainer.of_rollouts([padded]), wanted) < trainer.same
    counted = [*weighted(rows, [*lengths, 20], normaliser), masked]  # near miss: it counts below the line (trl#6369)
    assert distance(trainer.of_rollouts([counted]), wanted) > OTHER


def test_near_miss_a_completion_that_sees_another_of_its_group_is_another_gradient(trainer):
    rows = rollouts("token_mean")
    seen = [dataclasses.replace(row, prompt=row.prompt + rows[0].ids) for row in rows[3:4]]
    assert rows[3].prompt == rows[0].prompt
    assert distance(trainer.of_rollouts([[*rows[:3], *seen, *rows[4:]]]), trainer.of_rollouts([rows])) > OTHER


def test_near_miss_padding_on_the_left_would_be_seen(trainer):
    rows = rollouts("token_mean")
    padded = [dataclasses.replace(row, prompt=(0,) * (15 - row.length) + row.prompt) for row in rows]
    assert distance(trainer.of_rollouts([padded]), trainer.of_rollouts([rows])) > OTHER


# --- texts ---------------------------------------------------------------------------------------------------------

TEXTS = [np.random.default_rng(length).integers(0, 4, length).tolist() for length in (7, 4, 9, 3, 12, 2, 5, 7)]


@pytest.fixture
def wanted(rows_of, trainer) -> torch.Tensor:
    return trainer.of_texts(rows_of(TEXTS))


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 3, 4, 8])
def test_how_texts_are_cut_does_not_matter(micro_batch_rows, rows_of, wanted, trainer):
    assert distance(trainer.of_texts(rows_of(TEXTS), micro_batch_rows), wanted) < trainer.same


def test_near_miss_a_mean_of_the_parts_means_is_another_gradient(rows_of, wanted, trainer):
    parts = [trainer.of_texts(rows_of(part)) for part in cut_into(TEXTS, [4, 4])]
    assert distance(sum(parts) / 2, wanted) > OTHER


@pytest.mark.parametrize("pad", [0, 9])
def test_padding_of_texts_does_not_matter_nor_what_stands_in_it(pad, rows_of, wanted, trainer):
    assert distance(trainer.of_texts(rows_of(TEXTS, padding=6, pad=pad)), wanted) < trainer.same


def test_near_miss_padding_that_counts_or_is_seen_is_another_gradient(rows_of, wanted, trainer):
    rows = rows_of(TEXTS, padding=6)
    counting = dataclasses.replace(rows, loss_mask=np.ones_like(rows.loss_mask))
    assert distance(trainer.of_texts(counting), wanted) > OTHER
    seen = dataclasses.replace(  # texts stand at the end of their rows, after padding of the same document
        rows,
        tokens=np.roll(rows.tokens, 6, axis=1),
        targets=np.roll(rows.targets, 6, axis=1),
        loss_mask=np.roll(rows.loss_mask, 6, axis=1),
        documents=np.zeros_like(rows.documents),
        positions=np.tile(np.arange(rows.tokens.shape[1], dtype=np.int32), (len(TEXTS), 1)),
    )
    assert distance(trainer.of_texts(seen), wanted) > OTHER


def test_the_order_of_texts_does_not_matter(rows_of, wanted, trainer):
    for seed in range(3):
        assert distance(trainer.of_texts(rows_of(random.Random(seed).sample(TEXTS, 8)), 3), wanted) < trainer.same
    again = dataclasses.replace(rows_of(TEXTS), targets=rows_of(TEXTS[1:] + TEXTS[:1]).targets)
    assert distance(trainer.of_texts(again), wanted) > OTHER  # near miss: one column is shuffled, the other not


def test_a_text_that_is_all_masked_does_not_matter(rows_of, wanted, trainer):
    rows = rows_of([*TEXTS, [1, 2, 3]])
    masked = dataclasses.replace(rows, loss_mask=rows.loss_mask & (np.arange(9) < 8)[:, None])
    for micro_batch_rows in (0, 1, 2):
        assert distance(trainer.of_texts(masked, micro_batch_rows), wanted) < trainer.same
    assert distance(trainer.of_texts(rows), wanted) > OTHER  # near miss: it counts


def packed(rows, count):
    """The first `count` one-text rows laid end to end in one row, each with its own document number."""
    columns = {name: array[:count] for name, array in vars(rows).items()}
    columns["documents"] = np.where(columns["documents"] < 0, -1, np.arange(count, dtype=np.int32)[:, None])
    real = columns["documents"].reshape(-1) >= 0
    return dataclasses.replace(rows, **{name: array.reshape(1, -1)[:, real] for name, array in columns.items()})


def test_packed_texts_give_the_gradient_of_texts_apart(rows_of, wanted, trainer):
    row = packed(rows_of(TEXTS), len(TEXTS))
    assert row.tokens.shape == (1, sum(len(text) - 1 for text in TEXTS))
    assert distance(trainer.of_texts(row), wanted) < trainer.same
    merged = dataclasses.replace(row, documents=np.zeros_like(row.documents))  # near miss: they see one another
    assert distance(trainer.of_texts(merged), wanted) > OTHER
