"""Studies: recipes, the pipeline that runs them, sweeps, reports. Names are imported when they are asked for.

Recipes need no torch; the pipeline does. So a list of recipes is quick to show, and the command line quick to help.
The names are written once, as imports that type checkers carry out; at run time they are read as a list of where every
name lives.
"""
# mypy: implicit-reexport
# ruff: noqa: F401 (the names are for whoever imports them from here)

from typing import TYPE_CHECKING, Any

from gsm_lab.lazy import imported, rooms_of

if TYPE_CHECKING:
    from gsm_lab.study.budgets import (
        MIDTRAIN_SHARES,
        REFERENCE,
        Exchange,
        Steps,
        reference_exchange,
        reference_exchange_of,
    )
    from gsm_lab.study.certificate import Certificate, certify
    from gsm_lab.study.claims import judge, ks_of, pairs_of
    from gsm_lab.study.edge_finder import FinderSettings, edge_folder, find_edge, read_edge
    from gsm_lab.study.engine_rate import bench_engine
    from gsm_lab.study.evaluate import (
        context_labels,
        evaluate_stage,
        preflight_all,
        read_gold,
        read_rollouts,
        test_problems,
    )
    from gsm_lab.study.experiment import Axis, Claim, Experiment, load_experiment, load_recipe
    from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure, verdicts_figure
    from gsm_lab.study.figures_arms import factor_figure, pass_and_majority_figure
    from gsm_lab.study.grading_rate import bench_grading
    from gsm_lab.study.ledger import Ledger, StageCost, ledger_of, measured_exchange, stage_cost, write_ledger
    from gsm_lab.study.moving_edge import History, MovingState
    from gsm_lab.study.moving_settings import MovingEdge
    from gsm_lab.study.options import OnNotice, OnProgress, RunOptions
    from gsm_lab.study.pipeline import train_stage
    from gsm_lab.study.predictions import grade_predictions
    from gsm_lab.study.preflight import arithmetic_of
    from gsm_lab.study.presets import BASE, MID, MID_RL_EDGE, SEEDS, Seeds, Study, demo_experiment, study_at
    from gsm_lab.study.recipe import (
        Blend,
        Evaluation,
        Mixed,
        Optimization,
        Phase,
        Recipe,
        Reinforce,
        Scale,
        Stage,
        Supervised,
        Task,
        joined,
        uniform,
    )
    from gsm_lab.study.report import Report, write_report
    from gsm_lab.study.runs import StageFolder
    from gsm_lab.study.sources import mixture_of, source_of, tokenizer_of
    from gsm_lab.study.sweep import Job, SweepState, plan, run_sweep
    from gsm_lab.study.sweep_executors import ExecutorSettings, crowding, open_executor
    from gsm_lab.study.sweep_table import SweepWatch, duration, plan_lines
    from gsm_lab.study.throughput import bench_problems
    from gsm_lab.study.trackers import check_trackers
    from gsm_lab.study.tracking import fill_records, missing_records

_ROOM_OF = rooms_of(__name__, __file__)


def __getattr__(name: str) -> Any:
    """The public name, from the module that holds it."""
    return imported(__name__, _ROOM_OF, name)
