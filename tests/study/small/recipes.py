"""An experiment of seconds whose reinforcement learning has a gradient: rewards differ within a group, weights move.

(The tiny scale of `gsm-lab demo` earns no reward at all, so its last stage leaves the weights as they are.)
"""

from gsm_lab.study import (
    Evaluation,
    Experiment,
    Optimization,
    Phase,
    Recipe,
    Reinforce,
    Scale,
    Supervised,
    Task,
    joined,
    uniform,
)

TASK = Task(
    facts=(2, 3),
    places=2,
    items=4,
    implicit_totals=0.0,
    reuse=0.0,
    copies=0.5,
    width=(0, 2),
    composites=0.0,
    operations=("add",),
    constants=(0, 3),
    modulus=4,
    sentence_order="computation",
)
SCALE = Scale(layers=1, width=32, heads=2, kv_heads=1, ffn=64, max_positions=128)
BASE = Supervised(
    name="base",
    blend=uniform(2, 2),
    curriculum=(Phase(problems=20, blend=uniform(2, 2), facts=(2, 2)),),
    steps=120,
    rows=4,
    row_length=128,
    jumping_documents=0.5,
    jump_share=0.05,
    longest_jump=8,
    optimization=Optimization(kind="muon", learning_rate=5e-3, warmup_steps=5),
)
MID = Supervised(
    name="mid",
    split="midtrain",
    blend=joined((0.8, uniform(2, 2)), (0.2, uniform(3, 3))),
    steps=20,
    rows=2,
    row_length=128,
    optimization=Optimization(kind="muon", learning_rate=1e-3, matrix_learning_rate=5e-3, warmup_steps=2),
)
RL = Reinforce(
    name="RL",
    blend=uniform(2, 2),
    steps=6,
    prompts_per_step=4,
    samples_per_prompt=4,
    updates_per_rollout=2,
    max_new_tokens=48,
    reward="outcome",
    optimization=Optimization(learning_rate=1e-3, warmup_steps=1),
)
EVALUATION = Evaluation(ops=(2, 3), problems_per_op=4, samples=2, max_new_tokens=48)


def recipe(name: str, *stages: Supervised | Reinforce) -> Recipe:
    # A state every 40 steps of training on texts, and every 2 of reinforcement learning.
    return Recipe(name=name, seed=0, task=TASK, scale=SCALE, stages=stages, evaluation=EVALUATION, save_every=40)


EXPERIMENT = Experiment(
    name="small",
    title="Small",
    recipes=(recipe("mid-rl", BASE, MID, RL), recipe("rl", BASE, RL.model_copy(update={"name": "RL alone"}))),
    bands={"ID": (2, 2), "edge": (3, 3)},
    baseline="base",
)
