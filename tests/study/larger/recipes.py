"""The small experiment with more weights and more states, so that there is time to be killed while one is written."""

from pathlib import Path

from gsm_lab.study import Evaluation, Experiment, Recipe, Scale, load_experiment

SMALL = load_experiment(Path(__file__).parents[1] / "small").recipe("mid-rl")
SCALE = Scale(layers=2, width=192, heads=4, kv_heads=2, ffn=384, max_positions=128)
EVALUATION = Evaluation(ops=(2, 3), problems_per_op=5, samples=24, max_new_tokens=48)
STEPS = {"base": 60, "mid": 30, "RL": 8}

EXPERIMENT = Experiment(
    name="larger",
    title="Larger",
    recipes=(
        Recipe(
            name="mid-rl",
            seed=0,
            task=SMALL.task,
            scale=SCALE,
            stages=tuple(stage.model_copy(update={"steps": STEPS[stage.name]}) for stage in SMALL.stages),
            evaluation=EVALUATION,
            save_every=10,  # and after every step of reinforcement learning
        ),
    ),
    bands={"ID": (2, 2), "edge": (3, 3)},
    baseline="base",
)
