"""Token data sets: documents on disk as training reads them, without text.

A shard is two files. `tokens-00000.bin` holds the ids of its documents one after another, raw 16-bit little-endian
numbers; `documents-00000.npy` has a row for each document: where in the shard it ends, and how many of its ids are the
prompt's. `manifest.json` vouches for all of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from gsm_lab.data.documents import Block, Document, DrawnDocuments
from gsm_lab.data.executors import check_executor, results
from gsm_lab.data.jobs import (
    Part,
    Progress,
    Record,
    ShardFolder,
    check_files,
    only_writer,
    read_manifest,
    share_of,
)
from gsm_lab.data.source import ExerciseSource
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import DataError, TokenError
from gsm_lab.files import write_bytes

FORMAT = "gsm_lab tokens, layout 1"
TOKENIZER = "tokenizer"
MOST_IDS = 1 << 16
MOST_TOKENS = 1 << 32
"""In one shard."""
PROBES = 2000
MOST_OPEN = 64
"""Shards whose files are held open at once."""


@dataclass(frozen=True)
class TokenJob:
    """One shard: documents `first` to `last - 1`, and where they go."""

    folder: Path
    number: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"tokens-{self.number:05d}"


def write_tokens(
    folder: Path | str,
    source: ExerciseSource,
    tokenizer: Tokenizer,
    num_problems: int | None = None,
    *,
    num_tokens: int | None = None,
    shard_size: int = 100_000,
    workers: int = 1,
    executor: str = "local",
    part: Part | None = None,
    on_shard: Progress | None = None,
) -> Path:
    """Write documents 0 to `num_problems - 1` of the source to `folder`; what is there and whole is kept.

    Args:
        folder: new, empty, or holding the same data set, whole or not.
        source: what to write; its settings, the tokenizer, the sizes and our version are the data set's identity.
        tokenizer: whose ids are written; saved beside the shards.
        num_problems: documents over all shards.
        num_tokens: instead, about so many tokens: the mean of the first 2,000 documents says how many problems those
            are, to about 1 %.
        shard_size: documents of a shard.
        workers: processes that write shards; they change no byte.
        executor: "local", or "ray" for tasks on a cluster whose machines share the folder.
        part: (i, N) writes every N-th shard from shard i on; whichever part ends last writes the manifest.
        on_shard: told how many shards of this part are whole, and of how many, after each.

    Raises:
        DataError: numbers that make no data set, a folder with something else in it, or a writer at work in it.
        TokenError: more than 65,536 ids, or a word that the tokenizer lacks.
        SpecError: the source cannot give these problems.
        StorageError: a file cannot be written; what is whole is kept.
    """
    folder = Path(folder)
    if tokenizer.vocab_size > MOST_IDS:
        raise TokenError(
            f"the tokenizer has {tokenizer.vocab_size} ids and 16 bits hold {MOST_IDS}: use fewer templates or places."
        )
    if (num_problems is None) == (num_tokens is None):
        raise DataError(f"num_problems={num_problems} and num_tokens={num_tokens}: give one of them.")
    for name, number in (("num_problems", num_problems), ("num_tokens", num_tokens), ("shard_size", shard_size),
                         ("workers", workers)):  # fmt: skip
        if number is not None and number < 1:
            raise DataError(f"{name}={number}: give a whole number of at least 1.")
    check_executor(executor)
    documents = DrawnDocuments(source, tokenizer)
    share_of((), part)
    source.check()
    if num_problems is None:
        assert num_tokens is not None
        num_problems = problems_for(num_tokens, documents)
    jobs = [
        TokenJob(folder, number, first, min(first + shard_size, num_problems))
        for number, first in enumerate(range(0, num_problems, shard_size))
    ]
    shards = ShardFolder(folder, _settings(documents, num_problems, shard_size))
    ours = share_of(jobs, part)
    with only_writer(folder, part):
        shards.claim()
        whole = shards.whole([job.name for job in ours])
        tokenizer.save(folder / TOKENIZER)
        num_whole = len(whole)
        waiting = [job for job in ours if job.name not in whole]
        for record in results(write_shard, documents, waiting, workers, executor):
            shards.keep(record)
            num_whole += 1
            if on_shard is not None:
                on_shard(num_whole, len(ours))
        shards.finish([job.name for job in jobs], _summary)
    return folder


def problems_for(num_tokens: int, documents: DrawnDocuments) -> int:
    """How many documents have about so many tokens: always the same answer."""
    return max(1, round(num_tokens * PROBES / len(documents.block(0, PROBES).ids)))


def _settings(documents: DrawnDocuments, num_problems: int, shard_size: int) -> dict[str, Any]:
    """Everything that decides the bytes of the shards."""
    assert isinstance(documents.source, ExerciseSource)
    try:
        our_version = version("gsm-lab")
    except PackageNotFoundError:
        our_version = "source tree"
    return {
        "format": FORMAT,
        "gsm_lab": our_version,
        "num_problems": num_problems,
        "shard_size": shard_size,
        "written_with_tokenizer": documents.tokenizer.fingerprint,
        "eos_id": documents.tokenizer.eos_id,
        **documents.source.settings(),
    }


def _summary(shards: Sequence[Record]) -> dict[str, int]:
    return {key: sum(shard[key] for shard in shards) for key in ("num_documents", "num_tokens", "num_prompt_tokens")}


def write_shard(documents: DrawnDocuments, job: TokenJob) -> Record:
    """Write one shard and say what it holds; the same bytes for the same job, always."""
    block = documents.block(job.first, job.last)
    if len(block.ids) >= MOST_TOKENS:
        raise DataError(
            f"shard {job.number} has {len(block.ids)} tokens, {MOST_TOKENS} are the most: lower shard_size."
        )
    index = BytesIO()
    np.save(index, np.stack([block.ends, block.num_prompts], axis=1).astype("<u4"), allow_pickle=False)
    contents = {
        f"{job.name}.bin": block.ids.astype("<u2").tobytes(),
        f"documents-{job.number:05d}.npy": index.getvalue(),
    }
    for name, content in contents.items():
        write_bytes(job.folder / name, content)
    return {
        "name": job.name,
        "num_documents": len(block),
        "num_tokens": len(block.ids),
        "num_prompt_tokens": int(block.num_prompts.sum()),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }


class TokenDocuments:
    """The documents of a token data set; a provider for `Packer`.

    Args:
        folder: where `write_tokens` wrote it.
        checksums: whether to verify every byte at once, at the speed of the disk; sizes are always verified.

    Raises:
        DataError: there is no whole data set, or a file is damaged, missing or foreign.
    """

    def __init__(self, folder: Path | str, checksums: bool = True) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder, FORMAT)
        self.shard_size: int = self.manifest["settings"]["shard_size"]
        shards = self.manifest["shards"]
        listed = {name for shard in shards for name in shard["files"]}
        foreign = sorted(path.name for path in self.folder.glob("tokens-*.bin") if path.name not in listed)
        if foreign:
            raise DataError(f"{self.folder / foreign[0]} does not belong to this data set: move it elsewhere.")
        check_files(self.folder, shards, checksums)
        self._tokenizer = Tokenizer.load(self.folder / TOKENIZER)
        if self._tokenizer.fingerprint != self.manifest["settings"]["written_with_tokenizer"]:
            raise DataError(f"{self.folder / TOKENIZER} is not the tokenizer of these tokens: write them again.")
        self._open = lru_cache(maxsize=MOST_OPEN)(self._shard)

    @property
    def tokenizer(self) -> Tokenizer:
        """Whose ids the documents are made of."""
        return self._tokenizer

    @property
    def num_tokens(self) -> int:
        """Over all documents, ends included."""
        return int(self.manifest["num_tokens"])

    def __len__(self) -> int:
        return int(self.manifest["num_documents"])

    def document(self, index: int) -> Document:
        """Document `index`, its ids as they lie on disk.

        Raises:
            DataError: the data set has no such document.
        """
        if not 0 <= index < len(self):
            raise DataError(
                f"{self.folder} has documents 0 to {len(self) - 1}, and document {index} is wanted: write more."
            )
        return self._open(index // self.shard_size).document(index % self.shard_size)

    def _shard(self, number: int) -> Block:
        tokens = np.memmap(self.folder / f"tokens-{number:05d}.bin", "<u2", "r")
        rows = np.load(self.folder / f"documents-{number:05d}.npy", mmap_mode="r", allow_pickle=False)
        return Block(
            ids=tokens.view(np.ndarray), ends=rows[:, 0].view(np.ndarray), num_prompts=rows[:, 1].view(np.ndarray)
        )
