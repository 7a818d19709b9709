"""How many hard problems must pretraining hold before reinforcement learning can go past them?

Command: gsm-lab sweep hard_share && gsm-lab report hard_share
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from gsm_lab.study import BASE, SEEDS, Axis, Claim, Experiment, Recipe, Seeds, Study, joined, study_at, uniform

PAPER = "arXiv 2512.07783, appendix A.7"
SHARES = (0.001, 0.05, 0.2, 1 / 3, 0.5)


def base(share: float) -> str:
    """The base with that share of hard problems."""
    return f"{BASE}, {share:.3g} hard"


def after_rl(share: float) -> str:
    """RL on the edge from that base."""
    return f"RL on the edge, {share:.3g} hard"


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """For each share a base whose range is the same, then RL on the edge.

    Hard are the ops of the upper half of the range; easy and hard ops are each alike among themselves.
    """
    low, high = study.bands["ID"]
    middle = (low + high) // 2
    easy, hard = (
        uniform(*span, contexts=study.task.contexts) for span in ((low, middle), (middle + 1, high))
    )  # fmt: skip
    return tuple(
        study.recipe(
            f"hard-{share:.3g}",
            seed,
            study.pretrain.model_copy(update={"name": base(share), "blend": joined((1 - share, easy), (share, hard))}),
            study.arm(after_rl(share), study.blend("edge"), refuse_constant_reward=False),
        )
        for share in SHARES
    )


def claims(most: int) -> tuple[Claim, ...]:
    """What the reference's text says, and what its printed numbers say."""
    most_hard, fifth = after_rl(SHARES[-1]), after_rl(SHARES[2])
    return (
        Claim(
            name="hard data open the edge",
            text="RL on the edge reaches more when half of pretraining is hard than when next to nothing is.",
            source=f"{PAPER}, figure 15", stage=most_hard, baseline=after_rl(SHARES[0]), band="edge", k=most,
            smallest=0.1,
        ),
        Claim(
            name="gains peak at a fifth",
            text="After RL, a base with a fifth reaches more of the edge than one with a half.",
            source=f"{PAPER}, text (its figure says the opposite)", stage=fifth, baseline=most_hard, band="edge",
            k=most, smallest=0.05,
        ),
        Claim(
            name="a fifth is enough for the range",
            text="The base with a fifth of hard problems solves its range as well as the one with a half.",
            source="our prediction, README.md", stage=base(SHARES[2]), baseline=base(SHARES[-1]), band="ID",
            expects="no change", smallest=0.05,
        ),
    )  # fmt: skip


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every share with every seed."""
    study = study_at(scale)
    levels = [f"{share:.3g}" for share in SHARES]
    return Experiment(
        name=study.named("hard_share"),
        title="The share of hard problems in pretraining",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=base(SHARES[-1]),
        claims=claims(study.evaluation.samples),
        axes=(
            Axis(
                label="share of hard problems in pretraining",
                series={
                    "base": dict(zip(levels, map(base, SHARES), strict=True)),
                    "after RL on the edge": dict(zip(levels, map(after_rl, SHARES), strict=True)),
                },
            ),
        ),
    )


EXPERIMENT = experiment()
