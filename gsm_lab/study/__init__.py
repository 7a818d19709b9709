"""Studies: recipes, the pipeline that runs them, sweeps, reports. Names are imported when they are asked for.

Recipes need no torch; the pipeline does. So a list of recipes is quick to show, and the command line quick to help.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsm_lab.study.certificate import Certificate, certify
    from gsm_lab.study.evaluate import evaluate_stage, preflight_all, read_rollouts, test_problems
    from gsm_lab.study.experiment import Experiment, load_experiment, load_recipe
    from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure
    from gsm_lab.study.grading_rate import bench_grading
    from gsm_lab.study.machine import bench
    from gsm_lab.study.pipeline import OnProgress, mixture_of, preflight, source_of, tokenizer_of, train_stage
    from gsm_lab.study.predictions import grade_predictions
    from gsm_lab.study.presets import demo_experiment, edge_of_competence
    from gsm_lab.study.recipe import (
        Blend,
        Evaluation,
        Optimization,
        Phase,
        Recipe,
        Reinforce,
        Scale,
        Supervised,
        Task,
        joined,
        uniform,
    )
    from gsm_lab.study.report import Report, write_report
    from gsm_lab.study.runs import StageFolder
    from gsm_lab.study.sweep import Job, SweepState, plan, run_sweep
    from gsm_lab.study.throughput import bench_problems

_ROOMS = {
    "machine": ("bench",),
    "grading_rate": ("bench_grading",),
    "throughput": ("bench_problems",),
    "certificate": ("Certificate", "certify"),
    "evaluate": ("evaluate_stage", "preflight_all", "read_rollouts", "test_problems"),
    "experiment": ("Experiment", "load_experiment", "load_recipe"),
    "figures": ("edge_of_competence_figure", "training_curve_figure"),
    "pipeline": ("OnProgress", "mixture_of", "preflight", "source_of", "tokenizer_of", "train_stage"),
    "predictions": ("grade_predictions",),
    "presets": ("demo_experiment", "edge_of_competence"),
    "recipe": (
        "Blend",
        "Evaluation",
        "Optimization",
        "Phase",
        "Recipe",
        "Reinforce",
        "Scale",
        "Supervised",
        "Task",
        "joined",
        "uniform",
    ),
    "report": ("Report", "write_report"),
    "runs": ("StageFolder",),
    "sweep": ("Job", "SweepState", "plan", "run_sweep"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Blend",
    "Certificate",
    "Evaluation",
    "Experiment",
    "Job",
    "OnProgress",
    "Optimization",
    "Phase",
    "Recipe",
    "Reinforce",
    "Report",
    "Scale",
    "StageFolder",
    "Supervised",
    "SweepState",
    "Task",
    "bench",
    "bench_grading",
    "bench_problems",
    "certify",
    "demo_experiment",
    "edge_of_competence",
    "edge_of_competence_figure",
    "evaluate_stage",
    "grade_predictions",
    "joined",
    "load_experiment",
    "load_recipe",
    "mixture_of",
    "plan",
    "preflight",
    "preflight_all",
    "read_rollouts",
    "run_sweep",
    "source_of",
    "test_problems",
    "tokenizer_of",
    "train_stage",
    "training_curve_figure",
    "uniform",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """The public name, from the room that holds it."""
    if name not in _ROOM_OF:
        raise AttributeError(f"gsm_lab.study has no {name!r}")
    return getattr(import_module(f"gsm_lab.study.{_ROOM_OF[name]}"), name)
