"""Scores of completions as plain numbers, for frameworks that call a function with the text of an exercise.

The standard library only: `gsm_lab.adapters.bundle` makes a file of its own of this module.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from gsm_lab.errors import DataError
from gsm_lab.problems import Exercise, Grade, Verdict, grade, rewards


@lru_cache(maxsize=4096)
def exercise_of(text: str) -> Exercise:
    """The exercise whose `to_dict` was written as this JSON; the completions of a group share it.

    Raises:
        DataError: the text is no such thing.
    """
    try:
        return Exercise.from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{text[:60]!r} is no JSON ({error}): give an exercise as row_of writes it, json.dumps(exercise.to_dict())."
        ) from error


def scores(result: Grade) -> dict[str, float]:
    """The numbers of a grade that are worth a mean, each 0 to 1."""
    return {
        "verified": float(result.verified),
        "literal": float(result.literal),
        "answer_correct": float(result.answer_correct),
        "process_accuracy": result.process_accuracy,
        "lucky": float(result.verdict is Verdict.LUCKY),
        "unreadable": float(result.verdict in (Verdict.UNREADABLE, Verdict.TRUNCATED)),
    }


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    reward: str = "strict",
    alpha: float = 0.5,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
) -> dict[str, float | str]:
    """What verl asks of a reward: "score" is the reward of that name, "acc" is verified, "pred" is the answer.

    `ground_truth` is the exercise as JSON; `reward` and `alpha` are `reward_kwargs`, and `named_reward` explains them.
    verl does not tell whether a response was cut at the length limit: such a one is unreadable if it has no answer.
    verl gives the last two to every reward when it serves a reward model; data source, `extra_info` and they count for
    nothing here.
    """
    result = grade(exercise_of(ground_truth), solution_str)
    return {
        "score": rewards.named_reward(reward, alpha)(result),
        "acc": float(result.verified),
        "pred": "" if result.answer is None else str(result.answer),
        **scores(result),
    }


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """What lm-eval asks of a task: the metrics of one document, from the first of its completions."""
    return scores(grade(exercise_of(doc["exercise"]), results[0]))
