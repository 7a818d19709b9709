"""Sampled log-probabilities are the model's, and a completion depends on its prompt and its uniforms only."""

from functools import partial

import numpy as np
import pytest
import torch

from gsm_lab.errors import TokenError, TrainingError
from gsm_lab.model import kernels, sample
from gsm_lab.model.cuda_decode import Writer
from gsm_lab.model.sampler import choose

EOS = 1
ROOM = 40  # more than a page of the cache
PROMPT_LENGTHS = (3, 17, 9, 1, 17, 30)
SAMPLES = (7, 1, 3, 0, 12, 2)


@pytest.fixture(params=["kernels", "torch", "torch with a GPU's fixed shapes"], autouse=True)
def writer(request, monkeypatch):
    """Each way in which completions are written."""
    assert kernels.available(), "the kernels are not built: run `make setup`"
    if request.param != "kernels":
        monkeypatch.setattr("gsm_lab.model.kernels.functions.available", lambda: False)
    if request.param.endswith("fixed shapes"):
        monkeypatch.setattr("gsm_lab.model.cuda_decode.Writer", partial(Writer, static=True))


def requests(seed=0):
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, 64, length).tolist() for length in PROMPT_LENGTHS]
    return prompts, [rng.random((count, ROOM)) for count in SAMPLES]


def complete(model, prompts, uniforms, **settings):
    return sample(model, prompts, uniforms, **{"max_new_tokens": ROOM, "eos_id": EOS, **settings})


def ids_of(results):
    return [[one.ids for one in samples] for samples in results]


def full_forward(model, prompt, ids, temperature):
    """The log-probability of each of `ids` by one pass over prompt and completion."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]]))[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits / temperature, dim=1)[torch.arange(len(ids)), list(ids)].numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_sampled_logprobs_are_those_of_a_full_forward_pass(make_model, kv_heads, temperature):
    model = make_model(kv_heads=kv_heads)
    prompts, uniforms = requests()
    finished = set()
    for prompt, samples in zip(prompts, complete(model, prompts, uniforms, temperature=temperature), strict=True):
        for one in samples:
            expected = full_forward(model, prompt, one.ids, temperature or 1.0)
            assert np.abs(np.array(one.logprobs) - expected).max() < 1e-5
            finished.add(one.finished)
    if temperature:
        assert finished == {True, False}  # rows did leave the batch on the way


def test_near_miss_logprobs_of_another_temperature_or_prompt_are_not_those(make_model):
    model = make_model()
    prompts, uniforms = requests()
    one = complete(model, prompts, uniforms, temperature=0.7)[0][0]
    assert np.abs(np.array(one.logprobs) - full_forward(model, prompts[0], one.ids, 1.0)).max() > 0.01
    assert np.abs(np.array(one.logprobs) - full_forward(model, prompts[1], one.ids, 0.7)).max() > 0.01


@pytest.mark.parametrize("max_rows", [1, 2, 5, 25, 1000])
def test_a_completion_does_not_depend_on_what_is_written_beside_it(make_model, max_rows):
    model = make_model(kv_heads=2)
    prompts, uniforms = requests()
    alone = [
        [complete(model, [prompt], [row[None]])[0][0] for row in rows]
        for prompt, rows in zip(prompts, uniforms, strict=True)
    ]
    together = complete(model, prompts, uniforms, max_rows=max_rows)
    assert ids_of(together) == ids_of(alone)
    for samples, lonely in zip(together, alone, strict=True):
        for one, other in zip(samples, lonely, strict=True):
            assert one.finished == other.finished
            assert np.allclose(one.logprobs, other.logprobs, atol=1e-5, rtol=0)


def test_results_come_in_the_order_of_the_prompts(make_model):
    model = make_model()
    prompts, uniforms = requests()
    order = [5, 2, 0, 4, 3, 1]
    shuffled = complete(model, [prompts[i] for i in order], [uniforms[i] for i in order], max_rows=4)
    straight = ids_of(complete(model, prompts, uniforms))
    assert ids_of(shuffled) == [straight[i] for i in order]
    assert [len(samples) for samples in straight] == list(SAMPLES)


@pytest.mark.parametrize("max_rows", [3, 25])
def test_each_prompt_is_reported_once_with_its_samples(make_model, max_rows):
    prompts, uniforms = requests()
    reported = []
    results = complete(
        make_model(),
        prompts,
        uniforms,
        max_rows=max_rows,
        on_done=lambda number, found: reported.append((number, found)),
    )
    assert sorted(number for number, _ in reported) == list(range(len(prompts)))
    assert all(results[number] == found for number, found in reported)


def test_without_samples_nothing_is_written(make_model):
    reported = []
    empty = [np.zeros((0, ROOM))] * 2
    assert complete(make_model(), [[2], [3]], empty, on_done=lambda *done: reported.append(done)) == [[], []]
    assert reported == [(0, []), (1, [])]


def test_equal_prompts_keep_their_own_uniforms(make_model):
    prompts, uniforms = requests()
    twice = complete(make_model(), [prompts[0], prompts[0]], [uniforms[0], uniforms[4]])
    assert ids_of(twice) == [
        ids_of(complete(make_model(), [prompts[0]], [rows]))[0] for rows in (uniforms[0], uniforms[4])
    ]


def test_greedy_alone_is_greedy_in_a_batch(make_model):
    model = make_model()
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 64, length).tolist() for length in range(1, 17)]
    nothing = [np.zeros((1, ROOM))] * 16
    batch = complete(model, prompts, nothing, temperature=0)
    for prompt, [one] in zip(prompts, batch, strict=True):
        assert complete(model, [prompt], nothing[:1], temperature=0)[0][0].ids == one.ids
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *one.ids]]))[0, len(prompt) - 1 : -1]
        assert tuple(logits.argmax(dim=1).tolist()) == one.ids


def test_a_finished_completion_ends_with_its_first_end_token(make_model):
    prompts, uniforms = requests()
    results = complete(make_model(), prompts, uniforms)
    for one in (one for samples in results for one in samples):
        assert len(one.ids) == len(one.logprobs)
        assert EOS not in one.ids[:-1]
        assert one.finished == (one.ids[-1] == EOS)
        assert one.finished or len(one.ids) == ROOM


def test_an_end_token_in_the_last_place_is_finished_and_its_absence_is_not(make_model):
    """A uniform of 0 draws token 0 and one of almost 1 draws token 63: the last place can be steered."""
    model = make_model()
    uniforms = np.zeros((2, 3))
    uniforms[1, 2] = np.nextafter(1.0, 0.0)
    [[ends, cut]] = sample(model, [[5]], [uniforms], max_new_tokens=3, eos_id=63)
    assert (cut.ids, cut.finished) == ((0, 0, 63), True)
    assert (ends.ids, ends.finished) == ((0, 0, 0), False)


def test_each_of_several_end_tokens_ends(make_model):
    prompts, uniforms = requests()
    results = complete(make_model(), prompts, uniforms, eos_id=[EOS, 2, 40])
    lasts = {one.ids[-1] for samples in results for one in samples if one.finished}
    assert lasts == {EOS, 2, 40}
    assert all({EOS, 2, 40}.isdisjoint(one.ids[:-1]) for samples in results for one in samples)


def test_frequencies_over_an_even_grid_of_uniforms_follow_the_softmax(make_model):
    model = make_model()
    grid = (np.arange(4000)[:, None] + 0.5) / 4000
    with torch.no_grad():
        logits = model(torch.tensor([[4, 8, 15]]))[0, -1]
    for temperature in (1.0, 0.5):
        [samples] = sample(
            model, [[4, 8, 15]], [grid], max_new_tokens=1, eos_id=EOS, temperature=temperature, max_rows=1024
        )
        counts = np.bincount([one.ids[0] for one in samples], minlength=64)
        expected = 4000 * torch.softmax(logits / temperature, dim=0).numpy()
        assert np.abs(counts - expected).max() <= 1.01  # an interval of n grid steps holds n points, give or take one
    wrong = 4000 * torch.softmax(logits, dim=0).numpy()
    assert np.abs(counts - wrong).max() > 10  # near miss: the other temperature


def test_a_token_of_probability_0_is_never_drawn():
    infinity = float("inf")
    logits = torch.tensor([[-infinity, 0.0, -infinity, 0.0, -infinity]])
    uniforms = torch.tensor([0.0, 0.25, 0.5 - 1e-9, 0.5, 0.75, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    chosen, logprobs = choose(logits.expand(6, -1), uniforms, 1.0)
    assert chosen.tolist() == [1, 1, 1, 3, 3, 3]
    assert torch.allclose(logprobs, torch.tensor(0.5).log().expand(6))


def test_the_largest_uniform_draws_a_token_whatever_the_sum_rounds_to():
    logits = torch.randn(200, 997, generator=torch.Generator().manual_seed(0))
    logits[:, 900:] = -float("inf")
    largest = torch.full((200,), np.nextafter(1.0, 0.0), dtype=torch.float64)
    chosen, logprobs = choose(logits, largest, 1.0)
    assert (chosen == 899).all()
    assert logprobs.isfinite().all()


def test_no_global_random_stream_is_touched(make_model):
    model = make_model()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    complete(model, *requests())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_sampling_leaves_the_model_ready_to_train(make_model):
    model = make_model()
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    complete(model, *requests())
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(torch.equal(parameter, weight) for parameter, weight in zip(model.parameters(), weights, strict=True))


def test_tensors_serve_as_uniforms(make_model):
    prompts, uniforms = requests()
    as_tensors = [torch.from_numpy(rows) for rows in uniforms]
    assert complete(make_model(), prompts, as_tensors) == complete(make_model(), prompts, uniforms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": [[]]}, "prompt 0 is empty"),
        ({"prompts": [[64]]}, "ids from 64 to 64, the vocabulary from 0 to 63"),
        ({"prompts": [[-1]]}, "ids from -1 to -1"),
        ({"prompts": [[2] * 121]}, "prompt 0 has 121 tokens; with 40 new ones it does not fit into 160"),
        ({"prompts": [[2], [3]]}, "2 prompts but uniforms for 1"),
        ({"uniforms": [np.zeros((2, 39))]}, r"shape \(2, 39\): give \(samples, 40\)"),
        ({"uniforms": [np.zeros(40)]}, r"shape \(40,\)"),
        ({"uniforms": [np.ones((1, 40))]}, r"leave \[0, 1\)"),
        ({"uniforms": [np.full((1, 40), np.nan)]}, r"leave \[0, 1\)"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"max_rows": 0}, "max_rows 0"),
        ({"eos_id": 64}, "end token 64 is outside the vocabulary of 64"),
    ],
)
def test_what_cannot_be_sampled_is_refused(make_model, change, message):
    given = {"prompts": [[2] * 120], "uniforms": [np.zeros((1, 40))], **change}
    with pytest.raises(TokenError, match=message):
        complete(make_model(), **given)


def test_near_miss_a_prompt_that_just_fits_is_sampled(make_model):
    [[one]] = complete(make_model(), [[2] * 120], [np.zeros((1, 40))])
    assert one.ids == (0,) * 40


def test_weights_that_are_not_finite_are_refused(make_model):
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        complete(model, [[2]], [np.zeros((1, 40))])
