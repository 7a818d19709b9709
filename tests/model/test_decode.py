"""The compiled writer: rows come and go, and each completion is what it would be alone."""

import numpy as np
import pytest
import torch

from gsm_lab.model import decode, kernels
from gsm_lab.model.decode import Writer
from gsm_lab.model.sampler import choose

ENDS_V = np.isin(np.arange(64), (1, 9, 20, 40, 41, 63))
"""About one token in ten."""
PROMPT_LENGTHS = (3, 16, 1, 17, 32, 15, 33, 16)
"""Around the width of a vector, where the last of several is full, empty or almost so."""
COUNTS = (4, 1, 7, 2, 5, 9, 1, 3)


@pytest.fixture(autouse=True)
def built():
    assert kernels.available(), "the kernels are not built: run `make setup`"


def requests(room):
    """Prompts, the second and the last of which are alike, and uniforms."""
    rng = np.random.default_rng(room)
    prompts = [rng.integers(0, 64, length).tolist() for length in PROMPT_LENGTHS]
    prompts[-1] = prompts[1]
    return prompts, rng.random((sum(COUNTS), room))


def writer_for(model, room, max_rows, temperature=1.0, on_request=lambda request: None):
    prompts, uniforms = requests(room)
    return Writer(model, prompts, COUNTS, uniforms, ENDS_V, temperature, max_rows, on_request)


def write(*arguments, **settings):
    with torch.inference_mode():
        return writer_for(*arguments, **settings).finish()


@pytest.mark.parametrize("temperature", [1.0, 0.4, 0.0])
@pytest.mark.parametrize("max_rows", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("room", [1, 15, 16, 17, 33])
def test_every_completion_is_that_of_forward_passes(make_model, room, max_rows, temperature):
    model = make_model(kv_heads=2)
    prompts, uniforms = requests(room)
    written = write(model, room, max_rows, temperature)
    prompt_of_sample = np.repeat(np.arange(len(COUNTS)), COUNTS)
    for sample, request in enumerate(prompt_of_sample):
        length = int(written.lengths[sample])
        tokens = written.tokens[sample, :length].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([[*prompts[request], *tokens]]))[0, len(prompts[request]) - 1 : -1]
        wanted, logprobs = choose(logits, torch.from_numpy(uniforms[sample, :length]), temperature)
        assert tokens == wanted.tolist()
        assert np.abs(written.logprobs[sample, :length] - logprobs.numpy()).max() < 1e-5
        assert not ENDS_V[tokens[:-1]].any()
        assert written.finished[sample] == ENDS_V[tokens[-1]]
        assert length == room or written.finished[sample]


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


def test_free_rows_are_refilled_and_never_more_are_in_work_than_allowed(make_model, monkeypatch):
    in_work = []
    write_on = kernels.Stack.write

    def counted(self, writing, most_tokens, enough):
        in_work.append(writing.num_rows)
        write_on(self, writing, most_tokens, enough)

    monkeypatch.setattr(kernels.Stack, "write", counted)
    at_once = write(make_model(), 33, 4)
    num_calls = len(in_work)
    in_work.clear()
    monkeypatch.setattr(decode, "_TOKENS_AT_ONCE", 1)
    written = write(make_model(), 33, 4)
    assert max(in_work) == 4
    assert sum(in_work) == (written.lengths - 1).sum()  # no row is computed for nothing; prompts give the first tokens
    assert len(in_work) < written.lengths.sum() / 3  # near miss: rows that wait for the longest of four
    assert num_calls < len(in_work) / 2  # many tokens are written in one call
    assert np.array_equal(at_once.tokens, written.tokens)


def test_a_caller_that_raises_leaves_nothing_behind(make_model):
    model = make_model()
    wanted = write(model, 17, 4)

    def fail(request):
        raise KeyError(request)

    with pytest.raises(KeyError):
        write(model, 17, 4, on_request=fail)
    assert np.array_equal(write(model, 17, 4).logprobs, wanted.logprobs)
