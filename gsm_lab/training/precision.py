"""The precision of the layers between embedding and head; the head and all log-probabilities stay float32."""

from typing import Literal

import torch

from gsm_lab.model import Transformer

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def working_precision(model: Transformer, precision: Precision) -> torch.autocast:
    """A context in which the model's layers work in `precision`; its weights stay float32 in either."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
