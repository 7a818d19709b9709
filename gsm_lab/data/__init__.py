"""From problems to token ids: mixtures, endless sources, the closed vocabulary, packed rows, data sets on disk."""

from gsm_lab.data.collector import without_collector
from gsm_lab.data.documents import Document, Documents, DrawnDocuments, Exercises
from gsm_lab.data.executors import EXECUTORS, start_ray
from gsm_lab.data.guesses import best_guesses
from gsm_lab.data.mixture import Mixture, Slice
from gsm_lab.data.packing import Jumps, PackedRows, Packer
from gsm_lab.data.shards import Progress, is_whole, overlap, read_dataset, read_manifest, write_dataset
from gsm_lab.data.source import SPLITS, Drawn, ExerciseSource, HeldOut, split_of, template_of
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.data.tokens import TokenDocuments, write_tokens
from gsm_lab.data.workers import DocumentWorkers

__all__ = [
    "EXECUTORS",
    "SPLITS",
    "Document",
    "DocumentWorkers",
    "Documents",
    "Drawn",
    "DrawnDocuments",
    "ExerciseSource",
    "Exercises",
    "HeldOut",
    "Jumps",
    "Mixture",
    "PackedRows",
    "Packer",
    "Progress",
    "Slice",
    "TokenDocuments",
    "Tokenizer",
    "best_guesses",
    "is_whole",
    "overlap",
    "read_dataset",
    "read_manifest",
    "split_of",
    "start_ray",
    "template_of",
    "without_collector",
    "write_dataset",
    "write_tokens",
]
