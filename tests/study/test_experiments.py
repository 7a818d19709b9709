"""Laws of the experiments in this repository: each can be run at every scale, and says beforehand what it expects."""

import re
from pathlib import Path

import pytest

from gsm_lab.errors import RecipeError
from gsm_lab.study import StageFolder, load_experiment, plan, preflight_all, study_at

FOLDER = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/recipes.py"))
GPU_SCALES = ("micro", "small", "paper")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(FOLDER.parent)  # frames are given by their path from there


def test_the_studies_are_there():
    assert NAMES == [
        "context_exposure",
        "edge_of_competence",
        "hard_share",
        "midtraining_vs_rl",
        "passk_vs_majk",
        "reward_design",
        "step_credit",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_three_seeds_claims_and_a_prediction(name):
    experiment = load_experiment(name)
    assert experiment.name == name
    assert {recipe.seed for recipe in experiment.recipes} == {0, 1, 2}
    assert experiment.claims
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert "**Question.**" in text
    assert f"gsm-lab sweep {name}" in text
    assert re.search(r"^## Prediction, written before the run$", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["nano-wide", *GPU_SCALES])
def test_a_study_can_be_planned_at_every_scale(name, scale):
    experiment = load_experiment(f"{name}@{scale}")
    assert experiment.name == f"{name}-{scale}"
    assert len(plan(experiment.recipes)) >= 9
    assert len(experiment.claims) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_arithmetic_of_a_study_works_out(name, tmp_path):
    """Every stage of one seed fits the model and the length limits, and every op has its test problems."""
    for recipe in load_experiment(name).recipes:
        if recipe.seed == 0:
            preflight_all([StageFolder(tmp_path, recipe, number) for number in range(len(recipe.stages))])


@pytest.mark.parametrize("scale", GPU_SCALES)
def test_the_arithmetic_of_the_larger_scales_works_out(scale, tmp_path):
    study = study_at(scale)
    recipe = study.recipe("x", 0, study.pretrain, study.midtrain, study.reinforce)
    few = recipe.evaluation.model_copy(update={"ops": (2, 20), "problems_per_op": 4})
    recipe = recipe.model_copy(update={"evaluation": few})
    preflight_all([StageFolder(tmp_path, recipe, number) for number in range(3)])


def test_one_base_serves_the_studies_of_one_task():
    first = load_experiment("edge_of_competence").recipes[0].stage_id(0)
    for name in ("reward_design", "step_credit", "midtraining_vs_rl", "passk_vs_majk"):
        assert all(recipe.stage_id(0) == first for recipe in load_experiment(name).recipes if recipe.seed == 0)
    half = load_experiment("hard_share").recipe("hard-0.5-seed0")
    edge = load_experiment("edge_of_competence").recipe("rl-edge-seed0")
    assert half.id == edge.id
    assert load_experiment("reward_design").recipe("strict-seed0").id == edge.id


def test_pass_against_majority_trains_nothing_of_its_own():
    """Not even its tests are its own: they are those of the study of the edge."""
    edge, own = (load_experiment(name) for name in ("edge_of_competence", "passk_vs_majk"))
    assert {job.id for job in plan(own.recipes)} <= {job.id for job in plan(edge.recipes)}
    assert own.recipes[0].evaluation == edge.recipes[0].evaluation


def test_a_scale_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(RecipeError, match="no scale 'huge': give one of tiny, nano, nano-wide, micro, small, paper"):
        load_experiment("reward_design@huge")
