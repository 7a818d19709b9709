"""Laws of the edge finder: its bounds hold at all times, its names are right, and it takes no more than it needs."""

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from gsm_lab.errors import DataError
from gsm_lab.evaluation import pass_at_k_array
from gsm_lab.evaluation.edge import (
    UNDECIDED,
    Attempt,
    Edge,
    EdgeSettings,
    next_op,
    search_edge,
    share_bounds,
)
from gsm_lab.evaluation.intervals import wilson_interval
from gsm_lab.evaluation.ladder import EDGE, HARD, ID

Bounds = Callable[[int, int], tuple[float, float]]

# ------------------------------------------------------------------------------------ bounds


def chance_to_miss(bounds: Bounds, share: float, trials: int) -> float:
    """The exact chance that the bounds miss the true share after any of so many trials: a walk over the successes."""
    alive, missed = np.array([1.0]), 0.0
    for number in range(1, trials + 1):
        alive = np.append(alive * (1 - share), 0.0) + np.insert(alive * share, 0, 0.0)
        for successes in np.flatnonzero(alive > 1e-15).tolist():
            low, high = bounds(successes, number)
            if not low <= share <= high:
                missed += alive[successes]
                alive[successes] = 0.0
    return missed


@pytest.mark.parametrize("centre", [0.1, 0.8])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.8, 0.97])
def test_bounds_hold_at_all_times_with_the_stated_probability(share, centre):
    missed = chance_to_miss(lambda successes, trials: share_bounds(successes, trials, 0.1, centre), share, 120)
    assert 0.005 < missed <= 0.1  # and not for want of ever excluding anything


def test_an_interval_for_one_look_does_not_hold_at_all_times():
    def once(successes: int, trials: int) -> tuple[float, float]:
        return wilson_interval(successes, trials, level=0.9)[1:]

    assert chance_to_miss(once, 0.5, 120) > 0.4


def test_completions_of_one_problem_are_no_trials():
    # Every problem is solved always or never: 32 completions say what one says. Counted as trials, the bounds claim 32
    # times what was seen, and miss the true share 0.5.
    missed = {"problems": 0, "completions": 0}
    for repeat in range(200):
        successes = int(np.random.default_rng(repeat).binomial(50, 0.5))
        for name, weight in (("problems", 1), ("completions", 32)):
            low, high = share_bounds(weight * successes, weight * 50, 0.1)
            missed[name] += not low <= 0.5 <= high
    assert missed["problems"] <= 20
    assert missed["completions"] > 100


def test_bounds_close_in_on_the_estimate_and_stay_open_where_nothing_was_seen():
    assert share_bounds(0, 0, 0.05) == (0.0, 1.0)
    assert share_bounds(0, 50, 0.05)[0] == 0.0
    assert share_bounds(50, 50, 0.05)[1] == 1.0
    widths = [np.diff(share_bounds(trials // 2, trials, 0.05))[0] for trials in (10, 100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05


@pytest.mark.parametrize(("successes", "trials", "error", "centre"), [(2, 1, 0.1, 0.5), (0, 1, 0, 0.5), (0, 1, 0.1, 1)])
def test_impossible_counts_are_refused(successes, trials, error, centre):
    with pytest.raises(DataError, match="give 0 <= successes <= trials"):
        share_bounds(successes, trials, error, centre)


# ------------------------------------------------------------------------------------ competence that is known

K = 32
PEOPLE = 2.0
"""Chances of the problems of an op are Beta distributed with its pass@1 as mean, and this sum of parameters."""
OPS = range(2, 17)
SIGMOID = {op: 1 / (1 + math.exp((op - 9) / 0.9)) for op in OPS}
"""pass@1: 0.9 at op 7, 0.75 at op 8, then 0.5, 0.25, 0.1, 0.03, 0.01 ..."""


def reach(mean: float, k: int = K) -> float:
    """pass@k of problems whose chances are Beta distributed: 1 - E[(1 - p)^k]."""
    failed = PEOPLE * (1 - mean)
    logs = math.lgamma(failed + k) - math.lgamma(failed) + math.lgamma(PEOPLE) - math.lgamma(PEOPLE + k)
    return 1 - math.exp(logs)


def true_name(mean: float) -> str:
    return ID if mean >= 0.8 else HARD if reach(mean) < 0.1 else EDGE


def outcomes(mean: float, seed: int, op: int, problems: int, samples: int = K) -> np.ndarray:
    """(P, S): problems of their own difficulty, and tries at each."""
    rng = np.random.default_rng([seed, op])
    chances_P = rng.beta(PEOPLE * mean, PEOPLE * (1 - mean), problems)
    return rng.random((problems, samples)) < chances_P[:, None]


def attempt_of(curve: dict[int, float], seed: int, problems: int = 4096) -> Attempt:
    tables: dict[int, np.ndarray] = {}

    def attempt(op: int, asked: Sequence[int], samples: range) -> np.ndarray:
        if op not in tables:
            tables[op] = outcomes(curve[op], seed, op, problems)
        return tables[op][np.asarray(asked)][:, samples.start : samples.stop]

    return attempt


@pytest.fixture(scope="module", name="searches")
def _searches() -> list[Edge]:
    return [search_edge(attempt_of(SIGMOID, seed), OPS) for seed in range(40)]


def is_right(found: Edge) -> bool:
    """Whether no name is wrong and no interval misses."""
    return all(
        one.decision in (UNDECIDED, true_name(SIGMOID[one.op]))
        and one.pass_1.low <= SIGMOID[one.op] <= one.pass_1.high
        and one.pass_k.low <= reach(SIGMOID[one.op]) <= one.pass_k.high
        for one in found.ops
    )


def test_names_and_intervals_are_all_right_with_the_stated_probability(searches):
    assert sum(not is_right(found) for found in searches) <= 0.05 * len(searches)


def test_it_takes_fewer_samples_than_a_fixed_number_and_errs_less(searches):
    # The fixed evaluation: 64 problems of every op x 32 samples, the name read off the estimates as `edge_ladder` does.
    def fixed_name(seed: int, op: int) -> str:
        verified = outcomes(SIGMOID[op], seed, op, 64).sum(axis=1)
        first, many = (pass_at_k_array(K, verified, k).mean() for k in (1, K))
        return ID if first >= 0.8 else HARD if many < 0.1 else EDGE

    seeds = range(len(searches))
    wrong = sum(any(fixed_name(seed, op) != true_name(SIGMOID[op]) for op in OPS) for seed in seeds)
    assert wrong / len(searches) > 0.15
    samples = np.array([found.samples for found in searches])
    assert samples.mean() < 0.7 * 64 * K * len(OPS)
    assert not any(
        one.decision not in (UNDECIDED, true_name(SIGMOID[one.op])) for found in searches for one in found.ops
    )
    # Not named are ops within a hair of a boundary: pass@32 is 0.19 at op 12, 0.07 at op 13, 0.02 at op 14.
    assert {one.op for found in searches for one in found.ops if one.decision == UNDECIDED} <= {12, 13, 14, 15}
    assert np.mean([one.decision != UNDECIDED for found in searches for one in found.ops]) > 0.8


def test_what_is_far_from_a_boundary_is_named_at_once(searches):
    # All solved: 0.8 is excluded after 48 problems. None solved: 0.1 after 40 problems, and a few that were solved.
    assert np.mean([found.ops[-1].samples for found in searches]) <= 48 * K
    for found in searches:
        of = {one.op: one for one in found.ops}
        assert of[2].decision == ID
        assert of[2].samples <= 100
        assert of[9].decision == EDGE
        assert of[9].samples <= 200
        assert of[16].decision == HARD


def test_the_looser_the_error_the_fewer_samples():
    strict, loose = (search_edge(attempt_of(SIGMOID, 0), OPS, EdgeSettings(error=error)) for error in (0.001, 0.3))
    assert loose.samples < strict.samples


# ------------------------------------------------------------------------------------ the search


def certain(names: dict[int, str]) -> Attempt:
    """ID is always solved, hard never, edge at every problem's third try."""

    def attempt(op: int, problems: Sequence[int], samples: range) -> np.ndarray:
        row = [names[op] == ID or (names[op] == EDGE and number == 2) for number in samples]
        return np.array([row] * len(problems))

    return attempt


def test_the_search_goes_where_a_boundary_must_be_then_confirms():
    names = {op: ID if op <= 6 else EDGE if op <= 8 else HARD for op in range(2, 17)}
    order: list[int] = []
    search_edge(certain(names), list(names), on_op=lambda one: order.append(one.op))
    # 9 is hard, so a boundary is below: 5, 7 (edge), 8 and 6 settle it; from 10 on all is only confirmed.
    assert order[:5] == [9, 5, 7, 6, 8]
    assert sorted(order) == sorted(names)


def test_an_undecided_op_does_not_stop_the_search_on_either_side():
    assert next_op([2, 3, 4, 5, 6], {4: UNDECIDED}) in (2, 3, 5, 6)
    assert next_op([2, 3, 4], {2: ID, 4: HARD}) == 3
    assert next_op([2, 3, 4, 5], {2: ID, 3: ID}) == 5  # between ID and what lies above all ops


def test_competence_that_falls_and_rises_is_seen():
    names = {2: ID, 3: ID, 4: HARD, 5: ID, 6: EDGE, 7: HARD, 8: EDGE}
    found = search_edge(certain(names), list(names))
    assert {one.op: one.decision for one in found.ops} == names
    assert found.ranges == {ID: ((2, 3), (5, 5)), EDGE: ((6, 6), (8, 8)), HARD: ((4, 4), (7, 7)), UNDECIDED: ()}


def test_claims_of_hard_from_the_highest_op_down_share_no_error_and_are_made_alone_below_another_name():
    told: list[tuple[int, str, int]] = []
    names = {2: ID, 3: HARD, 4: EDGE, 5: HARD, 6: HARD}
    found = search_edge(certain(names), list(names), on_op=lambda one: told.append((one.op, one.decision, one.samples)))
    of = {one.op: one for one in found.ops}
    assert {op: one.decision for op, one in of.items()} == names
    assert of[5].samples == of[6].samples < of[3].samples  # op 4 is not hard, so that op 3 stands alone
    assert of[5].pass_k.high == 0.1 > of[3].pass_k.high
    assert [(op, name) for op, name, _ in told].count((3, HARD)) == 2
    assert sorted(samples for op, _, samples in told if op == 3)[0] == of[5].samples


def test_claims_of_hard_are_wrong_no_more_often_than_stated_wherever_the_falling_stops():
    # pass@4 is 0.101 at three ops, for which hard is wrong, and 0 at two; rules that look at one op at a time would
    # have the chance of an error three times.
    curve = {2: 0.101, 3: 0.0, 4: 0.101, 5: 0.101, 6: 0.0}
    settings = EdgeSettings(k=4, error=0.3, most_per_op=1200)
    wrong = 0
    for seed in range(60):
        tables = {
            op: np.random.default_rng([seed, op]).random((1200, 4)) < 1 - (1 - many) ** 0.25
            for op, many in curve.items()
        }
        found = search_edge(
            lambda op, problems, samples, of=tables: of[op][np.asarray(problems)][:, samples.start : samples.stop],
            list(curve),
            settings,
        )
        wrong += any(one.decision == HARD and curve[one.op] > 0 for one in found.ops)
    assert wrong <= 0.3 * 60


def test_problems_are_new_and_solved_ones_are_not_tried_again():
    asked: list[tuple[tuple[int, ...], range]] = []

    def attempt(op: int, problems: Sequence[int], samples: range) -> np.ndarray:
        asked.append((tuple(problems), samples))
        return np.array([[problem % 2 == 1 and number >= 5 for number in samples] for problem in problems])

    found = search_edge(attempt, [7], EdgeSettings(k=16, problems_at_a_time=4, error=0.2)).ops[0]
    first = [problems for problems, samples in asked if samples.start == 0]
    assert [number for problems in first for number in problems] == list(range(found.problems))
    groups = [place for place, (_, samples) in enumerate(asked) if samples == range(4)]
    begin = groups[0]
    even = tuple(number for number in asked[begin][0] if number % 2 == 0)
    assert asked[begin : begin + 3] == [
        (asked[begin][0], range(4)),
        (asked[begin][0], range(4, 8)),
        (even, range(8, 16)),
    ]
    assert found.samples == sum(len(problems) * len(samples) for problems, samples in asked)
    assert found.grouped_problems == sum(len(asked[place][0]) for place in groups)
    assert found.decision == EDGE


@pytest.mark.parametrize("most", [32, 100, 700, 3000])
def test_the_limit_is_kept_and_what_it_cut_short_is_called_so(most):
    found = search_edge(attempt_of(SIGMOID, 1), OPS, EdgeSettings(most_samples=most))
    assert found.samples <= most
    undecided = [one for one in found.ops if one.decision == UNDECIDED]
    assert undecided
    for one in undecided:
        assert one.pass_1.low < 0.8
        assert one.pass_k.high >= 0.1
    untried = [one for one in found.ops if not one.samples]
    assert untried
    assert all(math.isnan(one.pass_1.value) and one.pass_1[1:] == one.pass_k[1:] == (0.0, 1.0) for one in untried)


def test_an_op_at_the_boundary_is_left_undecided_and_does_not_use_up_what_others_need():
    found = search_edge(attempt_of({2: 0.97, 3: 0.8, 4: 0.5}, 3), [2, 3, 4], EdgeSettings(most_per_op=500))
    assert [one.decision for one in found.ops] == [ID, UNDECIDED, EDGE]
    assert found.ops[1].samples <= 500


def test_a_result_is_read_back_as_it_was_written():
    found = search_edge(attempt_of(SIGMOID, 1), OPS, EdgeSettings(most_samples=3000))
    text = json.dumps(found.to_dict(), allow_nan=False)
    again = Edge.from_dict(json.loads(text))
    assert again.text() == found.text()
    assert json.dumps(again.to_dict()) == text
    assert again.settings == found.settings
    with pytest.raises(DataError, match="no result of the edge finder"):
        Edge.from_dict({"settings": {}})


def test_the_text_names_every_op_and_every_range():
    names = {2: ID, 3: ID, 4: EDGE, 5: HARD}
    text = search_edge(certain(names), list(names)).text()
    assert [line.split()[:2] for line in text.splitlines()[1:5]] == [[str(op), name] for op, name in names.items()]
    assert "ID: op 2 to 3\nedge: op 4\nhard: op 5\n" in text
    assert text.endswith("samples; all of this holds with probability 0.95 at least")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hard_below": 0.8}, "give 0 < hard_below < id_from < 1"),
        ({"error": 0.0}, "an error between 0 and 1"),
        ({"k": 1}, "a k of 2 or more"),
        ({"most_per_op": 31}, "limits of at least k"),
        ({"problems_at_a_time": 0}, "1 problem or more"),
    ],
)
def test_settings_outside_their_range_are_refused(setting, message):
    with pytest.raises(DataError, match=message):
        EdgeSettings(**setting)


@pytest.mark.parametrize("ops", [[], [2, 2]])
def test_ops_are_given_once(ops):
    with pytest.raises(DataError, match="one op or more, each once"):
        search_edge(certain({2: ID}), ops)


@pytest.mark.parametrize("wrong", [np.zeros((8, 2), bool), np.zeros((8, 1)), np.zeros(8, bool)])
def test_an_attempt_of_another_shape_or_kind_is_refused(wrong):
    with pytest.raises(DataError, match="give a bool for each sample of each problem"):
        search_edge(lambda op, problems, samples: wrong, [2])
