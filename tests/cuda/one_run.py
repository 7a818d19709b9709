"""One run of `fit` on a GPU in a process of its own, which may be told to die.

Started by test_processes_on_cuda.py as `python one_run.py FOLDER DIE_AT`, where 0 is never; with torchrun's variables
it is a rank. Leaves metrics and states in FOLDER.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import FitSettings, OptimizerSettings, World, fit

SHAPE = ModelShape(vocab_size=64, layers=2, width=64, heads=2, kv_heads=1, ffn=128, max_positions=256)
SETTINGS = FitSettings(
    steps=20, log_every=4, save_every=3, compile=False, optimizer=OptimizerSettings(kind="adamw", learning_rate=3e-3)
)


class Rows:
    """Texts that count up from anywhere; the arrays of `PackedRows`."""

    def __init__(self, cursor: int) -> None:
        texts = ((np.random.default_rng(cursor).integers(0, 64, (6, 1)) + np.arange(129)) % 64).astype(np.int32)
        self.tokens, self.targets = texts[:, :-1], texts[:, 1:]
        self.positions = np.tile(np.arange(128, dtype=np.int32), (6, 1))
        self.documents = np.zeros((6, 128), np.int32)
        self.loss_mask = np.ones((6, 128), bool)


def main(folder: Path, die_at: int) -> None:
    asked = 0

    def next_batch(cursor: int) -> tuple[Rows, int]:
        nonlocal asked
        asked += 1
        if asked == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return Rows(cursor), cursor + 6

    with World.from_environment("cuda") as world:
        fit(Transformer.initial(SHAPE, 0).to(world.device), next_batch, SETTINGS, folder, world=world)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
