"""reasoning-gym: our problems as the procedural data set "gsm_lab", which importing this module registers.

    import reasoning_gym, gsm_lab.adapters.reasoning_gym
    dataset = reasoning_gym.create_dataset("gsm_lab", seed=1, size=100, min_op=4, max_op=8)

The answer is the whole solution, and its score is the grade's: a right number without its steps earns nothing of
"strict". With `form="answer_only"` the answer is the number, as in the data sets that are compared with.
"""

from dataclasses import dataclass, field
from typing import Any

from reasoning_gym.coaching import BaseCurriculum, RangeAttributeDefinition
from reasoning_gym.factory import ProceduralDataset, register_dataset

from gsm_lab.adapters.rows import drawn_exercise, exercise_text
from gsm_lab.adapters.scoring import exercise_of
from gsm_lab.errors import SpecError
from gsm_lab.problems import ProblemSpec, Style, grade, load_template, rewards

__all__ = ["GsmLabConfig", "GsmLabCurriculum", "GsmLabDataset"]


@dataclass
class GsmLabConfig:
    """Which problems, and how answers are scored."""

    min_op: int = 2
    max_op: int = 10
    context: str = "zoo"
    frames: str = "english"
    form: str = "steps"
    """The form of solutions, as `Style` has it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Further settings of `ProblemSpec`."""
    reward: str = "strict"
    """The score of a solution, as `rewards.named_reward` names it."""
    alpha: float = 0.5
    """Share of the outcome in rewards that mix it with the process."""
    seed: int | None = None
    size: int = 500

    def validate(self) -> None:
        """Make sure that there are such problems.

        Raises:
            GsmLabError: a setting is out of its range, or there is nothing of its name.
        """
        if self.size < 1 or self.min_op > self.max_op:
            raise SpecError(
                f"size={self.size} with op {self.min_op} to {self.max_op}: give a size of 1 or more, and the lesser op "
                f"as min_op."
            )
        for op in (self.min_op, self.max_op):
            ProblemSpec(op=op, **self.settings)
        load_template(self.context, self.frames)
        Style(form=self.form)
        rewards.named_reward(self.reward, self.alpha)


class GsmLabDataset(ProceduralDataset):  # type: ignore[misc]  # reasoning-gym has no type hints that mypy reads
    """Problems of this library; an item is a pure function of the config and its index."""

    config: GsmLabConfig

    def __init__(self, config: GsmLabConfig) -> None:
        super().__init__(config=config, seed=config.seed, size=config.size)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Item `idx`; its metadata hold the exercise as JSON, from which it is scored."""
        config = self.config
        exercise = drawn_exercise(
            idx,
            seed=self.seed,
            ops=(config.min_op, config.max_op),
            context=config.context,
            frames=config.frames,
            style=Style(form=config.form),
            **config.settings,
        )
        return {
            "question": exercise.prompt,
            "answer": str(exercise.answer) if config.form == "answer_only" else exercise.completion.strip(),
            "metadata": {
                "source_dataset": "gsm_lab",
                "source_index": idx,
                "exercise": exercise_text(exercise),
                "problem_id": exercise.problem_id,
                "value": exercise.answer,
                **exercise.sizes(),
                "difficulty": {"op": (config.min_op, config.max_op)},
            },
        }

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        """0 to 1: the reward of the solution, or 1 for the right number where only that is asked for."""
        if not isinstance(answer, str):
            return 0.0
        if self.config.form == "answer_only":
            return float(answer.strip() == entry["answer"])
        result = grade(exercise_of(entry["metadata"]["exercise"]), answer)
        return rewards.named_reward(self.config.reward, self.config.alpha)(result)


class GsmLabCurriculum(BaseCurriculum):  # type: ignore[misc]  # as above
    """Levels of op, 2 to 20 in steps of two."""

    def __init__(self) -> None:
        super().__init__(GsmLabCurriculum.__name__, GsmLabConfig)
        self._define_attributes(
            RangeAttributeDefinition(
                name="op",
                levels=list(range(2, 21, 2)),
                description="Operands over all needed quantities",
                lower_field_name="min_op",
                upper_field_name="max_op",
                ensure_interval=True,
            )
        )


register_dataset("gsm_lab", GsmLabDataset, GsmLabConfig, GsmLabCurriculum)
