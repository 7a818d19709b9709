"""Run folders: one folder a stage, named by its identity, marked as done only when everything in it is whole.

runs/<stage id>/
  config.json       what the identity hashes: task, scale, seed, stages up to this one
  preflight.json    the batch arithmetic and what the probe gave, stated before the first step
  metrics.jsonl     one line a step: what can be recomputed bit for bit
  timings.jsonl     seconds by phase
  rollouts/         every completion of reinforcement learning, one file a step
  state/            exact training state, to resume from
  checkpoint/       the result, in the Hugging Face layout, with its tokenizer
  done.json         checksums of the result; written last
  evaluation-<id>/  completions and tables of an evaluation
  edge-<id>/        which ops are ID, edge and hard (see edge_finder.py)
  .lock             who trains or evaluates the stage now
runs/tracking/      what trackers hold of all stages, if any were asked for (see tracking.py)
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gsm_lab.errors import RunError, StorageError
from gsm_lab.files import sha256_of, write_json
from gsm_lab.study.options import OnNotice, no_notice
from gsm_lab.study.recipe import Recipe


@dataclass(frozen=True)
class StageFolder:
    """The folder of stage `number` of `recipe` below `home`."""

    home: Path
    recipe: Recipe
    number: int

    @cached_property  # identities are hashes of whole recipes, and a sweep asks for many folders again and again
    def path(self) -> Path:
        return self.home / self.recipe.stage_id(self.number)

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @cached_property
    def evaluation(self) -> Path:
        return self.path / f"evaluation-{self.recipe.evaluation.id}"

    @property
    def before(self) -> "StageFolder | None":
        """The folder of the stage that this one goes on from."""
        return StageFolder(self.home, self.recipe, self.number - 1) if self.number else None

    @property
    def is_done(self) -> bool:
        """Whether the stage has been trained to its end."""
        return (self.path / "done.json").is_file()

    @property
    def is_evaluated(self) -> bool:
        """Whether the evaluation of this recipe's settings is complete."""
        return (self.evaluation / "done.json").is_file()

    def open(self) -> None:
        """Make the folder, or check that the one there is this stage's.

        Raises:
            RunError: the folder holds something else.
        """
        clear_remnants(self.path)
        config = self.path / "config.json"
        if not config.exists():
            if self.path.exists() and any(entry.name != ".lock" for entry in self.path.iterdir()):
                raise RunError(
                    f"{self.path} holds files but no config.json, so it is no run folder of ours: "
                    f"move it away, or choose another folder with --runs."
                )
            write_json(config, self.recipe.identity(self.number))
        self._check_config()

    def _check_config(self) -> None:
        wanted = json.loads(json.dumps(self.recipe.identity(self.number)))
        found = read_json(self.path / "config.json")
        if found != wanted:
            differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise RunError(
                f"{self.path} belongs to another recipe (it differs in {', '.join(differing)}): "
                f"move it away, or choose another folder with --runs."
            )

    def finish(self, figures: dict[str, Any]) -> None:
        """Mark the stage as done, with the checksums of its checkpoint."""
        checksums = {entry.name: sha256_of(entry) for entry in sorted(self.checkpoint.iterdir())}
        write_json(self.path / "done.json", {"checkpoint": checksums, **figures})

    def result(self) -> dict[str, str]:
        """The checksum of every file of the checkpoint that a done stage ended with.

        Raises:
            RunError: done.json is missing or damaged.
        """
        path = self.path / "done.json"
        found = read_json(path)
        checksums = found.get("checkpoint") if isinstance(found, dict) else None
        if not isinstance(checksums, dict) or "model.safetensors" not in checksums:
            raise _without_checksums(path)
        return checksums

    def evaluated(self) -> dict[str, str]:
        """The checksum of every file of a complete evaluation.

        Raises:
            RunError: its done.json is missing or damaged.
        """
        path = self.evaluation / "done.json"
        checksums = read_json(path)
        if not isinstance(checksums, dict) or not checksums:
            raise _without_checksums(path)
        return checksums

    def metrics(self) -> Path:
        """The log of a stage that has been trained.

        Raises:
            RunError: there is none.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            raise RunError(f"{path} is missing: remove {self.path} and run the recipe again.")
        return path

    def check_done(self) -> None:
        """Check that a done stage is this one, and its result against its checksums.

        Raises:
            RunError: the folder holds something else, or a file of the checkpoint is missing or has changed.
        """
        self._check_config()
        for name, checksum in self.result().items():
            file = self.checkpoint / name
            if not file.is_file() or sha256_of(file) != checksum:
                raise RunError(
                    f"{file} is missing or has changed since the stage was done: "
                    f"remove {self.path} and run the recipe again."
                )

    @contextmanager
    def locked(self, on_notice: OnNotice = no_notice) -> Iterator[None]:
        """Hold the stage, so that no other process computes it at the same time; waits for one that does."""
        path = self.path / ".lock"
        lock = FileLock(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                on_notice(f"waiting for {self.path}, which is held by {_holder(path)}")
                lock.acquire(timeout=24 * 3600)
            path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        except Timeout as error:
            raise RunError(
                f"{self.path} has been held by {_holder(path)} for a day: end it, then run again."
            ) from error
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror or error}): choose another folder with --runs."
            ) from error
        try:
            yield
        finally:
            lock.release()


def _holder(lock: Path) -> str:
    """Who wrote himself into a lock that is held."""
    try:
        return lock.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, ValueError):
        return "another process"


def _without_checksums(path: Path) -> RunError:
    return RunError(f"{path} is damaged: it holds no checksums. Remove its folder and run the recipe again.")


def clear_remnants(folder: Path) -> None:
    """Remove what a writer that was killed has left; only for who holds the stage."""
    for remnant in (*folder.glob(".*.part"), *folder.glob(".*.old")):
        if remnant.is_dir():
            shutil.rmtree(remnant)
        else:
            remnant.unlink()


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        RunError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is missing or damaged ({error}): remove its folder and run the recipe again."
        ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a JSON Lines file; none if there is no file.

    Raises:
        RunError: a line is not JSON.
    """
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): remove its folder and run the recipe again.") from error
