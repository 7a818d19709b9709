"""What the optimiser does to weights, against formulas and against PyTorch's own."""

import math

import pytest
import torch

from gsm_lab.errors import CheckpointError, TrainingError
from gsm_lab.training import Optimizer, OptimizerSettings
from gsm_lab.training.optimizer import hidden_matrices, orthogonalised


def give_gradient(model, seed: int = 0, size: float = 1e-3) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


def test_newton_schulz_keeps_singular_vectors_and_evens_out_singular_values():
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = orthogonalised(matrices)
    assert torch.linalg.svdvals(found).min() > 0.6
    assert torch.linalg.svdvals(found).max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ found @ right.mT  # diagonal when the singular vectors are the same
    assert float((inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-9
    assert torch.linalg.svdvals(matrices).max() > 5  # near miss: before, they were far from 1


def test_a_matrix_is_treated_alike_alone_and_among_others():
    matrices = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone = torch.cat([orthogonalised(matrices[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(orthogonalised(matrices), alone, atol=1e-12, rtol=0)


def test_a_zero_gradient_stays_zero():
    assert float(orthogonalised(torch.zeros(2, 3, 4)).abs().max()) == 0.0


def test_muon_follows_its_formula_for_wide_and_for_tall_matrices(tiny_model):
    settings = OptimizerSettings(matrix_learning_rate=0.02, weight_decay=0.1, gradient_clip=math.inf)
    model = tiny_model()
    optimizer = Optimizer(model, settings)
    before = {name: value.detach().clone() for name, value in hidden_matrices(model).items()}
    averages = {name: torch.zeros_like(value) for name, value in before.items()}
    for step in range(2):
        give_gradient(model, seed=step)
        for name, value in hidden_matrices(model).items():
            averages[name] = 0.95 * averages[name] + 0.05 * value.grad
            nesterov = 0.05 * value.grad + 0.95 * averages[name]
            tall = value.shape[0] > value.shape[1]
            update = orthogonalised((nesterov.mT if tall else nesterov)[None])[0]
            scale = math.sqrt(max(1.0, value.shape[0] / value.shape[1]))
            rate = 0.02 * 0.5
            before[name] = before[name] * (1 - rate * 0.1) - rate * scale * (update.mT if tall else update)
        optimizer.step(0.5)
    assert {value.shape[0] > value.shape[1] for value in before.values()} == {True, False}
    for name, value in hidden_matrices(model).items():
        torch.testing.assert_close(value.detach(), before[name], atol=1e-5, rtol=0)


def test_muon_moves_the_layers_matrices_and_nothing_else(tiny_model):
    model = tiny_model()
    chosen = hidden_matrices(model)
    assert len(chosen) == 2 * 7  # q, k, v, o, gate, up, down in each of two layers
    assert not [name for name in chosen if "embed" in name or "norm" in name or "bias" in name]


def test_adamw_is_pytorchs_adamw_without_decay_on_norms_and_biases(tiny_model):
    settings = OptimizerSettings(kind="adamw", learning_rate=0.01, weight_decay=0.1, gradient_clip=math.inf)
    ours, theirs = tiny_model(), tiny_model()
    optimizer = Optimizer(ours, settings)
    values = list(theirs.parameters())
    groups = [
        {"params": [value for value in values if value.dim() == 2], "weight_decay": 0.1},
        {"params": [value for value in values if value.dim() == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    for step in range(5):
        give_gradient(ours, step)
        give_gradient(theirs, step)
        optimizer.step(1.0)
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_the_norm_is_that_of_the_whole_gradient_before_clipping(tiny_model):
    model = tiny_model()
    optimizer = Optimizer(model, OptimizerSettings(gradient_clip=0.01))
    give_gradient(model)
    wanted = math.sqrt(sum(float(value.grad.double().square().sum()) for value in model.parameters()))
    assert wanted > 0.05  # it was clipped, and yet:
    assert optimizer.step(1.0) == pytest.approx(wanted, rel=1e-5)


def test_a_gradient_longer_than_the_clip_moves_as_one_of_that_length(tiny_model, same_weights):
    settings = OptimizerSettings(kind="adamw", gradient_clip=0.5, epsilon=1e-2)  # large: the length is then seen
    long, clipped, short = tiny_model(), tiny_model(), tiny_model()
    for model, size in ((long, 1.0), (clipped, 1.0), (short, 1e-3)):
        give_gradient(model, size=size)
    norm = math.sqrt(sum(float(value.grad.double().square().sum()) for value in long.parameters()))
    for value in clipped.parameters():
        value.grad *= 0.5 / norm
    for model in (long, clipped, short):
        Optimizer(model, settings).step(1.0)
    for one, other in zip(long.parameters(), clipped.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)
    assert not same_weights(long, short)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_state_goes_and_comes_back_bit_for_bit(kind, tiny_model, same_weights):
    settings = OptimizerSettings(kind=kind)
    model, other = tiny_model(), tiny_model()
    optimizer, second = Optimizer(model, settings), Optimizer(other, settings)
    for step in range(3):
        give_gradient(model, step)
        optimizer.step(1.0)
    other.load_state_dict(model.state_dict())
    second.load_state({name: value.clone() for name, value in optimizer.state.items()})
    for one, its_optimizer in ((model, optimizer), (other, second)):
        give_gradient(one, 9)
        its_optimizer.step(0.7)
    assert same_weights(model, other)
    fresh = tiny_model()
    fresh.load_state_dict(model.state_dict())
    give_gradient(fresh, 9)
    Optimizer(fresh, settings).step(0.7)  # near miss: without the averages it goes elsewhere
    assert not same_weights(model, fresh)


def test_another_optimisers_state_is_refused(tiny_model):
    model = tiny_model()
    muon, adamw = Optimizer(model, OptimizerSettings()), Optimizer(model, OptimizerSettings(kind="adamw"))
    with pytest.raises(CheckpointError, match="another optimiser's"):
        adamw.load_state(muon.state)


def test_a_gradient_that_is_not_finite_moves_nothing(tiny_model, same_weights):
    model = tiny_model()
    optimizer = Optimizer(model, OptimizerSettings())
    give_gradient(model)
    next(model.parameters()).grad[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="no step was made"):
        optimizer.step(1.0)
    assert same_weights(model, tiny_model())


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "sgd"}, {"learning_rate": 0.0}, {"gradient_clip": 0}, {"betas": (0.9, 1.0)}, {"weight_decay": -1}],
)
def test_settings_that_make_no_sense_are_not_born(wrong):
    with pytest.raises(TrainingError, match=r"optimiser kind|above 0|averages lie"):
        OptimizerSettings(**wrong)
