"""State on disk is whole, its own, or refused by name."""

import json
import shutil

import pytest
import torch

from gsm_lab.errors import CheckpointError
from gsm_lab.training import Optimizer, OptimizerSettings, StateFolder, TrainingState, fingerprint_of
from gsm_lab.training.state import FORMAT

SETTINGS = OptimizerSettings()


@pytest.fixture
def trained(tiny_model):
    """A model that has been trained for three steps, and its optimiser."""
    model = tiny_model()
    optimizer = Optimizer(model, SETTINGS)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step(1.0)
    return model, optimizer


def fresh(tiny_model):
    model = tiny_model(seed=1)
    return model, Optimizer(model, SETTINGS)


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, trained, tiny_model, same_weights):
    StateFolder(tmp_path, "run").save(TrainingState(3, {"loss": 0.1 + 0.2}), *trained)
    model, optimizer = fresh(tiny_model)
    assert StateFolder(tmp_path, "run").load(model, optimizer) == TrainingState(3, {"loss": 0.1 + 0.2})
    assert same_weights(model, trained[0])
    assert all(torch.equal(optimizer.state[name], value) for name, value in trained[1].state.items())


def test_the_same_state_has_the_same_bytes(tmp_path, trained):
    for name in ("one", "two"):
        StateFolder(tmp_path / name, "run").save(TrainingState(3, {"cursor": 7}), *trained)
    for file in ("tensors.safetensors", "state.json"):
        one, two = (tmp_path / name / "state-00000003" / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_nothing_saved_loads_nothing(tmp_path, tiny_model, same_weights):
    model, optimizer = fresh(tiny_model)
    assert StateFolder(tmp_path / "empty", "run").load(model, optimizer) is None
    assert same_weights(model, tiny_model(seed=1))


def test_the_newest_is_loaded_and_the_oldest_are_dropped(tmp_path, trained, tiny_model):
    states = StateFolder(tmp_path, "run", keep=2)
    for step in (9, 10, 100):
        states.save(TrainingState(step, {}), *trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-00000010", "state-00000100"]
    assert states.load(*fresh(tiny_model)).step == 100


def test_a_kill_between_saving_and_dropping_leaves_no_state_too_many(tmp_path, trained, tiny_model):
    for step in (4, 5, 6):
        StateFolder(tmp_path, "run", keep=3).save(TrainingState(step, {}), *trained)  # as if nothing had been dropped
    assert StateFolder(tmp_path, "run", keep=2).load(*fresh(tiny_model)).step == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-00000005", "state-00000006"]


def test_a_half_written_state_is_ignored_and_removed(tmp_path, trained, tiny_model):
    states = StateFolder(tmp_path, "run")
    states.save(TrainingState(5, {}), *trained)
    leftover = tmp_path / ".state-00000006.abc.part"
    shutil.copytree(tmp_path / "state-00000005", leftover)
    (leftover / "state.json").unlink()
    assert states.load(*fresh(tiny_model)).step == 5
    assert not leftover.exists()


def truncate_tensors(state):
    path = state / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(state):
    path = state / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def lose_tensors(state):
    (state / "tensors.safetensors").unlink()


def truncate_counters(state):
    path = state / "state.json"
    path.write_bytes(path.read_bytes()[:-20])


def change_a_counter(state):
    path = state / "state.json"
    content = json.loads(path.read_text())
    content["body"]["counters"]["cursor"] += 1
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [truncate_tensors, flip_a_bit, lose_tensors, truncate_counters, change_a_counter])
def test_a_damaged_state_is_refused_by_name(damage, tmp_path, trained, tiny_model, same_weights):
    states = StateFolder(tmp_path, "run")
    states.save(TrainingState(4, {"cursor": 6}), *trained)
    states.save(TrainingState(5, {"cursor": 7}), *trained)
    damage(tmp_path / "state-00000005")
    model, optimizer = fresh(tiny_model)
    with pytest.raises(CheckpointError, match=r"state-00000005 is damaged .* Remove this folder"):
        states.load(model, optimizer)
    assert same_weights(model, tiny_model(seed=1))
    shutil.rmtree(tmp_path / "state-00000005")  # the remedy of the message works
    assert states.load(model, optimizer).step == 4


def test_another_runs_state_is_refused(tmp_path, trained, tiny_model):
    StateFolder(tmp_path, "run").save(TrainingState(5, {}), *trained)
    other = StateFolder(tmp_path, "another run")
    model, optimizer = fresh(tiny_model)
    with pytest.raises(CheckpointError, match="state-00000005 belongs to another run"):
        other.load(model, optimizer)


def test_a_state_of_another_version_is_refused(tmp_path, trained, tiny_model, monkeypatch):
    monkeypatch.setattr("gsm_lab.training.state.FORMAT", FORMAT + 1)
    StateFolder(tmp_path, "run").save(TrainingState(5, {}), *trained)
    monkeypatch.undo()
    states, parts = StateFolder(tmp_path, "run"), fresh(tiny_model)
    with pytest.raises(
        CheckpointError, match=rf"state-00000005 has format {FORMAT + 1}, and .* goes on from .*{FORMAT}"
    ):
        states.load(*parts)


def test_the_fingerprint_sees_settings_and_first_weights(tiny_model):
    one = fingerprint_of(tiny_model(), {"steps": 3})
    assert one == fingerprint_of(tiny_model(), {"steps": 3})
    assert one != fingerprint_of(tiny_model(), {"steps": 4})
    assert one != fingerprint_of(tiny_model(seed=1), {"steps": 3})
