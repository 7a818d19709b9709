"""vLLM behind the protocol of `Sampler`: for a GPU, where it writes many completions at once.

NOT YET SEEN ON A GPU: written from the documentation of vLLM 0.33 and tested against a fake of what it uses of it
(`tests/training/test_vllm_sampler.py`). Before trusting it, look at `mismatch` in the metrics of a first run: with
`dtype="float32"` it should stay below 1e-3.

What it rests on, and why:
- Prompts go in as ids and the sampled ids come back; the engine has no tokenizer at all.
- Every completion is a request of its own, with its own 64-bit seed. One request for n completions would seed them
  with seed, seed + 1, ...: streams that overlap from prompt to prompt. The engine's prefix cache shares the prompt.
- `logprobs_mode="processed_logprobs"` gives log-probabilities after the temperature, those of what was drawn from; the
  default gives them before it.
- New weights go through a checkpoint on disk and the worker method `reload_weights`, the documented way that needs no
  object of the engine's inside: it works whether the engine runs in this process or, as by default, in another. A
  model of this size takes well under a second. Each version has a path of its own, because a path that was read before
  may be served from a cache (vllm#32718), and the prefix cache is emptied, because it holds the keys and values of the
  old weights.
- The engine has the same completions for the same weights and names only as far as its kernels do not depend on the
  batch: set VLLM_BATCH_INVARIANT=1 where that matters.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch.distributed

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, Sample, Transformer, save_checkpoint
from gsm_lab.training.rollouts import GroupName, OnDone, Prompt

MOST_SEED = 1 << 63
"""vLLM keeps seeds as signed 64-bit numbers."""


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """How the engine is set up; none of it changes what is asked of it.

    Raises:
        TrainingError: a share or a count outside its range.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and activations. In bfloat16 the engine is faster, and its log-probabilities are off by about 1 %."""
    memory_share: float = 0.3
    """Share of the GPU's memory that the engine may take, beside the training on the same GPU: above 0, 1 at most."""
    max_rows: int = 1024
    """Completions written at the same time."""
    compiled: bool = True
    """Whether the engine compiles its model and captures CUDA graphs: a minute at the start, faster from then on."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_share <= 1 or self.max_rows < 1:
            raise TrainingError(
                f"memory_share is {self.memory_share} and max_rows {self.max_rows}: give a share above 0 and at most "
                f"1, and 1 row or more."
            )


class VllmSampler:
    """Samples with a vLLM engine, which takes the model's weights anew in every call; close it at the end.

    Raises:
        TrainingError: when called: vLLM is not installed, several processes train together, or the engine broke one
            of the rules that it is used by.
    """

    def __init__(self, settings: VllmSettings | None = None) -> None:
        self.settings = settings or VllmSettings()
        self.version = 0
        """How often weights were handed over; stamped on the folder that the engine reads them from."""
        self._engine: Any = None
        self._shape: ModelShape | None = None
        self._folder: Path | None = None

    def __call__(
        self,
        model: Transformer,
        prompts: Sequence[Prompt],
        names: Sequence[GroupName],
        *,
        group_size: int,
        max_new_tokens: int,
        eos_id: int | tuple[int, ...],
        temperature: float,
        on_done: OnDone | None,
    ) -> list[list[Sample]]:
        """As `Sampler` says; `on_done` is called for all prompts together, when the engine is done with them all."""
        if not prompts:
            return []
        ends = frozenset((eos_id,) if isinstance(eos_id, int) else eos_id)
        self._take_weights(model, sorted(ends))
        outputs = self._engine.generate(
            [{"prompt_token_ids": list(prompt.ids)} for prompt in prompts for _ in range(group_size)],
            [
                self._parameters(name.stream_seed(number), max_new_tokens, sorted(ends), temperature)
                for name in names
                for number in range(group_size)
            ],
            use_tqdm=False,
        )
        asked = [prompt.ids for prompt in prompts for _ in range(group_size)]
        if len(outputs) != len(asked):
            raise TrainingError(f"vLLM gave {len(outputs)} completions for {len(asked)} requests: {_REMEDY}")
        flat = [sample_of(output, ids, ends) for output, ids in zip(outputs, asked, strict=True)]
        groups = [flat[first : first + group_size] for first in range(0, len(flat), group_size)]
        if on_done is not None:
            for place, group in enumerate(groups):
                on_done(place, group)
        return groups

    def close(self) -> None:
        """Let go of the engine, and remove the weights that it read."""
        self._engine = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _parameters(self, seed: int, max_new_tokens: int, ends: list[int], temperature: float) -> Any:
        """One completion from the whole distribution, ended by our end tokens and by no others."""
        return _vllm().SamplingParams(
            n=1,
            seed=seed % MOST_SEED,
            temperature=temperature,
            top_p=1.0,
            top_k=-1,
            min_p=0.0,
            max_tokens=max_new_tokens,
            stop_token_ids=ends,
            ignore_eos=True,
            logprobs=0,  # of the sampled token, and of no others
            detokenize=False,
        )

    def _take_weights(self, model: Transformer, ends: list[int]) -> None:
        """Hand the weights over as they are now; the first time, start the engine with them."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and _world_size() > 1:
            raise TrainingError(
                "vLLM samples for one training process only, and several train together: "
                "train with one process, or leave the sampling to the model itself (TorchSampler)."
            )
        vllm = _vllm()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gsm_lab-vllm-"))
        weights = self._folder / f"version-{self.version + 1}"
        save_checkpoint(weights, model, None, ends, pad_id=ends[0])
        if self._engine is None or self._shape != model.shape:
            self._engine = None  # before the next one is started: both do not fit into the memory
            self._engine, self._shape = self._started(vllm, weights, model.shape), model.shape
        else:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(weights)})
            if self._engine.reset_prefix_cache() is False:
                raise TrainingError(f"vLLM kept the keys and values of the weights before: {_REMEDY}")
        self.version += 1
        shutil.rmtree(self._folder / f"version-{self.version - 1}", ignore_errors=True)

    def _started(self, vllm: Any, weights: Path, shape: ModelShape) -> Any:
        return vllm.LLM(
            model=str(weights),
            skip_tokenizer_init=True,
            dtype=self.settings.dtype,
            max_model_len=shape.max_positions,
            max_num_seqs=self.settings.max_rows,
            gpu_memory_utilization=self.settings.memory_share,
            enforce_eager=not self.settings.compiled,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            generation_config="vllm",  # its own neutral settings, none from the checkpoint
            seed=0,
        )


_REMEDY = (
    "this adapter was written for vLLM 0.33; install that version, or sample with the model itself (TorchSampler)."
)


def sample_of(output: Any, prompt: Sequence[int], ends: frozenset[int]) -> Sample:
    """What vLLM wrote for one request, checked against what was asked.

    Raises:
        TrainingError: it continued another prompt, was cut off for a reason that is none of ours, or its
            log-probabilities are missing or not finite.
    """
    completion = output.outputs[0]
    ids, reason = tuple(completion.token_ids), completion.finish_reason
    if tuple(output.prompt_token_ids) != tuple(prompt):
        raise TrainingError(f"vLLM continued another prompt than the one it was given: {_REMEDY}")
    places = [place for place, token in enumerate(ids) if token in ends]
    whole = (reason == "stop" and places == [len(ids) - 1]) or (reason == "length" and places in ([], [len(ids) - 1]))
    if not ids or not whole:
        raise TrainingError(
            f"vLLM ended a completion of {len(ids)} tokens with {reason!r} and end tokens at {places}: {_REMEDY}"
        )
    if completion.logprobs is None or len(completion.logprobs) != len(ids):
        raise TrainingError(f"vLLM gave no log-probability for each of {len(ids)} tokens: {_REMEDY}")
    logprobs = tuple(float(of[token].logprob) for of, token in zip(completion.logprobs, ids, strict=True))
    if not all(math.isfinite(value) for value in logprobs):
        raise TrainingError(
            "vLLM's log-probabilities are not finite: the weights are damaged or diverged; "
            "go back to an earlier checkpoint, or train with a lower learning rate."
        )
    return Sample(ids, logprobs, finished=bool(places))


def _world_size() -> int:
    return torch.distributed.get_world_size()


def _vllm() -> Any:
    """The package, if it is there."""
    try:
        return import_module("vllm")
    except ImportError as error:
        raise TrainingError(
            "vLLM is not installed: install vllm==0.33.* on a machine with a GPU, in an environment of its own (it "
            "wants other versions of numpy and transformers), or sample with the model itself (TorchSampler)."
        ) from error
