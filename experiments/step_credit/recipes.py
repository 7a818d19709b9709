"""Does a step that is told its own credit teach more than the same verdict spread over the whole completion?

Command: gsm-lab sweep step_credit && gsm-lab report step_credit
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from gsm_lab.study import BASE, SEEDS, Axis, Claim, Experiment, Recipe, Seeds, Study, study_at

PAPER = "arXiv 2402.03300, section 5.2, figure 5"
OUTCOME, STRICT, MIX = "outcome", "strict", "mix, 0.2 outcome"
OUTCOME_STEPS, STRICT_STEPS = f"{OUTCOME}, steps", f"{STRICT}, steps"
ARMS: dict[str, dict[str, object]] = {
    OUTCOME: {"reward": "outcome"},
    OUTCOME_STEPS: {"reward": "outcome", "credit": "steps"},
    MIX: {"reward": "mix", "alpha": 0.2},
    STRICT: {"reward": "strict"},
    STRICT_STEPS: {"reward": "strict", "credit": "steps"},
}
"""The first, third and fourth are those of `reward_design`."""


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """RL on the edge from one base, each arm with its own reward and its own credit."""
    edge = study.blend("edge")
    return tuple(
        study.recipe(name.replace(" ", "-"), seed, study.pretrain, study.arm(name, edge, **fields))
        for name, fields in ARMS.items()
    )


def claims() -> tuple[Claim, ...]:
    """What the source of the method claims of it, and what telling the steps apart should add."""
    ours = "our prediction, README.md"
    return (
        Claim(
            name="steps beat outcome",
            text="Beside a reward for the answer, credit for steps raises pass@1 on the edge.",
            source=PAPER, stage=OUTCOME_STEPS, baseline=OUTCOME, band="edge",
        ),
        Claim(
            name="steps beat strict",
            text="Beside a reward for whole right solutions, credit for steps raises pass@1 on the edge.",
            source=ours, stage=STRICT_STEPS, baseline=STRICT, band="edge",
        ),
        Claim(
            name="where steps are paid does not matter",
            text="Credit at the steps and a share of right steps for the whole end within 0.05 of each other.",
            source=ours, stage=OUTCOME_STEPS, baseline=MIX, band="edge", expects="no change", smallest=0.05,
        ),
        Claim(
            name="steps teach less luck",
            text="With credit for steps fewer solutions are right by wrong steps than for the answer alone.",
            source=ours, stage=OUTCOME_STEPS, baseline=OUTCOME, band="edge", metric="share lucky", k=None,
            expects="loss", smallest=0.01,
        ),
    )  # fmt: skip


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every reward and every credit with every seed."""
    study = study_at(scale)
    return Experiment(
        name=study.named("step_credit"),
        title="Credit for steps",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=BASE,
        claims=claims(),
        axes=(
            Axis(
                label="reward",
                series={
                    "credit for the whole": {OUTCOME: OUTCOME, STRICT: STRICT},
                    "credit for steps, too": {OUTCOME: OUTCOME_STEPS, STRICT: STRICT_STEPS},
                },
            ),
        ),
    )


EXPERIMENT = experiment()
