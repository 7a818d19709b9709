"""How should one budget be divided between mid-training and reinforcement learning, and who does the counting?

Command: gsm-lab sweep midtraining_vs_rl && gsm-lab report midtraining_vs_rl
README.md holds the question, the cost, the prediction made before the run and what was found.
"""

from dataclasses import replace

from gsm_lab.study import (
    BASE,
    MIDTRAIN_SHARES,
    SEEDS,
    Axis,
    Claim,
    Exchange,
    Experiment,
    Recipe,
    Seeds,
    Stage,
    Study,
    joined,
    reference_exchange_of,
    study_at,
)

PAPER = "arXiv 2512.07783, section 5 and figures 6 and 18"
BY_FORMULA, BY_FLOPS = "by formula", "by FLOPs"
FLOPS_AT_NANO = Exchange("flops", midtrain_step=3.01e9, reinforce_step=1.40e10)
"""Measured: `gsm-lab ledger edge_of_competence`, a step of `mid-trained`, and a quarter of one of `RL on the edge`."""
NANO = ("nano", "nano-wide")
SHORT = {"mid-training only": "mid only", "reinforcement only": "RL only"} | {
    f"{weight} reinforcement": f"{weight} RL" for weight in ("light", "medium", "heavy")
}
LIGHT, HEAVY, RL_ONLY = (SHORT[name] for name in ("light reinforcement", "heavy reinforcement", "reinforcement only"))


def counted(scale: str, study: Study) -> dict[str, tuple[Exchange, float]]:
    """Each way of counting: its exchange and its budget.

    The budgets are named by the steps of mid-training that they would buy whole. The reference charges a rollout as a
    whole context; FLOPs are those that were measured.
    """
    formula = reference_exchange_of(study.midtrain, study.reinforce, study.pretrain.row_length)
    whole = study.pretrain.steps
    small, large = (800, 1600) if scale in NANO else (whole // 10, whole // 2)
    found = {
        f"{small} {BY_FORMULA}": (formula, small * formula.midtrain_step),
        f"{large} {BY_FORMULA}": (formula, large * formula.midtrain_step),
    }
    if scale == "nano":
        found[f"{small} {BY_FLOPS}"] = (FLOPS_AT_NANO, small * FLOPS_AT_NANO.midtrain_step)
    return found


def arm(name: str, budget: str) -> str:
    """The last stage of an arm that ends in reinforcement learning."""
    return f"{name}, {budget}"


def mid(exchange: Exchange, amount: float, share: float = 1.0) -> str:
    """The mid-training that a share of the budget buys; arms with equally much share it."""
    return f"mid, {exchange.split(amount, share).midtrain} steps"


def recipes(study: Study, budgets: dict[str, tuple[Exchange, float]], seed: int) -> tuple[Recipe, ...]:
    """Every division of every budget; arms with equally much mid-training share it."""
    found = []
    for budget, (exchange, amount) in budgets.items():
        for long_name, share in MIDTRAIN_SHARES.items():
            steps, name = exchange.split(amount, share), arm(SHORT[long_name], budget)
            stages: list[Stage] = [study.pretrain]
            if steps.midtrain:
                called = mid(exchange, amount, share)
                stages.append(study.supervised(called, study.midtrain.blend, steps=steps.midtrain))
            if steps.reinforce:
                stages.append(study.arm(name, study.midtrain.blend, steps=steps.reinforce))
            found.append(study.recipe(name.replace(" ", "-").replace(",", ""), seed, *stages))
    return tuple(found)


def claims(budgets: dict[str, tuple[Exchange, float]]) -> tuple[Claim, ...]:
    """The reference's ranking, for every budget and count."""
    found = []
    for budget, cost in budgets.items():
        light, heavy, rl_only = (arm(name, budget) for name in (LIGHT, HEAVY, RL_ONLY))
        found += [
            Claim(
                name=f"light beats heavy on the edge, {budget}",
                text="Light RL is better than heavy RL at pass@1 on the edge.",
                source=PAPER, stage=light, baseline=heavy, band="edge",
            ),
            Claim(
                name=f"heavy beats light on hard, {budget}",
                text="Heavy RL is better than light RL at pass@1 of hard problems.",
                source=PAPER, stage=heavy, baseline=light, band="hard", smallest=0.01,
            ),
            Claim(
                name=f"light beats mid-training alone, {budget}",
                text="Light RL is better than mid-training alone at pass@1 on the edge.",
                source=PAPER, stage=light, baseline=mid(*cost), band="edge",
            ),
            Claim(
                name=f"light beats RL alone, {budget}",
                text="Light RL is better than RL alone at pass@1 on the edge.",
                source=PAPER, stage=light, baseline=rl_only, band="edge",
            ),
        ]  # fmt: skip
    return tuple(found)


def _study_of(scale: str) -> Study:
    """The scale's study; mid-training and RL see the same problems, a fifth of them in range.

    At nano rollouts are fewer (16 x 8 a step), so that small budgets are whole steps, and hard begins next to the edge.
    """
    study = study_at(scale)
    blend = joined((0.2, study.blend("ID")), (0.8, study.blend("edge")))
    fewer = {"prompts_per_step": 16, "samples_per_prompt": 8} if scale in NANO else {}
    fewer_tries = {"samples": 16} if scale in NANO else {}
    return replace(
        study,
        evaluation=study.evaluation.model_copy(update=fewer_tries),
        bands=study.bands | ({"hard": (8, 9)} if scale == "nano" else {}),
        midtrain=study.midtrain.model_copy(update={"blend": blend}),
        reinforce=study.reinforce.model_copy(update={"blend": blend} | fewer),
    )


def experiment(scale: str = "nano", seeds: Seeds = SEEDS) -> Experiment:
    """The whole study: every division, budget, count and seed."""
    study = _study_of(scale)
    budgets = counted(scale, study)
    by_share = sorted(MIDTRAIN_SHARES.items(), key=lambda pair: -pair[1])
    series = {
        budget: {f"{1 - share:.1f}": mid(*cost) if share == 1 else arm(SHORT[name], budget) for name, share in by_share}
        for budget, cost in budgets.items()
    }
    return Experiment(
        name=study.named("midtraining_vs_rl"),
        title="Mid-training against reinforcement learning at equal compute",
        recipes=tuple(recipe for seed in seeds for recipe in recipes(study, budgets, seed)),
        bands=study.bands,
        baseline=BASE,
        claims=claims(budgets),
        axes=(Axis(label="reinforcement learning's share of the budget", series=series),),
    )


EXPERIMENT = experiment()
