"""Compiled float32 kernels for the CPU: `library` builds and loads them, `functions` gives them gradients."""

from gsm_lab.model.kernels.functions import (
    Heads,
    LayerMemory,
    Stack,
    Writing,
    adamw_step,
    add_norm,
    attention,
    feed_forward,
    length_of,
    logprobs_and_entropy,
    orthogonalised,
    project,
    suit,
    suit_halves,
    swiglu,
    use_matrix_unit,
)
from gsm_lab.model.kernels.library import available, build, remove

__all__ = [
    "Heads",
    "LayerMemory",
    "Stack",
    "Writing",
    "adamw_step",
    "add_norm",
    "attention",
    "available",
    "build",
    "feed_forward",
    "length_of",
    "logprobs_and_entropy",
    "orthogonalised",
    "project",
    "remove",
    "suit",
    "suit_halves",
    "swiglu",
    "use_matrix_unit",
]
