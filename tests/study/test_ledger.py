"""Laws of the ledger: it counts what counting one by one gives, and a budget buys what its exchange says."""

import csv
import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gsm_lab.data import Packer
from gsm_lab.errors import RecipeError, RunError
from gsm_lab.model import ModelShape, Transformer
from gsm_lab.study import Recipe, StageFolder, source_of, tokenizer_of
from gsm_lab.study.budgets import (
    MIDTRAIN_SHARES,
    REFERENCE,
    Exchange,
    Steps,
    reference_exchange,
    reference_exchange_of,
)
from gsm_lab.study.engine_cost import sampling_work, training_work
from gsm_lab.study.ledger import (
    CURRENCIES,
    Ledger,
    Passes,
    Seconds,
    StageCost,
    StepCounts,
    forward_flops,
    ledger_of,
    measured_exchange,
    rollout_flops,
    stage_cost,
    supervised_flops,
    write_ledger,
)
from gsm_lab.study.pipeline import prompts_of
from gsm_lab.study.settings import jumps_of, shape_of
from gsm_lab.training.policy import PolicyObjective, Trajectory, accumulate_policy_gradient, micro_batches

TINY = ModelShape(vocab_size=5, layers=1, width=4, heads=2, kv_heads=1, ffn=3, max_positions=64)
SHAPES = [
    TINY,
    ModelShape(vocab_size=64, layers=2, width=32, heads=2, kv_heads=1, ffn=48, max_positions=64),
    ModelShape(vocab_size=24, layers=3, width=16, heads=4, kv_heads=4, ffn=20, max_positions=64, tied_embeddings=False),
]


# ------------------------------------------------------------------------------------------ operations


def test_a_forward_pass_costs_what_adding_up_by_hand_gives():
    # queries 4 x 4 + 4, keys and values 2 x (4 x 2 + 2), output 4 x 4, feed-forward 3 x 4 x 3, norms 3 x 4
    body = 20 + 20 + 16 + 36 + 12
    # Three tokens are read, one is predicted from (5 x 4), and they see 1 + 2 + 3 keys: a key costs 4 products in
    # the score and 4 in the mixture, an addition each.
    assert forward_flops(TINY, 3, 1, 6) == 2 * body * 3 + 2 * 20 + 6 * (4 + 4) * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_texts_of_one_length_all_scored_cost_what_the_benchmark_counts(shape):
    counted = training_work(shape, [9] * 4).operations
    assert supervised_flops(shape, 36, 36, 9) == counted
    # the near miss: the head where nothing is asked for
    assert supervised_flops(shape, 36, 35, 9) == counted - 6 * shape.vocab_size * shape.width


@pytest.mark.parametrize("shape", SHAPES)
def test_rollouts_of_one_length_cost_what_the_benchmark_counts(shape):
    step = StepCounts(
        prompts=2, prompt_tokens=14, rollouts=6, tokens=30, live_prompts=0, live_rollouts=0, live_tokens=0
    )
    flops = rollout_flops(shape, step, updates=1, has_reference=True)
    assert flops.prompt == sampling_work(shape, [7] * 2, [[1]] * 2).operations
    assert flops.prompt + flops.generated == sampling_work(shape, [7] * 2, [[5] * 3] * 2).operations
    assert flops.trained == flops.reference == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_costs_what_torch_counts(shape):
    model = Transformer.initial(shape, 0).double()  # PyTorch's operations; the kernels are for float32
    prompts = [(1, 2, 3, 4, 0, 1, 2), (4, 3, 2, 1, 0, 4, 3)]
    rollouts = [Trajectory(prompt, (1, 2, 3, 4, 0), (0.0,) * 5, 1.0, 0.1) for prompt in prompts for _ in range(3)]
    objective = PolicyObjective(0.2, 0.2, 0.0, 1.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for micro in micro_batches(rollouts, 2048):
            accumulate_policy_gradient(model, [micro], objective)
    step = StepCounts(2, 14, 6, 30, live_prompts=2, live_rollouts=6, live_tokens=30)
    ours = rollout_flops(shape, step, updates=1, has_reference=False)
    # Torch counts the scores of all 14 + 6 x 4 tokens with one another, masked or not, and no norms or biases.
    read = 38
    keys = 2 * (7 * 8 // 2) + 6 * sum(7 + place for place in range(1, 5))
    masked = 4 * shape.layers * shape.width * (read**2 - keys)
    vectors = 2 * read * sum(value.numel() for value in model.parameters() if value.dim() == 1)
    assert counter.get_total_flops() == ours.trained + 3 * (masked - vectors)


def test_a_group_without_a_gradient_is_sampled_and_not_trained():
    shape = SHAPES[1]
    both = StepCounts(2, 20, 4, 24, live_prompts=2, live_rollouts=4, live_tokens=24)
    one = StepCounts(2, 20, 4, 24, live_prompts=1, live_rollouts=2, live_tokens=12)
    all_of_it, half = (rollout_flops(shape, step, 1, has_reference=True) for step in (both, one))
    assert (half.prompt, half.generated) == (all_of_it.prompt, all_of_it.generated)
    assert (half.trained, half.reference) == (all_of_it.trained / 2, all_of_it.reference / 2)


def test_a_second_update_is_trained_again_and_the_reference_is_not_read_again():
    step = StepCounts(2, 20, 4, 24, live_prompts=2, live_rollouts=4, live_tokens=24)
    once, twice = (rollout_flops(SHAPES[1], step, updates, has_reference=True) for updates in (1, 2))
    assert twice.trained == 2 * once.trained == 6 * once.reference
    assert twice.reference == once.reference


# ------------------------------------------------------------------------------------------ a stage's files


def written_stage(home, recipe: Recipe, metrics: list[dict], timings: list[dict], **preflight: float) -> StageFolder:
    """The folder of the recipe's last stage as if it were done."""
    folder = StageFolder(home, recipe, len(recipe.stages) - 1)
    folder.path.mkdir(parents=True)
    done = {"checkpoint": {"model.safetensors": "0"}, "tokens": metrics[-1]["tokens"]}
    for name, value in (("done.json", done), ("preflight.json", {"vocabulary": 64, **preflight})):
        (folder.path / name).write_text(json.dumps(value))
    for name, lines in (("metrics.jsonl", metrics), ("timings.jsonl", timings)):
        (folder.path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def of_rollouts(recipe: Recipe, **fields: object) -> Recipe:
    """The small recipe with two steps of 2 prompts x 2 rollouts at the end."""
    stage = recipe.stages[-1].model_copy(update={"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, **fields})
    return recipe.model_copy(update={"stages": (*recipe.stages[:-1], stage)})


SUMS = ("step", "zero_variance_share", "prompt_tokens", "rollouts", "unused_rollouts", "tokens", "trained_tokens")
LINES = [
    dict(zip(SUMS, (0, 0.5, 20, 4, 2, 24, 12), strict=True)),
    dict(zip(SUMS, (1, 0.0, 60, 8, 2, 56, 44), strict=True)),
]
"""First 2 prompts of 10, 4 rollouts of 6, half of them trained; then 2 prompts of 20, 4 rollouts of 8, all trained."""
TIMES = {
    "prompts_seconds": 0.25,
    "sample_seconds": 1.0,
    "reward_seconds": 0.5,
    "write_seconds": 0.125,
    "train_seconds": 2.0,
    "grading_cpu_seconds": 9.0,
}


def test_rollouts_are_counted_step_by_step(small_recipe, tmp_path):
    recipe = of_rollouts(small_recipe, updates_per_rollout=2)
    cost = stage_cost(written_stage(tmp_path, recipe, LINES, [TIMES, TIMES]))
    assert cost.tokens == Passes(prompt=60, generated=56, trained=2 * 44)
    shape = shape_of(recipe.scale, 64)
    steps = [StepCounts(2, 20, 4, 24, 1, 2, 12), StepCounts(2, 40, 4, 32, 2, 4, 32)]
    apart = [rollout_flops(shape, step, 2, has_reference=False) for step in steps]
    assert cost.flops == apart[0] + apart[1]
    # the near miss: one mean length for both steps
    together = StepCounts(4, 60, 8, 56, 3, 6, 44)
    assert cost.flops.total != pytest.approx(rollout_flops(shape, together, 2, has_reference=False).total, rel=1e-3)
    assert (cost.kind, cost.steps, cost.parameters, cost.id) == ("reinforce", 2, shape.parameters, recipe.id)


def test_under_a_kl_every_rollout_is_trained_and_read_by_the_reference(small_recipe, tmp_path):
    recipe = of_rollouts(small_recipe, kl_weight=0.1, updates_per_rollout=1)
    lines = [line | {"unused_rollouts": 0, "trained_tokens": line["tokens"]} for line in LINES]
    cost = stage_cost(written_stage(tmp_path, recipe, lines, [TIMES, TIMES]))
    assert cost.tokens == Passes(prompt=60, generated=56, trained=56, reference=56)
    assert cost.flops.trained == 3 * cost.flops.reference
    # also those of the group whose rewards agree: 2 prompts in the first step
    steps = [StepCounts(2, 20, 4, 24, 2, 4, 24), StepCounts(2, 40, 4, 32, 2, 4, 32)]
    shape = shape_of(recipe.scale, 64)
    assert cost.flops.reference == sum(rollout_flops(shape, step, 1, has_reference=True).reference for step in steps)


def test_seconds_go_to_their_phases_and_those_of_other_processors_do_not_count(small_recipe, tmp_path):
    cost = stage_cost(written_stage(tmp_path, of_rollouts(small_recipe), LINES, [TIMES, TIMES]))
    assert cost.seconds == Seconds(sampling=2.0, grading=1.0, training=4.0, other=0.75)
    assert cost.total("seconds") == 7.75


def test_a_compilation_is_not_training(small_recipe, tmp_path):
    recipe = small_recipe.until(1)
    lines = [{"step": 20, "tokens": 4000, "scored_tokens": 2500}]
    timings = [{"step": 20, "seconds": 8.0, "compile_seconds": 3.0, "tokens_per_second": 500.0}]
    preflight = {"mean prompt tokens": 15.5, "mean completion tokens": 24.5}
    cost = stage_cost(written_stage(tmp_path, recipe, lines, timings, **preflight))
    assert cost.seconds == Seconds(training=8.0, other=3.0)
    assert cost.tokens == Passes(trained=4000)
    assert cost.flops == Passes(trained=supervised_flops(shape_of(recipe.scale, 64), 4000, 2500, 40.0))


def test_a_stage_that_is_not_done_is_refused(small_recipe, tmp_path):
    with pytest.raises(RunError, match="is not trained to its end: run the recipe first"):
        stage_cost(StageFolder(tmp_path, small_recipe, 0))


@pytest.mark.parametrize(
    ("lines", "timings", "message"),
    [
        (LINES[:1], [TIMES], r"has 1 lines up to step 1, where done.json has 24 tokens after 2 steps"),
        (LINES[1:], [TIMES], r"has 1 lines up to step 2, where done.json has 56 tokens after 2 steps"),
        (LINES, [TIMES], r"timings.jsonl has 1 lines and metrics.jsonl 2"),
        (LINES, [TIMES, {"nap_seconds": 1.0}], r"has nap_seconds, of no known phase"),
        (LINES, [TIMES, TIMES], None),
    ],
)
def test_logs_with_a_gap_are_refused(lines, timings, message, small_recipe, tmp_path):
    folder = written_stage(tmp_path, of_rollouts(small_recipe), lines, timings)
    if message is None:
        stage_cost(folder)  # the near miss: without a gap
        return
    with pytest.raises(RunError, match=message):
        stage_cost(folder)


def test_metrics_of_another_run_are_refused(small_recipe, tmp_path):
    folder = written_stage(tmp_path, of_rollouts(small_recipe), LINES, [TIMES, TIMES])
    done = folder.path / "done.json"
    done.write_text(done.read_text().replace('"tokens": 56', '"tokens": 57'))
    with pytest.raises(RunError, match=r"where done\.json has 57 tokens"):
        stage_cost(folder)


def test_what_an_older_version_did_not_log_is_named(small_recipe, tmp_path):
    older = [{name: value for name, value in line.items() if name != "trained_tokens"} for line in LINES]
    folder = written_stage(tmp_path, of_rollouts(small_recipe), older, [TIMES, TIMES])
    with pytest.raises(RunError, match="does not say 'trained_tokens': it was made by an earlier version"):
        stage_cost(folder)


# ------------------------------------------------------------------------------------------ real runs


PHASES = ("prompt", "generated", "trained", "reference")
SECONDS = ("sampling", "grading", "training", "other")


def rollout_files(recipe: Recipe, home):
    return sorted((StageFolder(home, recipe, 2).path / "rollouts").glob("*.parquet"))


@pytest.fixture(scope="module")
def ledger(small, small_runs) -> Ledger:
    return ledger_of(small.recipes, small_runs)


def test_tokens_are_those_of_the_rollouts_on_disk(ledger, small_recipe, small_runs):
    [cost] = ledger.costs("RL")
    stage = small_recipe.stages[2]
    tokenizer = tokenizer_of(small_recipe.task)
    source = source_of(small_recipe, 2, tokenizer)
    tables = [pq.read_table(path) for path in rollout_files(small_recipe, small_runs)]
    lengths = [len(ids) for table in tables for ids in table["ids"].to_pylist()]
    live = [advantage != 0 for table in tables for advantage in table["advantage"].to_pylist()]
    assert cost.tokens == Passes(
        prompt=sum(len(prompt.ids) for step in range(6) for prompt in prompts_of(stage, source, tokenizer, step)),
        generated=sum(lengths),
        trained=2 * sum(length for length, has_gradient in zip(lengths, live, strict=True) if has_gradient),
    )
    assert 0 < cost.tokens.trained < 2 * cost.tokens.generated


def test_mean_lengths_cost_little_less_than_the_true_ones(ledger, small_recipe, small_runs):
    [cost] = ledger.costs("RL")
    stage = small_recipe.stages[2]
    tokenizer = tokenizer_of(small_recipe.task)
    source = source_of(small_recipe, 2, tokenizer)
    shape = shape_of(small_recipe.scale, tokenizer.vocab_size)
    sampled = trained = 0.0
    for step, path in enumerate(rollout_files(small_recipe, small_runs)):
        prompts = [len(prompt.ids) for prompt in prompts_of(stage, source, tokenizer, step)]
        table = pq.read_table(path, columns=["ids", "advantage", "group"]).to_pydict()
        rows = list(zip(table["group"], map(len, table["ids"]), table["advantage"], strict=True))
        by_group = [[length for group, length, _ in rows if group == place] for place in range(len(prompts))]
        sampled += sampling_work(shape, prompts, by_group).operations
        for place, prompt in enumerate(prompts):
            live = [length for group, length, advantage in rows if group == place and advantage]
            if live:
                seen = [prompt + index for length in live for index in range(1, length)]
                keys = sum(seen) + prompt * (prompt + 1) / 2
                trained += 2 * 3 * forward_flops(shape, prompt + len(seen), sum(live), keys)
    assert 0.98 * sampled < cost.flops.prompt + cost.flops.generated < 1.002 * sampled
    assert 0.98 * trained < cost.flops.trained < 1.002 * trained


@pytest.mark.parametrize("number", [0, 1])
def test_the_mean_length_of_problems_stands_for_the_true_ones(number, ledger, small_recipe):
    stage = small_recipe.stages[number]
    [cost] = ledger.costs(stage.name)
    tokenizer = tokenizer_of(small_recipe.task)
    source = source_of(small_recipe, number, tokenizer)
    packer = Packer(source, tokenizer, stage.rows, stage.row_length, stage.loss_on, jumps_of(small_recipe, stage))
    cursor = tokens = scored = keys = 0
    for _ in range(stage.steps):
        batch, cursor = packer.batch(cursor)
        tokens, scored = tokens + batch.num_tokens, scored + batch.num_targets
        for row in batch.documents:
            keys += sum(int(length) * (int(length) + 1) // 2 for length in np.bincount(row[row >= 0]))
    assert cost.tokens == Passes(trained=tokens)
    shape = shape_of(small_recipe.scale, tokenizer.vocab_size)
    assert cost.flops.total == pytest.approx(3 * forward_flops(shape, tokens, scored, keys), rel=0.01)
    # the near miss: attention left out
    assert cost.flops.total != pytest.approx(3 * forward_flops(shape, tokens, scored, 0), rel=0.01)


def test_a_shared_stage_has_one_row_and_the_base_stands_apart(ledger):
    table = ledger.table().set_index("stage")
    assert list(table.index) == ["base", "mid", "RL", "RL alone"]
    for currency in CURRENCIES:
        own = table[currency]
        assert (own > 0).all()
        assert (table[f"base_{currency}"] == own["base"]).all()
        assert table[f"arm_{currency}"].to_dict() == pytest.approx(
            {"base": 0, "mid": own["mid"], "RL": own["mid"] + own["RL"], "RL alone": own["RL alone"]}
        )
        runs = table[f"base_{currency}"] + table[f"arm_{currency}"]
        assert table[f"run_{currency}"].to_dict() == pytest.approx(runs.to_dict())
        parts = SECONDS if currency == "seconds" else PHASES
        phases = [f"{part}_{currency}" for part in parts]
        assert table[phases].sum(axis=1).to_dict() == pytest.approx(own.to_dict())


def test_the_written_table_is_read_back(ledger, tmp_path):
    path = write_ledger(ledger, tmp_path / "results")
    assert path == tmp_path / "results" / "ledger.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), ledger.table(), check_dtype=False, rtol=1e-9)
    with open(path, newline="") as file:
        assert [row["tokens"] for row in csv.DictReader(file)] == [str(one) for one in ledger.table()["tokens"]]


def test_an_unknown_stage_is_refused_with_those_there_are(ledger):
    with pytest.raises(RecipeError, match="no stage is called 'middle': give one of base, mid, RL, RL alone"):
        ledger.costs("middle")


def test_an_unknown_currency_is_refused(ledger):
    with pytest.raises(RecipeError, match="the currency is 'euros': give one of tokens, flops, seconds"):
        ledger.costs("mid")[0].total("euros")


# ------------------------------------------------------------------------------------------ the reference's budgets

BATCH = 524_288
ARMS = ("mid-training only", "reinforcement only", "light reinforcement", "medium reinforcement", "heavy reinforcement")
TABLE = {
    "1.05": (2000, 50, 51.2, (1600, 10), (1000, 25), (400, 40)),
    "2.10": (4000, 100, 102.4, (3200, 20), (2000, 50), (800, 80)),
    "4.20": (8000, 200, 204.8, (6400, 40), (4000, 100), (1600, 160)),
    "8.40": (16000, 400, 409.6, (12800, 80), (8000, 200), (3200, 320)),
    "12.58": (24000, 600, 614.4, (19200, 120), (12000, 300), (4800, 480)),
    "16.78": (32000, 800, 819.2, (25600, 160), (16000, 400), (6400, 640)),
    "20.00": (38147, 954, 976.6, (30517, 191), (19073, 477), (7629, 763)),
}
"""arXiv:2512.07783, table 3: total tokens (billions) -> steps of mid-training only; steps of reinforcement only, and
their prompts (thousands); steps of both when mid-training has 0.8, 0.5 and 0.2 of the budget."""


def cells(total: str) -> dict[str, tuple[int, int]]:
    """A row of the table: steps of mid-training and of reinforcement learning in every arm."""
    mid, rl, _, *both = TABLE[total]
    return dict(zip(ARMS, ((mid, 0), (0, rl), *both), strict=True))


@pytest.mark.parametrize("total", TABLE)
def test_every_cell_of_the_references_table_comes_from_the_preset(total):
    budget = REFERENCE.cost(Steps(midtrain=TABLE[total][0], reinforce=0))
    assert budget / 1e9 == pytest.approx(float(total), rel=0.002)  # 1.048576 and eight times that: 1.05 and 8.40
    for arm, (mid, rl) in cells(total).items():
        assert REFERENCE.split(budget, MIDTRAIN_SHARES[arm]) == Steps(mid, rl)
    assert budget / REFERENCE.reinforce_step * 1.024 == pytest.approx(TABLE[total][2], abs=0.05)  # x 1024 prompts


def test_near_miss_the_totals_as_they_are_printed_give_the_last_row_only():
    bought = {total: REFERENCE.split(float(total) * 1e9, 1.0).midtrain for total in TABLE}
    assert [total for total in TABLE if bought[total] == TABLE[total][0]] == ["20.00"]
    assert bought["1.05"] == 2003  # 1.05e9 / 524,288 = 2002.7, where the table has 2000


def test_the_last_row_follows_from_twenty_billion_tokens_too():
    assert {arm: REFERENCE.split(20e9, MIDTRAIN_SHARES[arm]) for arm in ARMS} == {
        arm: Steps(*steps) for arm, steps in cells("20.00").items()
    }


def test_the_references_formula_alone_does_not_give_its_last_row_by_any_one_rounding():
    """38146.97 steps of mid-training are printed as 38147, 30517.58 as 30517, and 953.67 of the other as 954."""
    share = {arm: Fraction(MIDTRAIN_SHARES[arm]).limit_denominator(10) for arm in ARMS}
    wrong = {}
    for rounded in (math.floor, math.ceil, round):
        ours = {
            arm: (
                rounded(share[arm] * 20 * 10**9 / BATCH),
                rounded((1 - share[arm]) * 20 * 10**9 * Fraction(3, 5) / (6 * 2048 * 1024)),
            )
            for arm in ARMS
        }
        wrong[rounded] = {arm: steps for arm, steps in ours.items() if steps != cells("20.00")[arm]}
    assert wrong[round] == {"light reinforcement": (30518, 191)}  # one cell; all other rows are whole numbers
    assert wrong[math.floor]
    assert wrong[math.ceil]


def test_a_step_of_the_references_reinforcement_is_charged_as_forty_of_mid_training():
    # 1024 prompts x 6 rollouts x 2048 tokens x (2 + 2 + 6) P, over 524,288 tokens x 6 P
    assert REFERENCE.currency == "reference tokens"
    assert REFERENCE.midtrain_step == 524_288
    assert REFERENCE.reinforce_step == 1024 * 6 * 2048 * 5 / 3
    assert REFERENCE.rate == 40
    assert reference_exchange(has_reference=False).rate == 32  # 4/3 for 5/3


def test_the_formula_as_it_is_printed_counts_the_length_twice():
    # N b T / (B_mid L_mid) with B_mid = 512 x 1024 and L_mid = 2048 gives less than a step where the table has 2000.
    assert REFERENCE.cost(Steps(2000, 0)) / (512 * 1024 * 2048) < 1


def test_a_hundred_steps_cost_twice_what_the_references_text_compares_them_with():
    assert REFERENCE.cost(Steps(0, 100)) == 2 * REFERENCE.cost(Steps(2000, 0))  # "1B" against 100 steps


def test_the_formula_takes_its_constants_from_the_stages(small_recipe):
    _, mid, rl = small_recipe.stages
    # 2 rows x 128 tokens; 4 prompts x 4 rollouts x 96 tokens, without a reference and with one
    assert reference_exchange_of(mid, rl, 96) == Exchange("reference tokens", 256.0, 4 / 3 * 16 * 96)
    with_kl = rl.model_copy(update={"kl_weight": 0.01})
    assert reference_exchange_of(mid, with_kl, 96).reinforce_step == 5 / 3 * 16 * 96


# ------------------------------------------------------------------------------------------ budgets


def test_shares_are_those_that_the_reference_compares():
    assert list(MIDTRAIN_SHARES.values()) == [0, 0.2, 0.5, 0.8, 1]


@pytest.mark.parametrize("currency", CURRENCIES)
def test_the_cost_of_steps_buys_these_steps(currency, ledger):
    exchange = measured_exchange(ledger.costs("mid"), ledger.costs("RL"), currency)
    assert exchange.currency == currency
    # 20 steps and 6 steps were measured: as a budget, what they took buys them again
    assert exchange.split(ledger.costs("mid")[0].total(currency), 1.0) == Steps(20, 0)
    assert exchange.split(ledger.costs("RL")[0].total(currency), 0.0) == Steps(0, 6)
    for steps in (1, 7, 1000):
        assert exchange.split(exchange.cost(Steps(steps, 0)), 1.0) == Steps(steps, 0)
        assert exchange.split(exchange.cost(Steps(0, steps)), 0.0) == Steps(0, steps)


@pytest.mark.parametrize("share", MIDTRAIN_SHARES.values())
@pytest.mark.parametrize("currency", CURRENCIES)
def test_every_share_spends_the_budget_to_about_a_step_of_each(currency, share, ledger):
    exchange = measured_exchange(ledger.costs("mid"), ledger.costs("RL"), currency)
    budget = 50 * max(exchange.midtrain_step, exchange.reinforce_step)
    steps = exchange.split(budget, share)
    unspent = {
        "mid": share * budget - steps.midtrain * exchange.midtrain_step,
        "RL": (1 - share) * budget - steps.reinforce * exchange.reinforce_step,
    }
    assert -0.51 * exchange.midtrain_step < unspent["mid"] < 1.51 * exchange.midtrain_step
    assert abs(unspent["RL"]) < 0.51 * exchange.reinforce_step


def test_the_last_bit_of_a_share_costs_no_step():
    assert REFERENCE.split(REFERENCE.cost(Steps(2000, 0)), 1 - 0.8) == Steps(400, 40)
    assert math.floor((1 - 0.8) * 2000) == 399  # the near miss


def test_currencies_disagree_where_lengths_are_not_what_the_formula_takes_them_to_be(ledger, small_recipe):
    _, mid, rl = small_recipe.stages
    by_formula = reference_exchange_of(mid, rl, small_recipe.scale.max_positions).rate
    by_flops = measured_exchange(ledger.costs("mid"), ledger.costs("RL"), "flops").rate
    assert by_formula > 2 * by_flops


def cost(stage: str, kind: str, steps: int, tokens: int, seed: int = 0, parameters: int = 7) -> StageCost:
    return StageCost(stage, stage, seed, kind, steps, parameters, Passes(trained=tokens), Passes(), Seconds())


def test_seeds_of_a_stage_are_taken_together():
    mid = [cost("mid", "supervised", 10, 100), cost("mid", "supervised", 30, 500, seed=1)]
    rl = [cost("RL", "reinforce", 2, 90)]
    assert measured_exchange(mid, rl, "tokens") == Exchange("tokens", 600 / 40, 45.0)


def test_stages_that_cannot_be_exchanged_are_refused():
    mid, rl = [cost("mid", "supervised", 10, 100)], [cost("RL", "reinforce", 2, 90)]
    with pytest.raises(RecipeError, match=r"the costs of \['RL'\] were given for a supervised stage"):
        measured_exchange(rl, rl, "tokens")
    with pytest.raises(RecipeError, match="the costs of no stage were given for a reinforce stage"):
        measured_exchange(mid, [], "tokens")
    with pytest.raises(RecipeError, match=r"belong to models of \[7, 8\] parameters"):
        measured_exchange(mid, [cost("RL", "reinforce", 2, 90, parameters=8)], "tokens")
    with pytest.raises(RecipeError, match=r"midtrain_step is 0\.0 seconds: give a finite number above 0"):
        measured_exchange(mid, rl, "seconds")


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(RecipeError, match="give a number from 0 to 1"):
        REFERENCE.split(1e9, share)


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(RecipeError, match=r"the budget is .* reference tokens: give a finite number above 0"):
        REFERENCE.split(budget, 0.5)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_budget_too_small_for_a_step_is_refused_with_one_that_is_not(share):
    exchange = Exchange("seconds", 3.0, 10.0)
    with pytest.raises(RecipeError, match="seconds buys no step of") as refused:
        exchange.split(1.0, share)
    [wanted] = [float(word.rstrip(",")) for word in str(refused.value).split("at least ")[1].split()[:1]]
    if 0 < share < 1:  # both stages have a say: the larger of what they want is enough
        wanted = max(wanted, 10.0 * math.ceil(1 / (1 - share)))
    exchange.split(wanted, share)
