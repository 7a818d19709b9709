"""Jobs that fill a folder of shards between them: who may write it, which shards each does, and what is whole already.

A shard is a pure function of the folder's settings and its number, so its bytes depend neither on the number of
workers, nor on how shards were shared out to machines, nor on how often the work was killed. `progress/` claims the
folder and holds a record for every whole shard; the manifest takes its place when all of them are there. A folder
without a manifest is no data set yet.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from gsm_lab.errors import DataError, StorageError
from gsm_lab.files import sha256_of, write_json

MANIFEST, PROGRESS = "manifest.json", "progress"
_SETTINGS = "settings.json"
MOST_DIFFERENCES = 8
MOST_SHOWN = 60
"""Characters of a setting that a message shows."""
Part = tuple[int, int]
"""(i, N): every N-th shard from shard i on, for the i-th of N machines; i counts from 0."""
Record = dict[str, Any]
"""What is known of a whole shard: its "name", "files" (name -> {"bytes", "sha256"}), and what its writer adds."""
Progress = Callable[[int, int], None]
Job = TypeVar("Job")


def share_of(jobs: Sequence[Job], part: Part | None) -> Sequence[Job]:
    """The jobs of one of N parts; all of them for None.

    Raises:
        DataError: there is no such part.
    """
    if part is None:
        return jobs
    number, parts = part
    if not 0 <= number < parts:
        raise DataError(f"part={part}: give (i, N) with i from 0 to N - 1.")
    return jobs[number::parts]


@contextmanager
def only_writer(folder: Path, part: Part | None = None) -> Iterator[None]:
    """Hold the folder, or one part of it, against a second writer on this machine.

    The lock lies among temporary files, not in the folder. Whoever writes without parts while another writes a part
    does work twice, and writes the same bytes.

    Raises:
        DataError: there is one.
        StorageError: the lock cannot be made.
    """
    name = hashlib.blake2b(f"{folder.resolve()} {part}".encode(), digest_size=8).hexdigest()
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


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards, half written or whole; `settings` decide all of its bytes and hold its "format"."""

    path: Path
    settings: Mapping[str, Any]

    def claim(self) -> None:
        """Take the folder: new, empty, or ours already.

        Raises:
            DataError: it holds something else; for another data set, how its settings differ.
            StorageError: it cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path} is a file: give another name, or a folder.")
        ours = [self.path / MANIFEST, self.path / PROGRESS / _SETTINGS]
        claimed = [path for path in ours if path.is_file()]
        strangers = [] if claimed or not self.path.is_dir() else [*_strangers(self.path)]
        if strangers:
            raise DataError(
                f"{self.path} holds {strangers[0].name!r}, but neither {MANIFEST} nor {PROGRESS}/{_SETTINGS}: "
                f"give a new or an empty folder."
            )
        if not claimed:
            write_json(ours[1], {"settings": self.settings})
            claimed = ours[1:]  # read again: another machine may have been faster
        self._compare(_read(claimed[0])["settings"])

    def _compare(self, there: Mapping[str, Any]) -> None:
        differing = list(differences(there, json.loads(json.dumps(self.settings))))
        if differing:
            more = f"; and {len(differing) - MOST_DIFFERENCES} more" if len(differing) > MOST_DIFFERENCES else ""
            raise DataError(
                f"{self.path} holds another data set ({'; '.join(differing[:MOST_DIFFERENCES])}{more}): "
                f"give a new folder, or delete this one."
            )

    def whole(self, names: Sequence[str]) -> dict[str, Record]:
        """The records of those shards that are there with the right checksums.

        A manifest that some of them belie is taken back: its records become those of a work in progress.
        """
        manifest = self.path / MANIFEST
        listed = {}
        if manifest.is_file():
            listed = {record["name"]: record for record in _read(manifest)["shards"]}
        found = {}
        for name in names:
            record = listed.get(name) or self._record(name)
            if record is not None and all(_is_whole(self.path / file, said) for file, said in record["files"].items()):
                found[name] = record
        if listed and len(found) < len(names):
            for record in listed.values():
                self.keep(record)
            write_json(self.path / PROGRESS / _SETTINGS, {"settings": self.settings})
            manifest.unlink(missing_ok=True)
        for name in set(names) - set(found):
            self._record_path(name).unlink(missing_ok=True)
        return found

    def keep(self, record: Record) -> None:
        """Say that a shard is whole."""
        write_json(self._record_path(record["name"]), record)

    def finish(self, names: Sequence[str], summary: Callable[[Sequence[Record]], Mapping[str, Any]]) -> bool:
        """Write the manifest if all shards are there, whoever wrote them; whether they are."""
        if not (self.path / MANIFEST).is_file():
            records = [self._record(name) for name in names]
            shards = [record for record in records if record is not None]
            if len(shards) < len(records):
                return (self.path / MANIFEST).is_file()  # another part may have written it just now, and tidied up
            write_json(self.path / MANIFEST, {"settings": self.settings, "shards": shards, **summary(shards)})
        shutil.rmtree(self.path / PROGRESS, ignore_errors=True)
        for remnant in self.path.glob(".*.part"):  # of a writer that was killed
            remnant.unlink(missing_ok=True)
        return True

    def _record_path(self, name: str) -> Path:
        return self.path / PROGRESS / f"{name}.json"

    def _record(self, name: str) -> Record | None:
        path = self._record_path(name)
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}): delete it, and its shard is written anew.") from error
        return record


def read_manifest(folder: Path | str, format: str) -> dict[str, Any]:
    """What the manifest of a data set of this format says.

    Raises:
        DataError: there is none, it is damaged, or of another format.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DataError(
            f"there is no {path}: give the folder of a data set; if it holds {PROGRESS}, its generation was "
            f"interrupted, so run the same command again."
        )
    manifest = _read(path)
    if manifest["settings"].get("format") != format:
        raise DataError(f"{path} is not of {format!r}: read it with the version of gsm_lab that wrote it.")
    return manifest


def check_files(folder: Path, shards: Iterable[Record], checksums: bool = True) -> None:
    """See that the files of all shards are there and whole; without checksums, that their sizes are right.

    Raises:
        DataError: one is missing or damaged.
    """
    for record in shards:
        for file, said in record["files"].items():
            path = folder / file
            if not path.is_file() or path.stat().st_size != said["bytes"] or (checksums and not _is_whole(path, said)):
                raise DataError(
                    f"{path} is damaged or missing: it should have {said['bytes']} bytes with SHA-256 "
                    f"{said['sha256']}. Write the data set again with the same settings: only what is damaged is "
                    f"written anew."
                )


def differences(there: Any, asked: Any, name: str = "") -> Iterator[str]:
    """What differs between two JSON values: `mixture.slices.0.spec.op: 3 there, 5 asked`."""
    if isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        there, asked = dict(enumerate(there)), dict(enumerate(asked))
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in [*there, *(key for key in asked if key not in there)]:
            yield from differences(there.get(key), asked.get(key), f"{name}.{key}" if name else str(key))
    elif there != asked:
        yield f"{name}: {_shown(there)} there, {_shown(asked)} asked"


def _shown(value: Any) -> str:
    """A setting in a message: in full if it is short, else how long it is, or how it begins."""
    text = str(value)
    if len(text) <= MOST_SHOWN:
        return text
    return f"{len(value)} entries" if isinstance(value, list | dict) else f"{text[:MOST_SHOWN]}..."


def _strangers(folder: Path) -> Iterator[Path]:
    """Files that a writer of ours would not have left behind before its claim."""
    return (path for path in folder.iterdir() if not path.name.endswith(".part") and path.name != PROGRESS)


def _is_whole(path: Path, said: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == said["bytes"] and sha256_of(path) == said["sha256"]


def _read(path: Path) -> dict[str, Any]:
    """A manifest or the settings of a work in progress."""
    try:
        content: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        whole = all({*shard} >= {"name", "files"} for shard in content.get("shards", []))
        if not whole or not isinstance(content["settings"], dict):
            raise ValueError("it is no manifest")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete its folder and write the data set again.") from error
    return content
