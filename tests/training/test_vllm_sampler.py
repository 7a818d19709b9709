"""The vLLM sampler against a fake of what it uses of vLLM 0.33; the engine itself has not been seen here.

The fake is as strict as the documentation lets it be: it takes no argument that vLLM does not have, reads the weights
from the folder it is given and only when it is told to, and samples with the real model. What a test needs to break is
a switch of the fake.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, Transformer, load_checkpoint, sample
from gsm_lab.training import GroupName, OptimizerSettings, Prompt, ReinforceSettings, Schedule, Scored, reinforce
from gsm_lab.training.vllm_sampler import MOST_SEED, VllmSampler, VllmSettings

EOS = (1, 2)
PROMPTS = [Prompt((5, 6, 7), "a"), Prompt((8,), "b"), Prompt((5, 6, 7), "a")]
NAMES = [GroupName(0, "rl", 4, group, prompt.key) for group, prompt in enumerate(PROMPTS)]


@dataclass
class SamplingParams:
    """Those fields of vllm.SamplingParams that the adapter sets, with vLLM's defaults."""

    n: int = 1
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logprobs: int | None = None
    detokenize: bool = True


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


@dataclass
class Engines:
    """What the fake was asked, and how it shall misbehave."""

    started: list[dict] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    resets: int = 0
    parameters: list[SamplingParams] = field(default_factory=list)
    deaf: bool = False
    """Ignores new weights."""
    hoards: bool = False
    """Does not give its prefix cache up."""
    change: object = None
    """Called with every completion before it is handed out."""


def fake_vllm(engines: Engines) -> ModuleType:
    class LLM:
        def __init__(
            self,
            model: str,
            *,
            skip_tokenizer_init: bool = False,
            dtype: str = "auto",
            seed: int = 0,
            gpu_memory_utilization: float = 0.9,
            enforce_eager: bool = False,
            max_model_len: int | None = None,
            max_num_seqs: int | None = None,
            enable_prefix_caching: bool | None = None,
            logprobs_mode: str = "raw_logprobs",
            generation_config: str = "auto",
        ) -> None:
            assert skip_tokenizer_init, "the checkpoint has no tokenizer"
            engines.started.append({"logprobs_mode": logprobs_mode, "dtype": dtype, "max_model_len": max_model_len})
            self.raw = logprobs_mode == "raw_logprobs"
            self.model = self._read(model)

        def _read(self, path: str) -> Transformer:
            engines.read.append(path)
            assert (Path(path) / "model.safetensors").is_file()
            return load_checkpoint(Path(path))

        def collective_rpc(self, method: str, timeout=None, args=(), kwargs=None) -> list[None]:
            assert method == "reload_weights"
            model = self._read(path=kwargs.pop("weights_path"))
            assert not kwargs
            self.model = self.model if engines.deaf else model
            return [None]

        def reset_prefix_cache(self) -> bool:
            engines.resets += 1
            return not engines.hoards

        def generate(self, prompts, sampling_params, *, use_tqdm=True) -> list[RequestOutput]:
            engines.parameters += sampling_params
            return [self._one(*pair) for pair in zip(prompts, sampling_params, strict=True)]

        def _one(self, prompt: dict, parameters: SamplingParams) -> RequestOutput:
            assert parameters.n == 1
            assert parameters.ignore_eos
            assert -1 <= parameters.seed < 1 << 63
            ids = prompt["prompt_token_ids"]
            uniforms = np.random.default_rng(parameters.seed).random((1, parameters.max_tokens))
            [[written]] = sample(
                self.model,
                [ids],
                [uniforms],
                max_new_tokens=parameters.max_tokens,
                eos_id=parameters.stop_token_ids,
                temperature=parameters.temperature,
            )
            logprobs = logprobs_of(self.model, ids, written.ids, 1.0 if self.raw else parameters.temperature)
            completion = CompletionOutput(
                index=0,
                text="",
                token_ids=list(written.ids),
                logprobs=[{token: Logprob(value)} for token, value in zip(written.ids, logprobs, strict=True)],
                finish_reason="stop" if written.finished else "length",
                stop_reason=written.ids[-1] if written.finished else None,
            )
            if engines.change is not None:
                engines.change(completion)
            return RequestOutput("0", None, list(ids), [completion])

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    return module


def logprobs_of(model: Transformer, prompt, ids, temperature: float) -> list[float]:
    """By a full forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]]))[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits / temperature, dim=1)
    return logprobs[torch.arange(len(ids)), torch.tensor(ids)].tolist()


@pytest.fixture
def engines(monkeypatch) -> Engines:
    engines = Engines()
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm(engines))
    return engines


def small_model(layers: int = 2) -> Transformer:
    shape = ModelShape(vocab_size=16, layers=layers, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
    return Transformer.initial(shape, seed=3, std=0.2)


@pytest.fixture
def model() -> Transformer:
    return small_model()


@pytest.fixture
def sampler():
    sampler = VllmSampler()
    yield sampler
    sampler.close()


def groups_of(sampler, model, names=NAMES, temperature=1.0, on_done=None):
    return sampler(
        model,
        PROMPTS[: len(names)],
        names,
        group_size=4,
        max_new_tokens=6,
        eos_id=EOS,
        temperature=temperature,
        on_done=on_done,
    )


def test_completions_are_whole_and_have_the_log_probabilities_of_what_was_drawn_from(engines, model, sampler):
    groups = groups_of(sampler, model, temperature=0.7)
    assert [len(group) for group in groups] == [4, 4, 4]
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for one in group:
            assert one.logprobs == pytest.approx(logprobs_of(model, prompt.ids, one.ids, 0.7), abs=1e-5)
            # the near miss: those before the temperature are others
            assert one.logprobs != pytest.approx(logprobs_of(model, prompt.ids, one.ids, 1.0), abs=1e-3)
            assert one.finished == (one.ids[-1] in EOS)
            assert not set(one.ids[:-1]) & set(EOS)
            assert one.finished or len(one.ids) == 6
    assert {one.finished for group in groups for one in group} == {True, False}


def test_every_completion_has_a_named_seed_of_its_own(engines, model, sampler):
    first = groups_of(sampler, model)
    seeds = [parameters.seed for parameters in engines.parameters]
    assert seeds == [name.stream_seed(number) % MOST_SEED for name in NAMES for number in range(4)]
    assert len(set(seeds)) == 12  # also where two prompts of the step are the same
    # a completion depends on its own name only
    assert groups_of(sampler, model, NAMES[:1]) == first[:1]
    other = [GroupName(0, "rl", 5, group, prompt.key) for group, prompt in enumerate(PROMPTS)]
    assert groups_of(sampler, model, other) != first


def test_every_call_samples_from_the_weights_as_they_are_now(engines, model, sampler):
    groups_of(sampler, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    for prompt, group in zip(PROMPTS, groups_of(sampler, model), strict=True):
        for one in group:
            assert one.logprobs == pytest.approx(logprobs_of(model, prompt.ids, one.ids, 1.0), abs=1e-5)
    assert sampler.version == 2
    assert [Path(path).name for path in engines.read] == ["version-1", "version-2"]  # never the same path twice
    assert engines.resets == 1
    assert len(engines.started) == 1
    assert not Path(engines.read[0]).exists()  # no more than one version is kept
    assert Path(engines.read[1]).exists()


def test_weights_that_do_not_arrive_are_seen_in_the_log_probabilities(engines, model, sampler):
    groups_of(sampler, model)
    engines.deaf = True
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    one = groups_of(sampler, model)[0][0]
    assert one.logprobs != pytest.approx(logprobs_of(model, PROMPTS[0].ids, one.ids, 1.0), abs=1e-3)


def mismatches(model, sampler, folder) -> list[float]:
    """What the loop logs of the sampler's word, step by step; each update moves the policy far."""
    settings = ReinforceSettings(
        steps=3,
        group_size=6,
        max_new_tokens=4,
        eos_id=EOS,
        seed=0,
        optimizer=OptimizerSettings(kind="adamw", learning_rate=0.02),
        schedule=Schedule(kind="constant", warmup_steps=0),
    )

    def sevens(completions) -> list[Scored]:
        return [Scored(ids.count(7) / len(ids), "any", False) for _, ids, _ in completions]

    lines = []
    reinforce(model, lambda _: PROMPTS, sevens, settings, folder, sampler=sampler, on_metrics=lines.append)
    return [line["mismatch"] for line in lines]


def test_the_loop_trains_on_what_the_engine_samples(engines, model, sampler, tmp_path):
    assert max(mismatches(model, sampler, tmp_path)) < 1e-3
    assert sampler.version == 3


def test_the_loop_logs_an_engine_that_keeps_old_weights(engines, model, sampler, tmp_path):
    engines.deaf = True
    first, *others = mismatches(model, sampler, tmp_path)
    assert first < 1e-3
    assert min(others) > 0.01


def test_the_engine_is_set_up_for_training(engines, model, sampler):
    groups_of(sampler, model)
    assert engines.started == [{"logprobs_mode": "processed_logprobs", "dtype": "float32", "max_model_len": 32}]
    (parameters,) = {repr(one) for one in engines.parameters if setattr(one, "seed", 0) is None}
    neutral = "n=1, seed=0, temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0"
    assert parameters == (
        f"SamplingParams({neutral}, max_tokens=6, stop_token_ids=[1, 2], ignore_eos=True, logprobs=0, detokenize=False)"
    )


def test_a_model_of_another_shape_gets_an_engine_of_its_own(engines, model, sampler):
    groups_of(sampler, model)
    groups_of(sampler, small_model(layers=1))
    assert len(engines.started) == 2
    assert sampler.version == 2


def test_every_group_is_handed_on(engines, model, sampler):
    done = {}
    groups = groups_of(sampler, model, on_done=done.__setitem__)
    assert done == dict(enumerate(groups))


def test_no_prompts_need_no_engine(engines, model, sampler):
    assert groups_of(sampler, model, []) == []
    assert engines.started == []


def test_close_leaves_nothing_behind(engines, model, sampler):
    groups_of(sampler, model)
    folder = Path(engines.read[0]).parent
    assert folder.exists()
    sampler.close()
    assert not folder.exists()
    groups_of(sampler, model)  # and it can be used again
    assert len(engines.started) == 2


def broken(name: str):
    def change(completion: CompletionOutput) -> None:
        if name == "aborted":
            completion.finish_reason = "abort"
        elif name == "the end token is missing":
            completion.token_ids, completion.finish_reason = [5, 5], "stop"
        elif name == "something after the end token":
            completion.token_ids, completion.finish_reason = [1, 5], "length"
        elif name == "nothing":
            completion.token_ids, completion.finish_reason = [], "length"
        elif name == "no log-probabilities":
            completion.logprobs = None
        elif name == "a log-probability short":
            completion.logprobs = completion.logprobs[:-1]
        elif name == "not a number":
            completion.logprobs = [{token: Logprob(float("nan"))} for token in completion.token_ids]

    return change


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("aborted", "ended a completion"),
        ("the end token is missing", "ended a completion"),
        ("something after the end token", "ended a completion"),
        ("nothing", "ended a completion of 0 tokens"),
        ("no log-probabilities", "no log-probability"),
        ("a log-probability short", "no log-probability"),
        ("not a number", "not finite"),
    ],
)
def test_an_engine_that_breaks_the_rules_is_found_out(engines, model, sampler, fault, message):
    engines.change = broken(fault)
    with pytest.raises(TrainingError, match=message):
        groups_of(sampler, model)


def test_an_end_token_that_is_the_last_that_fits_is_an_end(engines, model, sampler):
    def change(completion: CompletionOutput) -> None:
        completion.token_ids, completion.finish_reason = [5, 1], "length"
        completion.logprobs = [{5: Logprob(-1.0)}, {1: Logprob(-2.0)}]

    engines.change = change
    assert groups_of(sampler, model)[0][0].finished


def test_an_engine_that_keeps_its_prefix_cache_is_found_out(engines, model, sampler):
    engines.hoards = True
    groups_of(sampler, model)  # there was nothing before the first weights
    with pytest.raises(TrainingError, match="keys and values of the weights before"):
        groups_of(sampler, model)


def test_without_vllm_the_message_says_what_to_do(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(TrainingError, match="install vllm"):
        groups_of(VllmSampler(), model)


def test_several_training_processes_are_refused(monkeypatch, engines, model, sampler):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(TrainingError, match="one training process only"):
        groups_of(sampler, model)


def test_settings_are_checked():
    with pytest.raises(TrainingError, match="memory_share is 0"):
        VllmSettings(memory_share=0)
    with pytest.raises(TrainingError, match="max_rows 0"):
        VllmSettings(max_rows=0)
