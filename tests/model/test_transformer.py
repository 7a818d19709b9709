"""Packed documents are as good as each alone, padding is harmless, and weights come from the seed only."""

import pytest
import torch

from gsm_lab.errors import TokenError
from gsm_lab.model import ModelShape, Transformer
from gsm_lab.model.transformer import STRIP, document_mask, document_positions

pytestmark = pytest.mark.usefixtures("engine")

LENGTHS = (70, 1, 30, 49)  # together longer than two strips of attention
PADDING = 9


def packed(lengths=LENGTHS, padding=PADDING, seed=0):
    """One row: documents of these lengths, then padding with token 0, which occurs in the documents too."""
    generator = torch.Generator().manual_seed(seed)
    documents = [torch.randint(0, 64, (length,), generator=generator) for length in lengths]
    row = torch.cat([*documents, torch.zeros(padding, dtype=torch.long)])[None]
    numbers = torch.cat([torch.full((length,), number) for number, length in enumerate(lengths)])
    return documents, row, torch.cat([numbers, torch.full((padding,), -1)])[None]


def real_parts(logits, lengths=LENGTHS):
    return logits[0, : sum(lengths)].split(list(lengths))


def furthest(parts, others):
    return max((part - other).abs().max().item() for part, other in zip(parts, others, strict=True))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_packed_documents_give_the_logits_of_each_alone(make_model, kv_heads):
    model = make_model(kv_heads=kv_heads)
    documents, row, numbers = packed()
    assert sum(LENGTHS) + PADDING > 2 * STRIP
    with torch.no_grad():
        alone = [model(document[None])[0] for document in documents]
        together = model(row, None, numbers)
    assert furthest(real_parts(together), alone) < 4e-6  # logits of size 1 to 5: a few units in the last place


def test_near_miss_without_document_numbers_the_documents_disturb_each_other(make_model):
    model = make_model()
    documents, row, numbers = packed()
    with torch.no_grad():
        alone = [model(document[None])[0] for document in documents]
        together = model(row, document_positions(numbers))
    assert furthest(real_parts(together)[:1], alone[:1]) < 2e-6  # nothing stands before the first
    assert furthest(real_parts(together)[2:3], alone[2:3]) > 0.1


def test_near_miss_relative_positions_only_count_within_a_document(make_model):
    """Rotary attention sees distances, so positions that run on are right up to rounding; a stretched one is not."""
    model = make_model()
    _, row, numbers = packed()
    positions = document_positions(numbers)
    with torch.no_grad():
        right, shifted, stretched = (model(row, p, numbers) for p in (positions, positions + 5, positions * 2))
    assert (right - shifted).abs().max() < 1e-4
    assert (right - stretched).abs().max() > 0.1


def test_positions_restart_with_every_document():
    assert document_positions(torch.tensor([[0, 0, 0, 1, 2, 2, -1, -1]])).tolist() == [[0, 1, 2, 0, 0, 1, 0, 1]]


def test_a_token_sees_itself_and_its_document_before_it():
    seen = document_mask(torch.tensor([[0, 0, 1, -1]]), torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_future_is_not_seen(make_model):
    model = make_model()
    _, row, numbers = packed()
    changed = row.clone()
    changed[0, 60] = (changed[0, 60] + 1) % 64
    with torch.no_grad():
        for documents in (None, numbers):
            difference = (model(row, None, documents) - model(changed, None, documents)).abs().amax(dim=2)[0]
            assert difference[:60].max() == 0
            assert difference[60:70].min() > 0


def test_padding_changes_neither_logits_nor_gradients(make_model):
    model = make_model()
    documents, row, numbers = packed()

    def gradient(tokens, document_numbers, count):
        model.zero_grad()
        model(tokens, None, document_numbers)[0, :count].logsumexp(dim=1).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    bare = gradient(row[:, : sum(LENGTHS)], numbers[:, : sum(LENGTHS)], sum(LENGTHS))
    padded = gradient(row, numbers, sum(LENGTHS))
    assert (bare - padded).abs().max() < 1e-6 * bare.abs().max()
    lonely = gradient(documents[0][None], None, 70)
    assert (bare - lonely).abs().max() > 0.1  # near miss: the other documents do count


def test_a_row_of_padding_only_is_finite_forwards_and_backwards(make_model):
    model = make_model()
    logits = model(torch.zeros(2, 70, dtype=torch.long), None, torch.full((2, 70), -1))
    assert logits.isfinite().all()
    (logits * 0).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_order_of_rows_does_not_matter(make_model):
    model = make_model()
    rows = torch.cat([packed(seed=seed)[1] for seed in range(3)])
    numbers = packed()[2].expand(3, -1)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        assert (model(rows, None, numbers)[order] - model(rows[order], None, numbers)).abs().max() < 2e-6


def test_the_head_on_chosen_positions_gives_the_same_logits(make_model):
    for tied in (True, False):
        model = make_model(tied_embeddings=tied)
        _, row, numbers = packed()
        chosen = torch.zeros_like(row, dtype=torch.bool)
        chosen[0, 5:90:7] = True
        with torch.no_grad():
            assert torch.allclose(
                model.head(model.hidden(row, None, numbers)[chosen]), model(row, None, numbers)[chosen]
            )


def test_under_autocast_logits_stay_float32_and_near(make_model):
    model = make_model()
    _, row, numbers = packed()
    with torch.no_grad():
        exact = model(row, None, numbers)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(row, None, numbers)
    assert rough.dtype == torch.float32
    exact, rough = exact[numbers >= 0], rough[numbers >= 0]
    assert 0 < (exact - rough).abs().mean() < 0.05 * exact.abs().mean()


def test_numpy_like_whole_numbers_of_any_width_are_taken(make_model):
    model = make_model()
    _, row, numbers = packed()
    with torch.no_grad():
        assert torch.equal(model(row.int(), None, numbers.int()), model(row, None, numbers))


def test_a_document_longer_than_the_positions_is_refused(make_model):
    model = make_model(max_positions=16)
    tokens = torch.zeros(1, 17, dtype=torch.long)
    with pytest.raises(TokenError, match="document of 17 tokens does not fit into 16 positions"):
        model(tokens)
    documents = torch.tensor([[0] * 8 + [1] * 9])
    assert model(tokens, None, documents).isfinite().all()  # near miss: two documents that do fit


def test_initial_weights_are_a_function_of_shape_and_seed():
    shape = ModelShape(vocab_size=64, layers=2, width=32, heads=4, kv_heads=2, ffn=48, max_positions=16)
    state = torch.get_rng_state()
    weights = [torch.cat([p.flatten() for p in Transformer.initial(shape, seed).parameters()]) for seed in (7, 7, 8)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("std", [0.02, 0.05])
def test_initial_matrices_have_the_set_deviation_biases_0_and_norms_1(std: float):
    shape = ModelShape(vocab_size=256, layers=2, width=64, heads=2, kv_heads=1, ffn=128, max_positions=16)
    for name, parameter in Transformer.initial(shape, 0, std).named_parameters():
        if parameter.dim() == 2:
            # what is added to the residual vector is smaller by sqrt(2 x 2 layers) = 2
            wanted = std / 2 if name.endswith(("o_proj.weight", "down_proj.weight")) else std
            assert parameter.std().item() == pytest.approx(wanted, rel=0.08), name
        else:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all(), name
