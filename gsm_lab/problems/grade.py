"""Grades a solution against the graph that its problem was made from: every step, not only the answer.

A text that is word for word one of those that the grammar writes is known to be right at once (`literal`). Every other
one goes through the examiner, who accepts what means the same and names the deviation (`examine`).
"""

from gsm_lab.problems.examine import examine
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.literal import num_retracted
from gsm_lab.problems.verdicts import Grade, Verdict


def grade(exercise: Exercise, completion: str | bytes, finished: bool = True) -> Grade:
    """Grade any text, or any bytes, as a solution; never raises, and takes time linear in the text.

    `finished` is False for a completion that was cut at the length limit.
    """
    text = completion if isinstance(completion, str) else completion.decode("utf-8", "replace")
    if finished:
        retracted = num_retracted(exercise, text)
        if retracted is not None:
            share = 0.0 if exercise.style.form == "answer_only" else 1.0
            return Grade(Verdict.CORRECT, exercise.answer, True, share, retracted=retracted, literal=True)
    return examine(exercise, text, finished).grade
