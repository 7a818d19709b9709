"""Small models with weights large enough that every part of them shows in the logits."""

from collections.abc import Callable

import pytest
import torch

from gsm_lab.model import ModelShape, Transformer, kernels

MakeModel = Callable[..., Transformer]


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run beside one another; more threads would only get in each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(params=["kernels", "torch"])
def engine(request, monkeypatch):
    """Everything with the compiled kernels, and again without them."""
    assert kernels.available(), "the kernels are not built: run `make setup`"
    if request.param == "torch":
        monkeypatch.setattr("gsm_lab.model.kernels.functions.available", lambda: False)


@pytest.fixture
def make_model() -> MakeModel:
    """A model whose biases and norms are not at their first values either: `make_model(kv_heads=2)`."""

    def make(seed: int = 0, **changes: object) -> Transformer:
        sizes = {
            "vocab_size": 64, "layers": 2, "width": 32, "heads": 4, "kv_heads": 4, "ffn": 48, "max_positions": 160,
        }  # fmt: skip
        model = Transformer.initial(ModelShape(**{**sizes, **changes}), seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
        return model

    return make
