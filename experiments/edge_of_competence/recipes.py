"""How far past its training range does a model get, and which stage takes it there?

Command: gsm-lab sweep edge_of_competence && gsm-lab report edge_of_competence
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from gsm_lab.study import (
    BASE,
    MID,
    MID_RL_EDGE,
    SEEDS,
    Claim,
    Experiment,
    MovingEdge,
    Recipe,
    Seeds,
    Stage,
    Study,
    study_at,
    uniform,
)

RL_ID, RL_EDGE, RL_MIXED, RL_HARD = "RL in range", "RL on the edge", "RL in range and on the edge", "RL out of reach"
RL_MOVING, REJECTION = "RL at the moving edge", "rejection sampling on the edge"
SFT = "gold of the edge"
PAPER = "arXiv 2512.07783, section 3"
COVERAGE = 0.05
"""The smallest change of pass@128 that counts; half of that for pass@1."""


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """All arms: each begins with the same base, which is trained once.

    Mid-training is gold of the edge with as much replay; without replay it has half the steps, so that both see
    equally many problems of the edge. Nothing is rewarded out of reach: that arm shows that the others' gain is not
    the training's mere length.
    """
    edge = study.blend("edge")
    everything = uniform(study.bands["ID"][0], study.bands["hard"][1], contexts=study.task.contexts)
    arms: dict[str, Stage] = {
        "rl-id": study.arm(RL_ID, study.blend("ID")),
        "rl-edge": study.arm(RL_EDGE, edge),
        "rl-mixed": study.arm(RL_MIXED, study.blend("ID", "edge")),
        "rl-hard": study.arm(RL_HARD, study.blend("hard"), refuse_constant_reward=False),
        "rl-moving": study.arm(RL_MOVING, everything, moving=MovingEdge(), refuse_constant_reward=False),
        "rejection": study.arm(REJECTION, edge, credit="none"),
        "gold": study.supervised(SFT, edge, steps=max(1, study.midtrain.steps // 2)),
    }
    return (
        *(study.recipe(name, seed, study.pretrain, stage) for name, stage in arms.items()),
        study.recipe("mid-rl-edge", seed, study.pretrain, study.midtrain, study.arm(MID_RL_EDGE, edge)),
    )


def claims(most: int) -> tuple[Claim, ...]:
    """What the reference claims, and what its controls would have said; `most` is the largest k."""
    ours = "our prediction, README.md"
    coverage = {"k": most, "smallest": COVERAGE}
    return (
        Claim(
            name="edge RL widens the edge",
            text="RL on the edge of competence raises pass@k there, at the largest k.",
            source=PAPER, stage=RL_EDGE, baseline=BASE, band="edge", **coverage,
        ),
        Claim(
            name="edge RL adds nothing in range",
            text="RL on the edge does not raise pass@k in range at the largest k.",
            source=PAPER, stage=RL_EDGE, baseline=BASE, band="ID", expects="no gain", **coverage,
        ),
        Claim(
            name="in-range RL sharpens",
            text="RL in range raises pass@1 in range.",
            source=PAPER, stage=RL_ID, baseline=BASE, band="ID",
        ),
        Claim(
            name="in-range RL does not widen",
            text="RL in range does not raise pass@k on the edge.",
            source=PAPER, stage=RL_ID, baseline=BASE, band="edge", expects="no gain", **coverage,
        ),
        Claim(
            name="far RL gains nothing",
            text="RL out of reach does not raise pass@k on the edge.",
            source=PAPER, stage=RL_HARD, baseline=BASE, band="edge", expects="no gain", **coverage,
        ),
        Claim(
            name="edge RL beats in-range RL",
            text="On the edge, RL there gains more pass@k than RL in range.",
            source=PAPER, stage=RL_EDGE, baseline=RL_ID, band="edge", **coverage,
        ),
        Claim(
            name="gold forgets without replay",
            text="Gold of the edge alone lowers pass@1 in range.",
            source="a public reproduction of 2512.07783", stage=SFT, baseline=BASE, band="ID", expects="loss",
        ),
        Claim(
            name="replay keeps the range",
            text="With replay, gold of the edge lowers pass@1 in range less than without.",
            source=ours, stage=MID, baseline=SFT, band="ID",
        ),
        Claim(
            name="gold widens more than RL",
            text="Gold of the edge, with replay, gains more pass@k there than RL does.",
            source=ours, stage=MID, baseline=RL_EDGE, band="edge", **coverage,
        ),
        Claim(
            name="RL beats rejection sampling",
            text="RL on the edge gains more pass@1 there than rejection sampling with as many rollouts.",
            source=ours, stage=RL_EDGE, baseline=REJECTION, band="edge",
        ),
        Claim(
            name="a moving edge beats a fixed one",
            text="For equal rollouts, a curriculum that moves with the edge gains more pass@1 there than a fixed one.",
            source=ours, stage=RL_MOVING, baseline=RL_EDGE, band="edge",
        ),
    )  # fmt: skip


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every arm with every seed, 128 tries a problem."""
    study = study_at(scale).with_many_tries()
    return Experiment(
        name=study.named("edge_of_competence"),
        title="Edge of competence",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=BASE,
        claims=claims(study.evaluation.samples),
    )


EXPERIMENT = experiment()
