"""The study of the edge of competence at each scale. `gsm-lab demo` and `experiments/` both take it from here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from gsm_lab.errors import RecipeError
from gsm_lab.study.experiment import Experiment
from gsm_lab.study.recipe import (
    Blend,
    Evaluation,
    Optimization,
    Recipe,
    Reinforce,
    Scale,
    Stage,
    Supervised,
    Task,
    joined,
    uniform,
)

BASE, MID, RL_ID, RL_EDGE, RL_HARD, MID_RL_EDGE = (
    "base",
    "mid-trained",
    "RL in range",
    "RL on the edge",
    "RL out of reach",
    "mid-trained, RL on the edge",
)


@dataclass(frozen=True)
class Study:
    """What a scale decides: ranges, sizes and budgets."""

    task: Task
    scale: Scale
    bands: dict[str, tuple[int, int]]
    """ID is what pretraining sees."""
    pretrain: Supervised
    midtrain: Supervised
    reinforce: Reinforce
    """Its blend is replaced by each arm's range."""
    evaluation: Evaluation
    save_every: int = 100

    def blend(self, band: str) -> Blend:
        """All ops of a band alike."""
        return uniform(*self.bands[band], contexts=self.task.contexts)

    def arm(self, name: str, band: str, **other: object) -> Reinforce:
        """Reinforcement learning on one band, with `other` fields."""
        return self.reinforce.model_copy(update={"name": name, "blend": self.blend(band), **other})

    def recipe(self, name: str, seed: int, *stages: Stage) -> Recipe:
        """A recipe of these stages at this scale."""
        return Recipe(
            name=f"{name}-seed{seed}",
            seed=seed,
            task=self.task,
            scale=self.scale,
            stages=stages,
            evaluation=self.evaluation,
            save_every=self.save_every,
        )

    def recipes(self, seed: int) -> tuple[Recipe, ...]:
        """All arms: each begins with the same base, which is trained once.

        Nothing is rewarded out of reach: that arm shows that the others' gain is not the training's mere length.
        """
        out_of_reach = self.arm(RL_HARD, "hard", refuse_constant_reward=False)
        return (
            self.recipe("mid-rl-edge", seed, self.pretrain, self.midtrain, self.arm(MID_RL_EDGE, "edge")),
            self.recipe("rl-id", seed, self.pretrain, self.arm(RL_ID, "ID")),
            self.recipe("rl-edge", seed, self.pretrain, self.arm(RL_EDGE, "edge")),
            self.recipe("rl-hard", seed, self.pretrain, out_of_reach),
        )


def _study(
    *,
    task: Task,
    scale: Scale,
    bands: dict[str, tuple[int, int]],
    evaluation: Evaluation,
    steps: tuple[int, int, int],
    rows: int,
    row_length: int,
    prompts_per_step: int,
    samples_per_prompt: int,
    max_new_tokens: int,
    jumping_documents: float = 0.0,
    pretraining: Optimization,
    midtraining: Optimization,
    reinforcement: Optimization,
    save_every: int = 100,
) -> Study:
    in_range = uniform(*bands["ID"], contexts=task.contexts)
    edge = uniform(*bands["edge"], contexts=task.contexts)
    num_pretrain, num_midtrain, num_reinforce = steps
    supervised = partial(Supervised, rows=rows, row_length=row_length, jumping_documents=jumping_documents)
    return Study(
        task=task,
        scale=scale,
        bands=bands,
        pretrain=supervised(name=BASE, split="pretrain", blend=in_range, steps=num_pretrain, optimization=pretraining),
        midtrain=supervised(
            name=MID,
            split="midtrain",
            blend=joined((0.8, in_range), (0.2, edge)),
            steps=num_midtrain,
            optimization=midtraining,
        ),
        reinforce=Reinforce(
            name=RL_EDGE,
            blend=edge,
            steps=num_reinforce,
            prompts_per_step=prompts_per_step,
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=max_new_tokens,
            optimization=reinforcement,
        ),
        evaluation=evaluation,
        save_every=save_every,
    )


def nano_study() -> Study:
    """About 0.9 M parameters: minutes a stage on one core."""
    return _study(
        task=Task(
            contexts=("zoo", "school", "festival"),
            facts=(2, 6),
            distractor_kinds=("independent",),
            places=5,
            items=5,
            implicit_totals=0.0,
            reuse=0.0,
            copies=0.45,
            width=(0, 2),
            composites=0.0,
            operations=("add", "subtract", "multiply"),
            constants=(1, 6),
            modulus=7,
        ),
        scale=Scale(layers=4, width=128, heads=4, kv_heads=4, ffn=384, max_positions=384, initial_std=0.05),
        bands={"ID": (2, 7), "edge": (8, 10), "hard": (13, 15)},
        evaluation=Evaluation(
            ops=(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15),
            contexts=("zoo", "school", "festival"),
            problems_per_op=12,
            samples=32,
            max_new_tokens=176,
        ),
        steps=(4200, 60, 80),
        rows=4,
        row_length=256,
        prompts_per_step=32,
        samples_per_prompt=16,
        max_new_tokens=176,
        jumping_documents=0.3,
        pretraining=Optimization(
            kind="muon", learning_rate=2e-3, matrix_learning_rate=0.01, schedule="linear", min_share=0.0
        ),
        midtraining=Optimization(
            kind="muon", learning_rate=2e-4, matrix_learning_rate=0.001, warmup_steps=10, schedule="linear"
        ),
        reinforcement=Optimization(kind="adamw", learning_rate=5e-5, warmup_steps=3, schedule="constant"),
    )


def tiny_study() -> Study:
    """Seconds, for tests: every part of the loop runs, and nothing is learned, which preflight would refuse."""
    study = _study(
        task=Task(
            facts=(2, 4),
            places=2,
            items=4,
            implicit_totals=0.0,
            copies=0.2,
            width=(0, 2),
            operations=("add",),
            constants=(1, 2),
            modulus=3,
        ),
        scale=Scale(layers=1, width=32, heads=2, kv_heads=1, ffn=64, max_positions=256),
        bands={"ID": (2, 3), "edge": (4, 5), "hard": (6, 6)},
        evaluation=Evaluation(ops=(2, 3, 4, 5, 6), problems_per_op=6, samples=4, max_new_tokens=128),
        steps=(30, 10, 4),
        rows=2,
        row_length=128,
        prompts_per_step=4,
        samples_per_prompt=4,
        max_new_tokens=128,
        pretraining=Optimization(kind="muon", warmup_steps=5),
        midtraining=Optimization(kind="muon", learning_rate=3e-4, matrix_learning_rate=2e-3, warmup_steps=2),
        reinforcement=Optimization(kind="adamw", learning_rate=1e-3, warmup_steps=1, schedule="constant"),
        save_every=5,
    )
    unlearnt = {"refuse_constant_reward": False, "most_truncated": 1.0}
    return replace(study, reinforce=study.reinforce.model_copy(update=unlearnt))


STUDIES = {"nano": nano_study, "tiny": tiny_study}
TITLE = "Edge of competence"


def edge_of_competence(scale: str = "nano", seeds: tuple[int, ...] = (0, 1, 2)) -> Experiment:
    """The whole study: every arm with every seed.

    Raises:
        RecipeError: there is no such scale.
    """
    study = _study_of(scale)
    return Experiment(
        name="edge_of_competence",
        title=TITLE,
        recipes=tuple(recipe for seed in seeds for recipe in study.recipes(seed)),
        bands=study.bands,
        baseline=BASE,
    )


def demo_experiment(scale: str = "nano") -> Experiment:
    """One seed of base, mid-training and reinforcement learning on the edge.

    Raises:
        RecipeError: there is no such scale.
    """
    study = _study_of(scale)
    return Experiment(
        name="demo", title=f"{TITLE}: the demo", recipes=study.recipes(0)[:1], bands=study.bands, baseline=BASE
    )


def _study_of(scale: str) -> Study:
    if scale not in STUDIES:
        raise RecipeError(f"there is no scale {scale!r}: give one of {', '.join(STUDIES)}.")
    return STUDIES[scale]()
