"""How much must a model have seen of a second context before reinforcement learning carries its skill over?

Command, from the repository's root: gsm-lab sweep context_exposure && gsm-lab report context_exposure
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from dataclasses import replace
from pathlib import Path

from gsm_lab.study import SEEDS, Axis, Blend, Claim, Experiment, Mixed, Recipe, Seeds, Study, study_at, uniform

PAPER = "arXiv 2512.07783, section 4"
OURS = "our prediction, README.md"
FIRST = ("zoo", "festival")
"""What pretraining is about."""
HERE = "experiments/context_exposure"
SECOND = {
    "terse": {
        "nouns": "school",
        "frames": f"school:{HERE}/turned.toml",
        "language": f"school:{HERE}/terse_chinese.toml",
    },
    "english": {"nouns": "school", "frames": "school:paraphrase", "language": "school:chinese"},
}
"""The second context for each scale's frames, by its distance: other nouns; other frames, too; another language."""
SHARES = {"nouns": (0.001, 0.01, 0.1), "frames": (0.01, 0.1), "language": (0.01, 0.1)}
SIMPLE, ATOM = 2, 1
"""The op of the second context's problems in pretraining; and in the atomic variant."""
NONE = "base, none"
ATOMS = "1% atoms of nouns"
DENSE, LONG = "base, 3% nouns", "base, 1% nouns, 3 times as long"
"""The follow-up: as many problems of the second context, by share and by time."""


def exposure(distance: str, share: float) -> str:
    """An amount of a second context, in words."""
    return f"{share:.1%} {distance}".replace(".0%", "%")


def after_rl(name: str) -> str:
    """The stage that reinforces the base of that name."""
    return f"RL, {name}"


def recipes(study: Study, seed: int) -> tuple[Recipe, ...]:
    """For each distance and share a base with so much of the second context, then RL on both contexts alike.

    Two more bases tell whether the share of the second context matters, or the number of its problems.
    """
    low, high = study.bands["op 2"][0], study.bands["deeper"][1]
    first, seconds = uniform(low, high, contexts=FIRST), SECOND[study.task.frames]

    def base(name: str, distance: str, share: float, op: int = SIMPLE) -> tuple[str, Blend | Mixed]:
        second = Blend(ops={op: 1.0}, contexts={seconds[distance]: 1.0})
        return f"base, {name}", Mixed(parts=((1 - share, first), (share, second)))

    def recipe(name: str, distance: str, pretrained: tuple[str, Blend | Mixed]) -> Recipe:
        both = Mixed(parts=((0.5, first), (0.5, uniform(low, high, contexts=(seconds[distance],)))))
        stages = (
            study.pretrain.model_copy(update={"name": pretrained[0], "blend": pretrained[1]}),
            study.arm(after_rl(name), both),
        )
        return study.recipe(name.replace(" ", "-"), seed, *stages)

    found = []
    for distance, shares in SHARES.items():
        found.append(recipe(f"none of {distance}", distance, (NONE, first)))
        for share in shares:
            name = exposure(distance, share)
            found.append(recipe(name, distance, base(name, distance, share)))
    found.append(recipe(ATOMS, "nouns", base(ATOMS, "nouns", 0.01, ATOM)))
    for name, share, longer in ((DENSE, 0.03, 1), (LONG, 0.01, 3)):
        only = {"name": name, "blend": base(name, "nouns", share)[1], "steps": longer * study.pretrain.steps}
        found.append(
            study.recipe(name.replace(" ", "-").replace(",", ""), seed, study.pretrain.model_copy(update=only))
        )
    return tuple(found)


def labels(study: Study) -> dict[str, str]:
    """What tables call the second context, by its distance."""
    found = {}
    for distance, context in SECOND[study.task.frames].items():
        nouns, colon, frames = context.partition(":")
        found[distance] = f"{nouns}{colon}{Path(frames).stem}"
    return found


def levels(none: str, stages: dict[float, str]) -> dict[str, str]:
    """The stage at each share, in rising order."""
    return {"0": none} | {f"{share:.1%}": stages[share] for share in sorted(stages)}


def claims(study: Study) -> tuple[Claim, ...]:
    """What the reference claims of other nouns, and what we expect of larger distances."""
    found, called, most = [], labels(study), study.evaluation.samples
    for distance, label in called.items():
        source = PAPER if distance == "nouns" else OURS
        seen = [exposure(distance, share) for share in (0.01, 0.1)]
        found += [
            Claim(
                name=f"nothing without exposure: {distance}",
                text="Without any exposure RL carries nothing over to deeper problems of the second context.",
                source=source, stage=after_rl(f"none of {distance}"), baseline=NONE, band="deeper", context=label,
                k=most, expects="no gain", smallest=0.05,
            ),
            Claim(
                name=f"1% is enough: {distance}",
                text="With 1 % of simple problems RL reaches deeper problems of the second context than without any.",
                source=source, stage=after_rl(seen[0]), baseline=after_rl(f"none of {distance}"), band="deeper",
                context=label, k=most, smallest=0.3,
            ),
            Claim(
                name=f"10% adds little: {distance}",
                text="Ten times as much adds less than 0.1 of pass@k.",
                source=source, stage=after_rl(seen[1]), baseline=after_rl(seen[0]), band="deeper", context=label,
                k=most, expects="no gain", smallest=0.1,
            ),
        ]  # fmt: skip
    found.append(
        Claim(
            name="a threshold below 1%",
            text="Ten times less than 1 % is far too little.",
            source=PAPER, stage=after_rl(exposure("nouns", 0.01)), baseline=after_rl(exposure("nouns", 0.001)),
            band="deeper", context=called["nouns"], k=most, smallest=0.3,
        )
    )  # fmt: skip
    found.append(
        Claim(
            name="atoms are not enough",
            text="With atoms (single steps) in place of simple problems RL reaches less.",
            source=OURS, stage=after_rl(ATOMS), baseline=after_rl(exposure("nouns", 0.01)), band="deeper",
            context=called["nouns"], k=most, expects="loss", smallest=0.05,
        )
    )  # fmt: skip
    found.append(
        Claim(
            name="the number counts, not the share",
            text="1 % for three times as long teaches simple problems of the second context as well as 3 %.",
            source=OURS, stage=LONG, baseline=DENSE, band="op 2", context=called["nouns"], k=most,
            expects="no change", smallest=0.1,
        )
    )  # fmt: skip
    return tuple(found)


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every distance, share and seed."""
    study = _study_of(scale)
    axes = [
        Axis(
            label=f"share of the second context in pretraining ({distance})",
            context=label,
            series={
                "base": levels(NONE, {share: f"base, {exposure(distance, share)}" for share in SHARES[distance]}
                               | ({0.03: DENSE} if distance == "nouns" else {})),
                "after RL on both": levels(after_rl(f"none of {distance}"),
                                           {share: after_rl(exposure(distance, share)) for share in SHARES[distance]}),
            },
        )
        for distance, label in labels(study).items()
    ]  # fmt: skip
    return Experiment(
        name=study.named("context_exposure"),
        title="Context exposure",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, seed)),
        bands=study.bands,
        baseline=NONE,
        claims=claims(study),
        axes=tuple(axes),
    )


def _study_of(scale: str) -> Study:
    """The scale's study with both contexts and bands that begin with the second one's simple problems.

    At nano it is easier and shorter, because there are many arms: op 2 to 4 in pretraining, 1,000 steps, 30 of RL
    with half the prompts.
    """
    study = study_at(scale)
    is_nano, seconds = scale == "nano", SECOND[study.task.frames].values()
    deeper, edge = ((3, 4), (5, 6)) if is_nano else ((3, study.bands["ID"][1]), study.bands["edge"])
    shorter = {"steps": 30, "prompts_per_step": 16}
    longest = max(256, study.evaluation.max_new_tokens)  # Chinese names are several tokens long
    unexposed = {"refuse_constant_reward": False, "most_truncated": 1.0}  # in words never seen, solutions do not end
    return replace(
        study,
        bands={"op 2": (2, 2), "deeper": deeper, "edge": edge},
        task=study.task.model_copy(update={"contexts": (*FIRST, *seconds)}),
        pretrain=study.pretrain.model_copy(update={"steps": 1000} if is_nano else {}),
        reinforce=study.reinforce.model_copy(
            update={"max_new_tokens": longest} | unexposed | (shorter if is_nano else {})
        ),
        evaluation=study.evaluation.model_copy(
            update={
                "ops": tuple(op for op in study.evaluation.ops if op <= edge[1]),
                "contexts": ("zoo", *seconds),
                "max_new_tokens": longest,
            }
        ),
    )


EXPERIMENT = experiment()
