"""What a precision changes, and that it is changed back."""

import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.training.precision import PRECISIONS, backward_precision, working_precision


def test_bfloat16_is_for_the_layers_and_not_for_the_head(tiny_model):
    model = tiny_model()
    with working_precision(model, "bfloat16"):
        hidden = model.hidden(torch.tensor([[1, 2, 3]]))
        assert torch.is_autocast_enabled("cpu")
        assert (model.model.layers[0].mlp.gate_proj.weight @ model.model.embed_tokens.weight.T).dtype == torch.bfloat16
        assert model.head(hidden).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_float32_changes_nothing(tiny_model):
    model, tokens = tiny_model(), torch.tensor([[1, 2, 3]])
    with working_precision(model, "float32"):
        inside = model(tokens)
        assert not torch.is_autocast_enabled("cpu")
    assert torch.equal(inside, model(tokens))


def test_tf32_is_refused_where_there_is_none(tiny_model):
    model = tiny_model()
    with (
        pytest.raises(TrainingError, match="precision is tf32 and the model is on cpu"),
        working_precision(model, "tf32"),
    ):
        pass


def test_the_switch_of_tf32_is_turned_back_also_after_an_error():
    seen = []

    def failing() -> None:
        with backward_precision("tf32"):
            seen.append(torch.get_float32_matmul_precision())
            raise KeyError("an error")

    with pytest.raises(KeyError, match="an error"):
        failing()
    assert [*seen, torch.get_float32_matmul_precision()] == ["high", "highest"]


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "tf32"])
def test_the_other_precisions_leave_the_switch_alone(precision):
    with backward_precision(precision):
        assert torch.get_float32_matmul_precision() == "highest"
