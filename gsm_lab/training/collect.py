"""The rollouts of one step: sampled, graded while others are still being sampled, and known to every rank."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gsm_lab.errors import TrainingError
from gsm_lab.model import Sample, Transformer
from gsm_lab.training.distributed import World
from gsm_lab.training.reinforce_settings import ReinforceSettings
from gsm_lab.training.reward import Completion, Scored, check_scores
from gsm_lab.training.reward_workers import Grading, RewardWorkers
from gsm_lab.training.rollouts import GroupName, Prompt, Rollout, Sampler


class Clock:
    """Seconds spent in each phase of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The time since the last lap was `phase`'s."""
        now = time.perf_counter()
        self.seconds[f"{phase}_seconds"] = round(now - self._since, 6)
        self._since = now


class _Group(NamedTuple):
    """What one rank tells the others of one of its prompts."""

    samples: list[Sample]
    scores: Sequence[Scored]
    cpu_seconds: float


@dataclass(frozen=True)
class Collector:
    """Samples and grades; a rank does so for its own share of the prompts, and is told of the rest."""

    sampler: Sampler
    workers: RewardWorkers
    settings: ReinforceSettings
    world: World

    def rollouts(self, model: Transformer, prompts: Sequence[Prompt], step: int, clock: Clock) -> list[Rollout]:
        """`group_size` rollouts of every prompt, prompt by prompt; the same ones on every rank.

        Raises:
            TrainingError: samples or scores that make no sense. What the reward raises goes through.
        """
        names = [self._name(prompt, place, step) for place, prompt in enumerate(prompts)]
        gradings = self._sample(model, prompts[self.world.own], names[self.world.own])
        clock.lap("sample")
        own = [_graded(*parts, step) for parts in zip(prompts[self.world.own], *gradings, strict=True)]
        groups = _in_turns(self.world.gather(own), len(prompts))
        clock.lap("reward")
        clock.seconds["grading_cpu_seconds"] = round(sum(group.cpu_seconds for group in groups), 6)
        return [
            Rollout(place, number, prompt, one, scored)
            for place, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
            for number, (one, scored) in enumerate(zip(group.samples, group.scores, strict=True))
        ]

    def _name(self, prompt: Prompt, place: int, step: int) -> GroupName:
        return GroupName(self.settings.seed, self.settings.stage, step, place, prompt.key)

    def _sample(
        self, model: Transformer, prompts: Sequence[Prompt], names: Sequence[GroupName]
    ) -> tuple[list[list[Sample]], list[Grading]]:
        """The samples of some prompts, and their gradings, each begun as soon as its samples were there."""
        gradings: dict[int, Grading] = {}

        def on_done(place: int, samples: list[Sample]) -> None:
            gradings[place] = self.workers.start(_completions(prompts[place], samples))

        if not prompts:
            return [], []
        settings = self.settings
        groups = self.sampler(
            model,
            prompts,
            names,
            group_size=settings.group_size,
            max_new_tokens=settings.max_new_tokens,
            eos_id=settings.eos_id,
            temperature=settings.temperature,
            on_done=on_done,
        )
        if sorted(gradings) != list(range(len(prompts))) or len(groups) != len(prompts):
            raise TrainingError(
                f"the sampler gave the samples of {len(groups)} prompts, and named {len(gradings)} of them as done, "
                f"of {len(prompts)} that were asked for: it has to give all, and name each once."
            )
        for prompt, samples in zip(prompts, groups, strict=True):
            _check_samples(prompt, samples, settings)
        return groups, [gradings[place] for place in range(len(prompts))]


def _completions(prompt: Prompt, samples: Sequence[Sample]) -> list[Completion]:
    return [(prompt.payload, one.ids, one.finished) for one in samples]


def _graded(prompt: Prompt, samples: list[Sample], grading: Grading, step: int) -> _Group:
    """A group with its scores, as soon as they are there."""
    try:
        scores, cpu_seconds = grading()
    except Exception as error:
        error.add_note(
            f"Raised while the completions of prompt {prompt.key!r} of step {step} were scored; nothing of that step "
            f"is kept. Mend the reward, then run the same again: it goes on from the last saved state."
        )
        raise
    check_scores(prompt.key, _completions(prompt, samples), scores)
    return _Group(samples, scores, cpu_seconds)


def _in_turns(ranks: Sequence[Sequence[_Group]], count: int) -> list[_Group]:
    """The groups of all ranks in the order of their prompts: rank r has prompts r, r + size, r + 2 size ..."""
    return [ranks[place % len(ranks)][place // len(ranks)] for place in range(count)]


def _check_samples(prompt: Prompt, samples: Sequence[Sample], settings: ReinforceSettings) -> None:
    """Check that samples are what the protocol promises, as far as they show it themselves.

    Raises:
        TrainingError: they are not.
    """
    if len(samples) != settings.group_size:
        raise TrainingError(
            f"the sampler gave {len(samples)} samples of prompt {prompt.key!r}: it has to give {settings.group_size}."
        )
    ends = {settings.eos_id} if isinstance(settings.eos_id, int) else {*settings.eos_id}
    for number, one in enumerate(samples):
        if fault := _fault(one, ends, settings.max_new_tokens):
            raise TrainingError(f"the sampler's sample {number} of prompt {prompt.key!r} {fault}")


def _fault(one: Sample, ends: set[int], room: int) -> str | None:
    """What is wrong with a sample; None if nothing is."""
    if not 1 <= len(one.ids) == len(one.logprobs) <= room:
        return (
            f"has {len(one.ids)} ids and {len(one.logprobs)} log-probabilities: "
            f"it has to give 1 to {room} ids, and a log-probability for each."
        )
    if not ends.isdisjoint(one.ids[:-1]):
        return f"goes on after an end token ({sorted(ends)}): it has to stop there."
    if one.finished != (one.ids[-1] in ends) or not (one.finished or len(one.ids) == room):
        return (
            f"has {len(one.ids)} ids, the last of them {one.ids[-1]}, and is called "
            f"{'finished' if one.finished else 'cut off'}: finished are those that end with an end token "
            f"({sorted(ends)}), which belongs to the ids; the others have all {room} ids."
        )
    if not math.isfinite(sum(one.logprobs)):
        return "has a log-probability that is not finite: the weights that it samples from are damaged or diverged."
    return None
