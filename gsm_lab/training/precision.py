"""The precision of the layers between embedding and head; the head and all log-probabilities stay float32.

Weights, gradients and the optimiser's averages are float32 in all of them. What differs is how layers multiply:

- `float32`: exactly as the sampler does, everywhere.
- `tf32`: float32 numbers, of which the matrix units of NVIDIA GPUs read 10 bits of the mantissa. No cast, no scaling.
- `bfloat16`: autocast; 7 bits of mantissa, twice the rate and half the memory of activations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


@contextmanager
def working_precision(model: Transformer, precision: Precision) -> Iterator[None]:
    """A context in which the model's layers work forward in `precision`; its weights stay float32 in each.

    Raises:
        TrainingError: tf32 for a model that is not on a CUDA GPU, which alone has it.
    """
    if precision == "tf32" and model.device.type != "cuda":
        raise TrainingError(
            f"precision is tf32 and the model is on {model.device.type}: only CUDA GPUs multiply in tf32. "
            f"Move the model to one, or choose float32."
        )
    cast = torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with backward_precision(precision), cast:
        yield


@contextmanager
def backward_precision(precision: Precision) -> Iterator[None]:
    """A context for going back through what `working_precision` went forward.

    Autocast remembers its casts by itself and wants no context here; tf32 is a switch of the whole process, so it is
    turned on around both passes and back afterwards. Products of the head's backward pass then run in tf32 as well:
    the logits and log-probabilities are float32, their gradient is as exact as the layers'. The switch is torch's old
    one, because inductor refuses to compile after the new one (pytorch#166387).
    """
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
