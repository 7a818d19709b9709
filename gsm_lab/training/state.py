"""Exact training state on disk: a run that is killed goes on as if it had not been.

A state is one folder `state-00000123`: `tensors.safetensors` (weights and optimiser) and `state.json` (counters, and
checksums of both files). It is written under another name, flushed to disk, then renamed: it is whole or absent. The
newest one is loaded; if somebody damaged it afterwards it is refused by name, not passed over.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gsm_lab.errors import CheckpointError, StorageError
from gsm_lab.files import sha256_of
from gsm_lab.training.optimizer import Optimizer

FORMAT = 2
"""Of `state.json`, and of the counters that the loops keep in it."""
_MODEL = "model."
_OPTIMIZER = "optimizer."


@dataclass(frozen=True)
class TrainingState:
    """What a run needs besides weights and optimiser to go on: counters, and the name of the run."""

    step: int
    """Steps done; the next step has this number."""
    counters: Mapping[str, Any]
    """JSON-ready values: the place in the data, tokens seen, lengths of the log files."""


def fingerprint_of(model: nn.Module, names: Mapping[str, Any]) -> str:
    """The identity of a run: everything in `names`, and the weights it starts from."""
    digest = hashlib.sha256(json.dumps(names, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class StateFolder:
    """The states of one run."""

    def __init__(self, folder: Path, fingerprint: str, keep: int = 2) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.keep = keep

    def save(self, state: TrainingState, model: nn.Module, optimizer: Optimizer) -> Path:
        """Write a state, whole or not at all, and drop all but the newest ones.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        target = self.folder / f"state-{state.step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=self.folder))
            try:
                self._write(temporary, state, _tensors(model, optimizer))
                os.replace(temporary, target)
                _flush(self.folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            self._drop_old()
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"{target} could not be written ({error}): nothing was left there. "
                f"Free some space, then run the same command again; it goes on from the last whole state."
            ) from error
        return target

    def load(self, model: nn.Module, optimizer: Optimizer) -> TrainingState | None:
        """Put the newest state into model and optimiser; None when there is none, and nothing was touched.

        Raises:
            CheckpointError: the newest state is damaged, or another run's.
        """
        for leftover in self.folder.glob(".state-*"):
            shutil.rmtree(leftover)
        states = self._states()
        if not states:
            return None
        body = self._read_counters(states[-1])
        tensors = _read_tensors(states[-1], body["tensors_sha256"])
        _check_same_tensors(states[-1], model, tensors)
        optimizer.load_state(_below(_OPTIMIZER, tensors))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(tensors[_MODEL + name])
        self._drop_old()  # a kill between saving and dropping leaves one too many
        return TrainingState(body["step"], body["counters"])

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*"))

    def _write(self, folder: Path, state: TrainingState, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / "tensors.safetensors")
        body = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "step": state.step,
            "counters": dict(state.counters),
            "tensors_sha256": sha256_of(folder / "tensors.safetensors"),
        }
        text = json.dumps({"body": body, "sha256": _sha256(body)}, sort_keys=True, indent=1)
        (folder / "state.json").write_text(text + "\n", encoding="utf-8")
        for path in (folder / "tensors.safetensors", folder / "state.json", folder):
            _flush(path)
        os.chmod(folder, 0o755)

    def _drop_old(self) -> None:
        """Rename before removing: half a removed state must not look like a state."""
        for old in self._states()[: -self.keep]:
            gone = old.with_name(f".{old.name}.gone")
            os.replace(old, gone)
            shutil.rmtree(gone)

    def _read_counters(self, state: Path) -> dict[str, Any]:
        try:
            content = json.loads((state / "state.json").read_text(encoding="utf-8"))
            body = content["body"]
            whole, found = content["sha256"] == _sha256(body), body["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(state, f"state.json cannot be read: {error!r}") from error
        if not whole:
            raise _damaged(state, "state.json does not have the checksum it was written with")
        if found != FORMAT:
            raise CheckpointError(
                f"{state} has format {found}, and this version of gsm_lab goes on from format {FORMAT}: "
                f"end the run with the version that began it, or remove the folder above it to begin anew."
            )
        if body["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{state} belongs to another run: its settings, its data or the weights it began with differ "
                f"(it has {body['fingerprint'][:12]}, this run has {self.fingerprint[:12]}). "
                f"Choose another folder, or go back to the settings it was made with."
            )
        return dict(body)


def _read_tensors(state: Path, sha256: str) -> dict[str, Tensor]:
    path = state / "tensors.safetensors"
    try:
        found = sha256_of(path)
        if found != sha256:
            raise _damaged(state, f"{path.name} has checksum {found[:12]}, it was written with {sha256[:12]}")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(state, f"{path.name} cannot be read: {error!r}") from error


def _check_same_tensors(state: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = {name: value.shape for name, value in model.state_dict().items()}
    if own != {name: value.shape for name, value in _below(_MODEL, tensors).items()}:
        raise CheckpointError(f"{state} holds weights of another shape: use the model it was saved from.")


def _tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    named = {_MODEL + name: value for name, value in model.state_dict().items()}
    named |= {_OPTIMIZER + name: value for name, value in optimizer.state.items()}
    return {name: value.detach().contiguous() for name, value in named.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _sha256(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _damaged(state: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{state} is damaged ({reason}). Remove this folder to go on from the state before it, "
        f"or the folder above it to begin anew."
    )


def _flush(path: Path) -> None:
    """Push a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
