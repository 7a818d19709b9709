"""A checkpoint opens in transformers and in our own code with the same logits, and a damaged one says so."""

import json
import os
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gsm_lab.errors import CheckpointError, StorageError
from gsm_lab.model import load_checkpoint, save_checkpoint

TOKENS = torch.arange(90).reshape(2, 45) * 7 % 64


def logits_of(model):
    with torch.no_grad():
        return model(TOKENS)


@pytest.fixture
def checkpoint(make_model, tmp_path):
    folder = tmp_path / "step_5"
    save_checkpoint(folder, make_model(), None, eos_id=1, pad_id=0)
    return folder


@pytest.mark.parametrize("tied_embeddings", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_transformers_computes_the_same_logits(make_model, tmp_path, kv_heads, tied_embeddings):
    from transformers import AutoModelForCausalLM

    model = make_model(
        kv_heads=kv_heads, tied_embeddings=tied_embeddings, rope_theta=500.0, norm_eps=1e-3, vocab_size=128
    )
    save_checkpoint(tmp_path / "model", model, None, eos_id=1, pad_id=0)
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())  # no weight missing, none left over
    assert type(theirs).__name__ == "Qwen2ForCausalLM"
    with torch.no_grad():
        assert (theirs(TOKENS).logits - model(TOKENS)).abs().max() < 1e-5


@pytest.mark.parametrize("change", [{"rope_theta": 600.0}, {"rms_norm_eps": 1e-2}, {"num_attention_heads": 2}])
def test_near_miss_transformers_with_another_config_computes_other_logits(make_model, tmp_path, change):
    from transformers import AutoModelForCausalLM

    model = make_model(kv_heads=2, rope_theta=500.0, norm_eps=1e-3)
    save_checkpoint(tmp_path / "model", model, None, eos_id=1, pad_id=0)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config.update(change)
    config["rope_parameters"]["rope_theta"] = config["rope_theta"]
    if "num_attention_heads" in change:
        config["num_key_value_heads"] = 1
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")(TOKENS).logits
    assert (theirs - logits_of(model)).abs().max() > 1e-3


@pytest.mark.parametrize("tied_embeddings", [True, False])
def test_saved_and_loaded_weights_are_bit_for_bit_equal(make_model, tmp_path, tied_embeddings):
    model = make_model(kv_heads=2, tied_embeddings=tied_embeddings)
    save_checkpoint(tmp_path / "a", model, None, eos_id=[1, 2], pad_id=0)
    again = load_checkpoint(tmp_path / "a")
    assert again.shape == model.shape
    assert torch.equal(logits_of(again), logits_of(model))
    save_checkpoint(tmp_path / "b", again, None, eos_id=[1, 2], pad_id=0)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == ["checksums.json", "config.json", "generation_config.json", "model.safetensors"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_what_transformers_saves_we_load(make_model, tmp_path):
    from transformers import AutoModelForCausalLM

    for number, tied in enumerate((True, False)):
        model = make_model(kv_heads=2, tied_embeddings=tied)
        save_checkpoint(tmp_path / f"ours{number}", model, None, eos_id=1, pad_id=0)
        AutoModelForCausalLM.from_pretrained(tmp_path / f"ours{number}").save_pretrained(tmp_path / f"theirs{number}")
        assert torch.equal(logits_of(load_checkpoint(tmp_path / f"theirs{number}")), logits_of(model))


def test_a_tied_head_that_another_tool_stored_too_is_not_needed(checkpoint):
    before = logits_of(load_checkpoint(checkpoint))
    (checkpoint / "checksums.json").unlink()
    weights = load_file(checkpoint / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits_of(load_checkpoint(checkpoint)), before)


def test_transformers_generates_what_we_sample_greedily(make_model, tmp_path):
    import numpy as np
    from transformers import AutoModelForCausalLM

    from gsm_lab.model import sample

    model = make_model()
    save_checkpoint(tmp_path / "model", model, None, eos_id=1, pad_id=0)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (theirs.generation_config.top_k, theirs.generation_config.eos_token_id) == (0, [1])
    prompt = [5, 9, 33]
    written = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 3), do_sample=False, max_new_tokens=12
    )
    [[ours]] = sample(model, [prompt], [np.zeros((1, 12))], max_new_tokens=12, eos_id=1, temperature=0)
    assert tuple(written[0, 3:].tolist()) == ours.ids


def test_tokenizer_files_come_along(make_model, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    save_checkpoint(tmp_path / "model", make_model(), tmp_path / "tokenizer", eos_id=1, pad_id=0)
    assert (tmp_path / "model" / "tokenizer.json").read_text() == "{}"
    with pytest.raises(CheckpointError, match="is no folder"):
        save_checkpoint(tmp_path / "other", make_model(), tmp_path / "nowhere", eos_id=1, pad_id=0)


def test_loading_needs_no_transformers(checkpoint):
    program = (
        "import sys; from pathlib import Path; from gsm_lab.model import load_checkpoint;"
        "load_checkpoint(Path(sys.argv[1])); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, checkpoint], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_loading_and_saving_leave_the_global_random_stream_alone(checkpoint, tmp_path):
    state = torch.get_rng_state()
    save_checkpoint(tmp_path / "copy", load_checkpoint(checkpoint), None, eos_id=1, pad_id=0)
    assert torch.equal(torch.get_rng_state(), state)


def cut_short(file):
    os.truncate(file, file.stat().st_size // 2)


def one_bit(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def without_a_tensor(file):
    weights = load_file(file)
    del weights["model.norm.weight"]
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [cut_short, one_bit, without_a_tensor, os.remove])
def test_damaged_weights_are_refused_by_name(checkpoint, damage):
    damage(checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"step_5 is not a whole checkpoint: model\.safetensors"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, r"model\.safetensors cannot be read"),
        (without_a_tensor, r"model\.norm\.weight has shape None in model\.safetensors but \(32,\) by config\.json"),
        (os.remove, r"model\.safetensors cannot be read"),
    ],
)
def test_damaged_weights_are_refused_also_without_checksums(checkpoint, damage, message):
    (checkpoint / "checksums.json").unlink()
    assert load_checkpoint(checkpoint)  # near miss: nothing else is missing yet
    damage(checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json cannot be read"),
        ("{", r"config\.json cannot be read"),
        ("[]", r"config\.json holds no JSON object"),
        ('{"model_type": "llama", "hidden_act": "silu"}', "another kind of model .*llama"),
        ('{"model_type": "qwen2", "hidden_act": "silu"}', "lacks a size"),
        ('{"model_type": "qwen2", "hidden_act": "silu", "use_sliding_window": true}', "use_sliding_window is True"),
        ('{"model_type": "qwen2", "hidden_act": "silu", "rope_parameters": {"rope_type": "yarn"}}', "yarn"),
    ],
)
def test_a_config_that_is_not_ours_is_refused_by_name(checkpoint, content, message):
    (checkpoint / "config.json").unlink()
    (checkpoint / "checksums.json").unlink()
    if content is not None:
        (checkpoint / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


def test_a_config_of_another_size_is_refused(checkpoint):
    (checkpoint / "checksums.json").unlink()
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(CheckpointError, match=r"mlp\.down_proj\.weight has shape \(32, 48\)"):
        load_checkpoint(checkpoint)


def test_a_second_save_replaces_the_first(checkpoint, make_model):
    model = make_model(seed=1)
    save_checkpoint(checkpoint, model, None, eos_id=1, pad_id=0)
    assert torch.equal(logits_of(load_checkpoint(checkpoint)), logits_of(model))
    assert [file.name for file in checkpoint.parent.iterdir()] == ["step_5"]


def test_a_save_that_fails_leaves_nothing_new_and_the_old_checkpoint_whole(checkpoint, make_model):
    before = logits_of(load_checkpoint(checkpoint))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # like a disk that is full after 20 kB
    try:
        with pytest.raises(StorageError, match="could not be written"):
            save_checkpoint(checkpoint, make_model(seed=1), None, eos_id=1, pad_id=0)
        with pytest.raises(StorageError, match="could not be written"):
            save_checkpoint(checkpoint.parent / "new", make_model(seed=1), None, eos_id=1, pad_id=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(logits_of(load_checkpoint(checkpoint)), before)
    assert [file.name for file in checkpoint.parent.iterdir()] == ["step_5"]


def test_a_folder_of_something_else_is_not_overwritten(make_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        save_checkpoint(tmp_path, make_model(), None, eos_id=1, pad_id=0)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


@pytest.mark.parametrize(("eos_id", "pad_id"), [(64, 0), (1, 64), ([1, -1], 0), ([], 0)])
def test_special_tokens_outside_the_vocabulary_are_refused(make_model, tmp_path, eos_id, pad_id):
    with pytest.raises(CheckpointError, match="ids below 64"):
        save_checkpoint(tmp_path / "model", make_model(), None, eos_id=eos_id, pad_id=pad_id)
    assert not (tmp_path / "model").exists()
