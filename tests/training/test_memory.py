"""The arithmetic of memory, against numbers worked out by hand and against what autograd really keeps."""

import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import Optimizer, OptimizerSettings
from gsm_lab.training.losses import token_logprobs
from gsm_lab.training.memory import activation_bytes, suggested_micro_batch_rows, training_memory

PAPER = ModelShape(vocab_size=2048, layers=12, width=768, heads=12, kv_heads=2, ffn=3072, max_positions=2048)
LENGTH, ROWS = 2048, 256  # 524,288 tokens a step


def small(**changes: int) -> ModelShape:
    sizes = {"vocab_size": 64, "layers": 2, "width": 64, "heads": 4, "kv_heads": 4, "ffn": 256, "max_positions": 256}
    return ModelShape(**{**sizes, **changes})


def test_the_bytes_of_a_token_at_the_paper_scale():
    # a layer: 8 x 768 + 2 (6 x 768 + 3 x 128 + 4 x 3072) + 4 x 12 + 8 = 6144 + 34560 + 56 = 40,760
    # once: 12 (768 + 2048) + 8 x 64 + 28 = 34,332
    assert activation_bytes(PAPER, "bfloat16") == 12 * 40_760 + 34_332
    # with 4 bytes instead of 2 for the 17,280 numbers of a layer
    assert activation_bytes(PAPER, "tf32") == activation_bytes(PAPER, "float32") == 12 * (40_760 + 34_560) + 34_332


def test_what_does_not_depend_on_the_batch_at_the_paper_scale():
    memory = training_memory(PAPER, rows=1, length=LENGTH)
    parameters = 103_054_080
    # a layer: 2 x 768 x 768, 2 x 768 x 128, 3 x 768 x 3072
    matrices = 12 * (1_179_648 + 196_608 + 7_077_888)
    assert PAPER.parameters == parameters
    assert (memory.weights, memory.gradients) == (4 * parameters, 4 * parameters)
    assert memory.averages == 4 * matrices + 8 * (parameters - matrices)
    assert memory.copies == 4 * 12 * (768 * 1024 + 2 * 768 * 3072) + 2 * matrices
    assert memory.update == 16 * 12 * 3 * 768 * 3072  # the 36 matrices of the feed-forward networks
    assert training_memory(PAPER, rows=1, length=LENGTH, optimizer="adamw").averages == 8 * parameters
    assert training_memory(PAPER, rows=1, length=LENGTH, ranks=8).gradients == 8 * parameters


def test_half_a_million_tokens_fit_one_card_of_80_gb_by_accumulation():
    at_once = suggested_micro_batch_rows(PAPER, rows=ROWS, length=LENGTH, memory=80e9)
    assert at_once == 64  # four passes of 131,072 tokens
    assert 60e9 < training_memory(PAPER, rows=at_once, length=LENGTH).total < 0.9 * 80e9
    assert training_memory(PAPER, rows=2 * at_once, length=LENGTH).total > 0.9 * 80e9
    assert suggested_micro_batch_rows(PAPER, rows=ROWS, length=LENGTH, memory=80e9, precision="tf32") == 32
    assert suggested_micro_batch_rows(PAPER, rows=ROWS, length=LENGTH, memory=24e9) == 16
    assert suggested_micro_batch_rows(PAPER, rows=ROWS, length=LENGTH, memory=80e9, ranks=8) == 32  # all that it has


def test_the_suggestion_divides_the_rows_of_a_rank():
    # 64 rows would fit, but 90 rows are cut into equal parts of 45
    assert suggested_micro_batch_rows(PAPER, rows=90, length=LENGTH, memory=80e9) == 45


def test_a_card_that_holds_not_even_one_row_is_said_so():
    with pytest.raises(TrainingError, match=r"one row of 2048 tokens needs .* GB, and 90% of the card are 1\.8 GB"):
        suggested_micro_batch_rows(PAPER, rows=ROWS, length=LENGTH, memory=2e9)


def test_rows_that_ranks_cannot_share_are_refused():
    with pytest.raises(TrainingError, match="10 rows for 4 ranks"):
        suggested_micro_batch_rows(PAPER, rows=10, length=LENGTH, memory=80e9, ranks=4)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_averages_are_the_optimisers(kind):
    shape = small(kv_heads=2)
    state = Optimizer(Transformer.initial(shape, 0), OptimizerSettings(kind=kind)).state
    held = sum(value.nbytes for name, value in state.items() if name != "adamw.steps")
    assert training_memory(shape, rows=1, length=1, optimizer=kind).averages == held


@pytest.mark.parametrize("shape", [small(), small(layers=5), small(width=128, ffn=128)], ids=["wide", "deep", "flat"])
def test_the_activations_are_about_those_that_autograd_keeps(shape):
    """In float64, where every number of a float32 pass has twice its bytes, and PyTorch's own operations run."""
    model = Transformer.initial(shape, 0).double()
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens_BT = torch.randint(0, shape.vocab_size, (2, 200), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits_NV = model.head(model.hidden(tokens_BT).flatten(0, 1))
        loss = token_logprobs(logits_NV, tokens_BT.flatten()).sum()
    memory = training_memory(shape, rows=2, length=200, precision="float32")
    assert sum(kept.values()) / 2 == pytest.approx(memory.copies + memory.activations, rel=0.1)
    loss.backward()
