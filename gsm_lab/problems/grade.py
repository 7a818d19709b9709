"""Grades a solution against the graph that its problem was made from: every step, not only the answer.

A text that is word for word one of those that the grammar writes is known to be right at once (`literal`). Every other
one goes through the examiner, who accepts what means the same and names the deviation (`examine`).
"""

from gsm_lab.problems.examine import examined, graded
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.literal import num_retracted
from gsm_lab.problems.verdicts import Examination, Grade, Verdict


def grade(exercise: Exercise, completion: str | bytes, finished: bool = True) -> Grade:
    """Grade any text, or any bytes, as a solution; never raises, and takes time linear in the text.

    `finished` is False for a completion that was cut at the length limit.
    """
    text = _text(completion)
    return _literal_grade(exercise, text, finished) or graded(exercise, text, finished)


def examine(exercise: Exercise, completion: str | bytes, finished: bool = True) -> Examination:
    """The same grade, with a mark for every statement; it takes several times as long where all is right."""
    text = _text(completion)
    examination = examined(exercise, text, finished)
    literal = _literal_grade(exercise, text, finished)
    return examination if literal is None else Examination(literal, examination.marks)


def _text(completion: str | bytes) -> str:
    return completion if isinstance(completion, str) else completion.decode("utf-8", "replace")


def _literal_grade(exercise: Exercise, text: str, finished: bool) -> Grade | None:
    """The grade of a literal solution; None if the text is none."""
    retracted = num_retracted(exercise, text) if finished else None
    if retracted is None:
        return None
    share = 0.0 if exercise.style.form == "answer_only" else 1.0
    return Grade(Verdict.CORRECT, exercise.answer, True, share, retracted=retracted, literal=True)
