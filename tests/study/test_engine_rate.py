"""The bench of the engine: its arithmetic against brute force, and that every job is done once, in a toy size.

Nothing here looks at how long anything takes.
"""

import csv
import dataclasses
import importlib.util
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gsm_lab.data import PackedRows
from gsm_lab.errors import RecipeError, RunError, TrainingError
from gsm_lab.model import ModelShape, Transformer
from gsm_lab.study import bench_engine, engine_cost, engine_peers, engine_rate, engine_step
from gsm_lab.study.engine_cost import (
    Machine,
    Work,
    best_product,
    memory_rate,
    model_products,
    product_rate,
    sampling_work,
    training_work,
)
from gsm_lab.study.engine_peers import (
    WAYS,
    Generate,
    PlainLoop,
    count_written,
    left_padded,
    packed_inputs,
    padded_inputs,
    possible_ways,
)
from gsm_lab.study.engine_plan import Plan, SampleJob, Tables, TrainJob
from gsm_lab.study.engine_step import Contestant, StepJob, peak_bytes, prepare, run_ours
from gsm_lab.study.engine_tables import random_prompts, scaling, whole_rows
from gsm_lab.study.engine_trl import run_trl
from gsm_lab.study.engine_work import Material, Stopwatch, from_list, grown, lengths_of, train, write
from gsm_lab.study.measured import COLUMNS, Measured, alternate, csv_of, markdown_of, quotients
from gsm_lab.study.presets import tiny_study

SHAPES = [
    ModelShape(vocab_size=7, layers=2, width=8, heads=2, kv_heads=2, ffn=6, max_positions=64),
    ModelShape(vocab_size=7, layers=3, width=16, heads=4, kv_heads=2, ffn=10, max_positions=64),
    ModelShape(vocab_size=7, layers=1, width=8, heads=2, kv_heads=1, ffn=6, max_positions=64, tied_embeddings=False),
]
TOY = Plan(
    study="tiny",
    rounds=2,
    teaching_steps=4,
    training=(TrainJob(size="0.3 M", rows=2, length=128, steps=2, ratio=1.5, share=0.5),),
    ways=("packed", "padded"),
    sampling=(
        SampleJob(
            size="0.3 M",
            prompts=3,
            samples=2,
            longest=12,
            max_rows=(4, 8),
            peers=(Generate(4, "dynamic"), Generate(4, "static")),
            ratio=4,
            share=0.4,
        ),
    ),
    step_size="0.3 M",
    step=(2, 2, 12),
    trl_rows=(2,),
    sides=(32, 48),
    copied_bytes=1 << 16,
    starts=1,
    tables=Tables(
        rounds=1,
        tokens=64,
        lengths=(16, 32),
        written=4,
        sizes=("0.3 M", "0.8 M"),
        batches=(1, 2),
        at_once=(2, 4),
        groups=(1, 2),
        completions=4,
        workers=(0, 1),
        drawn=5,
        graders=(1,),
        graded=(2, 2, 8),
        ranks=(1, 2),
    ),
)


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(tiny_study())


@pytest.fixture(scope="module")
def model(material) -> Transformer:
    return material.trained(4)


@pytest.fixture
def batches(material) -> list[PackedRows]:
    return material.batches(2, 128, 3)


# ------------------------------------------------------------------------------------------ arithmetic


def attention_operations(shape: ModelShape, position: int) -> int:
    """Of one token that sees all keys up to its own, one multiplication and one addition after the other."""
    total = 0
    for _layer in range(shape.layers):
        for _head in range(shape.heads):
            for _key in range(position + 1):
                for _number in range(shape.head_width):
                    total += 2  # of the score
                    total += 2  # of the mixture of values
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_training_costs_what_counting_one_by_one_gives(shape):
    lengths = [1, 5, 9]
    # forward, and twice as much backward: to the inputs and to the weights
    weights = {name: value.numel() for name, value in Transformer(shape).named_parameters()}
    if not shape.tied_embeddings:
        del weights["model.embed_tokens.weight"]  # looked up, not multiplied
    tokens = 3 * 2 * sum(weights.values()) * sum(lengths)
    attention = 3 * sum(attention_operations(shape, position) for length in lengths for position in range(length))
    assert training_work(shape, lengths).operations == tokens + attention
    # the near miss: documents that see one another cost more
    assert training_work(shape, [sum(lengths)]).operations > tokens + attention


@pytest.mark.parametrize("shape", SHAPES)
def test_sampling_costs_what_walking_through_every_step_gives(shape):
    prompts, samples = [3, 5], [[4, 1, 2], [6]]
    head = shape.vocab_size * shape.width
    body = sum(value.numel() for value in Transformer(shape).parameters()) - head * (1 if shape.tied_embeddings else 2)
    position_bytes = shape.layers * 2 * shape.kv_heads * shape.head_width * 4
    operations = moved = 0
    for prompt, lengths in zip(prompts, samples, strict=True):
        for position in range(prompt):  # read once, for all samples
            operations += 2 * body + attention_operations(shape, position)
            moved += position_bytes  # written
        operations += 2 * head  # the first token of all samples is drawn from the same distribution
        for step in range(1, max(lengths)):
            still_written = [length for length in lengths if length > step]
            moved += prompt * position_bytes  # the prompt's, once for all of them
            for _ in still_written:
                operations += 2 * body + attention_operations(shape, prompt + step - 1) + 2 * head
                moved += position_bytes  # written
                moved += step * position_bytes  # its own, read: that of this step too
    assert sampling_work(shape, prompts, samples) == Work(operations, moved)


def test_the_roofline_is_the_longer_of_arithmetic_and_memory():
    work = Work(operations=200.0, bytes=30.0)
    assert work.seconds(Machine(operations=100.0, bytes=30.0)) == 2.0
    assert work.seconds(Machine(operations=100.0, bytes=10.0)) == 3.0


def test_the_products_of_a_model_are_those_of_its_layers_in_both_directions():
    shape = SHAPES[1]
    products = set(model_products(shape, tokens=50))
    # query and output, key and value, gate and up, down, head
    forward = {(50, 16, 16), (50, 16, 8), (50, 16, 10), (50, 10, 16), (50, 16, 7)}
    assert forward <= products
    assert {(50, 8, 16), (16, 50, 8)} <= products  # keys: backward to the inputs, and to the weight
    assert len(products) <= 3 * len(forward)


def test_the_best_product_is_the_one_with_the_highest_rate(monkeypatch):
    monkeypatch.setattr(engine_cost, "product_rate", lambda size, *_: float(-abs(size[0] - 3)))
    assert best_product([(1, 1, 1), (3, 1, 1), (4, 1, 1)]) == ((3, 1, 1), 0.0)


def test_rates_count_operations_and_bytes_by_the_clock(monkeypatch):
    monkeypatch.setattr(engine_cost, "seconds_of", lambda work: work() or 0.5)
    calls = math.floor(1e9 / (2 * 10 * 20 * 30))
    assert product_rate((10, 20, 30)) == pytest.approx(calls * 2 * 10 * 20 * 30 / 0.5)
    # a + s b reads two arrays and writes one: the best of both counts
    assert memory_rate(4096) == 3 * 4096 / 0.5


# ------------------------------------------------------------------------------------------ rounds and figures


def test_everybody_is_first_in_turn_and_the_first_round_does_not_count():
    log = []
    works = {name: lambda name=name: log.append(name) or float(len(log)) for name in "abc"}
    values = alternate(works, rounds=4)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert values == {"a": (4.0, 9.0, 11.0, 13.0), "b": (5.0, 7.0, 12.0, 14.0), "c": (6.0, 8.0, 10.0, 15.0)}


def test_ratios_are_taken_within_a_round():
    ours, theirs = (2.0, 40.0, 6.0), (1.0, 10.0, 6.0)
    assert quotients(ours, theirs) == (2.0, 4.0, 1.0)
    ratio = Measured("s", "n", "times", quotients(ours, theirs))
    assert ratio.median == 2.0
    assert ratio.median != 6.0 / 6.0  # the near miss: the ratio of the medians


def test_a_figure_shows_its_median_its_spread_and_what_is_asked_for():
    assert str(Measured("s", "n", "tokens/s", (3000.0, 1000.0, 2000.0))) == "s, n: 2,000 tokens/s [1,000, 3,000]"
    assert str(Measured("s", "n", "share", (0.5,), 0.02, below=True)) == "s, n: 50.0 %; asked for: below 2.0 %"
    assert str(Measured("s", "n", "times", (1.25, 1.75), 1.6)) == "s, n: 1.5 times [1.25, 1.75]; asked for: 1.6"
    with pytest.raises(TrainingError, match="measured in no round"):
        Measured("s", "n", "times", ())


def test_tables_hold_every_figure():
    measured = [
        Measured("one", "a, b", "times", (1.0, 2.0, 4.0), 1.5),
        Measured("two", "c", "share", (0.25,), 0.5, below=True),
    ]
    rows = list(csv.reader(csv_of(measured).splitlines()))
    assert rows == [
        list(COLUMNS),
        ["one", "a, b", "times", "2", "1", "4", "3", "1.5"],
        ["two", "c", "share", "0.25", "0.25", "0.25", "1", "<0.5"],
    ]
    assert "## one\n" in markdown_of(measured)
    assert "| a, b | times | 2 | 1 | 4 | 3 | 1.5 |" in markdown_of(measured)


# ------------------------------------------------------------------------------------------ the same work


def test_lengths_are_those_of_the_documents(material, batches):
    documents = material.packer(2, 128).documents
    count = sum(int(row.max()) + 1 for batch in batches for row in batch.documents)
    drawn = [len(documents.document(index).ids) for index in range(count)]
    assert sorted(lengths_of(batches)) == sorted(drawn)


@pytest.mark.parametrize("way", ["packed", "padded"])
def test_a_plain_loop_has_our_loss_and_learns(material, model, batches, way):
    loop = PlainLoop(model, material.tokenizer, batches, way)
    before = float(loop._loss(0).detach())
    loop.rate(3)
    assert float(loop._loss(0).detach()) < before
    assert loop.tokens == [batch.num_tokens for batch in batches]


def test_a_loop_that_does_other_work_is_refused(monkeypatch, material, model, batches):
    def without_positions(batch: PackedRows):
        return {name: value for name, value in packed_inputs(batch).items() if name != "position_ids"}

    monkeypatch.setattr(engine_peers, "packed_inputs", without_positions)  # documents of a row see one another
    with pytest.raises(TrainingError, match="not the same work"):
        PlainLoop(model, material.tokenizer, batches, "packed")


def test_ways_that_need_a_compiler_need_one(monkeypatch):
    monkeypatch.setattr("shutil.which", {"g++": "/usr/bin/g++"}.get)
    assert possible_ways(WAYS) == list(WAYS)
    monkeypatch.setattr("shutil.which", {}.get)
    assert possible_ways(WAYS) == ["packed", "padded"]


def test_padded_rows_hold_the_packed_documents(material, batches):
    batch, pad = batches[0], material.tokenizer.pad_id
    padded = padded_inputs(batch, pad)
    assert padded["attention_mask"].sum(dim=1).tolist() == lengths_of([batch])
    assert int(padded["attention_mask"].sum()) == batch.num_tokens
    for name in ("labels", "input_ids"):
        whole = packed_inputs(batch)[name]
        places = [(row, number) for row in range(2) for number in range(int(batch.documents[row].max()) + 1)]
        for own, (row, number) in zip(padded[name], places, strict=True):
            inside = torch.from_numpy(batch.documents[row] == number)
            assert own[: int(inside.sum())].tolist() == whole[row][inside].tolist()
    assert int((padded["labels"] >= 0).sum()) == batch.num_targets


def test_prompts_are_padded_on_the_left():
    inputs = left_padded([(5, 6), (7,)], pad_id=0)
    assert inputs["input_ids"].tolist() == [[5, 6], [0, 7]]
    assert inputs["attention_mask"].tolist() == [[1, 1], [0, 1]]


def test_tokens_are_counted_up_to_the_first_end():
    rows = torch.tensor([[5, 1, 0, 0], [5, 5, 5, 5], [1, 0, 1, 0], [5, 5, 5, 1]])
    assert count_written(rows, eos_id=1) == 2 + 4 + 1 + 4


@pytest.mark.parametrize("way", TOY.sampling[0].peers, ids=str)
def test_generate_completes_every_prompt(material, model, way):
    theirs = engine_peers.transformers_model(model, material.tokenizer)
    written = way.tokens(theirs, material.prompts(3), 2, 5, material.tokenizer, seed=0)
    assert 6 <= written <= 30


def test_our_sampler_completes_every_prompt_with_numbers_of_the_round(material, model):
    prompts = material.prompts(3)
    first, again, other = (
        write(model, prompts, 2, 5, material.tokenizer.eos_id, max_rows=4, seed=seed) for seed in (0, 0, 1)
    )
    assert [len(group) for group in first] == [2, 2, 2]
    assert first == again
    assert first != other


# ------------------------------------------------------------------------------------------ models and loops


@pytest.mark.parametrize("size", ["0.8 M", "10 M"])
def test_a_grown_model_says_what_the_small_one_says(material, model, size):
    large = grown(model, material.shape(size))
    tokens = torch.tensor([material.prompts(1)[0].ids])
    with torch.no_grad():
        torch.testing.assert_close(large(tokens), model(tokens), atol=2e-2, rtol=0)
    assert large.shape.parameters > 2 * model.shape.parameters
    # hardly a zero, which some hardware multiplies with less effort
    zeros = sum(int((value == 0).sum()) for value in large.parameters() if value.dim() == 2)
    assert zeros < 1e-4 * large.shape.parameters


def test_a_model_does_not_grow_smaller(material, model):
    with pytest.raises(TrainingError, match="cannot be grown"):
        grown(model, dataclasses.replace(model.shape, layers=1))
    with pytest.raises(TrainingError, match="cannot be grown"):
        grown(model, dataclasses.replace(material.shape("0.8 M"), kv_heads=1))


def test_only_the_steps_after_the_warm_up_count(material, model, batches):
    trained = train(model, from_list(batches), steps=4, warm_up=2)
    # steps 2 to 5 of the batches 0, 1, 2, 0, 1, 2
    assert trained.tokens == sum(batches[step % 3].num_tokens for step in (2, 3, 4, 5))
    assert trained.seconds > 0


def test_the_stopwatch_leaves_the_first_calls_out(batches):
    watch = Stopwatch(from_list(batches), skipped=2)
    assert watch(0) == (batches[0], 1)
    watch(1)
    assert watch.seconds == 0.0
    watch(2)
    assert watch.seconds > 0.0


def test_rows_of_any_length_hold_one_document_each():
    batch = whole_rows(rows=3, length=16, vocab_size=7)
    assert lengths_of([batch]) == [16, 16, 16]
    assert np.array_equal(batch.tokens[:, 1:], batch.targets[:, :-1])
    assert batch.num_targets == 3 * 15
    assert batch.tokens.max() < 7


def test_random_prompts_have_the_wanted_length():
    prompts = random_prompts(count=4, length=9, vocab_size=7)
    assert {len(prompt.ids) for prompt in prompts} == {9}
    assert len({prompt.ids for prompt in prompts}) == 4


def test_peak_memory_is_the_kernels_figure_of_this_program(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t  123 kB\nVmRSS:\t  45 kB\n")
    monkeypatch.setattr(engine_step, "_STATUS", status)
    assert peak_bytes() == 123 * 1024
    monkeypatch.setattr(engine_step, "_STATUS", tmp_path / "nowhere")  # no Linux: what POSIX has
    assert peak_bytes() > 1 << 20


# ------------------------------------------------------------------------------------------ all of it


@pytest.fixture
def job(tmp_path, material, model) -> StepJob:
    job = StepJob(study="tiny", folder=str(tmp_path), prompts=2, samples=2, longest=12, threads=1, trl_rows=2)
    prepare(job, material, model)
    return job


def test_our_step_is_done_when_it_is_asked_for(job):
    with Contestant("ours", run_ours, job) as contestant:
        reports = [contestant.step(), contestant.step()]
    for report in reports:
        assert 4 <= report["tokens"] <= 48
        assert report["unused"] in (0.0, 0.5, 1.0)
        assert report["peak_bytes"] > 1 << 24
        assert {"sample_seconds", "reward_seconds", "train_seconds", "seconds"} <= report.keys()


def test_a_contestant_that_ends_early_is_reported(job):
    broken = dataclasses.replace(job, folder=f"{job.folder}/nowhere")
    with Contestant("ours", run_ours, broken) as contestant, pytest.raises(RunError, match="step of ours ended"):
        contestant.step()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
def test_trl_does_the_same_step(job):
    with Contestant("TRL", run_trl, job) as contestant:
        reports = [contestant.step(), contestant.step()]
    assert all(4 <= report["tokens"] <= 48 for report in reports)


def test_the_bench_measures_everything_and_writes_it_down(monkeypatch, tmp_path):
    monkeypatch.setattr(engine_rate, "has_trl", lambda: False)
    lines = list(bench_engine(plan=TOY, output=tmp_path))
    assert any("TRL is not installed" in line for line in lines)
    assert any("compiled CPU kernels are" in line for line in lines)
    with open(tmp_path / "engine.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} == {"machine", "training", "sampling", "step", "set-up"}
    assert all(float(row["lowest"]) <= float(row["median"]) <= float(row["highest"]) for row in rows)
    asked = {row["name"].split(", ", 1)[-1]: row["asked for"] for row in rows if row["asked for"]}
    assert "<0.02" in asked.values()
    assert sum(row["unit"] == "times" for row in rows) == 2  # training and sampling; TRL is not there
    page = (tmp_path / "README.md").read_text()
    assert all(row["name"] in page for row in rows)


def test_the_tables_have_a_row_for_every_step():
    measured = list(scaling(engine_rate.Bench(TOY)))
    by_section = {name: [one for one in measured if one.section == name] for name in {one.section for one in measured}}
    # lengths: ours and theirs in training, ours in sampling; so are sizes
    assert {name: len(rows) for name, rows in by_section.items()} == {
        "by length": 6,
        "by model size": 6,
        "by batch": 4,
        "by group size": 2,
        "by workers": 6,
    }
    assert all(one.median > 0 for one in measured)
    names = [one.name for one in measured]
    assert all(first != second for first, second in pairwise(sorted(names)))


def test_the_figures_of_a_step_follow_from_the_reports():
    def report(seconds: float, peak: float, **more: float) -> dict[str, float]:
        return {"seconds": seconds, "tokens": 10.0, "peak_bytes": peak * 2**20, **more}

    ours = [report(1.0, 100, unused=0.25, reward_seconds=0.5), report(2.0, 110, unused=0.75, reward_seconds=0.5)]
    reports = {"ours": ours, "TRL": [report(5.0, 200), report(8.0, 220)]}
    figures = {one.name.removeprefix("x, "): one.values for one in engine_rate._step_figures("x", reports)}
    assert figures["TRL / ours"] == (5.0, 4.0)
    assert figures["peak memory, TRL / ours"] == (2.0,)
    assert figures["ours, share of the phase 'reward'"] == (0.5, 0.25)
    assert json.dumps(figures)  # plain numbers


def test_sections_can_be_asked_for_singly():
    lines = list(bench_engine(plan=TOY, only=("machine",)))
    assert all(line.startswith("machine, ") for line in lines[4:])
    with pytest.raises(RecipeError, match="no section 'speed'"):
        list(bench_engine(plan=TOY, only=("speed",)))
