"""The language model: its shape, its mathematics, its sampler and its checkpoints. Knows token ids and no problems."""

from gsm_lab.model import kernels
from gsm_lab.model.checkpoint import load_checkpoint, save_checkpoint
from gsm_lab.model.sampler import Sample, sample
from gsm_lab.model.shape import ModelShape
from gsm_lab.model.texts import Texts
from gsm_lab.model.transformer import Transformer

__all__ = [
    "ModelShape",
    "Sample",
    "Texts",
    "Transformer",
    "kernels",
    "load_checkpoint",
    "sample",
    "save_checkpoint",
]
