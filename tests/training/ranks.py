"""Runs work on several ranks, each a forked child with the variables that torchrun would set.

Started by test_distributed.py as `python ranks.py WORK FOLDER`; what the ranks found is left in files of FOLDER.
Children are forked before any tensor work, so each costs milliseconds.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from gsm_lab.errors import GsmLabError
from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import FitSettings, OptimizerSettings, World, fit
from gsm_lab.training.batches import drawn_batch
from gsm_lab.training.supervised import add_gradient

SHAPE = ModelShape(vocab_size=16, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
ROWS, LENGTH = 5, 12  # five rows for two ranks: one has three of them, the other two
SETTINGS = FitSettings(steps=8, log_every=3, save_every=2, optimizer=OptimizerSettings(learning_rate=0.01))

Work = Callable[[World, Path], None]


class Rows:
    """Texts of many lengths, of which the second half is scored; the arrays of `PackedRows`."""

    def __init__(self, cursor: int) -> None:
        rng = np.random.default_rng(cursor)
        self.tokens = rng.integers(0, 16, (ROWS, LENGTH)).astype(np.int32)
        self.targets = np.roll(self.tokens, -1, axis=1)
        self.positions = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
        lengths = rng.integers(2, LENGTH + 1, (ROWS, 1))
        inside = self.positions < lengths
        self.documents = np.where(inside, 0, -1).astype(np.int32)
        self.loss_mask = inside & (self.positions >= lengths // 2)
        if cursor == 3 * ROWS:
            self.loss_mask[1::2] = False  # here the second rank has nothing to learn from


def next_batch(cursor: int) -> tuple[Rows, int]:
    return Rows(cursor), cursor + ROWS


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def meet(world: World, folder: Path) -> None:
    """Every kind of meeting, once."""
    found: dict[str, object] = {"rank": world.rank, "size": world.size, "is_first": world.is_first}
    found["own"] = list(range(7))[world.own]
    found["sums"] = world.sum_scalars([0.1, float(world.rank), 1e300])
    found["gathered"] = world.gather({"rank": world.rank})
    found["any"] = [world.any(world.rank == 1), world.any(False)]
    world.same(("equal", 1.5))
    found["differ"] = error_of(lambda: world.same(f"value {world.rank}"))
    found["turns"] = world.in_turn(lambda: in_order(folder / "turns"))
    found["failed turn"] = error_of(lambda: world.in_turn(failing))
    small = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))]
    missing = torch.nn.Parameter(torch.zeros(2, 2))
    small[0].grad = torch.full((2,), 1.0 + world.rank)
    small[1].grad = torch.full((3,), 0.5, dtype=torch.float64)
    if world.rank == 1:
        missing.grad = torch.eye(2)
    world.sum_gradients([small[0], missing, small[1]])
    found["gradients"] = [one.grad.tolist() for one in (*small, missing)]
    world.barrier()
    write(folder, f"meet-{world.rank}.json", found)


def error_of(meeting: Callable[[], object]) -> str:
    try:
        meeting()
    except GsmLabError as error:
        return str(error)
    return ""


def in_order(path: Path) -> int:
    """How many were here before."""
    with open(path, "a") as log:
        log.write("x")
    time.sleep(0.05)
    return path.stat().st_size


def failing() -> None:
    raise GsmLabError("the folder is damaged")


def gradients(world: World, folder: Path) -> None:
    """The summed gradient of some batches, in float32 and float64, on each rank."""
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        for cursor in (0, 3 * ROWS):
            model = Transformer.initial(SHAPE, 0).to(dtype)
            batch = drawn_batch(next_batch, cursor, 2, world.own)
            total = world.sum_(add_gradient(model, batch.micro_batches, batch.scored))
            world.sum_gradients(model.parameters())
            found = {key: value.grad.contiguous() for key, value in model.named_parameters() if value.grad is not None}
            save_file(found | {"total": total}, folder / f"{name}-{cursor}-{world.size}-{world.rank}.safetensors")
    save_file(mean_of_means(world), folder / f"mean-of-means-{world.size}-{world.rank}.safetensors")


def mean_of_means(world: World) -> dict[str, torch.Tensor]:
    """The gradient as it would be if each rank divided by its own count, and the ranks' gradients were averaged."""
    model = Transformer.initial(SHAPE, 0).double()
    batch = drawn_batch(next_batch, 0, 2, world.own)
    own_scored = sum(len(rows.targets_N) for rows in batch.micro_batches)
    add_gradient(model, batch.micro_batches, own_scored * world.size)
    world.sum_gradients(model.parameters())
    return {key: value.grad.contiguous() for key, value in model.named_parameters() if value.grad is not None}


def train(world: World, folder: Path) -> None:
    """A whole run, in float64, so that the order of sums hardly shows."""
    model = Transformer.initial(SHAPE, 0).double()
    lines: list[object] = []
    target = folder / f"train-{world.size}"
    summary = fit(model, next_batch, SETTINGS, target, on_metrics=lines.append, world=world)
    save_file(model.state_dict(), folder / f"train-{world.size}-{world.rank}.safetensors")
    write(folder, f"train-{world.size}-{world.rank}.json", [lines, [summary.step, summary.tokens]])


def train_or_die(dying_rank: int, at: int) -> Work:
    """The same run in float32; one rank kills itself when it asks for its batch number `at` of this life."""

    def work(world: World, folder: Path) -> None:
        asked = 0

        def batch(cursor: int) -> tuple[Rows, int]:
            nonlocal asked
            asked += 1
            if world.rank == dying_rank and asked == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return next_batch(cursor)

        fit(Transformer.initial(SHAPE, 0), batch, SETTINGS, folder, world=world)

    return work


def stop_early(world: World, folder: Path) -> None:
    """Only rank 1 wants to stop, after its third step; then all go on."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return world.rank == 1 and asked == 3

    first = fit(Transformer.initial(SHAPE, 0), next_batch, SETTINGS, folder, should_stop=should_stop, world=world)
    again = fit(Transformer.initial(SHAPE, 0), next_batch, SETTINGS, folder, world=world)
    write(folder, f"stop-{world.rank}.json", [first.step, again.step])


def disagree(world: World, folder: Path) -> None:
    """Rank 1 begins with other weights."""
    error = error_of(lambda: fit(Transformer.initial(SHAPE, world.rank), next_batch, SETTINGS, folder, world=world))
    write(folder, f"disagree-{world.rank}.json", error)


def on_ranks(size: int, work: Work, folder: Path) -> list[int]:
    """The exit status of each rank: 0 when it ended well, -9 when it was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [_child(rank, size, port, work, folder) for rank in range(size)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _child(rank: int, size: int, port: int, work: Work, folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ |= {name: str(number) for name, number in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        with World.from_environment("cpu") as world:
            work(world, folder)
        status = 0
    except BaseException as error:
        print(f"rank {rank}: {error!r}", file=sys.stderr)
    finally:
        os._exit(status)


def killed_runs(folder: Path) -> None:
    """Three lives that end early, then one that ends well, beside a run that was left alone."""
    nobody = train_or_die(-1, 0)
    assert on_ranks(2, nobody, folder / "whole") == [0, 0]
    for dying_rank, at in ((1, 2), (0, 4), (1, 5)):
        statuses = on_ranks(2, train_or_die(dying_rank, at), folder / "killed")
        assert statuses == [-signal.SIGKILL if rank == dying_rank else 1 for rank in (0, 1)], statuses
    assert on_ranks(2, nobody, folder / "killed") == [0, 0]


def main(name: str, folder: Path) -> None:
    if name == "killed":
        killed_runs(folder)
        return
    works = {"meet": meet, "gradients": gradients, "train": train, "stop": stop_early, "disagree": disagree}
    sizes = (1, 2) if name in ("gradients", "train") else (2,)
    for size in sizes:
        assert on_ranks(size, works[name], folder) == [0] * size


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
