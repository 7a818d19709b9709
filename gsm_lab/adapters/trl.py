"""TRL: a reward function for `GRPOTrainer`, and rows for it and for `SFTTrainer`.

    from trl import GRPOConfig, GRPOTrainer
    trainer = GRPOTrainer(model, reward_funcs=trl_reward("mix", 0.5), train_dataset=trl_dataset(exercises), ...)

`GRPOConfig.remove_unused_columns` must stay False, as it is by default: the reward needs the column "exercise".
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gsm_lab.adapters.rows import row_of
from gsm_lab.adapters.scoring import exercise_of, scores
from gsm_lab.problems import Exercise, grade, rewards

Message = dict[str, Any]


def trl_reward(name: str = "strict", alpha: float = 0.5, end_ids: Sequence[int] = ()) -> Callable[..., list[float]]:
    """The reward that `rewards.named_reward` names, as TRL calls it; it logs verdicts and the means of `scores`.

    Completions that do not end in one of `end_ids`, the ids that end a sequence, count as truncated; with no ids given,
    a completion that was cut is unreadable if its answer was.

    Raises:
        RecipeError: no reward has that name, or alpha is not a share.
    """
    reward_of = rewards.named_reward(name, alpha)
    ends = frozenset(end_ids)

    def reward(
        completions: Sequence[str | list[Message]],
        exercise: Sequence[str],
        completion_ids: Sequence[Sequence[int]] = (),
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        finished = [bool(ids) and ids[-1] in ends for ids in completion_ids] if ends else [True] * len(completions)
        results = [
            grade(exercise_of(text), _text_of(completion), whole)
            for text, completion, whole in zip(exercise, completions, finished, strict=True)
        ]
        if log_extra is not None:
            log_extra("verdict", [result.verdict.value for result in results])
            log_extra("first_error", [result.first_error or "" for result in results])
        if log_metric is not None:
            all_scores = [scores(result) for result in results]
            for key in all_scores[0]:
                log_metric(f"gsm_lab/{key}", sum(one[key] for one in all_scores) / len(all_scores))
        return [reward_of(result) for result in results]

    reward.__name__ = f"gsm_lab_{name}"
    return reward


def trl_dataset(exercises: Iterable[Exercise], messages: bool = False) -> Any:
    """A `datasets.Dataset` of `row_of` the exercises: "prompt" and "exercise" for GRPO, "completion" for SFT."""
    from datasets import Dataset

    return Dataset.from_list([row_of(exercise, messages) for exercise in exercises])


def _text_of(completion: str | list[Message]) -> str:
    """The words of a completion, which is a text or a list of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)
