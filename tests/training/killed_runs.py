"""Runs `fit` or `reinforce` in child processes, kills them with SIGKILL, and lets them go on.

Started by test_resume.py as `python killed_runs.py fit|reinforce FOLDER KILLS SEED`. Children are forked before any
tensor work, so each costs milliseconds. Prints one line for every kill: the place, and how many steps had been logged.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import (
    FitSettings,
    OptimizerSettings,
    Prompt,
    ReinforceSettings,
    Schedule,
    Scored,
    fit,
    reinforce,
)

STEPS = {"fit": 24, "reinforce": 12}
SHAPE = ModelShape(vocab_size=16, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)

Checkpoint = Callable[[str], None]
"""Called at named places; the child may be told to die there."""


class _Rows:
    def __init__(self, cursor: int) -> None:
        starts = np.random.default_rng(cursor).integers(0, 16, (4, 1))
        texts = ((starts + np.arange(10)) % 16).astype(np.int32)
        self.tokens, self.targets = texts[:, :-1], texts[:, 1:]
        self.positions = np.tile(np.arange(9, dtype=np.int32), (4, 1))
        self.documents = np.zeros((4, 9), np.int32)
        self.loss_mask = np.ones((4, 9), bool)


def run_fit(folder: Path, passing: Checkpoint) -> None:
    def next_batch(cursor):
        passing("batch")
        return _Rows(cursor), cursor + 4

    settings = FitSettings(steps=STEPS["fit"], log_every=2, save_every=3, schedule=Schedule(warmup_steps=2))
    fit(Transformer.initial(SHAPE, 0), next_batch, settings, folder, on_metrics=lambda line: passing("logged"))


def run_reinforce(folder: Path, passing: Checkpoint) -> None:
    def prompts_at(step):
        passing("prompts")
        return [Prompt((2 + (step + place) % 3, 5), f"p{place}", 2 + (step + place) % 3) for place in range(3)]

    def reward(completions):
        passing("reward")
        return [Scored(float(ids[0] == wanted), "any", ids[0] == wanted) for wanted, ids, _ in completions]

    settings = ReinforceSettings(
        steps=STEPS["reinforce"],
        group_size=8,
        max_new_tokens=4,
        eos_id=1,
        seed=0,
        save_every=3,
        updates_per_rollout=2,
        kl_coefficient=0.01,
        optimizer=OptimizerSettings(learning_rate=0.01),
    )
    model = Transformer.initial(SHAPE, 0)
    reinforce(model, prompts_at, reward, settings, folder, on_metrics=lambda line: passing("logged"))


def in_child(kind: str, folder: Path, passing: Checkpoint, seconds: float = 60.0) -> bool:
    """Run in a child and kill it after `seconds`; whether it ended well by itself."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            {"fit": run_fit, "reinforce": run_reinforce}[kind](folder, passing)
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
                sys.exit(f"the child failed with status {os.WEXITSTATUS(status)}")
            return os.WIFEXITED(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def dying_at(count: int) -> Checkpoint:
    """Dies when it passes its `count`-th place."""
    passed = 0

    def passing(place: str) -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return passing


def main(kind: str, folder: Path, kills: int, seed: int) -> None:
    began = time.monotonic()
    assert in_child(kind, folder / "whole", lambda place: None)
    duration = time.monotonic() - began
    rng = random.Random(seed)
    for number in range(kills):
        at_a_place = number % 2 == 0
        if at_a_place:
            ended = in_child(kind, folder / "killed", dying_at(rng.randrange(2, 12)))
        else:
            ended = in_child(kind, folder / "killed", lambda place: None, rng.uniform(0.1, 0.4) * duration)
        log = folder / "killed" / "metrics.jsonl"
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        print(f"{'ended' if ended else 'killed'} {'at a place' if at_a_place else 'by the clock'} {lines}")
    assert in_child(kind, folder / "killed", lambda place: None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
