"""Recipes: everything that decides the weights of a run, as frozen, validated values with an identity.

A recipe is a task (what the problems look like), a model, and a row of stages. The identity of a stage hashes all that
can change its weights: the task, the model, the seed, and the stages up to it. So recipes that begin alike share their
beginning, and it is computed once. This module needs no torch: recipes can be listed anywhere.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gsm_lab.errors import RecipeError
from gsm_lab.problems import ProblemSpec, Style, rewards
from gsm_lab.study.moving_settings import MovingEdge

INSTRUMENT = 4
"""Counts changes of the code that change problems, grades or weights; part of every identity. `tests/study/
test_instrument.py` fails when it has to be raised."""


Span = tuple[int, int] | int
"""A least and a greatest number, or one that is both."""


class Frozen(BaseModel):
    """A value: no unknown fields, no changes after birth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __hash__(self) -> int:
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))


class Task(Frozen):
    """What all problems of a recipe have in common; `op` and context come from a stage's blend.

    The fields beside `contexts` and `frames` are those of `gsm_lab.problems.ProblemSpec` and `Style`, which say what
    they mean.
    """

    contexts: tuple[str, ...] = ("zoo",)
    """All contexts that any stage or evaluation uses: the tokenizer knows their words. "school" speaks in the task's
    frames, "school:chinese" in frames of its own."""
    frames: str = "terse"
    mode: Literal["forward", "reverse"] = "forward"
    depth: Span | None = None
    width: Span = (0, 3)
    facts: Span | None = None
    distractors: Span | None = None
    distractor_kinds: tuple[str, ...] = ("independent", "reachable", "dead_end")
    implicit_totals: float = 0.2
    nested_totals: float = 0.0
    places: int | None = None
    items: int = 10
    reuse: float = 0.2
    copies: float = 0.15
    composites: float = 0.25
    operations: tuple[str, ...] = ("add", "subtract", "multiply")
    operation_weights: tuple[float, ...] | None = None
    constants: tuple[int, int] = (1, 9)
    values: tuple[int, int] = (0, 1000)
    modulus: int | None = None
    answers: Span | None = None
    balanced: bool = False
    sentence_order: Literal["shuffled", "computation", "reversed"] = "shuffled"
    trace_order: Literal["leaf_first", "random", "goal_directed"] = "goal_directed"
    form: Literal["steps", "answer_only", "think"] = "steps"
    checks: float = 0.0
    recovery: float = 0.0
    rules: bool = False

    @model_validator(mode="after")
    def _settings_are_possible(self) -> Self:
        self.spec(op=4)
        _ = self.style
        return self

    def spec(self, op: int, facts: tuple[int, int] | int | None = None) -> ProblemSpec:
        """The settings of this task's problems with that op, and with other `facts` if they are given."""
        own = self.model_dump(include={field.name for field in fields(ProblemSpec)})
        return ProblemSpec(op=op, **own | ({} if facts is None else {"facts": facts}))

    @property
    def style(self) -> Style:
        """How this task's problems are told and solved."""
        return Style(**self.model_dump(include={field.name for field in fields(Style)}))

    def template(self, context: str) -> tuple[str, str]:
        """The context and the frames of a name in `contexts`."""
        nouns, _, frames = context.partition(":")
        return nouns, frames or self.frames

    def files(self) -> dict[str, str]:
        """SHA-256 of every context or frames that is given as a file: another content makes another recipe.

        Raises:
            RecipeError: there is no such file.
        """
        names = dict.fromkeys([name for context in self.contexts for name in self.template(context)] + [self.frames])
        paths = [name for name in names if name.endswith(".toml")]
        try:
            return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}
        except OSError as error:
            raise RecipeError(f"the task names {error.filename}, which cannot be read: give a TOML file.") from error


class Blend(Frozen):
    """Shares of ops and of contexts; each must sum to 1."""

    ops: dict[int, float]
    """Share of each op."""
    contexts: dict[str, float] = {"zoo": 1.0}
    """Share of each context."""
    unit: Literal["problems", "tokens"] = "problems"
    """What the shares are shares of."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        for name, shares in (("ops", self.ops), ("contexts", self.contexts)):
            total = sum(shares.values())
            if not math.isclose(total, 1, rel_tol=0, abs_tol=1e-9) or min(shares.values()) <= 0:
                raise ValueError(
                    f"the shares of {name} {shares} sum to {total:.6g}: give shares above 0 that sum to 1 "
                    f"(leave out what shall not occur)."
                )
        return self


class Mixed(Frozen):
    """Blends side by side, each with its share: where an op's share is not the same in every context."""

    parts: tuple[tuple[float, Blend], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        shares = [share for share, _ in self.parts]
        if not math.isclose(sum(shares), 1, rel_tol=0, abs_tol=1e-9) or min(shares) <= 0:
            raise ValueError(f"the shares of the parts {shares} sum to {sum(shares):.6g}: give shares above 0 to 1.")
        if len({blend.unit for _, blend in self.parts}) > 1:
            raise ValueError("the parts count in different units: give all the same.")
        return self

    @property
    def unit(self) -> Literal["problems", "tokens"]:
        """What all shares are shares of."""
        return self.parts[0][1].unit

    @property
    def contexts(self) -> dict[str, float]:
        """Share of each context."""
        shares: dict[str, float] = {}
        for share, blend in self.parts:
            for context, own in blend.contexts.items():
                shares[context] = shares.get(context, 0) + share * own
        return shares


def uniform(low: int, high: int, contexts: tuple[str, ...] = ("zoo",), unit: str = "problems") -> Blend:
    """Every op from `low` to `high` alike, every context alike."""
    ops = dict.fromkeys(range(low, high + 1), 1 / (high - low + 1))
    return Blend.model_validate(
        {"ops": ops, "contexts": {context: 1 / len(contexts) for context in contexts}, "unit": unit}
    )


def joined(*parts: tuple[float, Blend]) -> Blend:
    """Blends of the same contexts in the given shares: `joined((0.2, easy), (0.8, edge))`."""
    first = parts[0][1]
    if any(blend.contexts != first.contexts or blend.unit != first.unit for _, blend in parts):
        raise RecipeError("only blends of equal contexts and unit can be joined: write the shares out instead.")
    ops: dict[int, float] = {}
    for share, blend in parts:
        for op, weight in blend.ops.items():
            ops[op] = ops.get(op, 0) + share * weight
    return Blend(ops=dict(sorted(ops.items())), contexts=first.contexts, unit=first.unit)


class Phase(Frozen):
    """A part of a curriculum."""

    problems: int = Field(ge=1)
    """How many problems it lasts."""
    blend: Blend
    facts: Span | None = None
    """Other facts than the task's."""


class Scale(Frozen):
    """A model's size; the vocabulary is the task's."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    max_positions: int
    rope_theta: float = 10_000.0
    initial_std: float = Field(0.02, gt=0)
    """Standard deviation of the untrained weights."""


class Optimization(Frozen):
    """The optimiser and its schedule; as in `gsm_lab.training`."""

    kind: Literal["muon", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    matrix_learning_rate: float = Field(2e-2, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    warmup_steps: int = 50
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    min_share: float = 0.1
    """Share of the learning rate that is left at the end."""


class Supervised(Frozen):
    """Training on gold solutions: pretraining, mid-training."""

    kind: Literal["supervised"] = "supervised"
    name: str
    """What figures call the stage: "base", "mid-trained"."""
    split: Literal["pretrain", "midtrain"] = "pretrain"
    blend: Blend | Mixed
    curriculum: tuple[Phase, ...] = ()
    """What comes before `blend`, in this order."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    rows: int = Field(ge=1)
    """Packed rows a step."""
    row_length: int = Field(ge=2)
    """Tokens a row; rows x row_length is the batch in tokens."""
    loss_on: Literal["completion", "all"] = "completion"
    jumping_documents: float = 0.0
    """Share of documents whose positions jump ahead between sentences (see `gsm_lab.data.Jumps`)."""
    jump_share: float = 0.2
    """Chance of a jump after each of their sentences."""
    longest_jump: int = 30
    """Most positions that one jump leaves out."""
    optimization: Optimization

    def identity(self) -> dict[str, Any]:
        """What can change weights."""
        return self.model_dump(mode="json", exclude={"name"})


RewardTerm = Annotated[
    rewards.LinearLength | rewards.GroupLength | rewards.Language | rewards.Format, Field(discriminator="kind")
]


class Reinforce(Frozen):
    """Reinforcement learning with verified rewards (GRPO)."""

    kind: Literal["reinforce"] = "reinforce"
    name: str
    blend: Blend | Mixed
    steps: int = Field(ge=1)
    """Batches of rollouts."""
    prompts_per_step: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=2)
    """The group whose mean is the baseline."""
    updates_per_rollout: int = Field(1, ge=1)
    """Optimiser steps on each batch of rollouts."""
    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(1.0, gt=0)
    reward: str = "strict"
    """A name in `gsm_lab.problems.rewards`: outcome, process, mix, gated, strict, literal, format."""
    alpha: float = 0.5
    """Share of the outcome in rewards that mix it with the process."""
    reward_terms: tuple[RewardTerm, ...] = ()
    """What is added to the reward, each with its weight."""
    reward_bounds: tuple[float, float] | None = None
    """The least and the greatest reward."""
    noise: rewards.Noise | None = None
    """How the verifier of the training errs; what is reported as verified is true."""
    normaliser: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    credit: Literal["group", "none", "steps"] = "group"
    """What a reward is held against: the mean of its group; or nothing, which is rejection sampling. "steps" is
    "group", and each token gets besides what its own step and later ones add to the process accuracy, less the mean
    step of the group; these steps are judged without the reward's noise and bounds."""
    step_weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Of the steps' credit beside the reward's; for the credit "steps" only."""
    divide_by_std: bool = False
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.28, gt=0)
    kl_weight: float = Field(0.0, ge=0)
    optimization: Optimization
    moving: MovingEdge | None = None
    """How the shares of the blend's ops follow what their groups gave; None leaves them as they are."""
    refuse_constant_reward: bool = True
    """Whether the stage is refused when all completions of its preflight earn the same; changes no weights."""
    most_truncated: float = Field(0.5, ge=0, le=1)
    """The largest share of cut completions in its preflight with which the stage begins; changes no weights."""

    @model_validator(mode="after")
    def _whole_prompts_move(self) -> Self:
        if self.moving is not None and isinstance(self.blend, Mixed):
            raise ValueError("the blend of a moving edge has parts: give one blend, whose ops are the same everywhere.")
        if self.moving is not None and self.blend.unit != "problems":
            raise ValueError('the blend of a moving edge is in tokens: give unit="problems"; it moves whole prompts.')
        return self

    @model_validator(mode="after")
    def _reward_is_possible(self) -> Self:
        for term in self.composition.terms:
            if isinstance(term, rewards.LinearLength) and term.free >= self.max_new_tokens:
                raise ValueError(
                    f"the length penalty begins after {term.free} tokens and max_new_tokens is {self.max_new_tokens}: "
                    f"give it a lower `free`, or it never applies."
                )
        if self.step_weight != 1.0 and self.credit != "steps":
            raise ValueError(f'step_weight is {self.step_weight} and credit {self.credit!r}: give credit="steps", too.')
        if self.step_weight != 1.0 and self.divide_by_std:
            raise ValueError(f"step_weight is {self.step_weight}, and divide_by_std undoes it: leave one of them out.")
        if self.noise is not None and not {*self.noise.contexts} <= {*self.blend.contexts}:
            raise ValueError(
                f"the noise is in the contexts {sorted(self.noise.contexts)}, the stage trains on "
                f"{sorted(self.blend.contexts)}: name contexts of the stage."
            )
        return self

    @property
    def composition(self) -> rewards.Composition:
        """The reward with all that belongs to it."""
        return rewards.Composition(
            reward=self.reward,
            alpha=self.alpha,
            terms=self.reward_terms,
            bounds=self.reward_bounds,
            noise=self.noise,
        )

    def identity(self) -> dict[str, Any]:
        """What can change weights: settings of the reward only where they do something, and none of preflight's."""
        of_reward = {"alpha", "reward_terms", "reward_bounds", "noise"}
        of_preflight = {"refuse_constant_reward", "most_truncated"}
        of_credit = {"credit", "step_weight"}
        value = self.model_dump(mode="json", exclude={"name", "moving", *of_credit, *of_reward, *of_preflight})
        if self.credit != "group":
            value["credit"] = self.credit
        if self.credit == "steps":
            value["step_weight"] = self.step_weight
        if self.moving is not None:
            value["moving"] = asdict(self.moving)
        if rewards.REWARDS[self.reward].uses_alpha:
            value["alpha"] = self.alpha
        if terms := [asdict(term) for term in self.reward_terms if term.weight]:
            value["reward_terms"] = terms
        if self.reward_bounds is not None:
            value["reward_bounds"] = self.reward_bounds
        if self.noise is not None and self.noise.matters:
            everywhere = {*self.noise.contexts} >= {*self.blend.contexts}
            contexts = [] if everywhere else sorted({*self.noise.contexts})
            value["noise"] = asdict(self.noise) | {"contexts": contexts}
        return value


Stage = Annotated[Supervised | Reinforce, Field(discriminator="kind")]


class Evaluation(Frozen):
    """How every stage is measured. It changes no weights."""

    ops: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[str, ...] = Field(("zoo",), min_length=1)
    problems_per_op: int = Field(64, ge=1)
    """In each context."""
    samples: int = Field(32, ge=1)
    temperature: float = Field(1.0, ge=0)
    max_new_tokens: int = Field(256, ge=1)
    seed: int = 0
    """Chooses the problems: the same for all recipes, so that stages and seeds are compared on equal problems."""

    @property
    def id(self) -> str:
        """Ten hexadecimal digits that name these settings, as this instrument carries them out."""
        return _hash({"instrument": INSTRUMENT, "format": 2, **self.model_dump(mode="json")})


class Recipe(Frozen):
    """One run, from the first problem to the last stage."""

    name: str
    """What people call it; changes nothing."""
    seed: int
    task: Task
    scale: Scale
    stages: tuple[Stage, ...] = Field(min_length=1)
    evaluation: Evaluation
    save_every: int = Field(100, ge=1)
    """Steps between saved training states; changes no weights."""
    micro_batch_tokens: int = Field(2048, ge=1)
    """Most tokens that go through the model at once in reinforcement learning: memory. The gradient is the same up to
    rounding; the bits of the weights are not."""

    @model_validator(mode="after")
    def _contexts_are_known(self) -> Self:
        blends: list[Blend | Mixed] = [stage.blend for stage in self.stages]
        blends += [phase.blend for stage in self.stages if isinstance(stage, Supervised) for phase in stage.curriculum]
        used = {context for blend in blends for context in blend.contexts} | {*self.evaluation.contexts}
        if not used <= {*self.task.contexts}:
            raise ValueError(
                f"the stages use the contexts {sorted(used)}, the task names {sorted(self.task.contexts)}: "
                f"name all of them in task.contexts, so that the tokenizer knows their words."
            )
        return self

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that depend on all that can change weights, and on nothing else."""
        return self.stage_id(len(self.stages) - 1)

    def stage_id(self, number: int) -> str:
        """The identity of stage `number` together with all before it."""
        return _hash(self.identity(number), 8)

    def identity(self, number: int) -> dict[str, Any]:
        """What the identity of stage `number` hashes; `name` labels figures only, so it stays out."""
        return {
            "instrument": INSTRUMENT,
            "seed": self.seed,
            "task": self.task.model_dump(mode="json"),
            "files": self.task.files(),
            "scale": self.scale.model_dump(mode="json"),
            "micro_batch_tokens": self.micro_batch_tokens,
            "stages": [stage.identity() for stage in self.stages[: number + 1]],
        }

    def until(self, number: int) -> "Recipe":
        """The same recipe cut after stage `number`."""
        return self.model_copy(update={"stages": self.stages[: number + 1]})


def _hash(value: Mapping[str, Any], size: int = 5) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=size).hexdigest()
