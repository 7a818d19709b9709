"""Rollouts: prompts in, sampled and scored completions out, and all of them kept on disk.

A completion is a function of the policy and of a named random stream (seed, stage, step, prompt, sample), never of
what else is in the batch. Nothing here reads text: the ids that were sampled are the ids that are trained on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsm_lab.errors import TrainingError
from gsm_lab.files import whole_file
from gsm_lab.model import Sample, Transformer, sample
from gsm_lab.seeds import stream_seed
from gsm_lab.training.reward import Scored


@dataclass(frozen=True)
class Prompt:
    """Something to complete."""

    ids: tuple[int, ...]
    key: str
    """Names the prompt's random streams and its rows on disk; the text is never compared."""
    payload: object = None
    """Handed to the reward with each completion; not looked at here."""


OnDone = Callable[[int, list[Sample]], None]
"""Called with the place of a prompt and all its samples, as soon as they are written."""


@dataclass(frozen=True)
class Rollout:
    """One completion with its score."""

    group: int
    """The prompt's place in the step: what makes a group, even if two prompts are the same."""
    number: int
    """Which sample of its prompt."""
    prompt: Prompt
    sample: Sample
    scored: Scored


@dataclass(frozen=True)
class GroupName:
    """Names the random streams of one prompt's completions, whatever else is sampled with them."""

    seed: int
    stage: str
    step: int
    group: int
    """The prompt's place in the step: two prompts that are the same have different streams."""
    key: str
    """The prompt's own."""

    def stream_seed(self, number: int) -> int:
        """The 64-bit seed of the random stream of sample `number`."""
        return stream_seed(self.seed, self.stage, "rollout", self.step, self.group, self.key, number)


class Sampler(Protocol):
    """Writes the completions of some prompts of a step: the model itself (`TorchSampler`), or another engine.

    The loop checks no engine's word: it compares the log-probabilities it is given with those of the model in
    training, and logs the difference (`mismatch`) at every step.
    """

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
        """`group_size` completions of every prompt, prompt by prompt in the order given.

        Args:
            model: whose weights as they are NOW are to be sampled from; an engine with a copy of them takes them anew
                in every call. Left as it was. Its mode and its device are those of training.
            prompts: one or more, whose ids fit: the longest and `max_new_tokens` are within the model's positions.
            names: one for each prompt. Sample k draws from the random stream seeded with `name.stream_seed(k)`, so
                that the same weights and names give the same completions, as exactly as the engine can.
            group_size: samples a prompt; at least 2.
            max_new_tokens: where a completion without an end token is cut.
            eos_id: the token, or any of the tokens, that ends a completion.
            temperature: above 0; divides the logits.
            on_done: called once for every prompt, as soon as all its samples are written and before this returns, in
                the caller's thread and in any order of prompts, with the prompt's place in `prompts` and its samples.

        Returns:
            For every prompt a list of `group_size` samples, in the order of their numbers. Of each: the sampled ids
            themselves, with the end token when one was written and nothing after it (never read back from text; at
            least one id, at most `max_new_tokens`); for each of them, the end token too, the log-probability in nats
            of the distribution it was drawn from, that is `log_softmax(logits / temperature)` over the WHOLE
            vocabulary, in float32 (so no top-k, top-p or penalties; not the logits' own log-probabilities at
            temperature 1); and `finished`: whether an end token was written, also as the last one that fits.
        """
        ...


@dataclass(frozen=True)
class TorchSampler:
    """Samples with the model itself; each completion has a Philox stream of its own name."""

    max_rows: int = 256
    """Completions written at the same time: memory and speed only."""

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
        return sample(
            model,
            [prompt.ids for prompt in prompts],
            [rollout_uniforms(name, group_size, max_new_tokens) for name in names],
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
            temperature=temperature,
            max_rows=self.max_rows,
            on_done=on_done,
        )


def rollout_uniforms(name: GroupName, samples: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random numbers of one prompt's completions, a stream for each: (samples, length)."""
    seeds = [name.stream_seed(number) for number in range(samples)]
    return np.stack([np.random.Generator(np.random.Philox(key=seed)).random(length) for seed in seeds])


def rollouts_path(folder: Path, step: int) -> Path:
    """Where the rollouts of `step` are kept."""
    return folder / f"step-{step:05d}.parquet"


def write_rollouts(path: Path, step: int, rollouts: Sequence[Rollout], advantages: Sequence[float]) -> None:
    """Keep every rollout of a step, whole or not at all; the same rollouts give the same bytes.

    Raises:
        TrainingError: a further column of the reward has the name of one of ours, or values of several types.
    """
    columns = {
        "step": pa.array([step] * len(rollouts), pa.int32()),
        "group": pa.array([one.group for one in rollouts], pa.int32()),
        "prompt": pa.array([one.prompt.key for one in rollouts], pa.string()),
        "sample": pa.array([one.number for one in rollouts], pa.int32()),
        "ids": pa.array([one.sample.ids for one in rollouts], pa.list_(pa.int32())),
        "logprobs": pa.array([one.sample.logprobs for one in rollouts], pa.list_(pa.float32())),
        "reward": pa.array([one.scored.reward for one in rollouts], pa.float64()),
        "advantage": pa.array(advantages, pa.float64()),
        "verdict": pa.array([one.scored.verdict for one in rollouts], pa.string()),
        "verified": pa.array([one.scored.verified for one in rollouts], pa.bool_()),
        "finished": pa.array([one.sample.finished for one in rollouts], pa.bool_()),
    }
    if any(one.scored.steps is not None for one in rollouts):
        steps = [one.scored.steps or () for one in rollouts]
        columns["step_places"] = pa.array([[place for place, _ in own] for own in steps], pa.list_(pa.int32()))
        columns["step_rewards"] = pa.array([[reward for _, reward in own] for own in steps], pa.list_(pa.float64()))
    further = list(dict.fromkeys(name for one in rollouts for name in one.scored.columns))
    if taken := [name for name in further if name in columns]:
        raise TrainingError(f"the reward's columns {taken} have names that are taken: rename them.")
    columns |= {name: _column(name, [one.scored.columns.get(name) for one in rollouts]) for name in further}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TrainingError(
            f"the reward's column {name!r} cannot be kept ({error}): give numbers, strings or bools, of one type, "
            f"for every completion."
        ) from error


def drop_rollouts_from(folder: Path, step: int) -> None:
    """Remove the rollouts of `step` and later, and files that were being written: they will be sampled again."""
    late: Iterable[Path] = (path for path in folder.glob("step-*.parquet") if int(path.stem[5:]) >= step)
    for path in (*late, *folder.glob(".step-*.part")):
        path.unlink()
