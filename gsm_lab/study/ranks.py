"""Several ranks on one run: all of them train, rank 0 does everything else, and the others learn what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from gsm_lab.study.options import OnNotice
from gsm_lab.study.runs import StageFolder
from gsm_lab.training import World

Result = TypeVar("Result")


def by_first(world: World, work: Callable[[], Result]) -> Result:
    """What rank 0 finds out, on every rank; where rank 0 fails, all ranks do."""
    own = world.in_turn(work if world.is_first else lambda: None)
    return cast(Result, world.gather(own)[0])


@contextmanager
def held(folder: StageFolder, world: World, on_notice: OnNotice) -> Iterator[None]:
    """Hold the stage for all ranks: rank 0 locks its folder, and the others wait for that."""
    lock = folder.locked(on_notice)
    by_first(world, lock.__enter__)
    try:
        yield
    finally:
        if world.is_first:
            lock.__exit__(None, None, None)
