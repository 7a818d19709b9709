"""The same jobs by `transformers`: a plain training loop with Qwen2ForCausalLM, and `generate`.

Both are set up as their documentation advises for speed, and every way that it offers is tried once before the rounds
begin; the quickest takes part. What a peer is given is ready for it: its batches are tensors before the clock starts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsm_lab.data import PackedRows, Tokenizer
from gsm_lab.errors import TrainingError
from gsm_lab.model import Transformer, save_checkpoint
from gsm_lab.study.engine_work import ADAMW
from gsm_lab.study.measured import seconds_of
from gsm_lab.training import Precision, Prompt, batch_loss

IGNORED = -100
"""What a label says where nothing is scored."""
SAME_LOSS = 1e-4
"""Relative difference at which two losses of the same batch are no longer the same work; in bfloat16 a hundredfold."""
Inputs = dict[str, Tensor]
"""What Qwen2ForCausalLM is called with."""


def transformers_model(ours: Transformer, tokenizer: Tokenizer, device: str = "cpu") -> Any:
    """The same weights as a model of `transformers`, with its quickest attention."""
    from transformers import AutoModelForCausalLM

    without_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        save_checkpoint(path, ours, None, tokenizer.eos_id, tokenizer.pad_id)
        model: Any = AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa")
    return model.to(device)


def without_progress_bars() -> None:
    """Have `transformers` load its models in silence."""
    logging: Any = import_module("transformers.utils.logging")
    logging.disable_progress_bar()


def packed_inputs(batch: PackedRows) -> Inputs:
    """Packed rows as they are: positions that begin anew tell `transformers` where a document begins."""
    labels = np.full(batch.tokens.shape, IGNORED, np.int64)
    labels[:, 1:] = np.where(batch.loss_mask, batch.targets, IGNORED)[:, :-1]
    return {
        "input_ids": torch.from_numpy(batch.tokens).long(),
        "position_ids": torch.from_numpy(batch.positions).long(),
        "labels": torch.from_numpy(labels),
    }


def padded_inputs(batch: PackedRows, pad_id: int) -> Inputs:
    """The same documents, one a row, padded on the right to the longest."""
    rows = [
        np.flatnonzero(documents == number) + row * batch.tokens.shape[1]
        for row, documents in enumerate(batch.documents)
        for number in range(documents.max() + 1)
    ]
    shape = (len(rows), max(map(len, rows)))
    tokens, labels = np.full(shape, pad_id, np.int64), np.full(shape, IGNORED, np.int64)
    attention = np.zeros(shape, np.int64)
    scored = np.where(batch.loss_mask, batch.targets, IGNORED).reshape(-1)
    for row, places in enumerate(rows):
        tokens[row, : len(places)] = batch.tokens.reshape(-1)[places]
        attention[row, : len(places)] = 1
        labels[row, 1 : len(places)] = scored[places[:-1]]
    return {
        "input_ids": torch.from_numpy(tokens),
        "attention_mask": torch.from_numpy(attention),
        "labels": torch.from_numpy(labels),
    }


class PlainLoop:
    """Forward, backward, clip, torch's fused AdamW: the loop that everybody writes.

    Raises:
        TrainingError: the loss of the first batch is another than ours: it would not be the same work.
    """

    def __init__(
        self,
        ours: Transformer,
        tokenizer: Tokenizer,
        batches: Sequence[PackedRows],
        way: str,
        precision: Precision = "float32",
    ) -> None:
        device = ours.device.type
        model = transformers_model(ours, tokenizer, device).train()
        model.config.use_cache = False  # with a cache, documents of a row would see one another
        inputs = [padded_inputs(one, tokenizer.pad_id) if way == "padded" else packed_inputs(one) for one in batches]
        self._inputs = [{name: value.to(device) for name, value in one.items()} for one in inputs]
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=ADAMW.learning_rate, betas=ADAMW.betas, eps=ADAMW.epsilon, weight_decay=0, fused=True
        )
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
        self._model = torch.compile(model) if way == COMPILED else model
        self.tokens = [int((one.documents >= 0).sum()) for one in batches]
        _check_same_loss(self._loss(0), ours, batches[0], precision)

    def rate(self, steps: int) -> float:
        """Useful tokens a second over so many steps, batch after batch."""

        def run() -> None:
            for step in range(steps):
                self._step(step % len(self._inputs))

        return sum(self.tokens[step % len(self.tokens)] for step in range(steps)) / seconds_of(run)

    def _loss(self, number: int) -> Tensor:
        with self._autocast:
            loss: Tensor = self._model(**self._inputs[number]).loss
        return loss

    def _step(self, number: int) -> None:
        self._loss(number).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, ADAMW.gradient_clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


COMPILED = "packed, compiled"
WAYS = ("packed", "padded", COMPILED)
"""How a plain loop can be given its documents."""


def possible_ways(ways: Sequence[str]) -> list[str]:
    """Those of `WAYS` that this machine can do: torch compiles with a C++ compiler."""
    return [way for way in ways if way != COMPILED or shutil.which("g++") or shutil.which("clang++")]


def _check_same_loss(theirs: Tensor, ours: Transformer, batch: PackedRows, precision: Precision) -> None:
    with torch.no_grad():
        own = float(batch_loss(ours, batch, precision=precision)) / batch.num_targets
    other = float(theirs.detach())
    if abs(own - other) > SAME_LOSS * own * (100 if precision == "bfloat16" else 1):
        raise TrainingError(
            f"our loss of the first batch is {own} and that of transformers {other}: this is not the same work. "
            f"Report it with the versions of torch and transformers."
        )


@dataclass(frozen=True)
class Generate:
    """A way to use `generate`: how many completions at once, with which cache."""

    rows: int
    cache: str

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.cache} cache"

    def tokens(
        self, model: Any, prompts: Sequence[Prompt], samples: int, longest: int, tokenizer: Tokenizer, seed: int
    ) -> int:
        """Complete every prompt so often from the whole distribution; how many tokens that were, end tokens too."""
        at_once = max(1, self.rows // samples)
        ordered = sorted(prompts, key=lambda prompt: len(prompt.ids))
        written = 0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for first in range(0, len(ordered), at_once):
                inputs = left_padded([one.ids for one in ordered[first : first + at_once]], tokenizer.pad_id)
                output = model.generate(
                    **{name: value.to(model.device) for name, value in inputs.items()},
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    num_return_sequences=samples,
                    max_new_tokens=longest,
                    eos_token_id=tokenizer.eos_id,
                    pad_token_id=tokenizer.pad_id,
                    **({"cache_implementation": "static"} if self.cache == "static" else {}),
                )
                written += count_written(output[:, inputs["input_ids"].shape[1] :], tokenizer.eos_id)
        return written


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> Inputs:
    """Prompts of different lengths that end in the same column."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def count_written(completions_RT: Tensor, eos_id: int) -> int:
    """Tokens up to the first end token of each row, with it: what comes after is padding."""
    ended_RT = (completions_RT == eos_id).cumsum(dim=1)
    before_RT = ended_RT - (completions_RT == eos_id).long()
    return int((before_RT == 0).sum())


def quickest(ways: Sequence[Any], rate: Callable[[Any], float]) -> Any:
    """The way with the highest rate; each is tried once."""
    if len(ways) == 1:
        return ways[0]
    return max(ways, key=rate)
