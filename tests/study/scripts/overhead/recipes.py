"""Twelve arms on one base at the nano scale, each of a minute or two: what does the machinery of a sweep cost?"""

from pathlib import Path

from gsm_lab.study import Experiment, Recipe, load_experiment

NANO = load_experiment(Path(__file__).parents[4] / "experiments" / "edge_of_competence")
RECIPE = NANO.recipe("rl-edge-seed0")
BASE, RL = RECIPE.stages


def arm(number: int) -> Recipe:
    stage = RL.model_copy(update={"name": f"RL {number}", "steps": 15, "temperature": 1 + number / 100})
    return RECIPE.model_copy(update={"name": f"arm-{number}", "stages": (BASE, stage)})


EXPERIMENT = Experiment(
    name="overhead",
    title="Overhead",
    recipes=tuple(arm(number) for number in range(12)),
    bands=NANO.bands,
    baseline="base",
)
