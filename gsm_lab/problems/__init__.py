"""Graphs, words, solutions and grades; the standard library only, so that it works in any environment."""

from gsm_lab.problems.compiled import compiled_modules, refuse_stale_modules

refuse_stale_modules()

from gsm_lab.problems import rewards
from gsm_lab.problems.draw import check_spec, draw_counted, draw_problem
from gsm_lab.problems.equivalences import EQUIVALENCES, reword
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grade import examine, grade
from gsm_lab.problems.graph import DependencyGraph, Linear, Node, Operation, Quantity
from gsm_lab.problems.gsm_infinite import ForeignProblem, parse_gsm_infinite, read_gsm_infinite
from gsm_lab.problems.identity import LEVELS, Identities, identities, identity_at, problem_id
from gsm_lab.problems.mutations import MUTATIONS, mutate
from gsm_lab.problems.padding import padded_problem
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.reader import read_problem, solve_text
from gsm_lab.problems.render import render
from gsm_lab.problems.spec import MOST_OP, ProblemSpec
from gsm_lab.problems.style import Style
from gsm_lab.problems.template import DISTANCES, Template, known_contexts, known_frames, load_template, read_template
from gsm_lab.problems.trace import MOST_CHARACTERS
from gsm_lab.problems.verdicts import ERRORS, Examination, Finding, Grade, Mark, Verdict, is_structural
from gsm_lab.problems.vocabulary import faults

__all__ = [
    "DISTANCES",
    "EQUIVALENCES",
    "ERRORS",
    "LEVELS",
    "MOST_CHARACTERS",
    "MOST_OP",
    "MUTATIONS",
    "DependencyGraph",
    "Examination",
    "Exercise",
    "Finding",
    "ForeignProblem",
    "Grade",
    "Identities",
    "Linear",
    "Mark",
    "Node",
    "Operation",
    "Problem",
    "ProblemSpec",
    "Quantity",
    "Style",
    "Template",
    "Verdict",
    "check_spec",
    "compiled_modules",
    "draw_counted",
    "draw_problem",
    "examine",
    "faults",
    "grade",
    "identities",
    "identity_at",
    "is_structural",
    "known_contexts",
    "known_frames",
    "load_template",
    "mutate",
    "padded_problem",
    "parse_gsm_infinite",
    "problem_id",
    "read_gsm_infinite",
    "read_problem",
    "read_template",
    "render",
    "rewards",
    "reword",
    "solve_text",
]
