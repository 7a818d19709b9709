"""Training on texts: what the gradient may depend on, what is learnt, what is refused."""

import dataclasses
import json
import math
import threading
from contextlib import closing

import numpy as np
import pytest
import torch

from gsm_lab.errors import CheckpointError, TrainingError
from gsm_lab.training import FitSettings, OptimizerSettings, Schedule, World, batch_loss, fit, next_token_loss
from gsm_lab.training.batches import batches_from, drawn_batch, one_ahead, row_slices
from gsm_lab.training.supervised import _Reading, _Training, _Unread, accumulate_gradient

TEXTS = [[3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8], [1, 6, 1, 8, 0, 3, 3, 9, 8], [0, 5, 0]]
SETTINGS = FitSettings(steps=12, log_every=5, save_every=4, optimizer=OptimizerSettings(learning_rate=0.01))

FAST = OptimizerSettings(learning_rate=0.03, matrix_learning_rate=0.03)


def gradient_of(model, rows, gradients, micro_batch_rows: int = 0):
    model.zero_grad()
    return accumulate_gradient(model, rows, micro_batch_rows), gradients(model)


def assert_same(one, other):
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    for name, value in one[1].items():
        torch.testing.assert_close(value, other[1][name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 3])
def test_the_gradient_does_not_depend_on_the_micro_batches(micro_batch_rows, tiny_model, rows_of, gradients):
    model, rows = tiny_model(), rows_of(TEXTS)
    assert_same(gradient_of(model, rows, gradients, micro_batch_rows), gradient_of(model, rows, gradients))


def test_the_gradient_does_not_depend_on_padding_or_on_what_stands_in_it(tiny_model, rows_of, gradients):
    model = tiny_model()
    plain = gradient_of(model, rows_of(TEXTS), gradients)
    assert_same(plain, gradient_of(model, rows_of(TEXTS, padding=5), gradients))
    assert_same(plain, gradient_of(model, rows_of(TEXTS, padding=2, pad=9), gradients))


def test_the_gradient_does_not_depend_on_the_order_of_rows(tiny_model, rows_of, gradients):
    model = tiny_model()
    assert_same(
        gradient_of(model, rows_of(TEXTS), gradients), gradient_of(model, rows_of(list(reversed(TEXTS))), gradients)
    )


def test_a_row_that_is_all_padding_changes_nothing(tiny_model, rows_of, gradients):
    model, rows = tiny_model(), rows_of(TEXTS)
    empty = {name: np.zeros((1, rows.tokens.shape[1]), array.dtype) for name, array in vars(rows).items()}
    empty["documents"] -= 1
    padded = dataclasses.replace(rows, **{name: np.concatenate([vars(rows)[name], empty[name]]) for name in empty})
    assert_same(gradient_of(model, rows, gradients), gradient_of(model, padded, gradients))


def test_a_mean_of_row_means_would_be_another_gradient(tiny_model, rows_of, gradients):
    """Near miss of the micro-batch law: dividing each row by its own count (trl#3021)."""
    model = tiny_model()
    whole = gradient_of(model, rows_of(TEXTS), gradients)[1]
    apart = [gradient_of(model, rows_of([text]), gradients)[1] for text in TEXTS]
    name = "model.norm.weight"
    assert float((sum(one[name] for one in apart) / len(TEXTS) - whole[name]).abs().max()) > 1e-4


def test_selected_positions_give_the_loss_of_the_full_logits(tiny_model, rows_of):
    model, rows = tiny_model(), rows_of(TEXTS, prompt_length=2)
    logits = model(*(torch.from_numpy(array) for array in (rows.tokens, rows.positions, rows.documents)))
    full = next_token_loss(logits, torch.from_numpy(rows.targets).long(), torch.from_numpy(rows.loss_mask))
    assert full.tokens == sum(len(text) - 2 for text in TEXTS)
    assert batch_loss(model, rows).item() == pytest.approx(full.total.item(), abs=1e-5)


def test_what_stands_in_unscored_targets_does_not_matter(tiny_model, rows_of, gradients):
    model, rows = tiny_model(), rows_of(TEXTS, prompt_length=2)
    changed = dataclasses.replace(rows, targets=np.where(rows.loss_mask, rows.targets, 7))
    one, other = gradient_of(model, rows, gradients), gradient_of(model, changed, gradients)
    assert one[0] == other[0]
    scored = dataclasses.replace(rows, targets=np.where(rows.loss_mask, 7, rows.targets))  # near miss
    assert gradient_of(model, scored, gradients)[0] != one[0]


def test_a_text_is_learnt_and_the_loss_falls(tmp_path, tiny_model, batches_of):
    lines = []
    settings = FitSettings(steps=60, log_every=10, optimizer=FAST, schedule=Schedule(warmup_steps=3))
    summary = fit(tiny_model(), batches_of(), settings, tmp_path, on_metrics=lines.append)
    losses = [line["loss"] for line in lines]
    assert losses[0] > 1.0 > 0.3 > losses[-1]  # counting is certain after the first token
    assert (summary.step, summary.tokens, summary.finished) == (60, 60 * 4 * 8, True)


def test_metrics_are_those_that_were_handed_out_and_hold_no_times(tmp_path, tiny_model, batches_of):
    lines = []
    fit(tiny_model(), batches_of(), SETTINGS, tmp_path, on_metrics=lines.append)
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == lines
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert not [name for line in lines for name in line if "second" in name]
    assert [json.loads(line)["step"] for line in (tmp_path / "timings.jsonl").read_text().splitlines()] == [5, 10, 12]
    assert lines[-1]["learning_rate"] == pytest.approx(0.01 * 0.1)  # the last step runs at the smallest share


def test_the_logged_loss_is_the_mean_over_the_tokens_of_its_window(tmp_path, tiny_model, batches_of):
    frozen = OptimizerSettings(learning_rate=1e-30, matrix_learning_rate=1e-30)
    lines = []
    settings = FitSettings(steps=3, log_every=3, optimizer=frozen)
    fit(tiny_model(), batches_of(), settings, tmp_path, on_metrics=lines.append)
    model, batches = tiny_model(), batches_of()
    wanted = sum(batch_loss(model, batches(cursor)[0]).item() for cursor in (0, 4, 8)) / (3 * 4 * 8)
    assert lines[0]["loss"] == pytest.approx(wanted, rel=1e-6)


def test_stopping_and_going_on_ends_where_never_stopping_ends(tmp_path, tiny_model, batches_of, same_weights):
    whole, parts = tiny_model(), None
    fit(whole, batches_of(), SETTINGS, tmp_path / "whole")
    for _ in range(12):
        parts = tiny_model()
        if fit(parts, batches_of(), SETTINGS, tmp_path / "parts", should_stop=lambda: True).finished:
            break
    assert same_weights(whole, parts)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_a_finished_run_is_not_trained_again(tmp_path, tiny_model, batches_of, same_weights):
    first, again = tiny_model(), tiny_model()
    fit(first, batches_of(), SETTINGS, tmp_path)
    assert fit(again, batches_of(), SETTINGS, tmp_path, on_metrics=pytest.fail).finished
    assert same_weights(first, again)


def test_evaluating_in_between_changes_no_training(tmp_path, tiny_model, batches_of, same_weights):
    watched, alone = tiny_model(), tiny_model()

    def evaluate(metrics):
        watched.eval()
        torch.rand(3)
        np.random.rand(3)
        with torch.no_grad():
            watched(torch.tensor([[1, 2, 3]]))

    settings = dataclasses.replace(SETTINGS, log_every=1)
    fit(watched, batches_of(), settings, tmp_path / "watched", on_metrics=evaluate)
    fit(alone, batches_of(), settings, tmp_path / "alone")
    assert same_weights(watched, alone)


def test_a_gradient_that_was_left_on_the_model_does_not_count(tmp_path, tiny_model, batches_of, same_weights):
    left, clean = tiny_model(), tiny_model()
    for value in left.parameters():
        value.grad = torch.ones_like(value)
    fit(left, batches_of(), SETTINGS, tmp_path / "left")
    fit(clean, batches_of(), SETTINGS, tmp_path / "clean")
    assert same_weights(left, clean)


def test_how_often_states_are_saved_changes_no_weights(tmp_path, tiny_model, batches_of, same_weights):
    often, rarely = tiny_model(), tiny_model()
    fit(often, batches_of(), dataclasses.replace(SETTINGS, save_every=1), tmp_path / "often")
    fit(rarely, batches_of(), dataclasses.replace(SETTINGS, save_every=99), tmp_path / "rarely")
    assert same_weights(often, rarely)


@pytest.mark.parametrize("change", [{"steps": 13}, {"log_every": 4}, {"schedule": Schedule(min_share=0.2)}])
def test_other_settings_do_not_go_on_in_the_same_folder(change, tmp_path, tiny_model, batches_of):
    fit(tiny_model(), batches_of(), SETTINGS, tmp_path)
    model, changed = tiny_model(), dataclasses.replace(SETTINGS, **change)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fit(model, batches_of(), changed, tmp_path)


def test_other_data_or_first_weights_do_not_go_on_in_the_same_folder(tmp_path, tiny_model, batches_of):
    fit(tiny_model(), batches_of(), SETTINGS, tmp_path, identity="zoo")
    model, other = tiny_model(), tiny_model(seed=1)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fit(model, batches_of(), SETTINGS, tmp_path, identity="school")
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fit(other, batches_of(), SETTINGS, tmp_path, identity="zoo")


def test_a_log_that_lost_lines_is_refused(tmp_path, tiny_model, batches_of):
    fit(tiny_model(), batches_of(), SETTINGS, tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    model = tiny_model()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl has 0 bytes"):
        fit(model, batches_of(), SETTINGS, tmp_path)


def test_a_batch_without_scored_tokens_makes_no_step_and_is_counted(tmp_path, tiny_model, batches_of, same_weights):
    def unscored(cursor):
        rows, after = batches_of()(cursor)
        return dataclasses.replace(rows, loss_mask=np.zeros_like(rows.loss_mask)), after

    model, lines = tiny_model(), []
    fit(model, unscored, FitSettings(steps=2, log_every=2), tmp_path, on_metrics=lines.append)
    assert same_weights(model, tiny_model())
    assert (lines[0]["loss"], lines[0]["skipped_steps"]) == (None, 2)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_state(tmp_path, tiny_model, batches_of):
    model = tiny_model()

    def poisoned(cursor):
        if cursor == 4 * 6:
            with torch.no_grad():
                model.model.norm.weight[0] = math.inf
        return batches_of()(cursor)

    with pytest.raises(TrainingError, match="the loss at step 6 is nan"):
        fit(model, poisoned, SETTINGS, tmp_path)
    again = tiny_model()
    assert fit(again, batches_of(), SETTINGS, tmp_path).finished  # from the state of step 4


def test_a_cursor_that_stands_still_is_refused(tmp_path, tiny_model, batches_of):
    model = tiny_model()
    with pytest.raises(TrainingError, match="a cursor has to grow"):
        fit(model, lambda cursor: (batches_of()(cursor)[0], cursor), SETTINGS, tmp_path)


def test_bfloat16_layers_train_with_a_float32_head(tmp_path, tiny_model, batches_of):
    model, lines = tiny_model(), []
    settings = FitSettings(steps=60, log_every=20, precision="bfloat16", optimizer=FAST)
    fit(model, batches_of(), settings, tmp_path, on_metrics=lines.append)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert lines[-1]["loss"] < 0.3


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"save_every": 0}, {"micro_batch_rows": -1}, {"precision": "fp16"}])
def test_settings_that_make_no_sense_are_not_born(wrong):
    with pytest.raises(TrainingError, match=r"give|choose"):
        FitSettings(**{"steps": 1, **wrong})


@pytest.mark.parametrize(("rows", "at_once", "own", "wanted"), [
    (5, 0, slice(None), [[0, 1, 2, 3, 4]]),
    (5, 2, slice(None), [[0, 1], [2, 3], [4]]),
    (5, 0, slice(1, None, 2), [[1, 3]]),
    (7, 2, slice(0, None, 3), [[0, 3], [6]]),
    (2, 3, slice(2, None, 4), []),  # more ranks than rows
])  # fmt: skip
def test_each_rank_cuts_its_own_rows_into_micro_batches(rows, at_once, own, wanted):
    assert [list(range(rows))[part] for part in row_slices(rows, at_once, own)] == wanted


def test_counts_are_of_the_whole_batch_and_rows_of_one_rank(rows_of):
    rows = rows_of(TEXTS, prompt_length=2)
    whole = drawn_batch(lambda cursor: (rows, 4), 0, 1)
    shares = [drawn_batch(lambda cursor: (rows, 4), 0, 1, slice(rank, None, 2)) for rank in (0, 1)]
    assert {(one.tokens, one.scored) for one in (whole, *shares)} == {(19, 15)}  # 6 + 3 + 8 + 2, of them 5 + 2 + 7 + 1
    targets = [[rows.targets_N.tolist() for rows in one.micro_batches] for one in (whole, *shares)]
    assert targets[0] == [[4, 1, 5, 9, 2], [1, 8], [1, 8, 0, 3, 3, 9, 8], [0]]
    assert targets[1:] == [targets[0][0::2], targets[0][1::2]]


def test_no_batch_is_drawn_beyond_the_last_step(tmp_path, tiny_model, batches_of):
    asked = []
    fit(tiny_model(), lambda cursor: asked.append(cursor) or batches_of()(cursor), SETTINGS, tmp_path)
    assert asked == [4 * step for step in range(12)]
    drawn = batches_from(batches_of(), 8, 3, 0, slice(None), torch.device("cpu"))
    assert [(one.cursor, one.after) for one in drawn] == [(8, 12), (12, 16), (16, 20)]


def test_one_item_is_made_ahead_in_a_thread():
    made, threads = [], set()

    def items():
        for number in range(4):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    with closing(one_ahead(items())) as ahead:
        assert next(ahead) == 0
        assert next(ahead) == 1
    assert made == [0, 1, 2]  # closing waited for the one in the making, and no other was begun
    assert threading.get_ident() not in threads
    assert list(one_ahead(iter(range(5)))) == [0, 1, 2, 3, 4]


def test_an_error_ahead_comes_when_its_item_would_have_come():
    def items():
        yield "good"
        raise ValueError("the second is bad")

    ahead = one_ahead(items())
    assert next(ahead) == "good"
    with pytest.raises(ValueError, match="the second is bad"):
        next(ahead)


def test_looking_at_losses_a_step_late_logs_the_same(tmp_path, tiny_model, batches_of):
    """As it is on a GPU, where the host does not wait for the loss of the step that is running."""
    for name, lag in (("now", 0), ("late", 1)):
        training = _Training(tiny_model(), SETTINGS, World.alone(), tmp_path / name, "")
        training._lag = lag
        for batch in training.batches(batches_of()):
            training.step(batch)
            assert len(training._unread) == lag
            if training.is_at(SETTINGS.log_every):
                training.log(None)
            if training.is_at(SETTINGS.save_every):
                training.save()
    for file in ("metrics.jsonl", "state/state-00000012/tensors.safetensors", "state/state-00000012/state.json"):
        assert (tmp_path / "now" / file).read_bytes() == (tmp_path / "late" / file).read_bytes()


def test_a_loss_that_is_read_late_is_read_before_a_state_is_saved(tmp_path, tiny_model, batches_of):
    training = _Training(tiny_model(), SETTINGS, World.alone(), tmp_path, "")
    training._lag = 1
    training.step(next(training.batches(batches_of())))
    training._unread.append(_Unread(1, 4, 32, _Reading(torch.tensor(math.inf))))
    with pytest.raises(TrainingError, match="the loss at step 1 is inf: training stopped"):
        training.save()
    assert not list((tmp_path / "state").glob("state-*"))


def test_compiling_is_timed_apart_and_leaves_weights_and_identity_alone(
    tmp_path, tiny_model, batches_of, same_weights, monkeypatch
):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled.append(options) or function)
    models = []
    for name, choice in (("without", None), ("with", True)):
        models.append(tiny_model())
        fit(models[-1], batches_of(), dataclasses.replace(SETTINGS, compile=choice), tmp_path / name)
    assert compiled == [{"dynamic": False}]  # None is no on a CPU
    assert same_weights(*models)
    timings = [json.loads(line) for line in (tmp_path / "with" / "timings.jsonl").read_text().splitlines()]
    assert ["compile_seconds" in line for line in timings] == [True, False, False]
    assert "compile_seconds" not in (tmp_path / "without" / "timings.jsonl").read_text()
    assert fit(tiny_model(), batches_of(), SETTINGS, tmp_path / "with").finished  # it is the same run
