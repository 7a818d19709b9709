"""Where competence ends, in few samples: tests every op until it is known to be ID, edge or hard, and not longer.

The names are those of `ladder.py`. ID: pass@1 is at least `id_from`. Hard: pass@k is below `hard_below`. Edge: what
lies between. An op is sampled until bounds around its pass@1 and its pass@k leave one name.

- The unit is the problem: of each, its first completion is one trial of pass@1, and whether any of k completions is
  verified is one trial of pass@k. So both are shares of independent problems, however alike the completions of one are.
- The bounds are confidence sequences: they hold at all times at once, so that one may look after every problem and stop
  when one likes. All bounds of all ops hold together with probability 1 - `error`; so no name is wrong, either.
- One completion of each problem is asked for while the op may be ID. Then k of each, in rounds; a problem that has been
  solved gets no further ones. pass@k is counted on problems drawn after that change only: those drawn before were
  known to be easy or not when it was made.
- Competence may rise and fall with the op. That it mostly falls orders the search: it goes into the middle of the ops
  between two that have different names, then confirms the ops between two of equal names. And it orders the claims that
  cost most, those of hard: from the highest op down, each made only if all above it were, so that none of them has to
  share its error with the others (fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995). Where an op in between
  is not hard, those below it have to be shown to be hard each on its own.

What is not done: a pass@1 within a hair of `id_from`, or a pass@k of `hard_below`, is not decided before the limit on
samples; and the other claims divide their error among the ops (Bonferroni).

Shapes: P problems, S samples of each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gsm_lab.errors import DataError
from gsm_lab.evaluation.intervals import Interval
from gsm_lab.evaluation.ladder import EDGE, HARD, ID

UNDECIDED = "not decided"
"""The limit on samples came first."""
NAMES = (ID, EDGE, HARD, UNDECIDED)
PRIOR_TRIALS = 2.0
"""Weight of a confidence sequence's prior; little, so that a share far from the boundary is soon told from it."""
_FIRST_PART, _REACH_PART, _HARD_PART = 0.1, 0.2, 0.7
"""How the error is divided: bounds of pass@1, whose trials are cheap; bounds of pass@k; claims of hard in sequence."""
_FIRST_ROUND = 4
"""Completions of a problem before it is looked at again; then as many again each time."""

Attempt = Callable[[int, Sequence[int], range], ArrayLike]
"""Whether completions are verified, (P, S) bools: of an op, the numbers of problems, and of the samples of each.

Problems are independent draws, each with its number from 0 on; so are the samples of a problem.
"""


# ------------------------------------------------------------------------------------ bounds that hold at all times


@lru_cache(maxsize=1 << 16)
def share_bounds(successes: int, trials: int, error: float, centre: float = 0.5) -> tuple[float, float]:
    """Bounds around a share of independent trials; with probability 1 - `error` they hold after all numbers of trials.

    Under the true share p, the chance of the outcomes by a Beta prior over their chance by p is a martingale that
    begins with 1, so that it ever reaches 1 / error with probability `error` at most (Ville 1939). The bounds hold
    every p for which it has not. They are tightest where `centre`, the prior's mean, is.
    Sources: Robbins 1970, Lai 1976; the beta-binomial mixture of Howard et al. 2021, arXiv:1810.08240.

    Raises:
        DataError: more successes than trials, or an error or centre that is not between 0 and 1.
    """
    if not (0 <= successes <= trials and 0 < error < 1 and 0 < centre < 1):
        raise DataError(
            f"{successes} successes of {trials} trials, error {error}, centre {centre}: give 0 <= successes <= trials, "
            f"and an error and a centre between 0 and 1."
        )
    failures = trials - successes
    prior = (PRIOR_TRIALS * centre, PRIOR_TRIALS * (1 - centre))
    mixture = _log_beta(prior[0] + successes, prior[1] + failures) - _log_beta(*prior)

    def excluded(share: float) -> bool:
        likelihood = successes * math.log(share) if successes else 0.0
        likelihood += failures * math.log1p(-share) if failures else 0.0
        return mixture - likelihood >= -math.log(error)

    estimate = successes / trials if trials else centre
    low = _last_excluded(excluded, 0.0, estimate) if successes else 0.0
    high = _last_excluded(excluded, 1.0, estimate) if failures else 1.0
    return low, high


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


def _last_excluded(excluded: Callable[[float], bool], outside: float, inside: float) -> float:
    """The point between an end that is excluded and an estimate that never is, up to 1e-9, on the excluded side."""
    while abs(inside - outside) > 1e-9:
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excluded(middle) else (outside, middle)
    return outside


@dataclass
class _Share:
    """A share of problems while they come in; its bounds only ever tighten, for those before hold as well."""

    error: float
    centre: float
    trials: int = 0
    successes: int = 0
    low: float = 0.0
    high: float = 1.0

    def see(self, outcomes_P: NDArray[np.bool_]) -> None:
        """Count the outcomes of new problems. Bounds that contradict earlier ones (rarer than `error`) are left."""
        self.trials += len(outcomes_P)
        self.successes += int(outcomes_P.sum())
        low, high = share_bounds(self.successes, self.trials, self.error, self.centre)
        if max(low, self.low) <= min(high, self.high):
            self.low, self.high = max(low, self.low), min(high, self.high)

    @property
    def estimate(self) -> float:
        return self.successes / self.trials if self.trials else math.nan


# ------------------------------------------------------------------------------------ settings and result


@dataclass(frozen=True, kw_only=True)
class EdgeSettings:
    """What the names mean, how sure they must be, and how much may be sampled for them.

    Raises:
        DataError: a setting outside its range, or limits in which no problem can be asked k times.
    """

    k: int = 32
    """Tries that count as within reach."""
    id_from: float = 0.8
    """ID has at least this pass@1."""
    hard_below: float = 0.1
    """Hard has a pass@k below this."""
    error: float = 0.05
    """The chance that any name is wrong or any interval misses, over all ops."""
    problems_at_a_time: int = 8
    """New problems between two looks."""
    most_per_op: int = 4_096
    """Samples after which an op is left undecided."""
    most_samples: int = 50_000
    """Samples of all ops together."""

    def __post_init__(self) -> None:
        if not 0 < self.hard_below < self.id_from < 1 or not 0 < self.error < 1:
            raise DataError(
                f"hard_below is {self.hard_below}, id_from {self.id_from} and error {self.error}: "
                f"give 0 < hard_below < id_from < 1, and an error between 0 and 1."
            )
        if self.k < 2 or self.problems_at_a_time < 1 or min(self.most_per_op, self.most_samples) < self.k:
            raise DataError(
                f"k is {self.k}, problems_at_a_time {self.problems_at_a_time}, most_per_op {self.most_per_op} and "
                f"most_samples {self.most_samples}: give a k of 2 or more, 1 problem or more, and limits of at least k."
            )


@dataclass(frozen=True)
class OpCompetence:
    """What is known of one op; estimates without any trial are nan."""

    op: int
    decision: str
    """One of `NAMES`."""
    pass_1: Interval
    pass_k: Interval
    problems: int
    """Problems that were tried."""
    grouped_problems: int
    """Those of them that were tried up to k times: the trials of pass@k."""
    samples: int


@dataclass(frozen=True)
class Edge:
    """Where competence ends: a name for every op."""

    settings: EdgeSettings
    ops: tuple[OpCompetence, ...]

    @property
    def samples(self) -> int:
        """Samples of all ops together."""
        return sum(one.samples for one in self.ops)

    @property
    def ranges(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """For each name, the runs of ops that have it, as (lowest, highest): one each where competence only falls."""
        runs: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        for name, group in groupby(self.ops, key=lambda one: one.decision):
            members = [one.op for one in group]
            runs[name].append((members[0], members[-1]))
        return {name: tuple(spans) for name, spans in runs.items()}

    def table(self) -> pd.DataFrame:
        """One row an op, in numbers."""
        rows = []
        for one in self.ops:
            intervals = {"pass_1": one.pass_1, "pass_k": one.pass_k}
            bounds = {f"{name}_{part}": value for name, each in intervals.items() for part, value in _parts(each)}
            counts = {"problems": one.problems, "grouped_problems": one.grouped_problems, "samples": one.samples}
            rows.append({"op": one.op, "decision": one.decision, **bounds, **counts})
        return pd.DataFrame(rows)

    def text(self) -> str:
        """The same for people, with the ranges below."""
        heads = ("op", "range", "pass@1", f"pass@{self.settings.k}", "problems", "samples")
        rows = [
            (str(one.op), one.decision, _shown(one.pass_1), _shown(one.pass_k), str(one.problems), f"{one.samples:,}")
            for one in self.ops
        ]
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)
        ]
        ranges = [f"{name}: {_spans(spans)}" for name, spans in self.ranges.items() if spans]
        sure = f"{self.samples:,} samples; all of this holds with probability {1 - self.settings.error:g} at least"
        return "\n".join([*lines, "", *ranges, sure])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not known is None."""
        rows = [{name: None if value != value else value for name, value in row.items()} for row in self._rows()]
        ranges = {name: [list(span) for span in spans] for name, spans in self.ranges.items()}
        return {"settings": asdict(self.settings), "ops": rows, "ranges": ranges, "samples": self.samples}

    def _rows(self) -> list[dict[str, Any]]:
        return [{str(name): value for name, value in row.items()} for row in self.table().to_dict("records")]

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Edge":
        """The result that `to_dict` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            return cls(EdgeSettings(**value["settings"]), tuple(_competence(row) for row in value["ops"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"this is no result of the edge finder ({error!r}): find the edge again.") from error


def _competence(row: Mapping[str, Any]) -> OpCompetence:
    first, reach = (
        Interval(*(math.nan if row[f"{name}_{part}"] is None else row[f"{name}_{part}"] for part in Interval._fields))
        for name in ("pass_1", "pass_k")
    )
    counts = (int(row[name]) for name in ("problems", "grouped_problems", "samples"))
    return OpCompetence(row["op"], row["decision"], first, reach, *counts)


def _parts(interval: Interval) -> list[tuple[str, float]]:
    return list(zip(Interval._fields, interval, strict=True))


def _shown(interval: Interval) -> str:
    value = "-" if math.isnan(interval.value) else f"{interval.value:.3f}"
    return f"{value} [{interval.low:.3f}, {interval.high:.3f}]"


def _spans(spans: Sequence[tuple[int, int]]) -> str:
    return "op " + ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in spans)


# ------------------------------------------------------------------------------------ the search


def search_edge(
    attempt: Attempt,
    ops: Sequence[int],
    settings: EdgeSettings | None = None,
    on_op: Callable[[OpCompetence], None] | None = None,
) -> Edge:
    """Name every op, in as few samples as its bounds need; an op that the limits cut short is `UNDECIDED`.

    `on_op` is called with each op as soon as it is done, in the order of the search; once more with an op that was
    thought hard if an op above it is not, and it had to be tested further.

    Raises:
        DataError: no ops, an op given twice, or an attempt of another shape than was asked for.
    """
    settings = settings or EdgeSettings()
    ladder = sorted(ops)
    if not ladder or len({*ladder}) < len(ladder):
        raise DataError(f"ops are {list(ops)}: give one op or more, each once.")
    all_seen: dict[int, _Seen] = {}
    left = settings.most_samples

    def sample(one: _Seen, alone: bool) -> None:
        nonlocal left
        before = one.samples
        _sample(one, attempt, min(left, settings.most_per_op - before), alone)
        left -= one.samples - before
        if on_op is not None:
            on_op(one.competence())

    while len(all_seen) < len(ladder):
        op = next_op(ladder, {op: one.name for op, one in all_seen.items()})
        all_seen[op] = _Seen.begin(op, settings, len(ladder))
        sample(all_seen[op], alone=False)
    all_above_are_hard = True
    for op in reversed(ladder):
        one = all_seen[op]
        if one.in_sequence and not all_above_are_hard:
            one.in_sequence = False
            sample(one, alone=True)
        all_above_are_hard = all_above_are_hard and one.name == HARD
    return Edge(settings, tuple(all_seen[op].competence() for op in ladder))


def next_op(ops: Sequence[int], decisions: Mapping[int, str]) -> int:
    """The op to test next: the middle of the longest stretch of untested ops between two that have different names.

    Where competence only falls, a boundary is there. Below all ops one thinks of ID, above them of hard. When no such
    stretch is left, the same between equal names: where a rise and fall would most likely have been missed.
    """
    settled = [(at, decisions[op]) for at, op in enumerate(ops) if decisions.get(op, UNDECIDED) != UNDECIDED]
    stretches = [
        (one != other, [op for op in ops[start + 1 : end] if op not in decisions])
        for (start, one), (end, other) in pairwise([(-1, ID), *settled, (len(ops), HARD)])
    ]
    _, untested = max((stretch for stretch in stretches if stretch[1]), key=lambda one: (one[0], len(one[1])))
    return untested[len(untested) // 2]


@dataclass
class _Seen:
    """What has been seen of one op."""

    op: int
    settings: EdgeSettings
    first: _Share
    """pass@1."""
    reach: _Share
    """pass@k."""
    problems: int = 0
    samples: int = 0
    in_sequence: bool = False
    """Whether it is hard provided that all ops above it are."""

    @classmethod
    def begin(cls, op: int, settings: EdgeSettings, num_ops: int) -> "_Seen":
        error = settings.error / num_ops
        first = _Share(_FIRST_PART * error, settings.id_from)
        return cls(op, settings, first, _Share(_REACH_PART * error, settings.hard_below))

    @property
    def name(self) -> str:
        """The one name that the bounds leave, if they do; pass@1 is never above pass@k."""
        settings, first, reach = self.settings, self.first, self.reach
        if first.low >= settings.id_from:
            return ID
        if reach.high < settings.hard_below or self.in_sequence:
            return HARD
        if first.high < settings.id_from and max(first.low, reach.low) >= settings.hard_below:
            return EDGE
        return UNDECIDED

    def see(self, first_P: NDArray[np.bool_], solved_P: NDArray[np.bool_] | None, samples: int) -> None:
        """Count the outcomes of new problems; `solved_P` is None when only one completion of each was asked for."""
        self.problems += len(first_P)
        self.samples += samples
        self.first.see(first_P)
        if solved_P is not None:
            self.reach.see(solved_P)

    def is_hard_in_sequence(self) -> bool:
        """Whether a claim of hard that shares its error with no other op could be made."""
        settings, reach = self.settings, self.reach
        error = _HARD_PART * settings.error
        return share_bounds(reach.successes, reach.trials, error, settings.hard_below)[1] < settings.hard_below

    def competence(self) -> OpCompetence:
        """The result; of an op that is hard in the sequence of claims, no more is sure than that."""
        first, reach = self.first, self.reach
        reach_high = min(reach.high, self.settings.hard_below) if self.in_sequence else reach.high
        pass_1 = Interval(first.estimate, first.low, min(first.high, reach_high))
        pass_k = Interval(reach.estimate, max(first.low, reach.low), reach_high)
        return OpCompetence(self.op, self.name, pass_1, pass_k, self.problems, reach.trials, self.samples)


def _sample(one: _Seen, attempt: Attempt, budget: int, alone: bool) -> None:
    """Sample an op until it has a name, its own if `alone`, or the budget is used up."""
    settings, end = one.settings, one.samples + budget
    while one.name == UNDECIDED:
        most = settings.k if one.first.high < settings.id_from else 1
        number = min(settings.problems_at_a_time, (end - one.samples) // most)
        if number < 1:
            break
        problems = range(one.problems, one.problems + number)
        first_P, solved_P, samples = _try_problems(one.op, attempt, problems, most)
        one.see(first_P, solved_P if most > 1 else None, samples)
        one.in_sequence = not alone and one.name == UNDECIDED and one.is_hard_in_sequence()


def _try_problems(
    op: int, attempt: Attempt, problems: range, most: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Of each problem whether its first and whether any of `most` samples is verified; and the samples it took."""
    first_P, solved_P, samples = np.zeros(len(problems), np.bool_), np.zeros(len(problems), np.bool_), 0
    start, end = 0, min(_FIRST_ROUND, most)
    while start < most and not solved_P.all():
        open_places = np.flatnonzero(~solved_P)
        asked = [problems[place] for place in open_places]
        verified_PS = np.asarray(attempt(op, asked, range(start, end)))
        if verified_PS.shape != (len(asked), end - start) or verified_PS.dtype != np.bool_:
            raise DataError(
                f"an attempt of {len(asked)} problems of op {op} x {end - start} samples gave {verified_PS.dtype} of "
                f"shape {verified_PS.shape}: give a bool for each sample of each problem."
            )
        if start == 0:
            first_P = verified_PS[:, 0]
        solved_P[open_places] = verified_PS.any(axis=1)
        samples += verified_PS.size
        start, end = end, min(2 * end, most)
    return first_P, solved_P, samples
