"""One rank of several that run `reinforce` together; started by test_reinforce_ranks.py with torchrun's variables.

Started as `python ranks_of_reinforce.py FOLDER`: a run in FOLDER/whole, and in FOLDER/parts one that is stopped after
its second step, at the wish of the last rank alone, and goes on.
"""

import sys
from pathlib import Path

import torch

from gsm_lab.model import ModelShape, Transformer
from gsm_lab.training import OptimizerSettings, Prompt, ReinforceSettings, Scored, World, reinforce

SHAPE = ModelShape(vocab_size=16, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=32)
SETTINGS = ReinforceSettings(
    steps=4,
    group_size=6,
    max_new_tokens=4,
    eos_id=1,
    seed=0,
    save_every=2,
    updates_per_rollout=2,
    kl_coefficient=0.01,
    # with so large an epsilon AdamW does not divide small gradients by their own size: rounding stays rounding
    optimizer=OptimizerSettings(kind="adamw", learning_rate=0.1, epsilon=1.0),
)


def prompts_at(step: int) -> list[Prompt]:
    """Five prompts, so that two ranks have shares of different sizes; the last step has one, so that one has none."""
    return [Prompt((2 + (step + place) % 3, 5), f"p{place}", place) for place in range(1 if step == 3 else 5)]


def reward(completions) -> list[Scored]:
    """A reward that compares the completions of a prompt, and does not see the difference in the second prompt."""
    longest = max(len(ids) for _, ids, _ in completions)
    return [
        Scored(0.5 if place == 1 else ids[0] / 16 + (len(ids) == longest), "any", finished, {"place": place})
        for place, ids, finished in completions
    ]


def main(folder: Path, world: World) -> None:
    for name in ("whole", "parts"):
        model = Transformer.initial(SHAPE, 0)
        stops = iter([False, name == "parts" and world.rank == world.size - 1, False, False])
        arguments = (prompts_at, reward, SETTINGS, folder / name)
        summary = reinforce(model, *arguments, world=world, should_stop=lambda stops=stops: next(stops))
        assert summary.step == (2 if name == "parts" else 4)
        if name == "parts":
            model = Transformer.initial(SHAPE, 0)
            assert reinforce(model, *arguments, world=world).finished
        weights = torch.cat([value.flatten() for value in model.state_dict().values()])
        world.same(weights.tolist())


if __name__ == "__main__":
    torch.set_num_threads(1)
    with World.from_environment("cpu") as world:
        main(Path(sys.argv[1]), world)
