"""From problems to token ids: mixtures, endless sources, the closed vocabulary, packed rows, data sets on disk."""

from gsm_lab.data.mixture import Mixture, Slice
from gsm_lab.data.packing import Exercises, Jumps, PackedRows, Packer
from gsm_lab.data.shards import overlap, read_dataset, read_manifest, write_dataset
from gsm_lab.data.source import SPLITS, ExerciseSource, split_of
from gsm_lab.data.tokenizer import Tokenizer

__all__ = [
    "SPLITS",
    "ExerciseSource",
    "Exercises",
    "Jumps",
    "Mixture",
    "PackedRows",
    "Packer",
    "Slice",
    "Tokenizer",
    "overlap",
    "read_dataset",
    "read_manifest",
    "split_of",
    "write_dataset",
]
