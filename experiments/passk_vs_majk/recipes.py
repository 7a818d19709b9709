"""Does reinforcement learning make solutions that were within reach likelier, or does it bring new ones within reach?

Command: gsm-lab sweep passk_vs_majk && gsm-lab report passk_vs_majk
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from gsm_lab.study import BASE, SEEDS, Claim, Experiment, Recipe, Seeds, Study, study_at

RL_ID, RL_EDGE = "RL in range", "RL on the edge"
PAPER = "DeepSeekMath, arXiv 2402.03300, section 5.2.2"


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """RL in range and RL on the edge from one base: all stages are those of `edge_of_competence`."""
    return tuple(
        study.recipe(name.replace(" ", "-"), seed, study.pretrain, study.arm(name, study.blend(band)))
        for name, band in ((RL_ID, "ID"), (RL_EDGE, "edge"))
    )


def claims(most: int) -> tuple[Claim, ...]:
    """maj@k and pass@k of each arm where it was trained, and in range for the arm on the edge."""
    found = []
    for stage, band in ((RL_ID, "ID"), (RL_EDGE, "edge"), (RL_EDGE, "ID")):
        found += [
            Claim(
                name=f"{stage} raises maj@k, {band}",
                text="RL raises maj@k.",
                source=PAPER, stage=stage, baseline=BASE, band=band, metric="maj@k", k=most,
            ),
            Claim(
                name=f"{stage} leaves pass@k, {band}",
                text="RL leaves pass@k as it was, at the largest k.",
                source=PAPER, stage=stage, baseline=BASE, band=band, k=most, expects="no change", smallest=0.05,
            ),
        ]  # fmt: skip
    return tuple(found)


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """Three stages with every seed, tested as in `edge_of_competence`."""
    study = study_at(scale).with_many_tries()
    return Experiment(
        name=study.named("passk_vs_majk"),
        title="Pass@k against maj@k",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=BASE,
        claims=claims(study.evaluation.samples),
    )


EXPERIMENT = experiment()
