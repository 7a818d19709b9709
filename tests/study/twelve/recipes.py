"""Twelve arms on one base: the small experiment's base, and short reinforcement learning at twelve temperatures."""

from pathlib import Path

from gsm_lab.study import Experiment, Recipe, load_experiment

SMALL = load_experiment(Path(__file__).parents[1] / "small").recipe("rl")
BASE, RL = SMALL.stages


def arm(number: int) -> Recipe:
    rl = RL.model_copy(update={"name": f"RL {number}", "steps": 2, "temperature": 1 + number / 100})
    return SMALL.model_copy(update={"name": f"arm-{number}", "stages": (BASE, rl)})


EXPERIMENT = Experiment(
    name="twelve",
    title="Twelve",
    recipes=tuple(arm(number) for number in range(12)),
    bands={"ID": (2, 2), "edge": (3, 3)},
    baseline="base",
)
