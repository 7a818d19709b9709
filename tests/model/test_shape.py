"""A shape counts its parameters, and is valid from birth."""

import pytest

from gsm_lab.errors import RecipeError
from gsm_lab.model import ModelShape, Transformer

SIZES = {"vocab_size": 64, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48, "max_positions": 16}


@pytest.mark.parametrize("tied_embeddings", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_parameter_count_is_that_of_the_model(kv_heads, tied_embeddings):
    shape = ModelShape(**{**SIZES, "kv_heads": kv_heads, "tied_embeddings": tied_embeddings})
    assert shape.parameters == sum(parameter.numel() for parameter in Transformer(shape).parameters())


def test_the_parameter_count_of_a_shape_done_by_hand():
    # table 64*32; a block: q and o 32*32 each, k and v 16*32 each, biases 32+16+16, SwiGLU 3*32*48, two norms of 32;
    # the last norm 32: 2048 + 2 * (3072 + 64 + 4608 + 64) + 32
    assert ModelShape(**SIZES).parameters == 17_696


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers is 0: give a whole number"),
        ({"width": 32.0}, "width is 32.0: give a whole number"),
        ({"layers": True}, "layers is True: give a whole number"),
        ({"heads": 3, "kv_heads": 3}, "multiple of 6"),
        ({"heads": 32, "kv_heads": 32}, "multiple of 64"),  # heads one wide: nothing to turn
        ({"kv_heads": 3}, "divisors of heads"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0: give a finite number"),
        ({"norm_eps": float("nan")}, "norm_eps is nan: give a finite number"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        ModelShape(**{**SIZES, **change})
