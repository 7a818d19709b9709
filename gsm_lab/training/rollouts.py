"""Rollouts: prompts in, sampled and scored completions out, and all of them kept on disk.

A completion is a function of the policy and of a named random stream (seed, stage, step, prompt, sample), never of
what else is in the batch. Nothing here reads text: the ids that were sampled are the ids that are trained on.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsm_lab.errors import TrainingError
from gsm_lab.files import whole_file
from gsm_lab.model import Sample, Transformer, sample
from gsm_lab.seeds import stream_seed


@dataclass(frozen=True)
class Prompt:
    """Something to complete."""

    ids: tuple[int, ...]
    key: str
    """Names the prompt's random streams and its rows on disk; the text is never compared."""
    payload: object = None
    """Handed to the reward with each completion; not looked at here."""


@dataclass(frozen=True)
class Scored:
    """What a reward function says of one completion."""

    reward: float
    """What training raises."""
    verdict: str
    """The outcome's name."""
    verified: bool
    """Success as it is reported, whatever the reward: the two are never mixed."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further values to keep on disk: numbers, strings, bools; None only as a scalar of pyarrow, which has a type."""


Reward = Callable[[Sequence[tuple[object, tuple[int, ...], bool]]], Sequence[Scored]]
"""From (payload, sampled ids, finished) of every completion of a step to its scores, in the same order.

An exception goes through and ends the run: a reward that broke is not a reward of 0.
"""


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


def rollout_uniforms(
    prompt: Prompt, group: int, *, seed: int, stage: str, step: int, samples: int, length: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random numbers of one prompt's completions, a named stream for each: (samples, length)."""
    names = [stream_seed(seed, stage, "rollout", step, group, prompt.key, number) for number in range(samples)]
    return np.stack([np.random.Generator(np.random.Philox(key=name)).random(length) for name in names])


def sample_groups(
    model: Transformer,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    stage: str,
    step: int,
    group_size: int,
    max_new_tokens: int,
    eos_id: int | tuple[int, ...],
    temperature: float,
    max_rows: int,
) -> list[list[Sample]]:
    """`group_size` completions of every prompt."""
    uniforms = [
        rollout_uniforms(prompt, group, seed=seed, stage=stage, step=step, samples=group_size, length=max_new_tokens)
        for group, prompt in enumerate(prompts)
    ]
    return sample(
        model,
        [prompt.ids for prompt in prompts],
        uniforms,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        temperature=temperature,
        max_rows=max_rows,
    )


def score_groups(prompts: Sequence[Prompt], groups: Sequence[Sequence[Sample]], reward: Reward) -> list[Rollout]:
    """Every completion with its score, prompt by prompt.

    Raises:
        TrainingError: the reward gives another number of scores, or one that is not finite.
    """
    flat = [
        (group, number, prompt, one)
        for group, (prompt, samples) in enumerate(zip(prompts, groups, strict=True))
        for number, one in enumerate(samples)
    ]
    scores = reward([(prompt.payload, one.ids, one.finished) for _, _, prompt, one in flat])
    if len(scores) != len(flat):
        raise TrainingError(f"the reward gave {len(scores)} scores for {len(flat)} completions: give one for each.")
    for (_, number, prompt, _), scored in zip(flat, scores, strict=True):
        if not math.isfinite(scored.reward):
            raise TrainingError(
                f"the reward of sample {number} of prompt {prompt.key!r} is {scored.reward}: "
                f"give a finite number, or raise an exception if it cannot be scored."
            )
    return [Rollout(*parts, scored) for parts, scored in zip(flat, scores, strict=True)]


def rollouts_path(folder: Path, step: int) -> Path:
    """Where the rollouts of `step` are kept."""
    return folder / f"step-{step:05d}.parquet"


def write_rollouts(path: Path, step: int, rollouts: Sequence[Rollout], advantages: Sequence[float]) -> None:
    """Keep every rollout of a step, whole or not at all; the same rollouts give the same bytes.

    Raises:
        TrainingError: a further column of the reward has the name of one of ours.
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
    further = list(dict.fromkeys(name for one in rollouts for name in one.scored.columns))
    if taken := [name for name in further if name in columns]:
        raise TrainingError(f"the reward's columns {taken} have names that are taken: rename them.")
    columns |= {name: pa.array([one.scored.columns.get(name) for one in rollouts]) for name in further}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def drop_rollouts_from(folder: Path, step: int) -> None:
    """Remove the rollouts of `step` and later, and files that were being written: they will be sampled again."""
    late: Iterable[Path] = (path for path in folder.glob("step-*.parquet") if int(path.stem[5:]) >= step)
    for path in (*late, *folder.glob(".step-*.part")):
        path.unlink()
