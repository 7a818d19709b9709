"""A run that stops and goes on is the run that never stopped; every piece of state that could be lost shows."""

import itertools

import numpy as np
import pytest
import torch

from gsm_lab.training import FitSettings, OptimizerSettings, Schedule, fit

SETTINGS = FitSettings(
    steps=6, log_every=2, save_every=2, optimizer=OptimizerSettings(learning_rate=0.01), schedule=Schedule()
)


@pytest.fixture
def goes_on(tmp_path, tiny_model, same_weights):
    """Whether weights and logs are the same with and without a stop after each step, each time with a new process."""

    def check(batches) -> bool:
        whole, parts = tiny_model(), None
        fit(whole, batches(), SETTINGS, tmp_path / "whole")
        for _ in range(SETTINGS.steps):
            torch.rand(5), np.random.random(5)  # what another process draws is nobody's business
            parts = tiny_model()
            fit(parts, batches(), SETTINGS, tmp_path / "parts", should_stop=lambda: True)
        logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
        return same_weights(whole, parts) and logs[0] == logs[1]

    return check


def test_batches_by_their_cursor_go_on_where_they_were(goes_on, batches_of):
    assert goes_on(batches_of)


def test_near_miss_batches_that_begin_anew_are_another_run(goes_on, batches_of):
    def from_the_start():
        own = itertools.count(step=4)
        return lambda cursor: (batches_of()(next(own))[0], cursor + 4)

    assert not goes_on(from_the_start)


def test_near_miss_batches_that_skip_what_was_drawn_ahead_are_another_run(goes_on, batches_of):
    """A stop that loses one batch that had been drawn ahead."""

    def one_lost():
        lost = None

        def batch(cursor):
            nonlocal lost
            lost = (4 if cursor else 0) if lost is None else lost
            return batches_of()(cursor + lost)[0], cursor + 4

        return batch

    assert not goes_on(one_lost)


def test_near_miss_batches_from_the_global_stream_are_another_run(goes_on, batches_of):
    np.random.seed(0)
    assert not goes_on(lambda: lambda cursor: (batches_of(np.random.randint(99))(cursor)[0], cursor + 4))
