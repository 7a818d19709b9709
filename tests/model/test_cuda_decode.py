"""The writer with fixed shapes writes what the kernels write, whenever rows are refilled, in memory that is bounded."""

import gc
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gsm_lab.model import cuda_decode, decode, sampler
from gsm_lab.model.cache import KeyValueCache
from gsm_lab.model.cuda_decode import Writer, seats_of_room

ENDS, ROOM = (1, 2, 40, 50), 37
PROMPT_LENGTHS = (3, 17, 9, 1, 17, 30, 12, 5)


def requests(counts=(5, 1, 3, 16, 12, 2, 40, 1)):
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 64, length).tolist() for length in PROMPT_LENGTHS[: len(counts)]]
    return prompts, list(counts), rng.random((sum(counts), ROOM))


def writer_of(writer, model, asked, max_rows=20, on_request=lambda request: None, **settings):
    prompts, counts, uniforms = asked
    ends = np.isin(np.arange(64), ENDS)
    choice = 1.0 if writer is decode.Writer else partial(sampler.choose, temperature=1.0)
    return writer(model, prompts, counts, uniforms, ends, choice, max_rows, on_request, **settings)


def written(*arguments, **settings):
    with torch.inference_mode():
        return writer_of(*arguments, **settings).finish()


def ids_of(found):
    return [row[:length].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)]


def assert_same(found, wanted):
    assert ids_of(found) == ids_of(wanted)
    assert (found.finished == wanted.finished).all()
    inside = np.arange(ROOM) < wanted.lengths[:, None]
    assert np.abs(found.logprobs - wanted.logprobs)[inside].max() < 1e-5


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_it_writes_what_the_kernels_write(make_model, kv_heads, static):
    model, asked = make_model(kv_heads=kv_heads), requests()
    wanted = written(decode.Writer, model, asked)
    assert 0 < wanted.finished.mean() < 1  # rows do leave the batch on the way
    assert_same(written(Writer, model, asked, static=static), wanted)


def test_near_miss_other_uniforms_write_something_else(make_model):
    model, (prompts, counts, uniforms) = make_model(), requests()
    wanted = ids_of(written(Writer, model, (prompts, counts, uniforms), static=True))
    uniforms[7, 0] = 1 - uniforms[7, 0]
    found = ids_of(written(Writer, model, (prompts, counts, uniforms), static=True))
    assert [number for number, ids in enumerate(found) if ids != wanted[number]] == [7]


@pytest.mark.parametrize("max_rows", [1, 2, 7, 33, 1000])
@pytest.mark.parametrize("look_every", [1, 5, 100])
def test_in_float64_neither_rows_nor_looks_change_a_completion(make_model, monkeypatch, max_rows, look_every):
    model, asked = make_model(kv_heads=2).double(), requests()
    wanted = written(Writer, model, asked, static=False)
    monkeypatch.setattr(cuda_decode, "_LOOK_EVERY", look_every)
    found = written(Writer, model, asked, max_rows, static=True)
    assert found.logprobs.dtype == np.float64
    assert ids_of(found) == ids_of(wanted)
    assert np.abs(found.logprobs[:, 0] - wanted.logprobs[:, 0]).max() < 1e-12


def test_rows_are_refilled_before_the_others_are_done_and_only_a_few_numbers_of_rows_are_used(make_model):
    model, asked = make_model(), requests((40,) * 8)
    steps = []

    class Watched(Writer):
        def _step(self, num_rows, extent):
            steps.append((num_rows, extent))
            super()._step(num_rows, extent)

    assert_same(written(Watched, model, asked, 100, static=True), written(decode.Writer, model, asked))
    assert {num_rows for num_rows, _ in steps} == {100, 25, 16}
    assert {extent for _, extent in steps} == {
        (6, 30, ROOM)
    }  # 100 rows hold 3 groups: 1.5 rooms for each, 1 more, and room 0
    assert len(steps) < 4 * ROOM  # near miss: 320 samples in chunks of 100 take 4 times the longest


class Operations(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


def test_a_step_reads_no_number_back_and_brings_none_in(make_model, monkeypatch):
    """What a CUDA graph cannot hold: numbers read by the host, shapes that hang on them, tensors made by the host."""
    monkeypatch.setattr("gsm_lab.model.kernels.functions.available", lambda: False)
    forbidden = {"_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "_to_copy"}
    in_steps = set()

    class Watched(Writer):
        def _step(self, num_rows, extent):
            with Operations() as operations:
                super()._step(num_rows, extent)
            in_steps.update(operations.names)

    written(Watched, make_model(kv_heads=2).double(), requests(), static=True)
    assert {"bmm", "searchsorted", "index_put_"} <= in_steps
    assert not forbidden & in_steps
    with Operations() as near_miss:
        torch.tensor([0.0, 1.0]).nonzero()
        torch.ones(1).item()
    assert {"lift_fresh", "nonzero", "_local_scalar_dense"} <= near_miss.names


@pytest.mark.parametrize("max_rows", [2, 7, 13, 23, 33, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_left_over_by_a_batch_do_nothing_in_the_next(make_model, max_rows, seed):
    """The last samples are fewer than the rows, and a request goes over from one batch to the next."""
    model, (prompts, counts, _) = make_model(kv_heads=2).double(), requests()
    asked = (prompts, counts, np.random.default_rng(seed).random((sum(counts), ROOM)))
    wanted = written(Writer, model, asked, 1000, static=False)
    steps = []

    class Watched(Writer):
        def _step(self, num_rows, extent):
            working = {int(sample) for sample in self._rows_4R[0, :num_rows] if sample < self._total}
            steps.append(len(working) == int((self._rows_4R[0, :num_rows] < self._total).sum()))
            steps.append(len(working) <= len(self._in_work()))
            super()._step(num_rows, extent)

    found = written(Watched, model, asked, max_rows, static=False)
    assert all(steps)
    assert ids_of(found) == ids_of(wanted)
    assert (found.finished == wanted.finished).all()


def test_each_prompt_is_read_once_for_all_its_samples(make_model):
    read = []

    class Watched(Writer):
        def _read_prompts(self, groups):
            read.extend(group.request for group in groups)
            super()._read_prompts(groups)

    for static in (True, False):
        read.clear()
        written(Watched, make_model(), requests((6,) * 8), 10, static=static)
        assert sorted(read) == list(range(8))
        assert read[0] == 5  # the longest first
    read.clear()
    written(Watched, make_model(), requests((12, 6)), 6)
    assert sorted(read) == [0, 0, 1]  # near miss: more samples than rows


def test_few_prompts_are_read_together_when_they_are_long(make_model, monkeypatch):
    sizes = []

    class Watched(Writer):
        def _read_prompts(self, groups):
            sizes.append(len(groups) * max(len(self._prompts[group.request]) for group in groups))
            super()._read_prompts(groups)

    model, asked = make_model(), requests()
    monkeypatch.setattr(cuda_decode, "_PREFILL_TOKENS", 34)
    assert_same(written(Watched, model, asked, static=True), written(decode.Writer, model, asked))
    assert max(sizes) == 34


@pytest.mark.parametrize("static", [True, False])
def test_requests_are_handed_on_once_when_their_samples_are_there(make_model, static):
    model, asked = make_model(), requests()
    begins, handed_on = np.concatenate(([0], np.cumsum(asked[1]))), []

    def on_request(request):
        handed_on.append(request)
        assert (writer.written.lengths[begins[request] : begins[request + 1]] > 0).all()

    writer = writer_of(Writer, model, asked, 20, on_request, static=static)
    with torch.inference_mode():
        writer.finish()
    assert sorted(handed_on) == list(range(8))


@pytest.mark.parametrize("static", [True, False])
def test_one_new_token_needs_no_step(make_model, static):
    prompts, counts, uniforms = requests()
    model, asked = make_model(), (prompts, counts, uniforms[:, :1])
    found, wanted = written(Writer, model, asked, static=static), written(decode.Writer, model, asked)
    assert ids_of(found) == ids_of(wanted)


def test_the_memory_is_what_the_head_of_the_module_says(make_model):
    model = make_model(kv_heads=2)
    shape, cache = model.shape, KeyValueCache(model.shape, 20, 7, 4, 30, 70, model.model.embed_tokens.weight)
    kept = [*cache.prompt_keys, *cache.prompt_values, *cache.own_keys, *cache.own_values]
    pages = 96  # 70 tokens in pages of 32
    assert sum(one.nbytes for one in kept) == shape.layers * 2 * 2 * shape.head_width * (7 * 30 + 20 * pages) * 4


@pytest.mark.parametrize("static", [True, False])
def test_the_memory_is_given_back_with_the_results(make_model, monkeypatch, static):
    caches = []

    class Watched(Writer):
        def finish(self):
            caches.append(weakref.ref(self._cache))
            return super().finish()

    monkeypatch.setattr("gsm_lab.model.kernels.functions.available", lambda: False)
    monkeypatch.setattr(cuda_decode, "Writer", partial(Watched, static=static))
    model = make_model()
    gc.disable()
    try:
        sampler.sample(model, [[2]], [np.zeros((3, ROOM))], max_new_tokens=ROOM, eos_id=1)
        assert [cache() for cache in caches] == [None]
    finally:
        gc.enable()


def test_rooms_have_as_many_seats_as_prompts_have_samples():
    assert seats_of_room([16] * 64, 256) == 16
    assert seats_of_room([1] * 64, 256) == 1
    assert seats_of_room([16] * 64, 5) == 5 - 1  # near miss: 4 groups of 5 would leave four seats of 20 empty
    assert seats_of_room([5, 1], 256) == 1  # near miss: a room of five would leave four seats empty
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(1, 9, 6).tolist()
        seats = seats_of_room(counts, 256)
        assert sum(-(-count // seats) * seats for count in counts) <= 1.1 * sum(counts)
