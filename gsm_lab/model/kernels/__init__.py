"""Compiled float32 kernels for the CPU: `library` builds and loads them, `functions` gives them gradients."""

from gsm_lab.model.kernels.functions import (
    Heads,
    LayerMemory,
    add_norm,
    attention,
    choose_tokens,
    logprobs_and_entropy,
    suit,
    swiglu,
)
from gsm_lab.model.kernels.library import available, build, remove

__all__ = [
    "Heads",
    "LayerMemory",
    "add_norm",
    "attention",
    "available",
    "build",
    "choose_tokens",
    "logprobs_and_entropy",
    "remove",
    "suit",
    "swiglu",
]
