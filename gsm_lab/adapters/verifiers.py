"""verifiers (v1): a taskset of single-turn problems, rewarded by the grade of the last reply.

verifiers names a taskset by a module that stands at the top, so two lines in a file `gsm_tasks.py` on the path,

    from gsm_lab.adapters.verifiers import GsmLabTaskset
    __all__ = ["GsmLabTaskset"]

make `vf-eval gsm_tasks`, `vf-validate gsm_tasks` and `[env.taskset] id = "gsm_tasks"` work.
"""

from collections.abc import Iterator
from pathlib import Path

import verifiers.v1 as vf
from pydantic import model_validator

from gsm_lab.adapters.rows import drawn_exercise, exercise_text, read_rows
from gsm_lab.adapters.scoring import exercise_of, scores
from gsm_lab.problems import Exercise, Grade, ProblemSpec, Style, grade, rewards

__all__ = ["GsmLabTaskset"]


class GsmLabData(vf.TaskData):  # type: ignore[misc]  # verifiers is not installed where types are checked
    """One exercise."""

    exercise: str
    """As JSON, so that a trace alone can be graded again."""
    answer: str
    op: int


class GsmLabTaskConfig(vf.TaskConfig):  # type: ignore[misc]  # as above
    """How replies are rewarded."""

    reward: str = "strict"
    """As `rewards.named_reward` names it."""
    alpha: float = 0.5
    """Share of the outcome in rewards that mix it with the process."""

    @model_validator(mode="after")
    def _reward_exists(self) -> "GsmLabTaskConfig":
        rewards.named_reward(self.reward, self.alpha)
        return self


class GsmLabTask(vf.Task[GsmLabData, vf.State, GsmLabTaskConfig]):  # type: ignore[misc]  # as above
    """A problem, and the grade of a trace."""

    def graded(self, trace: vf.Trace) -> Grade:
        """The grade of the last reply; truncated, if the trace was."""
        return grade(exercise_of(self.data.exercise), trace.last_reply, not trace.is_truncated)

    @vf.reward(weight=1.0)  # type: ignore[untyped-decorator]  # as above
    async def gsm_lab(self, trace: vf.Trace) -> float:
        """The reward that the config names."""
        return rewards.named_reward(self.config.reward, self.config.alpha)(self.graded(trace))

    @vf.metric  # type: ignore[untyped-decorator]  # as above
    async def grades(self, trace: vf.Trace) -> dict[str, float]:
        """The scores of the grade, and op."""
        return {**scores(self.graded(trace)), "op": float(self.data.op)}

    @vf.stop  # type: ignore[untyped-decorator]  # as above
    async def answered(self, trace: vf.Trace) -> bool:
        """A problem has one turn."""
        return bool(trace.num_turns)

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the gold solution is verified."""
        exercise = exercise_of(self.data.exercise)
        return grade(exercise, exercise.completion).verified


class GsmLabConfig(vf.TasksetConfig):  # type: ignore[misc]  # as above
    """Which problems: the rows of a file, or problems drawn from these settings."""

    task: GsmLabTaskConfig = GsmLabTaskConfig()
    rows: Path | None = None
    """A file that `write_rows` wrote; the settings below count for nothing then."""
    size: int = 1000
    seed: int = 0
    min_op: int = 2
    max_op: int = 10
    mode: str = "forward"
    context: str = "zoo"
    frames: str = "english"
    form: str = "steps"
    """The form of gold solutions, as `Style` has it."""

    @model_validator(mode="after")
    def _problems_exist(self) -> "GsmLabConfig":
        for op in (self.min_op, self.max_op):
            ProblemSpec(op=op, mode=self.mode)
        if self.size < 1 or self.min_op > self.max_op:
            raise ValueError(
                f"size={self.size} with op {self.min_op} to {self.max_op}: give a size of 1 or more, and the lesser op "
                f"as min_op."
            )
        return self


class GsmLabTaskset(vf.Taskset[GsmLabTask, GsmLabConfig]):  # type: ignore[misc]  # as above
    """Problems that this library draws, words and grades."""

    def load(self) -> Iterator[GsmLabTask]:
        """A task for every exercise."""
        for exercise in self._exercises():
            data = GsmLabData(
                id=exercise.problem_id,
                name=f"op{exercise.op}",
                prompt=exercise.prompt,
                exercise=exercise_text(exercise),
                answer=str(exercise.answer),
                op=exercise.op,
            )
            yield GsmLabTask(data, self.config.task)

    def _exercises(self) -> Iterator[Exercise]:
        config = self.config
        if config.rows is not None:
            yield from read_rows(config.rows)
            return
        for index in range(config.size):
            yield drawn_exercise(
                index,
                seed=config.seed,
                ops=(config.min_op, config.max_op),
                context=config.context,
                frames=config.frames,
                style=Style(form=config.form),
                mode=config.mode,
            )
