"""What a person sees while work goes on: bars and tables on a terminal, plain lines where there is none.

All of it goes to stderr; only `print_table` writes to stdout.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.live import Live
    from rich.table import Table

    from gsm_lab.study import OnProgress, RunOptions, SweepState, SweepWatch


@contextmanager
def progress() -> Iterator["OnProgress"]:
    """Bars on a terminal, and plain lines where there is none: stage, speed, time left, loss or reward."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("CI"):
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as bars:
        speed = _Speed()
        tasks: dict[str, Any] = {}

        def on_progress(name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, completed=done, figures="")
            bars.update(tasks[name], completed=done, figures=_figures(figures, speed.of(name, figures)))

        yield on_progress


@contextmanager
def watched(**fields: Any) -> Iterator["RunOptions"]:
    """The options of a run that a person watches: progress, and notices between, both from rank 0 only."""
    from gsm_lab.study import RunOptions

    if not fields["world"].is_first:
        yield RunOptions(**fields)
        return
    with progress() as on_progress:
        yield RunOptions(on_progress=on_progress, on_notice=say, **fields)


@contextmanager
def bar(name: str) -> Iterator[Any]:
    """A progress callback of (done, total)."""
    with progress() as on_progress:
        yield lambda done, total: on_progress(name, done, total, {})


def say(line: str) -> None:
    """A line for a person, between the lines of progress."""
    print(line, file=sys.stderr, flush=True)


class _Speed:
    """Tokens a second between two reports of one stage."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def of(self, name: str, figures: Mapping[str, Any]) -> float | None:
        import time

        if "tokens_per_second" in figures:
            return float(figures["tokens_per_second"])
        if "tokens" not in figures:
            return None
        now, tokens = time.perf_counter(), float(figures["tokens"])
        before = self._last.get(name)
        self._last[name] = (now, tokens)
        return (tokens - before[1]) / max(now - before[0], 1e-9) if before else None


_FIGURES = (
    ("loss", "loss"),
    ("reward_mean", "reward"),
    ("verified_share", "verified"),
    ("op", "op"),
    ("problems_per_second", "problems/s"),
    ("seconds_left", "seconds left"),
)


def _figures(figures: Mapping[str, Any], speed: float | None) -> str:
    """The latest figures of a stage, for a person."""
    parts = [] if speed is None else [f"{speed:,.0f} tokens/s"]
    for key, word in _FIGURES:
        value = figures.get(key)
        if value is not None and not (key == "loss" and "reward_mean" in figures):
            parts.append(f"{word} {value:.3f}" if isinstance(value, float) else f"{word} {value}")
    return "  ".join(parts)


class _Lines:
    """A line for about every twentieth of a stage."""

    def __init__(self) -> None:
        self._speed = _Speed()
        self._next: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
        if done >= self._next.get(name, 0) or done == total:
            self._next[name] = done + max(1, total // 20)
            print(
                f"{name} {done}/{total}  {_figures(figures, self._speed.of(name, figures))}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def sweep_progress(runs: Path, workers: int) -> Iterator["Callable[[SweepState], None]"]:
    """A table on a terminal, and plain lines where there is none."""
    from rich.console import Console

    from gsm_lab.study import SweepWatch

    console, watch = Console(stderr=True), SweepWatch(runs, workers)
    if not console.is_terminal or os.environ.get("CI"):
        yield _SweepLines(watch)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield _SweepTable(watch, live)


class _SweepTable:
    """A row a job, drawn anew every second."""

    def __init__(self, watch: "SweepWatch", live: "Live") -> None:
        self._watch = watch
        self._live = live
        self._next = 0.0

    def __call__(self, state: "SweepState") -> None:
        import time

        if time.monotonic() < self._next and state.running:
            return
        self._next = time.monotonic() + 1
        self._live.update(self._drawn(state), refresh=True)

    def _drawn(self, state: "SweepState") -> "Table":
        from rich.table import Table

        from gsm_lab.study import duration

        rows, left = self._watch.look(state)
        known = "" if left is None else f", {duration(left)} left"
        table = Table(caption=f"{len(state.done)} of {len(state.jobs)} done, {len(state.failed)} failed{known}")
        for name in ("stage", "seed", "state", "now", "done", "left"):
            table.add_column(name, justify="right" if name in ("seed", "done", "left") else "left")
        for row in rows[: max(5, self._live.console.height - 8)]:
            time_left = "" if row.left is None or row.state == "done" else duration(row.left)
            table.add_row(row.stage, str(row.seed), row.state, row.doing, f"{row.share:.0%}", time_left)
        return table


class _SweepLines:
    """A line on stderr whenever a run of a sweep begins, ends or fails, and once a minute how far they are."""

    def __init__(self, watch: "SweepWatch") -> None:
        self._watch = watch
        self._shown: tuple[int, int, tuple[str, ...], tuple[str, ...]] | None = None
        self._next = 0.0

    def __call__(self, state: "SweepState") -> None:
        import time

        from gsm_lab.study import duration

        now = (len(state.done), len(state.failed), tuple(sorted(state.running)), tuple(sorted(state.elsewhere)))
        if now == self._shown and time.monotonic() < self._next:
            return
        has_changed, self._shown = now != self._shown, now
        if has_changed:
            running = "; ".join(job.label for job in state.jobs if job.id in state.running)
            others = "; ".join(job.label for job in state.jobs if job.id in state.elsewhere)
            say(
                f"{now[0]} of {len(state.jobs)} done, {now[1]} failed; running: {running or 'nothing'}"
                + (f"; waiting for others at: {others}" if others else "")
            )
        if time.monotonic() >= self._next:
            is_first = not self._next
            self._next = time.monotonic() + 60
            if not is_first:
                rows, left = self._watch.look(state)
                for row in rows:
                    if row.state in ("running", "elsewhere"):
                        say(f"  {row.text}")
                if left is not None:
                    say(f"  {duration(left)} left in all")


def print_table(table: "pd.DataFrame") -> None:
    """All rows and columns of a table, on stdout."""
    import pandas as pd

    with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.width", 250):
        print(table.to_string())
