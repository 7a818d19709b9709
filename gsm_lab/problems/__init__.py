"""Graphs, words, solutions and grades; the standard library only, so that it works in any environment."""

from gsm_lab.problems import rewards
from gsm_lab.problems.draw import draw_problem
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grade import Grade, Verdict, grade
from gsm_lab.problems.graph import DependencyGraph, Node, Operation, Problem, Quantity
from gsm_lab.problems.identity import problem_id
from gsm_lab.problems.mutations import MUTATIONS, mutate
from gsm_lab.problems.reader import read_problem, solve_text
from gsm_lab.problems.render import render
from gsm_lab.problems.solution import Style
from gsm_lab.problems.spec import ProblemSpec
from gsm_lab.problems.template import Template, known_contexts, known_frames, load_template

__all__ = [
    "MUTATIONS",
    "DependencyGraph",
    "Exercise",
    "Grade",
    "Node",
    "Operation",
    "Problem",
    "ProblemSpec",
    "Quantity",
    "Style",
    "Template",
    "Verdict",
    "draw_problem",
    "grade",
    "known_contexts",
    "known_frames",
    "load_template",
    "mutate",
    "problem_id",
    "read_problem",
    "render",
    "rewards",
    "solve_text",
]
