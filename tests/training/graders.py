"""Rewards that a worker process can import; used by test_reward_workers.py."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gsm_lab.training import Scored


class SplitError(Exception):
    """Its arguments are not those of its constructor, so that it cannot be loaded once pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}, {second}")


def middle(completions):
    """The reward compares completions: 1 for the one whose first id is the middle one of its group."""
    firsts = sorted(ids[0] for _, ids, _ in completions)
    wanted = firsts[len(firsts) // 2]
    return [Scored(float(ids[0] == wanted), "any", finished, {"first": ids[0]}) for _, ids, finished in completions]


def slow_at_first(completions):
    """The first group takes longest, so that groups are done in another order than they began."""
    time.sleep(0.2 if completions[0][0] == 0 else 0.0)
    return middle(completions)


def imported(completions):
    """Which of the heavy modules the process has."""
    heavy = {"torch", "transformers", "pandas", "numpy"} & sys.modules.keys()
    return [Scored(0.0, " ".join(sorted(heavy)), False) for _ in completions]


def fails(completions):
    return [Scored(1 / completions[0][0], "any", False) for _ in completions]


def fails_oddly(completions):
    raise SplitError("one", "two")


def endless(completions):
    time.sleep(3600)


@dataclass(frozen=True)
class Waits:
    """Grades when a file is there."""

    path: Path

    def __call__(self, completions):
        while not self.path.exists():
            time.sleep(0.01)
        return middle(completions)


@dataclass(frozen=True)
class Marks:
    """Leaves a file when it grades."""

    path: Path

    def __call__(self, completions):
        self.path.touch()
        return middle(completions)


@dataclass(frozen=True)
class Unloadable:
    """Pickled here, and refused there."""

    def __reduce__(self):
        return (int, ("no number",))

    def __call__(self, completions):
        return middle(completions)
