"""Data sets on disk: Parquet shards, a manifest that vouches for them, and a card for people.

A shard is a pure function of the settings and its number, so its bytes depend neither on the number of workers nor on
how often the work was killed. `progress.json` claims the folder and says which shards are whole; the manifest takes its
place when all of them are. A folder without a manifest is no data set yet.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from gsm_lab.data.card import card
from gsm_lab.data.source import ExerciseSource
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import DataError, StorageError
from gsm_lab.files import sha256_of, whole_file, write_json, write_text
from gsm_lab.problems import Exercise

FORMAT = "gsm_lab data set, layout 1"
MANIFEST, PROGRESS, CARD, TOKENIZER = "manifest.json", "progress.json", "README.md", "tokenizer"
SIZES = ("op", "steps", "binary_ops", "depth", "width", "distractors")
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("split", pa.string()),
        ("context", pa.string()),
        ("frames", pa.string()),
        *((size, pa.int32()) for size in SIZES),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("answer", pa.int64()),
        ("exercise", pa.string()),
    ]
)
"""`exercise` is the JSON of `Exercise.to_dict`; the rest is there to be read and filtered without it."""
_RECORD = {"name", "rows", "bytes", "sha256"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One shard: exercises `first` to `last - 1` of a source, and where they go."""

    path: Path
    source: ExerciseSource
    first: int
    last: int
    tokenizer: Tokenizer | None


def write_dataset(
    folder: Path | str,
    source: ExerciseSource,
    num_problems: int,
    shard_size: int = 10_000,
    tokenizer: Tokenizer | None = None,
    workers: int = 1,
    on_shard: Progress | None = None,
) -> Path:
    """Write exercises 0 to `num_problems - 1` of the source to `folder`; what is there and whole is kept.

    Args:
        folder: new, empty, or holding the same data set, whole or not.
        source: what to write; its settings, the two numbers below and our version are the data set's identity.
        num_problems: rows over all shards.
        shard_size: rows of a shard, and of its one row group.
        tokenizer: saved beside the shards and used to count tokens; the source's own, if it has one and none is given.
        workers: processes. More than 1 in a script need its `if __name__ == "__main__":`.
        on_shard: called with the shards done and the shards in all, whenever one is done.

    Raises:
        DataError: a number below 1, a folder that holds something else or that another process writes to, or a
            worker that was killed.
        SpecError: a slice that has no problem in this split.
        StorageError: a full disk or a missing permission; shards that are whole stay, and there is no manifest.
    """
    folder = Path(folder)
    tokenizer = tokenizer or source.tokenizer
    for name, number in (("num_problems", num_problems), ("shard_size", shard_size), ("workers", workers)):
        if number < 1:
            raise DataError(f"{name}={number}: give a whole number of at least 1.")
    source.check()
    settings = _settings(source, num_problems, shard_size, tokenizer)
    jobs = _jobs(folder, source, num_problems, shard_size, tokenizer)
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file: give another name, or a folder.")
    with _only_writer(folder):
        records = _whole_shards(folder, _claimed(folder, settings))
        _save_progress(folder, settings, records)
        waiting = [job for job in jobs if job.path.name not in records]
        if waiting:
            (folder / MANIFEST).unlink(missing_ok=True)
        if tokenizer is not None:
            tokenizer.save(folder / TOKENIZER)
        for record in _run(waiting, workers):
            records[record["name"]] = record
            _save_progress(folder, settings, records)
            if on_shard is not None:
                on_shard(len(records), len(jobs))
        shards = [records[job.path.name] for job in jobs]
        manifest = {"settings": settings, "shards": shards, **_summary(folder, shards)}
        write_text(folder / CARD, card(source, manifest))
        write_json(folder / MANIFEST, manifest)
        (folder / PROGRESS).unlink(missing_ok=True)
        for remnant in folder.glob(".*.part"):  # of a writer that was killed
            remnant.unlink(missing_ok=True)
        return folder


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder against a second writer on this machine; the lock lies among temporary files, not in the folder.

    Raises:
        DataError: there is one.
        StorageError: the lock cannot be made.
    """
    name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
    lock = FileLock(Path(tempfile.gettempdir()) / f"gsm_lab-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{folder} is being written already: wait for that process, or give another folder.") from error
    except OSError as error:  # another user's lock, for one
        raise StorageError(f"{folder} cannot be held ({error.strerror or error}): give another folder.") from error
    try:
        yield
    finally:
        lock.release()


def read_dataset(folder: Path | str) -> Iterator[Exercise]:
    """The exercises of a data set in their order; every shard is checked before the first is given.

    Raises:
        DataError: there is no whole data set, or a shard is damaged, missing or foreign.
    """
    paths = _checked_shards(Path(folder))
    return (
        Exercise.from_dict(json.loads(text))
        for path in paths
        for text in pq.read_table(path, columns=["exercise"]).column("exercise").to_pylist()
    )


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """What the manifest of a data set says.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DataError(
            f"there is no {path}: give the folder of a data set; if it holds {PROGRESS}, its generation was "
            f"interrupted, so run the same command again."
        )
    return _read_settings(path)


def overlap(folder_a: Path | str, folder_b: Path | str) -> int:
    """How many different problems two data sets share, however they are told: 0 for two splits.

    Raises:
        DataError: one of them is not a whole data set.
    """
    return len(_identities(_checked_shards(Path(folder_a))) & _identities(_checked_shards(Path(folder_b))))


def _settings(
    source: ExerciseSource, num_problems: int, shard_size: int, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Everything that decides the bytes of the shards, as JSON gives it back."""
    try:
        our_version = version("gsm-lab")
    except PackageNotFoundError:
        our_version = "source tree"
    settings = {
        "format": FORMAT,
        "gsm_lab": our_version,
        "pyarrow": pa.__version__,
        "num_problems": num_problems,
        "shard_size": shard_size,
        "counted_with_tokenizer": None if tokenizer is None else tokenizer.fingerprint,
        **source.settings(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _jobs(
    folder: Path, source: ExerciseSource, num_problems: int, shard_size: int, tokenizer: Tokenizer | None
) -> list[Job]:
    return [
        Job(folder / f"shard-{number:05d}.parquet", source, first, min(first + shard_size, num_problems), tokenizer)
        for number, first in enumerate(range(0, num_problems, shard_size))
    ]


def _claimed(folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of shards that this folder says it has, if it is ours to write to."""
    for name in (MANIFEST, PROGRESS):
        path = folder / name
        if path.is_file():
            claim = _read_settings(path)
            differing = sorted(
                key
                for key in settings.keys() | claim["settings"].keys()
                if settings.get(key) != claim["settings"].get(key)
            )
            if differing:
                raise DataError(
                    f"{folder} holds another data set, with other {', '.join(differing)}: "
                    f"give a new folder, or delete this one."
                )
            records: list[dict[str, Any]] = claim["shards"]
            return records
    if folder.is_dir() and any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise DataError(f"{folder} holds files, but neither {MANIFEST} nor {PROGRESS}: give a new or an empty folder.")
    return []


def _read_settings(path: Path) -> dict[str, Any]:
    """A manifest or a progress file whose form is ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content["settings"]["format"] == FORMAT and all({*shard} >= _RECORD for shard in content["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete its folder and generate the data set again.") from error
    if not known:
        raise DataError(f"{path} is not of {FORMAT!r}: read it with the version of gsm_lab that wrote it.")
    whole: dict[str, Any] = content
    return whole


def _whole_shards(folder: Path, claimed: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those records whose shard is there with the right checksum."""
    return {
        record["name"]: record
        for record in claimed
        if (path := folder / record["name"]).is_file() and sha256_of(path) == record["sha256"]
    }


def _save_progress(folder: Path, settings: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
    shards = [records[name] for name in sorted(records)]
    write_json(folder / PROGRESS, {"settings": settings, "shards": shards})


def _run(jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    """The record of every shard, as soon as it is written."""
    if workers == 1 or len(jobs) < 2:
        yield from map(write_shard, jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        for done in as_completed([pool.submit(write_shard, job) for job in jobs]):
            yield done.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker of {workers} was killed, for want of memory perhaps, or started from a script without "
            f'`if __name__ == "__main__":`. Run the same command again, with fewer workers: whole shards are kept.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def write_shard(job: Job) -> dict[str, Any]:
    """Write one shard and say what it holds; the same bytes for the same job, always."""
    exercises = [job.source.at(index) for index in range(job.first, job.last)]
    table = pa.Table.from_pylist([_row(exercise, job.source.split) for exercise in exercises], schema=SCHEMA)
    with whole_file(job.path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=table.num_rows,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=6,
            use_dictionary=["split", "context", "frames"],
            write_statistics=True,
        )
        sha256, size = sha256_of(temporary), temporary.stat().st_size
    return {"name": job.path.name, "rows": table.num_rows, "bytes": size, "sha256": sha256} | _tokens(exercises, job)


def _row(exercise: Exercise, split: str) -> dict[str, Any]:
    return {
        "problem_id": exercise.problem_id,
        "split": split,
        "context": exercise.context,
        "frames": exercise.frames,
        **exercise.sizes(),
        "prompt": exercise.prompt,
        "completion": exercise.completion,
        "answer": exercise.answer,
        "exercise": json.dumps(exercise.to_dict(), sort_keys=True, ensure_ascii=False),
    }


def _tokens(exercises: Sequence[Exercise], job: Job) -> dict[str, int]:
    """Tokens of prompts, and of completions with their ends, if there is something to count them with."""
    if job.tokenizer is None:
        return {}
    return {
        "prompt_tokens": sum(len(job.tokenizer.encode(exercise.prompt)) for exercise in exercises),
        "completion_tokens": sum(len(job.tokenizer.encode(exercise.completion)) + 1 for exercise in exercises),
    }


def _summary(folder: Path, shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the whole data set, from the shards as they lie on disk."""
    paths = [folder / shard["name"] for shard in shards]
    table = pa.concat_tables([pq.read_table(path, columns=["context", "frames", *SIZES]) for path in paths])
    sizes = {}
    for size in SIZES:
        values = table.column(size).to_pylist()
        sizes[size] = {"least": min(values), "mean": sum(values) / len(values), "greatest": max(values)}
    counted = ("prompt_tokens", "completion_tokens")
    return {
        "num_distinct_problems": len(_identities(paths)),
        "problems_by": {kind: _counts(table, kind) for kind in ("op", "context", "frames")},
        "sizes": sizes,
        **{kind: sum(shard[kind] for shard in shards) for kind in counted if kind in shards[0]},
    }


def _counts(table: Any, column: str) -> list[list[Any]]:
    """Pairs of a value and the number of its rows, in order of the value."""
    counts = table.column(column).value_counts().to_pylist()
    return sorted([pair["values"], pair["counts"]] for pair in counts)


def _identities(paths: Sequence[Path]) -> set[bytes]:
    return {
        bytes.fromhex(identity)
        for path in paths
        for identity in pq.read_table(path, columns=["problem_id"]).column("problem_id").to_pylist()
    }


def _checked_shards(folder: Path) -> list[Path]:
    """The shards of a whole data set, their checksums verified."""
    shards = read_manifest(folder)["shards"]
    listed = {shard["name"] for shard in shards}
    foreign = sorted(path.name for path in folder.glob("*.parquet") if path.name not in listed)
    if foreign:
        raise DataError(f"{folder / foreign[0]} does not belong to this data set: move it elsewhere.")
    for shard in shards:
        path = folder / shard["name"]
        found = sha256_of(path) if path.is_file() else "no file"
        if found != shard["sha256"]:
            raise DataError(
                f"{path} is damaged or missing: its SHA-256 is {found}, the manifest says {shard['sha256']}. "
                f"Generate the data set again with the same settings: only this shard is written anew."
            )
    return [folder / shard["name"] for shard in shards]
