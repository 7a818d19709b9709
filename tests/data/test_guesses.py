"""Laws of guessing: what can be guessed is found, what cannot is not; nothing is measured on what it was chosen on."""

import random
from dataclasses import replace

import pytest

from gsm_lab.data import ExerciseSource, Mixture, Slice, best_guesses
from gsm_lab.data.guesses import MOST_EXERCISES, clues_of, wilson
from gsm_lab.problems import Node, Operation, Problem, ProblemSpec, Quantity, Style, load_template, render
from gsm_lab.problems.graph import DependencyGraph

A, B, C = (Quantity(0, item) for item in range(3))


def exercise_of(problem, **style):
    return render(problem, load_template("zoo", "english"), random.Random(0), Style(**style))


FORWARD = Problem(
    DependencyGraph(
        (
            Node(A, Operation.CONSTANT, 7),
            Node(B, Operation.PLUS, 2, (0,)),
            Node(C, Operation.CONSTANT, 2),
        )
    ),
    1,
)
"""a = 7, b = 2 + a = 9, c = 2; what is b?"""
REVERSE = Problem(FORWARD.graph, 0, given=1)
"""b = 2 + a, b is 9, c = 2; what is a?"""


def test_clues_are_what_can_be_seen_in_the_text():
    clues = clues_of(exercise_of(FORWARD, sentence_order="computation"))
    assert {
        "first number": 7,
        "last number": 2,
        "least number": 2,
        "greatest number": 7,
        "most frequent number": 2,
        "number of numbers": 3,
        "number of facts": 3,
        "sum of all numbers": 11,
        "number in the fact about the asked quantity": 2,
    }.items() <= clues.items()
    assert "told value" not in clues


def test_clues_of_a_reverse_problem_begin_with_the_told_value_and_keep_the_answer_unseen():
    clues = clues_of(exercise_of(REVERSE))
    assert clues["told value"] == 9
    assert clues["told value without the number in its definition"] == 7
    assert clues["number in the first fact that uses the asked quantity"] == 2
    assert "number in the fact about the asked quantity" not in clues
    assert clues["number of numbers"] == 3  # 9, 2 and 2: what a is, the text does not say


def test_digits_within_a_name_are_no_numbers():
    exercise = render(FORWARD, load_template("zoo", "symbolic"), random.Random(0))
    assert clues_of(exercise)["number of numbers"] == 3


def drawn(spec, number=400, frames="terse", split="pretrain"):
    source = ExerciseSource(Mixture((Slice(spec, frames=frames),)), split, 0)
    return [source.at(index) for index in range(number)]


def test_an_answer_that_stands_in_the_text_is_found():
    """With op 1 and nothing else in the text, every number is the answer."""
    (found,) = best_guesses(drawn(ProblemSpec(op=1, distractors=0, constants=(1, 999))))
    assert (found["op"], found["mode"]) == (1, "forward")
    assert found["surface"]["share"] == 1.0
    assert found["constant"]["share"] < 0.1


def test_an_answer_that_is_always_the_same_is_found():
    (found,) = best_guesses(drawn(ProblemSpec(op=6, answers=12)))
    assert found["constant"] == {"guess": 12, "share": 1.0, "low": found["constant"]["low"], "high": 1.0}
    assert found["surface"]["share"] == 1.0


def test_answers_that_are_balanced_are_not_guessed():
    """Each of 20 answers is right once in 20: no constant does better, nor much does what is on the surface."""
    (found,) = best_guesses(drawn(ProblemSpec(op=14, mode="reverse"), 1000))
    sigma = (0.05 * 0.95 / found["measured_on"]) ** 0.5
    assert abs(found["constant"]["share"] - 0.05) < 4 * sigma
    assert found["surface"]["share"] < 0.25


def test_every_op_and_mode_is_measured_by_itself():
    specs = [ProblemSpec(op=2), ProblemSpec(op=5), ProblemSpec(op=5, mode="reverse")]
    found = best_guesses(exercise for spec in specs for exercise in drawn(spec, 100))
    assert [(one["op"], one["mode"]) for one in found] == [(2, "forward"), (5, "forward"), (5, "reverse")]
    assert all(one["chosen_on"] + one["measured_on"] == 100 for one in found)


def answering(exercise, answer):
    """The same text, asked for something else that no fact is about."""
    nodes = (Node(A, Operation.CONSTANT, answer), Node(B, Operation.COPY, None, (0,)))
    return replace(exercise, problem=Problem(DependencyGraph(nodes), 1), sentences=())


def test_what_is_measured_was_not_learned_from():
    """Answers without any rule, each problem's own: a table learns them by heart and gets none of the others right."""
    rng = random.Random(1)
    exercises = [answering(exercise, rng.randrange(10**9)) for exercise in drawn(ProblemSpec(op=4), 400)]
    (found,) = best_guesses(exercises)
    assert found["surface"]["share"] < 0.02


def test_what_is_measured_was_not_chosen_on():
    """The greatest number is the answer in one half of the problems (by identity), and in the other it is not."""
    exercises = []
    for number, exercise in enumerate(drawn(ProblemSpec(op=4, constants=(1, 999), values=(0, 10**6)), 400), 1):
        right = answering(exercise, clues_of(exercise)["greatest number"])
        wrong = answering(exercise, -number)
        exercises += [one for one, is_right in ((right, True), (wrong, False)) if is_chosen_on(one) == is_right]
    (found,) = best_guesses(exercises)
    assert found["chosen_on"] > 50 < found["measured_on"]
    assert found["surface"]["guess"] == "the greatest number"
    assert found["surface"]["share"] == 0


def is_chosen_on(exercise):
    return int(exercise.problem_id[-1], 16) % 4 < 2


def test_a_clue_that_is_learned_by_heart_does_not_beat_one_that_is_right():
    """The greatest number is the answer every other time; the sum is new in every text, and tells nothing."""
    spec = ProblemSpec(op=12, distractors=8, constants=(1, 999), values=(0, 10**6))
    exercises = [
        answering(exercise, clues_of(exercise)["greatest number"] if number % 2 else -number)
        for number, exercise in enumerate(drawn(spec, 400))
    ]
    (found,) = best_guesses(exercises)
    assert found["surface"]["guess"] == "the greatest number"
    assert found["surface"]["low"] < 0.5 < found["surface"]["high"]


def test_more_exercises_than_are_looked_at_change_nothing():
    one = drawn(ProblemSpec(op=2), 10)[0]
    (found,) = best_guesses([one] * (MOST_EXERCISES + 5))
    assert found["chosen_on"] + found["measured_on"] == MOST_EXERCISES


def test_too_few_exercises_have_no_share():
    (found,) = best_guesses(drawn(ProblemSpec(op=2), 1))
    assert found["constant"] is found["surface"] is None


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],  # Wilson 1927 with z = 1.96
)
def test_intervals_are_wilsons(right, trials, low, high):
    assert wilson(right, trials) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
