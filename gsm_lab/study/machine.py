"""This machine's figures; where `transformers` can do the same work, both in turn and their ratio, in one run."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsm_lab.data import Tokenizer
from gsm_lab.model import ModelShape, Transformer, sample, save_checkpoint
from gsm_lab.problems import ProblemSpec, draw_problem, grade, load_template, render

ROUNDS = 5
OP = 10
ROWS, LENGTH = 4, 256
PROMPTS, SAMPLES, NEW_TOKENS = 16, 8, 48


def bench() -> list[str]:
    """Lines for a person: medians of five rounds, with the lowest and the highest."""
    template = load_template("zoo", "english")
    exercises = [_exercise(index, template) for index in range(200)]
    lines = [
        f"{torch.get_num_threads()} threads, medians of {ROUNDS} rounds [lowest, highest]",
        _rate("problems drawn and rendered a second, op 10", 200, lambda: [_exercise(i, template) for i in range(200)]),
        _rate("solutions graded a second, op 10", 200, lambda: [grade(one, one.completion) for one in exercises]),
    ]
    tokenizer = Tokenizer.for_templates([load_template("zoo", "terse")])
    shape = ModelShape(
        vocab_size=tokenizer.vocab_size, layers=4, width=128, heads=4, kv_heads=4, ffn=384, max_positions=512
    )
    ours = Transformer.initial(shape, seed=0)
    theirs = _transformers_model(ours, tokenizer)
    tokens = torch.randint(3, len(tokenizer), (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    lines += _pair(
        f"tokens a second, a step of torch's AdamW, {shape.parameters:,} parameters, {ROWS} rows of {LENGTH} tokens",
        ROWS * LENGTH,
        _trainer(ours, lambda: ours(tokens), tokens),
        _trainer(theirs, lambda: theirs(input_ids=tokens).logits, tokens),
    )
    prompts = tokens[:, :32].repeat(PROMPTS // ROWS, 1)
    uniforms = [np.random.default_rng(number).random((SAMPLES, NEW_TOKENS)) for number in range(PROMPTS)]
    lines += _pair(
        f"sampled tokens a second, {PROMPTS} prompts of 32 tokens, {SAMPLES} samples each, {NEW_TOKENS} new tokens",
        PROMPTS * SAMPLES * NEW_TOKENS,
        lambda: sample(ours, prompts.tolist(), uniforms, max_new_tokens=NEW_TOKENS, eos_id=()),
        lambda: theirs.generate(
            prompts.repeat_interleave(SAMPLES, 0),
            attention_mask=torch.ones_like(prompts.repeat_interleave(SAMPLES, 0)),
            do_sample=True,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
        ),
    )
    return lines


def _exercise(index: int, template: Any) -> Any:
    rng = random.Random(index)
    return render(draw_problem(ProblemSpec(op=OP), rng), template, rng)


def _transformers_model(ours: Transformer, tokenizer: Tokenizer) -> Any:
    """The same weights as a model of `transformers`."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        save_checkpoint(path, ours, None, tokenizer.eos_id, tokenizer.pad_id)
        return AutoModelForCausalLM.from_pretrained(path)


def _trainer(model: Any, logits: Callable[[], torch.Tensor], tokens: torch.Tensor) -> Callable[[], None]:
    """A plain training step: the same loss and the same optimiser for both models."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(logits()[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rate(name: str, count: int, work: Callable[[], Any]) -> str:
    work()
    rates = [count / _seconds(work) for _ in range(ROUNDS)]
    return f"{name}: {statistics.median(rates):,.0f} [{min(rates):,.0f}, {max(rates):,.0f}]"


def _pair(name: str, count: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> list[str]:
    """Both in turn, after one round of each that does not count; the ratio is taken round by round."""
    ours()
    theirs()
    rounds = []
    for number in range(ROUNDS):  # each goes first in turn
        order = (ours, theirs) if number % 2 else (theirs, ours)
        rate = {work: count / _seconds(work) for work in order}
        rounds.append((rate[ours], rate[theirs]))
    ratios = [our / their for our, their in rounds]
    return [
        f"{name}: {statistics.median(our for our, _ in rounds):,.0f}",
        f"  transformers: {statistics.median(their for _, their in rounds):,.0f}; ours / transformers: "
        f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
    ]
