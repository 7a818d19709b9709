"""What is logged can be computed again from what is kept: the policy of the step, and its rollouts on disk.

Everything is done again one rollout at a time and without padding, in float64, from the file's ids.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import (
    FitSettings,
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    batch_loss,
    fit,
    reinforce,
)
from gsm_lab.training.supervised import accumulate_gradient

EOS, STEPS, KL, CLIP = 1, 3, 0.3, 0.01
PROMPTS = {"a": (3, 4, 5), "b": (6,), "c": (7, 8, 9, 10)}


def reward_of(ids) -> float:
    return (7 in ids) + 0.1 * len(ids)


def rewards(completions) -> list[Scored]:
    return [Scored(reward_of(ids), "any", 7 in ids) for _, ids, _ in completions]


@dataclass(frozen=True)
class Kept:
    """A run: its lines of metrics, the policy that sampled in each step, and the rollouts of each step."""

    lines: list
    policies: list
    tables: list


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    shape = ModelShape(vocab_size=16, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
    model = Transformer.initial(shape, 0, std=0.2)
    policies, lines = [copy.deepcopy(model).double()], []

    def on_metrics(line) -> None:
        lines.append(line)
        policies.append(copy.deepcopy(model).double())

    settings = ReinforceSettings(
        steps=STEPS,
        group_size=4,
        max_new_tokens=7,
        eos_id=EOS,
        seed=0,
        temperature=0.8,
        kl_coefficient=KL,
        optimizer=OptimizerSettings(kind="adamw", learning_rate=0.02, gradient_clip=CLIP),
        schedule=Schedule(kind="constant"),
    )
    prompts = [Prompt(ids, key) for key, ids in PROMPTS.items()]
    reinforce(model, lambda step: prompts, rewards, settings, folder, on_metrics=on_metrics)
    tables = [pq.read_table(folder / f"rollouts/step-{step:05d}.parquet").to_pandas() for step in range(STEPS)]
    return Kept(lines, policies, tables)


def logprobs_of(policy: Transformer, row, ids=None) -> torch.Tensor:
    """Over the whole vocabulary, where each of a rollout's tokens stood: (tokens, V)."""
    prompt, ids = PROMPTS[row.prompt], list(row.ids if ids is None else ids)
    logits = policy(torch.tensor([[*prompt, *ids]]))[0, len(prompt) - 1 : -1]
    return (logits / 0.8).log_softmax(-1)


def chosen(policy, row, ids=None) -> torch.Tensor:
    ids = list(row.ids if ids is None else ids)
    return logprobs_of(policy, row, ids)[torch.arange(len(ids)), ids]


def loss_and_norm(policy, reference, table, all_ids) -> tuple[float, float]:
    """The objective of a step on policy, and the length of its gradient."""
    tokens = sum(len(ids) for ids in all_ids)
    policy.zero_grad()
    loss = torch.zeros((), dtype=torch.float64)
    for row, ids in zip(table.itertuples(), all_ids, strict=True):
        new = chosen(policy, row, ids)
        with torch.no_grad():
            against = chosen(reference, row, ids)
        ratio = (new - new.detach()).exp()
        kl = ratio * (torch.expm1(against - new) + new - against)
        loss = loss + (-row.advantage * ratio + KL * kl).sum() / tokens
    loss.backward()
    squares = sum(float(value.grad.square().sum()) for value in policy.parameters() if value.grad is not None)
    policy.zero_grad()
    return float(loss.detach()), math.sqrt(squares)


def logged(kept: Kept, name: str) -> list[float]:
    return [line[name] for line in kept.lines]


def near(values):
    return pytest.approx(values, rel=1e-4, abs=1e-6)


def test_loss_and_gradient_norm_are_those_of_the_sampled_ids(kept):
    def again(policies, change=list) -> list[tuple[float, float]]:
        return [
            loss_and_norm(policy, kept.policies[0], table, [change(ids) for ids in table["ids"]])
            for policy, table in zip(policies, kept.tables, strict=False)
        ]

    def without_the_end(ids):
        return list(ids[:-1]) if len(ids) > 1 and ids[-1] == EOS else list(ids)

    def spelt_otherwise(ids):
        return [5 if token == 6 else token for token in ids]

    losses, norms = zip(*again(kept.policies), strict=True)
    assert logged(kept, "loss") == near(losses)
    assert logged(kept, "gradient_norm") == near(norms)
    assert min(norms) > CLIP  # each was clipped, and is logged as it was before
    for change in (without_the_end, spelt_otherwise):  # near miss: ids that went through text
        assert logged(kept, "gradient_norm") != near([norm for _, norm in again(kept.policies, change)])
    late = again(kept.policies[1:])  # near miss: the gradient of another step's policy
    assert logged(kept, "gradient_norm") != near([norm for _, norm in late])


def test_entropy_is_the_mean_over_sampled_tokens(kept):
    entropies, surprisals = [], []
    with torch.no_grad():
        for policy, table in zip(kept.policies, kept.tables, strict=False):
            everything = [logprobs_of(policy, row) for row in table.itertuples()]
            entropies.append([-(logprobs.exp() * logprobs).sum(1) for logprobs in everything])
            surprisals.append(-torch.cat([chosen(policy, row) for row in table.itertuples()]).mean().item())
    assert logged(kept, "entropy") == near([torch.cat(rows).mean().item() for rows in entropies])
    assert logged(kept, "surprisal") == near(surprisals)
    assert logged(kept, "entropy") != near(surprisals)
    of_rows = [np.mean([row.mean().item() for row in rows]) for rows in entropies]
    twice = [np.mean([row.mean().item() / len(row) for row in rows]) for rows in entropies]
    for wrong in (of_rows, twice):  # near miss: the mean of the rows' means; a length that divides twice
        assert logged(kept, "entropy") != near(wrong)


def test_the_kl_is_that_to_the_first_policy(kept):
    def kl_to(references) -> list[float]:
        """k3 of each step's policy to its reference, over the step's tokens."""
        values = []
        for policy, reference, table in zip(kept.policies, references, kept.tables, strict=False):
            with torch.no_grad():
                gap = torch.cat([chosen(policy, row) - chosen(reference, row) for row in table.itertuples()])
            values.append(float((torch.expm1(-gap) + gap).mean()))
        return values

    first = kept.policies[0]
    assert logged(kept, "kl") == near(kl_to([first] * STEPS))
    assert logged(kept, "kl")[0] == 0.0
    assert min(logged(kept, "kl")[1:]) > 1e-4
    assert logged(kept, "kl") != near(kl_to(kept.policies))  # near miss: a reference that is the policy itself
    assert logged(kept, "kl") != near(kl_to([first, *kept.policies]))  # near miss: that of the step before


def test_the_kl_is_in_the_loss_and_not_in_the_reward_too(kept):
    for policy, table in zip(kept.policies[1:], kept.tables[1:], strict=False):
        assert table["reward"].tolist() == [reward_of(ids) for ids in table["ids"]]
        np.testing.assert_allclose(table["advantage"], centred(table["reward"], table["group"]), atol=1e-12)
        with torch.no_grad():
            gaps = [float((chosen(policy, row) - chosen(kept.policies[0], row)).sum()) for row in table.itertuples()]
        counted_twice = centred(table["reward"] - KL * np.array(gaps), table["group"])  # near miss
        assert np.abs(table["advantage"] - counted_twice).max() > 1e-3


def centred(values, groups):
    return values - values.groupby(groups).transform("mean")


def test_on_policy_the_ratio_is_one(kept):
    def furthest(policy, table) -> float:
        with torch.no_grad():
            return max(
                float((chosen(policy, row) - torch.tensor(row.logprobs)).expm1().abs().max())
                for row in table.itertuples()
            )

    assert max(logged(kept, "mismatch")) < 1e-5
    for step, table in enumerate(kept.tables):
        assert furthest(kept.policies[step], table) < 1e-5
        assert furthest(kept.policies[step + 1], table) > 1e-3  # near miss: the policy after the step


# --- supervised ----------------------------------------------------------------------------------------------------

LEARNING_RATE = 0.01
FIT = FitSettings(
    steps=20,
    log_every=1,
    micro_batch_rows=2,
    optimizer=OptimizerSettings(kind="adamw", learning_rate=LEARNING_RATE, epsilon=1e-12, gradient_clip=0.05),
    schedule=Schedule(kind="linear", warmup_steps=4, min_share=0.2),
)
RATES = [0.25, 0.5, 0.75, 1.0] + [1.0 - 0.05 * fall for fall in range(1, 17)]
"""4 steps up to 1, then 16 equal ones down to 0.2."""


@pytest.fixture(name="fitted")
def _fitted(tmp_path, tiny_model, batches_of):
    """Lines of metrics, and the model before each step."""
    model = tiny_model()
    models, lines = [copy.deepcopy(model)], []

    def on_metrics(line) -> None:
        lines.append(line)
        models.append(copy.deepcopy(model))

    fit(model, batches_of(), FIT, tmp_path, on_metrics=on_metrics)
    return lines, models


def norm_of(model, rows) -> float:
    wide = copy.deepcopy(model).double()
    accumulate_gradient(wide, rows)
    return math.sqrt(sum(float(value.grad.square().sum()) for value in wide.parameters() if value.grad is not None))


def test_loss_and_norm_of_a_step_are_those_of_its_whole_batch(fitted, batches_of):
    lines, models = fitted
    for step in (0, 1, 7, 19):
        rows = batches_of()(4 * step)[0]
        assert lines[step]["loss"] == near(batch_loss(models[step], rows).item() / rows.loss_mask.sum())
        assert lines[step]["gradient_norm"] == near(norm_of(models[step], rows))
        assert lines[step]["gradient_norm"] > 0.05  # before clipping
        last_part = dataclasses.replace(rows, **{name: array[2:] for name, array in vars(rows).items()})
        assert lines[step]["gradient_norm"] != near(norm_of(models[step], last_part))  # near miss: of the last part
        assert lines[step]["gradient_norm"] != near(norm_of(models[step + 1], rows))  # near miss: of the next step


def test_every_step_is_made_at_the_rate_of_its_schedule(fitted):
    lines, models = fitted
    assert [line["learning_rate_scale"] for line in lines] == pytest.approx(RATES, abs=1e-12)
    assert [line["learning_rate"] for line in lines] == pytest.approx([LEARNING_RATE * rate for rate in RATES])
    assert [line["learning_rate_scale"] for line in lines] != pytest.approx([0.0, *RATES[:-1]])  # near miss: one late
    # The first step of AdamW moves a weight by the rate and the gradient's sign.
    moves = [
        (after - before).abs().max().item()
        for before, after in zip(models[0].parameters(), models[1].parameters(), strict=True)
    ]
    assert max(moves) == pytest.approx(LEARNING_RATE * RATES[0], rel=1e-3)
