"""A study at each scale: the task, the model, the ranges of op and the budgets. Experiments and the demo build on it.

`nano` and `nano-wide` run on two processor cores and have been run. The others need a GPU, or several, and have not
been run yet: their sizes and budgets follow arXiv 2512.07783 (its appendix A.3, tables 1 and 2) as far as it states
them, and are scaled down from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gsm_lab.errors import RecipeError
from gsm_lab.study.experiment import Experiment
from gsm_lab.study.recipe import (
    Blend,
    Evaluation,
    Mixed,
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

BASE, MID, MID_RL_EDGE = "base", "mid-trained", "mid-trained, RL on the edge"
Seeds = tuple[int, ...]
SEEDS: Seeds = (0, 1, 2)
MANY_TRIES = 128
"""A problem, as the reference's."""


@dataclass(frozen=True)
class Study:
    """What a scale decides: ranges, sizes and budgets."""

    scale_name: str
    task: Task
    scale: Scale
    bands: dict[str, tuple[int, int]]
    """ID is what pretraining sees."""
    pretrain: Supervised
    midtrain: Supervised
    reinforce: Reinforce
    """On the edge."""
    evaluation: Evaluation
    save_every: int = 100
    micro_batch_tokens: int = 2048

    def blend(self, *bands: str) -> Blend:
        """All ops of a band alike; several bands in equal parts."""
        return joined(*((1 / len(bands), uniform(*self.bands[band], contexts=self.task.contexts)) for band in bands))

    def arm(self, name: str, blend: Blend | Mixed, **other: object) -> Reinforce:
        """The scale's reinforcement learning on a blend, with `other` fields."""
        return self.reinforce.model_copy(update={"name": name, "blend": blend, **other})

    def supervised(self, name: str, blend: Blend | Mixed, **other: object) -> Supervised:
        """The scale's mid-training on a blend, with `other` fields."""
        return self.midtrain.model_copy(update={"name": name, "blend": blend, **other})

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
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def with_many_tries(self) -> Study:
        """The same study with 128 tries a problem; where it has fewer, of 8 problems an op at the most."""
        if self.evaluation.samples >= MANY_TRIES:
            return self
        tests = {"problems_per_op": min(self.evaluation.problems_per_op, 8), "samples": MANY_TRIES}
        return replace(self, evaluation=self.evaluation.model_copy(update=tests))

    def named(self, experiment: str) -> str:
        """The experiment's name at this scale: a folder of results for each scale."""
        return experiment if self.scale_name == "nano" else f"{experiment}-{self.scale_name}"


def _study(
    scale_name: str,
    *,
    task: Task,
    scale: Scale,
    bands: dict[str, tuple[int, int]],
    evaluation: Evaluation,
    pretrain: dict[str, Any],
    midtrain: dict[str, Any],
    reinforce: dict[str, Any],
    **other: Any,
) -> Study:
    """A study whose base sees ID, whose mid-training sees ID and edge alike, and which reinforces on the edge.

    Mid-training has the rows and the jumps of pretraining.
    """
    in_range, edge = (uniform(*bands[name], contexts=task.contexts) for name in ("ID", "edge"))
    base = Supervised(name=BASE, split="pretrain", blend=in_range, **pretrain)
    mid = {"blend": joined((0.5, in_range), (0.5, edge))} | midtrain
    return Study(
        scale_name=scale_name,
        task=task,
        scale=scale,
        bands=bands,
        pretrain=base,
        midtrain=Supervised.model_validate({**dict(base), "name": MID, "split": "midtrain", **mid}),
        reinforce=Reinforce(name="RL on the edge", blend=edge, **reinforce),
        evaluation=evaluation,
        **other,
    )


_TERSE_TASK = Task(
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
)
"""Few nouns, one word a quantity, numbers modulo 7: what models of less than a million parameters learn in minutes."""


def nano_study() -> Study:
    """About 0.5 M parameters: a stage takes a minute or two on one core."""
    return _study(
        "nano",
        task=_TERSE_TASK,
        scale=Scale(layers=4, width=96, heads=3, kv_heads=3, ffn=288, max_positions=384, initial_std=0.05),
        bands={"ID": (2, 5), "edge": (6, 7), "hard": (9, 10)},
        evaluation=Evaluation(
            ops=tuple(range(2, 11)),
            contexts=("zoo", "school", "festival"),
            problems_per_op=12,
            samples=32,
            max_new_tokens=128,
        ),
        pretrain={
            "steps": 1500,
            "rows": 4,
            "row_length": 256,
            "jumping_documents": 0.3,
            "optimization": Optimization(
                kind="muon", learning_rate=2e-3, matrix_learning_rate=0.01, schedule="linear", min_share=0.0
            ),
        },
        midtrain={
            "steps": 100,
            "optimization": Optimization(
                kind="muon", learning_rate=2e-4, matrix_learning_rate=0.001, warmup_steps=10, schedule="linear"
            ),
        },
        reinforce={
            "steps": 40,
            "prompts_per_step": 32,
            "samples_per_prompt": 16,
            "max_new_tokens": 128,
            "optimization": Optimization(kind="adamw", learning_rate=1e-4, warmup_steps=3, schedule="constant"),
        },
    )


def nano_wide_study() -> Study:
    """About 0.9 M parameters and deeper problems: the bench's, and the larger of the two that need no GPU."""
    small = nano_study()
    study = _study(
        "nano-wide",
        task=_TERSE_TASK,
        scale=Scale(layers=4, width=128, heads=4, kv_heads=4, ffn=384, max_positions=384, initial_std=0.05),
        bands={"ID": (2, 7), "edge": (8, 10), "hard": (13, 15)},
        evaluation=small.evaluation.model_copy(
            update={"ops": (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15), "max_new_tokens": 176}
        ),
        pretrain={
            "steps": 4200,
            "rows": 4,
            "row_length": 256,
            "jumping_documents": 0.3,
            "optimization": small.pretrain.optimization,
        },
        midtrain={"steps": 60, "optimization": small.midtrain.optimization},
        reinforce={
            "steps": 80,
            "prompts_per_step": 32,
            "samples_per_prompt": 16,
            "max_new_tokens": 176,
            "optimization": small.reinforce.optimization.model_copy(update={"learning_rate": 5e-5}),
        },
    )
    in_range, edge = study.blend("ID"), study.blend("edge")
    return replace(study, midtrain=study.supervised(MID, joined((0.8, in_range), (0.2, edge))))


def tiny_study() -> Study:
    """Seconds, for tests: every part of the loop runs, and nothing is learned, which preflight would refuse."""
    study = _study(
        "tiny",
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
        pretrain={
            "steps": 30,
            "rows": 2,
            "row_length": 128,
            "optimization": Optimization(kind="muon", warmup_steps=5),
        },
        midtrain={
            "steps": 10,
            "optimization": Optimization(kind="muon", learning_rate=3e-4, matrix_learning_rate=2e-3, warmup_steps=2),
        },
        reinforce={
            "steps": 4,
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "max_new_tokens": 128,
            "optimization": Optimization(kind="adamw", learning_rate=1e-3, warmup_steps=1, schedule="constant"),
        },
        save_every=5,
    )
    unlearnt = {"refuse_constant_reward": False, "most_truncated": 1.0}
    return replace(study, reinforce=study.reinforce.model_copy(update=unlearnt))


_WORDY_TASK = Task(
    contexts=("zoo", "school", "festival"),
    frames="english",
    implicit_totals=0.2,
    distractors=(0, 4),
    trace_order="leaf_first",
    values=(0, 1000),
)
"""Full sentences about three contexts, whole numbers, implicit totals: the reference's kind of problem."""
_WORDY_BANDS = {"ID": (2, 10), "edge": (11, 14), "hard": (15, 20)}


def _wordy_study(
    scale_name: str,
    scale: Scale,
    *,
    rows: int,
    steps: tuple[int, int, int],
    prompts_per_step: int,
    samples_per_prompt: int,
    learning_rates: tuple[float, float, float],
    micro_batch_tokens: int,
) -> Study:
    """A study with the reference's problems, ranges and schedules."""
    num_pretrain, num_midtrain, num_reinforce = steps
    pretraining, midtraining, reinforcement = learning_rates
    cosine = {"kind": "adamw", "schedule": "cosine", "weight_decay": 0.1, "min_share": 0.15}
    return _study(
        scale_name,
        task=_WORDY_TASK,
        scale=scale,
        bands=_WORDY_BANDS,
        evaluation=Evaluation(
            ops=tuple(range(2, 21)),
            contexts=_WORDY_TASK.contexts,
            problems_per_op=66,
            samples=128,
            max_new_tokens=1024,
        ),
        pretrain={
            "steps": num_pretrain,
            "rows": rows,
            "row_length": 2048,
            "loss_on": "all",
            "optimization": Optimization(
                learning_rate=pretraining,
                warmup_steps=max(1, num_pretrain // 20),
                **cosine,
            ),
        },
        midtrain={
            "steps": num_midtrain,
            "optimization": Optimization(
                learning_rate=midtraining,
                warmup_steps=max(1, num_midtrain * 3 // 20),
                **cosine,
            ),
        },
        reinforce={
            "steps": num_reinforce,
            "prompts_per_step": prompts_per_step,
            "samples_per_prompt": samples_per_prompt,
            "max_new_tokens": 1024,
            "optimization": Optimization(learning_rate=reinforcement, warmup_steps=0, schedule="constant"),
        },
        micro_batch_tokens=micro_batch_tokens,
    )


def micro_study() -> Study:
    """About 6 M parameters in full sentences: minutes a stage on a GPU, a night on processors."""
    return _wordy_study(
        "micro",
        Scale(layers=6, width=256, heads=4, kv_heads=4, ffn=768, max_positions=2048),
        rows=32,
        steps=(6000, 300, 100),
        prompts_per_step=64,
        samples_per_prompt=16,
        learning_rates=(1e-3, 3e-4, 2e-5),
        micro_batch_tokens=16_384,
    )


def small_study() -> Study:
    """About 25 M parameters: under an hour a stage on one GPU."""
    return _wordy_study(
        "small",
        Scale(layers=8, width=512, heads=8, kv_heads=8, ffn=1408, max_positions=2048),
        rows=64,
        steps=(15_000, 750, 150),
        prompts_per_step=256,
        samples_per_prompt=8,
        learning_rates=(5e-4, 2e-4, 5e-6),
        micro_batch_tokens=32_768,
    )


def paper_study() -> Study:
    """103 M parameters and 10 B tokens, the reference's own sizes: GPUs through `torchrun`."""
    return _wordy_study(
        "paper",
        Scale(layers=12, width=768, heads=12, kv_heads=2, ffn=3072, max_positions=2048, rope_theta=1e6),
        rows=256,
        steps=(19_073, 2000, 200),
        prompts_per_step=1024,
        samples_per_prompt=6,
        learning_rates=(2e-4, 1e-4, 1e-6),
        micro_batch_tokens=65_536,
    )


STUDIES = {
    "tiny": tiny_study,
    "nano": nano_study,
    "nano-wide": nano_wide_study,
    "micro": micro_study,
    "small": small_study,
    "paper": paper_study,
}


def study_at(scale: str) -> Study:
    """The study at a scale.

    Raises:
        RecipeError: there is no such scale.
    """
    if scale not in STUDIES:
        raise RecipeError(f"there is no scale {scale!r}: give one of {', '.join(STUDIES)}.")
    return STUDIES[scale]()


def demo_experiment(scale: str = "nano") -> Experiment:
    """One seed of base, mid-training and reinforcement learning on the edge.

    Raises:
        RecipeError: there is no such scale.
    """
    study = study_at(scale)
    stages = (study.pretrain, study.midtrain, study.arm(MID_RL_EDGE, study.blend("edge")))
    return Experiment(
        name="demo",
        title="Edge of competence: the demo",
        recipes=(study.recipe("mid-rl-edge", 0, *stages),),
        bands=study.bands,
        baseline=BASE,
    )
