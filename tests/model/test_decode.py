"""The compiled writer: rows come and go, and each completion is what it would be alone.

The tokens are scripted: a uniform u writes token int(64 u), so that a test decides where completions end.
"""

import numpy as np
import pytest
import torch

from gsm_lab.model import kernels
from gsm_lab.model.decode import Writer

EOS = 1
PROMPT_LENGTHS = (3, 16, 1, 17, 32, 15, 33, 16)
"""Around the width of a vector, where the last of several is full, empty or almost so."""
COUNTS = (4, 1, 7, 2, 5, 9, 1, 3)


@pytest.fixture(autouse=True)
def built():
    assert kernels.available(), "the kernels are not built: run `make setup`"


def scripted(logits_RV, uniforms_R):
    tokens_R = (uniforms_R * 64).long()
    return tokens_R, torch.log_softmax(logits_RV, dim=1).gather(1, tokens_R[:, None]).squeeze(1)


def requests(room):
    """Prompts, the first and the last of which are alike, and uniforms: about one in ten writes the end token."""
    rng = np.random.default_rng(room)
    prompts = [rng.integers(0, 64, length).tolist() for length in PROMPT_LENGTHS]
    prompts[-1] = prompts[1]
    uniforms = rng.random((sum(COUNTS), room))
    uniforms[rng.random(uniforms.shape) < 0.1] = EOS / 64
    return prompts, uniforms


def writer_for(model, room, max_rows, choose=scripted, on_request=lambda request: None):
    prompts, uniforms = requests(room)
    ends_V = np.arange(64) == EOS
    return Writer(model, prompts, COUNTS, uniforms, ends_V, choose, max_rows, on_request)


def write(*arguments, **settings):
    with torch.inference_mode():
        return writer_for(*arguments, **settings).finish()


@pytest.mark.parametrize("max_rows", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("room", [1, 15, 16, 17, 33])
def test_every_completion_has_the_logprobs_of_a_forward_pass(make_model, room, max_rows):
    model = make_model(kv_heads=2)
    prompts, uniforms = requests(room)
    written = write(model, room, max_rows)
    prompt_of_sample = np.repeat(np.arange(len(COUNTS)), COUNTS)
    for sample, request in enumerate(prompt_of_sample):
        script = (uniforms[sample] * 64).astype(int).tolist()
        wanted = script[: script.index(EOS) + 1] if EOS in script else script
        length = int(written.lengths[sample])
        assert written.tokens[sample, :length].tolist() == wanted
        assert written.finished[sample] == (EOS in script)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompts[request], *wanted]]))[0, len(prompts[request]) - 1 : -1]
        expected = torch.log_softmax(logits, dim=1)[torch.arange(length), wanted].numpy()
        assert np.abs(written.logprobs[sample, :length] - expected).max() < 1e-5


def test_nothing_is_read_from_memory_before_it_is_written(make_model, monkeypatch):
    model = make_model(kv_heads=2)
    first = write(model, 17, 5)
    make = kernels.LayerMemory.__init__

    def make_from_nan(self, *arguments):
        make(self, *arguments)
        for tensor in (*self._prompts, *self._own):
            tensor.fill_(float("nan"))

    monkeypatch.setattr(kernels.LayerMemory, "__init__", make_from_nan)
    assert np.array_equal(write(model, 17, 5).logprobs, first.logprobs)


@pytest.mark.parametrize("max_rows", [1, 3, 1000])
def test_every_request_is_announced_once_when_all_its_samples_are_there(make_model, max_rows):
    announced = []

    def on_request(request):
        begin = sum(COUNTS[:request])
        assert (writer.written.lengths[begin : begin + COUNTS[request]] > 0).all()
        announced.append(request)

    writer = writer_for(make_model(), 17, max_rows, on_request=on_request)
    with torch.inference_mode():
        writer.finish()
    assert sorted(announced) == list(range(len(COUNTS)))


def test_free_rows_are_refilled_and_never_more_are_in_work_than_allowed(make_model):
    in_work = []

    def counted(logits_RV, uniforms_R):
        in_work.append(len(logits_RV))
        return scripted(logits_RV, uniforms_R)

    written = write(make_model(), 33, 4, choose=counted)
    assert max(in_work) == 4
    assert sum(in_work) == written.lengths.sum()  # no row is computed for nothing
    assert len(in_work) < written.lengths.sum() / 3  # near miss: rows that wait for the longest of four


def test_a_caller_that_raises_leaves_nothing_behind(make_model):
    model = make_model()
    wanted = write(model, 17, 4)

    def fail(request):
        raise KeyError(request)

    with pytest.raises(KeyError):
        write(model, 17, 4, on_request=fail)
    assert np.array_equal(write(model, 17, 4).logprobs, wanted.logprobs)
