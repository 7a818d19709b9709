"""What a model reached, and how sure that is: from a table of rollouts to tables with intervals."""

from gsm_lab.evaluation.edge import UNDECIDED, Edge, EdgeSettings, OpCompetence, search_edge, share_bounds
from gsm_lab.evaluation.estimators import maj_at_k, majority_curve, pass_at_k, pass_at_k_array
from gsm_lab.evaluation.intervals import LEVEL, Interval, bootstrap_interval, paired_difference, wilson_interval
from gsm_lab.evaluation.ladder import as_bands, edge_ladder
from gsm_lab.evaluation.per_problem import (
    ALL,
    ANSWER_PASS,
    COLUMNS,
    MAJ,
    PASS,
    PROCESS,
    SHARES,
    STRUCTURAL,
    Scores,
    powers_of_two,
    score_problems,
)
from gsm_lab.evaluation.tables import DIFFERENCE_COLUMNS, TABLE_COLUMNS, Bands, differences, tabulate

__all__ = [
    "ALL",
    "ANSWER_PASS",
    "COLUMNS",
    "DIFFERENCE_COLUMNS",
    "LEVEL",
    "MAJ",
    "PASS",
    "PROCESS",
    "SHARES",
    "STRUCTURAL",
    "TABLE_COLUMNS",
    "UNDECIDED",
    "Bands",
    "Edge",
    "EdgeSettings",
    "Interval",
    "OpCompetence",
    "Scores",
    "as_bands",
    "bootstrap_interval",
    "differences",
    "edge_ladder",
    "maj_at_k",
    "majority_curve",
    "paired_difference",
    "pass_at_k",
    "pass_at_k_array",
    "powers_of_two",
    "score_problems",
    "search_edge",
    "share_bounds",
    "tabulate",
    "wilson_interval",
]
