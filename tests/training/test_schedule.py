"""The learning rate at each step, against tables worked out by hand."""

import math

import pytest

from gsm_lab.errors import TrainingError
from gsm_lab.training import Schedule, learning_rate_scale


def table(schedule: Schedule, total: int) -> list[float]:
    return [learning_rate_scale(schedule, step, total) for step in range(total)]


def test_linear_rises_to_one_and_falls_to_its_share_at_the_last_step():
    # 4 steps up: 1/4, 2/4, 3/4, 1; then 16 equal steps down from 1 to 0.2, 0.05 each
    wanted = [0.25, 0.5, 0.75, 1.0] + [1.0 - 0.05 * fall for fall in range(1, 17)]
    found = table(Schedule(kind="linear", warmup_steps=4, min_share=0.2), 20)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found[-1] == 0.2


def test_cosine_follows_its_closed_form_over_twenty_steps():
    wanted = [1 / 3, 2 / 3] + [0.1 + 0.9 * (1 + math.cos(math.pi * fall / 17)) / 2 for fall in range(18)]
    found = table(Schedule(kind="cosine", warmup_steps=3, min_share=0.1), 20)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found[2] == 1.0
    assert found[-1] == 0.1


def test_no_warmup_begins_at_the_full_rate():
    assert learning_rate_scale(Schedule(warmup_steps=0), 0, 20) == 1.0
    assert learning_rate_scale(Schedule(warmup_steps=2), 0, 20) == 0.5  # near miss: a warm-up of two does not


def test_constant_stays_at_one_after_the_warmup_and_ignores_the_share():
    assert table(Schedule(kind="constant", warmup_steps=2, min_share=0.0), 5) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_no_step_is_wasted_at_rate_zero():
    assert all(scale > 0 for scale in table(Schedule(kind="linear", warmup_steps=5, min_share=0.1), 10))


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_a_run_shorter_than_its_warmup_is_still_defined(kind):
    assert table(Schedule(kind=kind, warmup_steps=4), 2) == [0.25, 0.5]
    assert table(Schedule(kind=kind), 1) == [1.0]


def test_a_step_after_the_last_is_refused():
    schedule = Schedule()
    with pytest.raises(TrainingError, match="step 20 is not one of the 20 steps"):
        learning_rate_scale(schedule, 20, 20)


@pytest.mark.parametrize("wrong", [{"warmup_steps": -1}, {"min_share": 1.5}, {"kind": "step"}])
def test_a_schedule_that_makes_no_sense_is_not_born(wrong):
    with pytest.raises(TrainingError, match=r"schedule kind|warmup_steps"):
        Schedule(**wrong)
