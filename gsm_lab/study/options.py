"""How stages are carried out: by what processes, and before whose eyes. Nothing here changes a weight or a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsm_lab.training import World

OnProgress = Callable[[str, int, int, Mapping[str, Any]], None]
"""Called with the stage's name, steps done, all steps, and the latest figures."""
OnNotice = Callable[[str], None]
"""Called with a line for a person: what a stage is about to do, what it waits for, which tracker broke."""


def no_progress(name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
    """Shows nothing."""


def no_notice(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run may be given beside its recipe."""

    on_progress: OnProgress = no_progress
    on_notice: OnNotice = no_notice
    data_workers: int = 0
    """Processes that draw the problems of supervised stages ahead of their use; 0 draws them in this one."""
    reward_workers: int = 0
    """Processes that grade completions while others are still being sampled; 0 grades them in this one."""
    trackers: tuple[str, ...] = ()
    """What else shows the figures: names of `trackers.KINDS`."""
    world: World | None = None
    """The ranks that train together, each called with equal options, and where; one process on the CPU if not given.
    Rank 0 alone writes, evaluates and tells."""


QUIET = RunOptions()
"""In this process alone, without a word."""
