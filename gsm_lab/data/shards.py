"""Data sets on disk: Parquet shards of one or more splits, a manifest that vouches for them, and a card for people.

    FOLDER/data/test-00000.parquet   rows 0 to shard_size - 1 of the split "test"
    FOLDER/manifest.json             settings, checksums, counts
    FOLDER/README.md                 the card, in the Hugging Face layout
    FOLDER/tokenizer/                if tokens were counted
    FOLDER/progress-0-of-1.json      only while the work is not done: which shards are whole

A shard is a pure function of the settings and its number, so its bytes depend neither on the executor and its workers
nor on how often the work was killed, nor on which machine wrote which part. Progress files claim the folder, one for
every part; the manifest takes their place when all shards are there. A folder without a manifest is no data set yet.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from gsm_lab.data.card import card
from gsm_lab.data.census import census, identity_column, shared
from gsm_lab.data.executors import results
from gsm_lab.data.guesses import MOST_EXERCISES, best_guesses
from gsm_lab.data.rows import DICTIONARIES, READ, Common, exercises_of, table_of
from gsm_lab.data.source import ExerciseSource, num_tokens
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.errors import DataError, StorageError
from gsm_lab.files import sha256_of, whole_file, write_json, write_text
from gsm_lab.problems import LEVELS, Exercise

FORMAT = "gsm_lab data set, layout 2"
DATA, MANIFEST, CARD, TOKENIZER = "data", "manifest.json", "README.md", "tokenizer"
PROGRESS = "progress-*-of-*.json"
WHOLE = (0, 1)
"""The one part that is everything."""
MOST_DIFFERENCES = 12
ROWS_AT_ONCE = 500
"""So many exercises are in memory at a time."""
_RECORD = {"name", "split", "rows", "bytes", "sha256"}
Record = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far the writing of a part is."""

    shards: int
    """Those that are done, some of them maybe by an earlier run."""
    all_shards: int
    problems: int
    all_problems: int
    tokens: int | None
    """Of prompts and completions; None if they are not counted."""
    new_problems: int
    """Of this run, as are the next two."""
    new_tokens: int | None
    seconds: float

    @property
    def problems_per_second(self) -> float:
        return self.new_problems / self.seconds

    @property
    def tokens_per_second(self) -> float | None:
        return None if self.new_tokens is None else self.new_tokens / self.seconds

    @property
    def seconds_left(self) -> float:
        return (self.all_problems - self.problems) / self.problems_per_second


class Job(NamedTuple):
    """One shard: exercises `first` to `last - 1` of a source, and where they go."""

    name: str
    source: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """What is to be written, whoever writes which part of it."""

    folder: Path
    sources: tuple[ExerciseSource, ...]
    sizes: tuple[int, ...]
    shard_size: int
    tokenizer: Tokenizer | None

    def jobs(self) -> list[Job]:
        """All shards, split by split."""
        return [
            Job(f"{DATA}/{source.split}-{number:05d}.parquet", place, first, min(first + self.shard_size, size))
            for place, (source, size) in enumerate(zip(self.sources, self.sizes, strict=True))
            for number, first in enumerate(range(0, size, self.shard_size))
        ]

    def settings(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards, as JSON gives it back."""
        try:
            our_version = version("gsm-lab")
        except PackageNotFoundError:
            our_version = "source tree"
        settings = {
            "format": FORMAT,
            "gsm_lab": our_version,
            "pyarrow": pa.__version__,
            "shard_size": self.shard_size,
            "counted_with_tokenizer": None if self.tokenizer is None else self.tokenizer.fingerprint,
            "sources": [
                {"num_problems": size, **source.settings()}
                for source, size in zip(self.sources, self.sizes, strict=True)
            ],
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return plain


def write_dataset(
    folder: Path | str,
    source: ExerciseSource | Sequence[ExerciseSource],
    num_problems: int | Sequence[int],
    shard_size: int = 10_000,
    tokenizer: Tokenizer | None = None,
    workers: int = 1,
    on_shard: Callable[[Progress], None] | None = None,
    *,
    executor: str = "local",
    part: tuple[int, int] = WHOLE,
) -> Path:
    """Write the first `num_problems` exercises of each source to `folder`; what is there and whole is kept.

    With `part=(i, N)` only every N-th shard from the i-th on is written. N processes, on as many machines, may write
    their parts of one folder at the same time; whoever finds all shards there writes the manifest and the card. If none
    did, because of a part that was killed, run that part again, or the whole: what is there is kept.

    Args:
        folder: new, empty, or holding the same data set, whole or not.
        source: what to write, one source for every split; their settings, the sizes and our version are the data set's
            identity.
        num_problems: rows of every split, in the order of the sources.
        shard_size: rows of a shard, and of its one row group.
        tokenizer: saved beside the shards and used to count tokens; the first source's own, if none is given.
        workers: processes, or Ray's CPUs. More than 1 in a script need its `if __name__ == "__main__":`.
        on_shard: called with the progress of this part, whenever a shard is done.
        executor: "local" or "ray".
        part: which part of how many.

    Raises:
        DataError: a number out of range, sources that do not go together, a folder that holds something else or that
            another process writes to, or a worker that was killed.
        SpecError: a slice that has no problem in its split.
        StorageError: a full disk or a missing permission; shards that are whole stay, and there is no manifest.
    """
    plan = _plan(Path(folder), source, num_problems, shard_size, tokenizer)
    _check_numbers(workers, part)
    for one in plan.sources:
        one.check()
    settings, jobs = plan.settings(), plan.jobs()
    mine = jobs[part[0] :: part[1]]
    if plan.folder.exists() and not plan.folder.is_dir():
        raise StorageError(f"{folder} is a file: give another name, or a folder.")
    with _only_writer(plan.folder, part):
        known = _claimed(plan.folder, settings)
        own = _whole_shards(plan.folder, [known[job.name] for job in mine if job.name in known])
        for job in mine:
            known.pop(job.name, None)
        _save_progress(plan.folder, settings, known | own, part)
        waiting = [job for job in mine if job.name not in own]
        if waiting:
            (plan.folder / MANIFEST).unlink(missing_ok=True)
        if plan.tokenizer is not None:
            plan.tokenizer.save(plan.folder / TOKENIZER)
        tell = _teller(own, mine, on_shard)
        for record in results(write_shard, plan, waiting, workers, executor):
            own[record["name"]] = record
            _save_progress(plan.folder, settings, known | own, part)
            tell(record)
        _finish(plan, settings, jobs, own)
    return Path(folder)


def is_whole(folder: Path | str) -> bool:
    """Whether all parts of a data set are written, and its manifest with them."""
    return (Path(folder) / MANIFEST).is_file()


def read_dataset(folder: Path | str, split: str | None = None) -> Iterator[Exercise]:
    """The exercises of a data set in their order, of one split or of all; every shard is checked before the first.

    Raises:
        DataError: there is no whole data set, no such split, or a shard is damaged, missing or foreign.
    """
    manifest = read_manifest(folder)
    paths = _checked_shards(Path(folder), manifest)
    if split is not None and split not in paths:
        raise DataError(f"split={split!r}: {folder} has {', '.join(paths)}.")
    common = _common(manifest)
    chosen = [path for name, own in paths.items() if split in (None, name) for path in own]
    return (exercise for path in chosen for exercise in exercises_of(pq.read_table(path, columns=READ), common))


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """What the manifest of a data set says.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DataError(
            f"there is no {path}: give the folder of a data set; if it holds {PROGRESS}, its generation was "
            f"interrupted or a part of it is missing, so run the same command again."
        )
    return _read_settings(path)


def overlap(folder_a: Path | str, folder_b: Path | str, level: str = "problem_id") -> int:
    """How many different problems two data sets share, however they are told: 0 for two splits.

    Raises:
        DataError: one of them is not a whole data set, or an unknown level.
    """
    if level not in LEVELS:
        raise DataError(f"level={level!r}: give one of {', '.join(LEVELS)}.")
    one, other = (
        np.unique(identity_column([path for own in paths.values() for path in own], level))
        for paths in (_checked_shards(Path(folder), read_manifest(folder)) for folder in (folder_a, folder_b))
    )
    return shared(one, other)


def _plan(
    folder: Path,
    source: ExerciseSource | Sequence[ExerciseSource],
    num_problems: int | Sequence[int],
    shard_size: int,
    tokenizer: Tokenizer | None,
) -> Plan:
    sources = (source,) if isinstance(source, ExerciseSource) else tuple(source)
    sizes = (num_problems,) if isinstance(num_problems, int) else tuple(num_problems)
    splits = [one.split for one in sources]
    if not sources or len(sizes) != len(sources):
        raise DataError(f"{len(sources)} sources and num_problems={num_problems}: give a number for each source.")
    if len(set(splits)) < len(splits):
        raise DataError(f"the sources have the splits {', '.join(splits)}: give one source for each split.")
    if len({(one.split_by, one.held_out) for one in sources}) > 1:
        raise DataError(
            f"the sources are split by {', '.join(one.split_by for one in sources)}, or hold out different structures: "
            f"make them alike, or they may share problems."
        )
    for name, number in (*(("num_problems", size) for size in sizes), ("shard_size", shard_size)):
        _check_whole(name, number)
    tokenizer = tokenizer or next((one.tokenizer for one in sources if one.tokenizer is not None), None)
    return Plan(folder.absolute(), sources, sizes, shard_size, tokenizer)


def _check_numbers(workers: int, part: tuple[int, int]) -> None:
    _check_whole("workers", workers)
    if not (len(part) == 2 and all(type(number) is int for number in part) and 0 <= part[0] < part[1]):
        raise DataError(f"part={part}: give which part, from 0, of how many; (0, 1) is the whole.")


def _check_whole(name: str, number: int) -> None:
    if number < 1:
        raise DataError(f"{name}={number}: give a whole number of at least 1.")


@contextmanager
def _only_writer(folder: Path, part: tuple[int, int]) -> Iterator[None]:
    """Hold a part of the folder against a second writer on this machine, and the whole against a writer of a part.

    The locks lie among temporary files, not in the folder.

    Raises:
        DataError: there is one.
        StorageError: the lock cannot be made.
    """
    lock = FileLock(_lock_path(folder, "{}-of-{}".format(*part)))
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


def _lock_path(folder: Path, what: str) -> Path:
    name = hashlib.blake2b(f"{folder.resolve()} {what}".encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"gsm_lab-{name}.lock"


def _claimed(folder: Path, settings: Mapping[str, Any]) -> dict[str, Record]:
    """The records of shards that this folder says it has, by name, if it is ours to write to."""
    records: dict[str, Record] = {}
    is_claimed = False
    for path in [*folder.glob(PROGRESS), folder / MANIFEST]:  # a manifest is written before they are removed
        try:
            claim = _read_settings(path)
        except FileNotFoundError:
            continue
        is_claimed = True
        found = differences(claim["settings"], settings)
        if found:
            raise DataError(
                f"{folder} holds another data set, with other settings:\n  " + "\n  ".join(found) + "\n"
                "Give a new folder, or delete this one."
            )
        records |= {record["name"]: record for record in claim["shards"]}
    if not is_claimed and folder.is_dir() and any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise DataError(f"{folder} holds files, but neither {MANIFEST} nor {PROGRESS}: give a new or an empty folder.")
    return records


def differences(there: Any, wanted: Any, path: str = "") -> list[str]:
    """Which settings differ, as lines `sources[0].seed: 4 there, 5 wanted`; at most twelve and a line for the rest."""
    found = list(_differing(there, wanted, path))
    rest = len(found) - MOST_DIFFERENCES
    return found[:MOST_DIFFERENCES] + ([f"and {rest} more"] if rest > 0 else [])


def _differing(there: Any, wanted: Any, path: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in sorted(there.keys() | wanted.keys()):
            yield from _differing(there.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        for number, (one, other) in enumerate(zip(there, wanted, strict=True)):
            yield from _differing(one, other, f"{path}[{number}]")
    elif there != wanted:
        yield f"{path}: {_short(there)} there, {_short(wanted)} wanted"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_settings(path: Path) -> dict[str, Any]:
    """A manifest or a progress file whose form is ours."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
        known = content["settings"]["format"] == FORMAT and all({*shard} >= _RECORD for shard in content["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete its folder and generate the data set again.") from error
    if not known:
        raise DataError(f"{path} is not of {FORMAT!r}: read it with the version of gsm_lab that wrote it.")
    whole: dict[str, Any] = content
    return whole


def _whole_shards(folder: Path, claimed: Sequence[Record]) -> dict[str, Record]:
    """Those records whose shard is there with the right checksum."""
    return {
        record["name"]: record
        for record in claimed
        if (path := folder / record["name"]).is_file() and sha256_of(path) == record["sha256"]
    }


def _save_progress(
    folder: Path, settings: Mapping[str, Any], records: Mapping[str, Record], part: tuple[int, int]
) -> None:
    name = PROGRESS.replace("*", "{}").format(*part)
    write_json(folder / name, {"settings": settings, "shards": [records[name] for name in sorted(records)]})


def _teller(
    done: Mapping[str, Record], jobs: Sequence[Job], on_shard: Callable[[Progress], None] | None
) -> Callable[[Record], None]:
    """What tells the progress after a shard; `done` is kept up to date by the caller."""
    began = time.perf_counter()
    new: list[Record] = []

    def tokens(records: Sequence[Record]) -> int | None:
        return sum(map(_num_tokens, records)) if all("prompt_tokens" in record for record in records) else None

    def tell(record: Record) -> None:
        new.append(record)
        if on_shard is not None:
            on_shard(
                Progress(
                    shards=len(done),
                    all_shards=len(jobs),
                    problems=sum(record["rows"] for record in done.values()),
                    all_problems=sum(job.last - job.first for job in jobs),
                    tokens=tokens([*done.values()]),
                    new_problems=sum(record["rows"] for record in new),
                    new_tokens=tokens(new),
                    seconds=time.perf_counter() - began,
                )
            )

    return tell


def _num_tokens(record: Record) -> int:
    return int(record["prompt_tokens"] + record["completion_tokens"])


def _finish(plan: Plan, settings: Mapping[str, Any], jobs: Sequence[Job], own: Mapping[str, Record]) -> None:
    """Write manifest and card and remove what is left of the work, if all shards are there; else nothing."""
    folder = plan.folder
    with FileLock(_lock_path(folder, "finish")):
        known = _claimed(folder, settings)
        others = _whole_shards(folder, [record for name, record in known.items() if name not in own])
        records = {**others, **own}
        if any(job.name not in records for job in jobs):
            return
        shards = [records[job.name] for job in jobs]
        manifest = {"settings": settings, "shards": shards, **_summary(plan, settings, shards)}
        write_text(folder / CARD, card(plan.sources, manifest))
        write_json(folder / MANIFEST, manifest)
        for remnant in [*folder.glob(PROGRESS), *folder.glob(".*.part"), *folder.glob(f"{DATA}/.*.part")]:
            remnant.unlink(missing_ok=True)  # temporary files are of writers that were killed


def write_shard(plan: Plan, job: Job) -> Record:
    """Write one shard and say what it holds; the same bytes for the same job, always."""
    source = plan.sources[job.source]
    counts: dict[str, int] = {}
    tables = []
    for first in range(job.first, job.last, ROWS_AT_ONCE):
        drawn = [source.draw(index) for index in range(first, min(first + ROWS_AT_ONCE, job.last))]
        tables.append(table_of(drawn, source))
        exercises = [one.exercise for one in drawn]
        new = {
            f"{kind}_drawn": sum(getattr(one, kind) for one in drawn) for kind in ("problems", "skeletons", "numbers")
        }
        if plan.tokenizer is not None:
            new["prompt_tokens"] = sum(num_tokens(plan.tokenizer, exercise.prompt) for exercise in exercises)
            new["completion_tokens"] = sum(
                num_tokens(plan.tokenizer, exercise.completion) + 1 for exercise in exercises
            )
        counts = {name: counts.get(name, 0) + number for name, number in new.items()}
    table = pa.concat_tables(tables)
    path = plan.folder / job.name
    with whole_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=table.num_rows,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=1,  # 6 makes files a sixth smaller, and takes three times as long
            use_dictionary=DICTIONARIES,
            write_statistics=True,
        )
        sha256, size = sha256_of(temporary), temporary.stat().st_size
    known = {"name": job.name, "split": source.split, "rows": table.num_rows, "bytes": size, "sha256": sha256}
    return known | counts


def _summary(plan: Plan, settings: Mapping[str, Any], shards: Sequence[Record]) -> dict[str, Any]:
    """Counts over the whole data set, from the shards as they lie on disk."""
    paths = {
        source.split: [plan.folder / shard["name"] for shard in shards if shard["split"] == source.split]
        for source in plan.sources
    }
    templates = {
        fingerprint: template.to_dict()
        for source, own in zip(plan.sources, settings["sources"], strict=True)
        for template, fingerprint in zip(source.templates, own["templates"], strict=True)
    }
    summary: dict[str, Any] = {"templates": templates, **census(paths)}
    for split, own in summary["splits"].items():
        records = [shard for shard in shards if shard["split"] == split]
        own["drawn_per_row"] = {
            kind: sum(record[f"{kind}_drawn"] for record in records) / own["rows"]
            for kind in ("problems", "skeletons", "numbers")
        }
        for kind in ("prompt_tokens", "completion_tokens"):
            if kind in records[0]:
                own[kind] = sum(record[kind] for record in records)
    common = _common({"settings": settings, "templates": templates})
    summary["guesses"] = best_guesses(_for_guessing(paths, common))
    return summary


def _common(manifest: Mapping[str, Any]) -> dict[str, list[Common]]:
    """What all exercises of a slice have in common, for every split and slice."""
    return {
        source["split"]: [
            {"style": piece["style"], "grammar": manifest["templates"][fingerprint]["grammar"]}
            for piece, fingerprint in zip(source["mixture"]["slices"], source["templates"], strict=True)
        ]
        for source in manifest["settings"]["sources"]
    }


def _for_guessing(paths: Mapping[str, Sequence[Path]], common: Mapping[str, Sequence[Common]]) -> Iterator[Exercise]:
    """The first exercises of every op and mode, as many as are looked at."""
    seen: dict[tuple[int, str], int] = {}
    for path in [path for own in paths.values() for path in own]:
        kinds = pq.read_table(path, columns=["op", "mode"])
        wanted = []
        for number, kind in enumerate(zip(*(kinds.column(name).to_pylist() for name in ("op", "mode")), strict=True)):
            if seen.setdefault(kind, 0) < MOST_EXERCISES:
                seen[kind] += 1
                wanted.append(number)
        if wanted:
            yield from exercises_of(pq.read_table(path, columns=READ).take(wanted), common)


def _checked_shards(folder: Path, manifest: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The shards of every split of a whole data set, their checksums verified."""
    shards = manifest["shards"]
    listed = {shard["name"] for shard in shards}
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(f"{DATA}/*.parquet"))
    foreign = [name for name in names if name not in listed]
    if foreign:
        raise DataError(f"{folder / foreign[0]} does not belong to this data set: move it elsewhere.")
    paths: dict[str, list[Path]] = {}
    for shard in shards:
        path = folder / shard["name"]
        found = sha256_of(path) if path.is_file() else "no file"
        if found != shard["sha256"]:
            raise DataError(
                f"{path} is damaged or missing: its SHA-256 is {found}, the manifest says {shard['sha256']}. "
                f"Generate the data set again with the same settings: only this shard is written anew."
            )
        paths.setdefault(shard["split"], []).append(path)
    return paths
