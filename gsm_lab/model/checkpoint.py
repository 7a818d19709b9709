"""Checkpoints in the Hugging Face layout: a folder that our code and every tool that knows Qwen2 can open.

A folder appears whole or not at all: it is written under a temporary name beside its place, flushed, then renamed.
`checksums.json` is ours; other tools ignore it. A Qwen2 folder without it, written by another tool, is read as long as
its mathematics is ours; what it holds is then checked by names and shapes only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gsm_lab.errors import CheckpointError, RecipeError, StorageError
from gsm_lab.files import sha256_of, write_json
from gsm_lab.model.shape import ModelShape
from gsm_lab.model.transformer import INITIAL_STD, Transformer

CONFIG, GENERATION, WEIGHTS, CHECKSUMS = "config.json", "generation_config.json", "model.safetensors", "checksums.json"
_HEAD, _TABLE = "lm_head.weight", "model.embed_tokens.weight"


def save_checkpoint(
    folder: Path, model: Transformer, tokenizer_files: Path | None, eos_id: int | Sequence[int], pad_id: int
) -> None:
    """Write `model` to `folder`, whole or not at all; a checkpoint that is already there is replaced.

    Args:
        folder: where `AutoModelForCausalLM.from_pretrained` will find it.
        model: on any device; the weights are written as they are, in their own precision.
        tokenizer_files: a folder whose files (not folders) are copied into the checkpoint.
        eos_id: the token, or all the tokens, that end a text.
        pad_id: the token that fills rows up.

    Raises:
        CheckpointError: `folder` holds something that is not a checkpoint, an id is outside the vocabulary, or
            `tokenizer_files` is no folder.
        StorageError: the disk is full, or the folder cannot be written.
    """
    ends = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    outside = [token for token in [*ends, pad_id] if not 0 <= token < model.shape.vocab_size]
    if outside or not ends:
        raise CheckpointError(
            f"end tokens {ends} and padding {pad_id} must be ids below {model.shape.vocab_size}, with one end token "
            f"at least: give the ids of the tokenizer that the model was trained with."
        )
    if tokenizer_files is not None and not tokenizer_files.is_dir():
        raise CheckpointError(f"{tokenizer_files} is no folder: give the folder that the tokenizer was saved to.")
    with _whole_folder(folder) as temporary:
        if tokenizer_files is not None:
            for file in sorted(tokenizer_files.iterdir()):
                if file.is_file():
                    shutil.copyfile(file, temporary / file.name)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, _config(model.shape, weights[_TABLE].dtype, ends, pad_id))
        write_json(temporary / GENERATION, _generation(ends, pad_id))
        write_json(temporary / CHECKSUMS, {file.name: sha256_of(file) for file in sorted(temporary.iterdir())})


def load_checkpoint(folder: Path) -> Transformer:
    """The model in `folder`, in float32 on the CPU; needs no `transformers`.

    Raises:
        CheckpointError: the folder is not a Qwen2 checkpoint of our mathematics, or is damaged.
    """
    config = _read_json(folder / CONFIG)
    shape = _shape(folder, config)
    _verify(folder)
    model = Transformer(shape)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, f"{WEIGHTS} cannot be read ({error})") from error
    if shape.tied_embeddings:
        weights.pop(_HEAD, None)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise _damaged(folder, f"{name} has shape {found.get(name)} in {WEIGHTS} but {wanted.get(name)} by {CONFIG}")
    model.load_state_dict(weights)
    return model


def _config(shape: ModelShape, dtype: torch.dtype, ends: list[int], pad_id: int) -> dict[str, Any]:
    """config.json; the rotary base and the precision under their old and new names, for tools of both ages."""
    precision = str(dtype).removeprefix("torch.")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": precision,
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": INITIAL_STD,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.max_positions,
        "max_window_layers": shape.layers,
        "model_type": "qwen2",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pad_token_id": pad_id,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "rope_theta": shape.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": shape.tied_embeddings,
        "torch_dtype": precision,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab_size,
    }


def _generation(ends: list[int], pad_id: int) -> dict[str, Any]:
    """generation_config.json: draw from the whole distribution, which is not every tool's default."""
    return {
        "do_sample": True,
        "eos_token_id": ends,
        "pad_token_id": pad_id,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
    }


def _shape(folder: Path, config: dict[str, Any]) -> ModelShape:
    """The shape that a config describes, if its mathematics is ours."""
    rope = config.get("rope_parameters") or {}
    foreign = [
        f"{name} is {config.get(name)!r}"
        for name, ours in (
            ("model_type", ("qwen2",)),
            ("hidden_act", ("silu",)),
            ("use_sliding_window", (False, None)),
            ("rope_scaling", (None,)),
        )
        if config.get(name) not in ours
    ]
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        foreign.append(f"rope_parameters is {rope!r}")
    if foreign:
        raise CheckpointError(
            f"{folder} holds another kind of model ({'; '.join(foreign)}): "
            f"give a Qwen2 checkpoint with plain rotary positions, such as gsm_lab saves."
        )
    try:
        return ModelShape(
            vocab_size=config["vocab_size"],
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            ffn=config["intermediate_size"],
            max_positions=config["max_position_embeddings"],
            rope_theta=float(rope["rope_theta"] if "rope_theta" in rope else config["rope_theta"]),
            norm_eps=float(config["rms_norm_eps"]),
            tied_embeddings=bool(config["tie_word_embeddings"]),
        )
    except (KeyError, TypeError, RecipeError) as error:
        raise _damaged(folder, f"{CONFIG} lacks a size or has a wrong one ({error})") from error


def _verify(folder: Path) -> None:
    """Compare every file with `checksums.json`, if that is there."""
    if not (folder / CHECKSUMS).exists():
        return
    for name, checksum in _read_json(folder / CHECKSUMS).items():
        if not (folder / name).is_file():
            raise _damaged(folder, f"{name} is missing")
        if sha256_of(folder / name) != checksum:
            raise _damaged(folder, f"{name} is not what was saved, by {CHECKSUMS}")


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path.parent, f"{path.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path.parent, f"{path.name} holds no JSON object")
    return value


def _damaged(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} is not a whole checkpoint: {reason}. Save it again, copy it again from where it was whole, "
        f"or, if another tool changed it on purpose, delete its {CHECKSUMS}."
    )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` if the block ends well, and vanishes if not.

    Raises:
        CheckpointError: `folder` is there and holds something that is not a checkpoint.
        StorageError: it could not be written.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / CONFIG).exists() or not any(folder.iterdir()))):
        raise CheckpointError(f"{folder} is there and holds no checkpoint: choose a new or an empty folder.")
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        temporary.chmod(0o755)
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        old = temporary.with_suffix(".old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{folder} could not be written ({error}): nothing was left there. "
            f"Free some space or choose another folder, then run the same command again."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
