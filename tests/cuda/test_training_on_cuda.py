"""Training on a GPU: the gradient of the CPU, in every precision, compiled or not, and nobody waits for anybody."""

import dataclasses
import json
import math

import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.training import FitSettings, OptimizerSettings, Schedule, fit
from gsm_lab.training.batches import batches_from, drawn_batch
from gsm_lab.training.memory import training_memory
from gsm_lab.training.supervised import accumulate_gradient, add_gradient

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # inductor imports modules of torch that warn
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # the same
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # advice to give up float32, which is wanted here
    pytest.mark.filterwarnings("ignore:Please use the new API settings"),  # torch#166387: inductor needs the old one
]

SETTINGS = FitSettings(
    steps=12,
    log_every=5,
    save_every=4,
    compile=False,
    schedule=Schedule(warmup_steps=2),
    optimizer=OptimizerSettings(kind="adamw", learning_rate=3e-3),
)


def metrics_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_gradient_is_that_of_the_cpu(make_model, next_batch, distance):
    on_gpu, on_cpu = make_model(), make_model("cpu").double()
    totals = [accumulate_gradient(model, next_batch(0)[0]) for model in (on_gpu, on_cpu)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    assert distance(on_gpu, on_cpu) < 1e-4


@pytest.mark.parametrize(("precision", "least", "most"), [("tf32", 1e-6, 5e-3), ("bfloat16", 1e-4, 5e-2)])
def test_other_precisions_are_close_to_float32_and_really_other(
    precision, least, most, make_model, next_batch, distance
):
    exact, rounded = make_model(), make_model()
    totals = [accumulate_gradient(exact, next_batch(0)[0])]
    totals.append(accumulate_gradient(rounded, next_batch(0)[0], precision=precision))
    assert totals[1] == pytest.approx(totals[0], rel=most)
    assert least < distance(rounded, exact) < most
    assert {value.grad.dtype for value in rounded.parameters()} == {torch.float32}
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("bfloat16", 5e-2)])
def test_compiled_layers_are_one_graph_for_all_batches_and_give_the_eager_gradient(
    precision, most, make_model, next_batch, distance
):
    eager, compiled = make_model(), make_model()
    hidden = torch.compile(compiled.hidden, dynamic=False, fullgraph=True)
    for cursor, recompiling_is_an_error in ((0, False), (8, True)):
        batch = drawn_batch(next_batch, cursor, 0)
        with torch._dynamo.config.patch(error_on_recompile=recompiling_is_an_error):
            total = add_gradient(compiled, batch.micro_batches, batch.scored, precision, hidden)
        wanted = add_gradient(eager, batch.micro_batches, batch.scored, precision)
        assert float(total) == pytest.approx(float(wanted), rel=most)
        assert distance(compiled, eager) < most


def test_a_step_never_makes_the_host_wait(make_model, next_batch):
    model = make_model()
    batches = list(batches_from(next_batch, 0, 2, 3, slice(None), model.device))
    assert all(rows.tokens_BT.is_pinned() for batch in batches for rows in batch.micro_batches)
    add_gradient(model, batches[0].micro_batches, batches[0].scored, "bfloat16")  # first uses may wait for once
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = add_gradient(model, batches[1].micro_batches, batches[1].scored, "bfloat16")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(float(total))


def test_losses_that_are_read_late_are_all_logged(tmp_path, make_model, next_batch):
    fit(make_model(), next_batch, SETTINGS, tmp_path / "gpu")
    fit(make_model("cpu"), next_batch, SETTINGS, tmp_path / "cpu")
    on_gpu, on_cpu = metrics_of(tmp_path / "gpu"), metrics_of(tmp_path / "cpu")
    assert [line["step"] for line in on_gpu] == [5, 10, 12]
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        for name in ("tokens", "scored_tokens", "learning_rate", "skipped_steps"):
            assert one[name] == other[name]
    assert on_gpu[-1]["loss"] < on_gpu[0]["loss"]


def test_training_is_compiled_by_default_and_the_cost_is_logged_once(tmp_path, make_model, next_batch):
    fit(make_model(), next_batch, dataclasses.replace(SETTINGS, compile=None), tmp_path / "compiled")
    fit(make_model(), next_batch, SETTINGS, tmp_path / "eager")
    for one, other in zip(metrics_of(tmp_path / "compiled"), metrics_of(tmp_path / "eager"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    timings = [json.loads(line) for line in (tmp_path / "compiled" / "timings.jsonl").read_text().splitlines()]
    assert [line.get("compile_seconds", 0.0) > 0 for line in timings] == [True, False, False]


def test_a_loss_that_is_not_finite_reaches_no_state(tmp_path, make_model, next_batch):
    # after the first step weights are near 1e30, and their products overflow in the second
    wild = OptimizerSettings(kind="adamw", learning_rate=1e30)
    settings = dataclasses.replace(SETTINGS, save_every=1, optimizer=wild, schedule=Schedule(kind="constant"))
    model = make_model()
    with pytest.raises(TrainingError, match=r"is (nan|inf)"):
        fit(model, next_batch, settings, tmp_path)
    assert [state.name for state in (tmp_path / "state").glob("state-*")] == ["state-00000001"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_memory_that_was_worked_out_is_about_what_is_taken(precision, make_model, next_batch):
    model = make_model(layers=8, width=512, heads=8, ffn=1536)
    batch = drawn_batch(next_batch, 0, 0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    add_gradient(model, batch.micro_batches, batch.scored, precision)
    taken = torch.cuda.max_memory_allocated()
    memory = training_memory(model.shape, rows=8, length=256, precision=precision)
    expected = memory.weights + memory.gradients + memory.copies + memory.activations
    assert 0.5 * expected < taken < 1.2 * expected
