"""TRL's step of reinforcement learning, in a process of its own, on the same job as ours."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from gsm_lab.errors import RunError
from gsm_lab.study.engine_peers import without_progress_bars
from gsm_lab.study.engine_step import LEARNING_RATE, Gate, StepJob, problems_of
from gsm_lab.study.rewarding import Posed
from gsm_lab.training import Prompt

STEPS = 50
"""Steps that TRL has problems for: more than there are rounds."""


def has_trl() -> bool:
    """Whether TRL is installed."""
    return find_spec("trl") is not None


def run_trl(pipe: Connection, fields: Mapping[str, Any]) -> None:
    """In a process of its own: TRL's GRPOTrainer, with a gate between two steps; set up as its documentation advises.

    On policy, one iteration, no KL, advantages without the division by the deviation, a loss that is the mean over all
    tokens of the step ("dapo"), no recomputation of activations, torch's fused AdamW; its tokenizer gives our ids.
    """
    warnings.simplefilter("ignore", FutureWarning)  # of TRL to transformers
    with contextlib.redirect_stdout(sys.stderr):
        job = StepJob(**fields)
        _trl_trainer(Gate(pipe, job.device), job).train()


def _trl_trainer(gate: Gate, job: StepJob) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    torch.set_num_threads(job.threads)
    without_progress_bars()
    trl: Any = import_module("trl")
    material, reward, prompts_at = problems_of(job)
    posed = [prompt for step in range(STEPS) for prompt in prompts_at(step)]
    tokenizer = AutoTokenizer.from_pretrained(job.checkpoint)
    if any(tuple(tokenizer(_text_of(prompt))["input_ids"]) != prompt.ids for prompt in posed[: job.prompts]):
        raise RunError("the tokenizer of transformers gives other ids than ours: this is not the same work.")
    rows = min(job.trl_rows, job.prompts * job.samples)
    tokens: list[int] = []

    def reward_function(completion_ids: Sequence[Sequence[int]], place: Sequence[int], **_: Any) -> list[float]:
        tokens.append(sum(map(len, completion_ids)))
        eos_id = material.tokenizer.eos_id
        completions = [
            (posed[number].payload, tuple(ids), bool(ids) and ids[-1] == eos_id)
            for number, ids in zip(place, completion_ids, strict=True)
        ]
        return [scored.reward for scored in reward(completions)]

    class AtTheGate(TrainerCallback):
        """Waits before the first step, and after every one."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            gate.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            gate.report(tokens=tokens[-1])
            gate.wait()

    return trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job.checkpoint, attn_implementation="sdpa"),
        reward_funcs=reward_function,
        args=trl.GRPOConfig(
            output_dir=str(Path(job.folder) / "trl"),
            max_steps=STEPS,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=job.prompts * job.samples // rows,
            num_generations=job.samples,
            max_completion_length=job.longest,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            num_iterations=1,
            epsilon=0.2,
            epsilon_high=0.28,
            loss_type="dapo",
            scale_rewards="none",
            shuffle_dataset=False,
            learning_rate=LEARNING_RATE,
            adam_beta1=0.9,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=job.device == "cpu",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": _text_of(prompt), "place": place} for place, prompt in enumerate(posed)]
        ),
        processing_class=tokenizer,
        callbacks=[AtTheGate()],
    )


def _text_of(prompt: Prompt) -> str:
    assert isinstance(prompt.payload, Posed)
    return prompt.payload.exercise.prompt
