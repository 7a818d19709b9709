"""Samples come from any sampler that keeps the protocol, and scores from as many processes as there are."""

import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gsm_lab.errors import TrainingError
from gsm_lab.model import Sample
from gsm_lab.training import GroupName, Prompt, ReinforceSettings, Schedule, Scored, TorchSampler, reinforce

SETTINGS = ReinforceSettings(
    steps=3, group_size=4, max_new_tokens=3, eos_id=1, seed=7, stage="here", schedule=Schedule(kind="constant")
)


@pytest.fixture
def graders():
    """The module of rewards, where worker processes find it, too."""
    sys.path.insert(0, str(Path(__file__).parent))
    import graders

    yield graders
    sys.path.remove(str(Path(__file__).parent))


def prompts_at(step: int) -> list[Prompt]:
    return [Prompt((2 + (step + place) % 3, 5), f"p{place}", payload=place) for place in range(3)]


def first_counts(completions) -> list[Scored]:
    return [Scored(float(ids[0] % 2), "any", finished) for _, ids, finished in completions]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All that a run has written, but its times."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "timings.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Watched:
    """The default sampler, and a record of what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []

    def __call__(self, model, prompts, names, **settings):
        self.calls.append({"prompts": prompts, "names": names, **settings})
        return TorchSampler()(model, prompts, names, **settings)


class Made:
    """An engine without a model: every completion is one token and the end."""

    def __init__(self, logprob: float = -0.5, count: int = 4, lost: int = 0, ids=(3, 1), finished=True) -> None:
        self.logprob, self.count, self.lost, self.ids, self.finished = logprob, count, lost, ids, finished

    def __call__(self, model, prompts, names, *, on_done, **settings):
        groups = []
        for place in reversed(range(len(prompts))):  # prompts may end in any order
            samples = [
                Sample((self.ids[0] + number % 2, *self.ids[1:]), (self.logprob,) * 2, self.finished)
                for number in range(self.count)
            ]
            groups.insert(0, samples)
            if place >= self.lost:
                on_done(place, samples)
        return groups


def test_the_sampler_is_told_what_to_write_and_under_which_names(tmp_path, tiny_model):
    sampler, model = Watched(), tiny_model()
    reinforce(model, prompts_at, first_counts, SETTINGS, tmp_path / "ours", sampler=sampler)
    reinforce(tiny_model(), prompts_at, first_counts, SETTINGS, tmp_path / "default")
    assert bytes_of(tmp_path / "ours") == bytes_of(tmp_path / "default")
    assert len(sampler.calls) == 3
    for step, call in enumerate(sampler.calls):
        del call["on_done"]
        assert call == {
            "prompts": prompts_at(step),
            "names": [GroupName(7, "here", step, place, f"p{place}") for place in range(3)],
            "group_size": 4,
            "max_new_tokens": 3,
            "eos_id": 1,
            "temperature": 1.0,
        }


def test_samples_of_another_engine_are_trained_on_and_the_mismatch_is_logged(tmp_path, tiny_model):
    """An untrained model gives every token 1/16: with -log 16 for each, the ratios are nearly 1; with -0.5, not."""
    for name, logprob in (("near", -2.7726), ("far", -0.5)):
        sampler = Made(logprob)
        reinforce(tiny_model(), prompts_at, first_counts, SETTINGS, tmp_path / name, sampler=sampler)
    near, far = (
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0]) for name in ("near", "far")
    )
    assert near["mismatch"] < 0.5 < far["mismatch"]
    table = pq.read_table(tmp_path / "far/rollouts/step-00000.parquet").to_pandas()
    assert [tuple(ids) for ids in table["ids"]] == [(3, 1), (4, 1)] * 6
    assert {tuple(values) for values in table["logprobs"]} == {(-0.5, -0.5)}


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Made(count=3), "3 samples of prompt 'p0': it has to give 4"),
        (Made(lost=1), "3 prompts, and named 2 of them as done, of 3"),
        (Made(ids=(3,)), "sample 0 of prompt 'p0' has 1 ids and 2 log-probabilities"),
        (Made(ids=(1, 1)), r"goes on after an end token \(\[1\]\)"),
        (Made(ids=(3, 4)), "the last of them 4, and is called finished"),  # the end token was lost
        (Made(finished=False), "the last of them 1, and is called cut off"),
        (Made(ids=(3, 4), finished=False), "2 ids.* is called cut off: .* the others have all 3 ids"),
        (Made(logprob=-math.inf), "log-probability that is not finite"),
    ],
)
def test_samples_that_make_no_sense_are_refused(sampler, message, tmp_path, tiny_model):
    model = tiny_model()
    with pytest.raises(TrainingError, match=message):
        reinforce(model, prompts_at, first_counts, SETTINGS, tmp_path, sampler=sampler)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_that_grade_changes_nothing(workers, tmp_path, tiny_model, graders):
    reinforce(tiny_model(), prompts_at, graders.middle, SETTINGS, tmp_path / "here")
    there = dataclasses.replace(SETTINGS, reward_workers=workers)
    reinforce(tiny_model(), prompts_at, graders.slow_at_first, there, tmp_path / "there")
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "there")
    lines = (tmp_path / "there" / "timings.jsonl").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines] == [
        {
            "step",
            "prompts_seconds",
            "sample_seconds",
            "reward_seconds",
            "grading_cpu_seconds",
            "write_seconds",
            "train_seconds",
        }
    ] * 3


@pytest.mark.parametrize("workers", [0, 1])
def test_grading_goes_on_while_others_are_being_sampled(workers, tmp_path, tiny_model, graders):
    """This sampler writes no second prompt before the first is graded; without processes that is never."""
    mark = tmp_path / "graded"

    class Waiting(Made):
        def __call__(self, model, prompts, names, *, on_done, **settings):
            def told(place, samples):
                on_done(place, samples)
                until = time.monotonic() + (60 if workers else 0.2)
                while not mark.exists():
                    if time.monotonic() > until:
                        raise TimeoutError("nothing was graded")
                    time.sleep(0.01)

            return super().__call__(model, prompts, names, on_done=told, **settings)

    settings = dataclasses.replace(SETTINGS, reward_workers=workers)
    arguments = (tiny_model(), prompts_at, graders.Marks(mark), settings, tmp_path / "run")
    if workers:
        assert reinforce(*arguments, sampler=Waiting(-2.7726)).finished
    else:
        with pytest.raises(TimeoutError, match="nothing was graded"):
            reinforce(*arguments, sampler=Waiting(-2.7726))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reward_that_broke_names_the_prompt_and_nothing_of_its_step_is_kept(workers, tmp_path, tiny_model, graders):
    settings = dataclasses.replace(SETTINGS, reward_workers=workers)
    model = tiny_model()
    with pytest.raises(ZeroDivisionError) as raised:
        reinforce(model, prompts_at, graders.fails, settings, tmp_path)
    assert (
        "completions of prompt 'p0' of step 0 were scored; nothing of that step is kept. Mend the reward"
        in (raised.value.__notes__[-1])
    )
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "rollouts").exists()
    reinforce(model, prompts_at, graders.middle, settings, tmp_path)  # the remedy works


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None, "1"])
def test_a_reward_that_is_no_finite_number_is_refused(reward, tmp_path, tiny_model):
    model = tiny_model()
    with pytest.raises(TrainingError, match=r"the reward of sample 0 of prompt 'p0' is .*: give a finite number"):
        reinforce(model, prompts_at, lambda group: [Scored(reward, "any", False)] * len(group), SETTINGS, tmp_path)


def test_a_column_of_several_types_is_refused_by_name(tmp_path, tiny_model):
    def reward(completions):
        return [
            Scored(0.0, "any", False, {"mixed": number if number % 2 else "text"}) for number in range(len(completions))
        ]

    model = tiny_model()
    with pytest.raises(TrainingError, match=r"column 'mixed' cannot be kept .* of one type"):
        reinforce(model, prompts_at, reward, SETTINGS, tmp_path)
