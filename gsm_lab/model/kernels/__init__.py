"""Compiled float32 kernels for the CPU: `library` builds and loads them, `functions` gives them gradients."""

from gsm_lab.model.kernels.functions import (
    Heads,
    LayerMemory,
    Stack,
    adamw_step,
    add_norm,
    attention,
    choose_tokens,
    feed_forward,
    length_of,
    logprobs_and_entropy,
    project,
    suit,
    suit_halves,
    suit_stack,
    swiglu,
)
from gsm_lab.model.kernels.library import available, build, remove

__all__ = [
    "Heads",
    "LayerMemory",
    "Stack",
    "adamw_step",
    "add_norm",
    "attention",
    "available",
    "build",
    "choose_tokens",
    "feed_forward",
    "length_of",
    "logprobs_and_entropy",
    "project",
    "remove",
    "suit",
    "suit_halves",
    "suit_stack",
    "swiglu",
]
