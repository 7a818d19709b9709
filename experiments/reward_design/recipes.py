"""What should a reward pay for: the answer, the steps, or both; and how much may the verifier err?

Command: gsm-lab sweep reward_design && gsm-lab report reward_design
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from gsm_lab.problems.rewards import Noise
from gsm_lab.study import BASE, SEEDS, Axis, Claim, Experiment, Recipe, Seeds, Study, study_at

PAPER = "arXiv 2512.07783, section 6"
OUTCOME, STRICT = "outcome", "strict"
MIX_2, MIX_5, GATED = "mix, 0.2 outcome", "mix, 0.5 outcome", "gated, 0.2 outcome"
REWARDS: dict[str, dict[str, object]] = {
    OUTCOME: {"reward": "outcome"},
    MIX_5: {"reward": "mix", "alpha": 0.5},
    MIX_2: {"reward": "mix", "alpha": 0.2},
    GATED: {"reward": "gated", "alpha": 0.2},
    STRICT: {"reward": "strict"},
}
RATES = (0.01, 0.05, 0.1)


def passes_wrong(rate: float) -> str:
    """The arm whose verifier lets so many wrong solutions pass."""
    return f"strict, {rate:.0%} false positives"


def fails_right(rate: float) -> str:
    """The arm whose verifier refuses so many right ones."""
    return f"strict, {rate:.0%} false negatives"


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """RL on the edge from one base, each arm with its own reward or its own verifier."""
    rewards: dict[str, dict[str, object]] = {
        **REWARDS,
        **{passes_wrong(rate): {"noise": Noise(false_positives=rate)} for rate in RATES},
        **{fails_right(rate): {"noise": Noise(false_negatives=rate)} for rate in RATES},
    }
    edge = study.blend("edge")
    return tuple(
        study.recipe(name.replace(" ", "-"), seed, study.pretrain, study.arm(name, edge, **fields))
        for name, fields in rewards.items()
    )


def claims() -> tuple[Claim, ...]:
    """What the reference claims of process rewards, what reward hacking would look like, and what noise would do."""
    ours = "our prediction, README.md"
    process = [
        Claim(
            name=f"{name} beats outcome on the edge",
            text=f"A reward that looks at the steps ({name}) raises pass@1 on the edge over the outcome alone.",
            source=PAPER, stage=name, baseline=OUTCOME, band="edge",
        )
        for name in (MIX_2, MIX_5, GATED, STRICT)
    ]  # fmt: skip
    lucky = Claim(
        name="outcome teaches luck",
        text="Paid for the answer alone, more solutions are right by wrong steps than when the steps count.",
        source=ours, stage=OUTCOME, baseline=STRICT, band="edge", metric="share lucky", k=None, smallest=0.01,
    )  # fmt: skip
    structure = [
        Claim(
            name=f"{name} makes fewer errors of structure",
            text=f"A reward that looks at the steps ({name}) lowers structural errors on the edge.",
            source=PAPER, stage=name, baseline=OUTCOME, band="edge", metric="structural errors", k=None, expects="loss",
        )
        for name in (MIX_2, STRICT)
    ]  # fmt: skip
    noisy = [
        Claim(
            name=f"{name} cost nothing",
            text=f"Noise of this kind ({name}) lowers pass@1 on the edge by less than 0.05.",
            source=ours, stage=name, baseline=STRICT, band="edge", expects="no loss", smallest=0.05,
        )
        for name in (passes_wrong(0.1), fails_right(0.1))
    ]  # fmt: skip
    return (*process, *structure, lucky, *noisy)


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every reward and every verifier with every seed."""
    study = study_at(scale)
    return Experiment(
        name=study.named("reward_design"),
        title="Reward design",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=BASE,
        claims=claims(),
        axes=(
            Axis(label="reward", series={"RL on the edge": {BASE: BASE} | {name: name for name in REWARDS}}),
            Axis(
                label="share of verdicts turned round",
                series={
                    "wrong ones pass": {"0": STRICT} | {f"{rate:.0%}": passes_wrong(rate) for rate in RATES},
                    "right ones fail": {"0": STRICT} | {f"{rate:.0%}": fails_right(rate) for rate in RATES},
                },
            ),
        ),
    )


EXPERIMENT = experiment()
