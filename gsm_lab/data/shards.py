"""Data sets on disk: Parquet shards of one or more splits, a manifest that vouches for them, and a card for people.

    FOLDER/data/test-00000.parquet   rows 0 to shard_size - 1 of the split "test"
    FOLDER/manifest.json             settings, checksums, counts
    FOLDER/README.md                 the card, in the Hugging Face layout
    FOLDER/tokenizer/                if tokens were counted
    FOLDER/progress/                 only while the work is not done: which shards are whole

A shard is a pure function of the settings and its number, so its bytes depend neither on the executor and its workers
nor on how often the work was killed, nor on which machine wrote which part. A folder without a manifest is no data set
yet.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsm_lab.data import jobs
from gsm_lab.data.card import card
from gsm_lab.data.census import census, identity_column, shared
from gsm_lab.data.collector import without_collector
from gsm_lab.data.executors import check_executor, results
from gsm_lab.data.guesses import MOST_EXERCISES, best_guesses
from gsm_lab.data.jobs import MANIFEST, PROGRESS, Part, Record, ShardFolder, check_files, only_writer, share_of
from gsm_lab.data.rows import DICTIONARIES, READ, Common, exercises_of, table_of
from gsm_lab.data.source import ExerciseSource, num_tokens
from gsm_lab.data.tokenizer import Tokenizer
from gsm_lab.data.tokens import FORMAT as TOKENS
from gsm_lab.errors import DataError
from gsm_lab.files import sha256_of, whole_file, write_text
from gsm_lab.problems import LEVELS, Exercise

FORMAT = "gsm_lab data set, layout 2"
DATA, CARD, TOKENIZER = "data", "README.md", "tokenizer"
ROWS_AT_ONCE = 100
"""So many exercises are in memory at a time."""
MOST_NAMED = 8
"""Shards that an error names."""


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
            Job(shard_name(source.split, first, self.shard_size), place, first, min(first + self.shard_size, size))
            for place, (source, size) in enumerate(zip(self.sources, self.sizes, strict=True))
            for first in range(0, size, self.shard_size)
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
    part: Part | None = None,
) -> Path:
    """Write the first `num_problems` exercises of each source to `folder`; what is there and whole is kept.

    With `part=(i, N)` only every N-th shard from shard i on is written. N processes, on as many machines, may write
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
        part: (i, N), which part of how many; i counts from 0. None is the whole.

    Raises:
        DataError: a number out of range, sources that do not go together, a folder that holds something else or that
            another process writes to, or a worker that was killed.
        SpecError: a slice that has no problem in its split.
        StorageError: a full disk or a missing permission; shards that are whole stay, and there is no manifest.
    """
    plan = _plan(Path(folder), source, num_problems, shard_size, tokenizer)
    _check_whole("workers", workers)
    check_executor(executor)
    shards = plan.jobs()
    mine = share_of(shards, part)
    for one in plan.sources:
        one.check()
    there = ShardFolder(plan.folder, plan.settings())
    with only_writer(plan.folder, part):
        there.claim()
        done = there.whole([job.name for job in mine])
        if plan.tokenizer is not None:
            plan.tokenizer.save(plan.folder / TOKENIZER)
        tell = _teller(done, mine, on_shard)
        for record in results(write_shard, plan, [job for job in mine if job.name not in done], workers, executor):
            there.keep(record)
            tell(record)
        if there.finish([job.name for job in shards], lambda records: _summary(plan, there.settings, records)):
            for remnant in plan.folder.glob(f"{DATA}/.*.part"):  # of a writer that was killed
                remnant.unlink(missing_ok=True)
    return Path(folder)


def shard_name(split: str, first: int, shard_size: int) -> str:
    """What the shard is called that begins with row `first` of its split."""
    return f"{split}-{first // shard_size:05d}"


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
        DataError: there is none, for parts are missing perhaps, it is damaged, or it vouches for tokens only.
    """
    folder = Path(folder)
    records = [_object(path) for path in sorted((folder / PROGRESS).glob("*.json"))]
    claim = _object(folder / MANIFEST) or next((record for record in records if "settings" in record), {})
    found = claim.get("settings")
    settings: dict[str, Any] = found if isinstance(found, dict) else {}  # what is damaged, jobs.read_manifest says
    if settings.get("format") == TOKENS:
        raise DataError(
            f"{folder} holds token arrays only, and no texts: give a folder that was generated without --only-tokens."
        )
    if settings.get("format") == FORMAT and not is_whole(folder):
        raise DataError(_unfinished(folder, settings, {record["name"] for record in records if "name" in record}))
    return jobs.read_manifest(folder, FORMAT)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none, or none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _unfinished(folder: Path, settings: Mapping[str, Any], there: Collection[str]) -> str:
    """What of a data set is missing, and how to write it."""
    names = [
        shard_name(source["split"], first, settings["shard_size"])
        for source in settings["sources"]
        for first in range(0, source["num_problems"], settings["shard_size"])
    ]
    missing = [name for name in names if name not in there]
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    shards = f"{len(missing)} of {len(names)} shards are missing ({', '.join(missing[:MOST_NAMED])}{more})"
    return (
        f"{folder} is not whole: {shards if missing else f'there is no {MANIFEST} yet'}. Only parts of it were "
        f"generated, or that was interrupted, so run the same command again, without --shard or with each --shard that "
        f"is missing: what is there is kept."
    )


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


def _check_whole(name: str, number: int) -> None:
    if number < 1:
        raise DataError(f"{name}={number}: give a whole number of at least 1.")


def _teller(
    done: Mapping[str, Record], mine: Sequence[Job], on_shard: Callable[[Progress], None] | None
) -> Callable[[Record], None]:
    """What tells the progress after a shard, given the shards that were done before."""
    began = time.perf_counter()
    new: list[Record] = []

    def tokens(records: Sequence[Record]) -> int | None:
        return sum(map(_num_tokens, records)) if all("prompt_tokens" in record for record in records) else None

    def tell(record: Record) -> None:
        new.append(record)
        if on_shard is not None:
            known = [*done.values(), *new]
            on_shard(
                Progress(
                    shards=len(known),
                    all_shards=len(mine),
                    problems=sum(record["rows"] for record in known),
                    all_problems=sum(job.last - job.first for job in mine),
                    tokens=tokens(known),
                    new_problems=sum(record["rows"] for record in new),
                    new_tokens=tokens(new),
                    seconds=time.perf_counter() - began,
                )
            )

    return tell


def _num_tokens(record: Record) -> int:
    return int(record["prompt_tokens"] + record["completion_tokens"])


def write_shard(plan: Plan, job: Job) -> Record:
    """Write one shard and say what it holds; the same bytes for the same job, always."""
    source = plan.sources[job.source]
    counts: dict[str, int] = {}
    tables = []
    for first in range(job.first, job.last, ROWS_AT_ONCE):
        with without_collector():
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
    file = f"{DATA}/{job.name}.parquet"
    with whole_file(plan.folder / file) as temporary:
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
        files = {file: {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}}
    return {"name": job.name, "split": source.split, "rows": table.num_rows, "files": files, **counts}


def _summary(plan: Plan, settings: Mapping[str, Any], shards: Sequence[Record]) -> dict[str, Any]:
    """Counts over the whole data set, from the shards as they lie on disk; the card is written on the way."""
    paths = _paths(plan.folder, shards)
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
    write_text(plan.folder / CARD, card(plan.sources, {"settings": settings, "shards": shards, **summary}))
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


def _paths(folder: Path, shards: Sequence[Record]) -> dict[str, list[Path]]:
    """The files of every split, in order."""
    paths: dict[str, list[Path]] = {}
    for shard in shards:
        paths.setdefault(shard["split"], []).extend(folder / file for file in shard["files"])
    return paths


def _checked_shards(folder: Path, manifest: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The shards of every split of a whole data set, their checksums verified."""
    listed = {file for shard in manifest["shards"] for file in shard["files"]}
    names = sorted(str(path.relative_to(folder)) for path in folder.glob(f"{DATA}/*.parquet"))
    foreign = [name for name in names if name not in listed]
    if foreign:
        raise DataError(f"{folder / foreign[0]} does not belong to this data set: move it elsewhere.")
    check_files(folder, manifest["shards"])
    return _paths(folder, manifest["shards"])
