"""Sampling on a GPU: the tokens of the CPU, and log-probabilities that training agrees with (law 6)."""

import numpy as np
import pytest
import torch

from gsm_lab.errors import TrainingError
from gsm_lab.model import ModelShape, sample
from gsm_lab.model.cache import KeyValueCache
from gsm_lab.model.cuda_decode import Writer
from gsm_lab.training import token_logprobs
from gsm_lab.training.precision import working_precision

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # inductor imports modules of torch that warn
    pytest.mark.filterwarnings("ignore:Please use the new API settings"),  # torch#166387: inductor needs the old one
]

EOS, ROOM, SAMPLES = 1, 48, 8


def completions(model, temperature: float = 1.0, samples: int = SAMPLES, max_rows: int = 256):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(2, 64, length).tolist() for length in (3, 17, 9, 30, 60)]
    uniforms = [rng.random((samples, ROOM)) for _ in prompts]
    found = sample(
        model, prompts, uniforms, max_new_tokens=ROOM, eos_id=EOS, temperature=temperature, max_rows=max_rows
    )
    return prompts, found


def trained_logprobs(model, prompt, ids, precision) -> torch.Tensor:
    """What training would say of a completion: layers in `precision`, head and softmax in float32."""
    tokens = torch.tensor([[*prompt, *ids]], device=model.device)
    with torch.no_grad():
        with working_precision(model, precision):
            hidden_BTD = model.hidden(tokens[:, :-1])
        logits_NV = model.head(hidden_BTD[0, len(prompt) - 1 :])
        return token_logprobs(logits_NV, tokens[0, len(prompt) :])


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_the_tokens_are_those_of_the_cpu(temperature, make_model):
    on_cpu, on_gpu = (completions(make_model(device), temperature)[1] for device in ("cpu", "cuda"))
    pairs = [pair for one, other in zip(on_cpu, on_gpu, strict=True) for pair in zip(one, other, strict=True)]
    same = [one.ids == other.ids for one, other in pairs]
    assert np.mean(same) >= 0.9  # a number that falls between two sums of probabilities may fall either way
    for (one, other), is_same in zip(pairs, same, strict=True):
        if is_same:
            assert np.abs(np.array(one.logprobs) - np.array(other.logprobs)).max() < 1e-4


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("tf32", 2e-2), ("bfloat16", 0.2)])
def test_training_gives_sampled_tokens_about_the_probability_they_were_sampled_with(precision, most, make_model):
    model = make_model()
    prompts, found = completions(model)
    worst = 0.0
    for prompt, samples in zip(prompts, found, strict=True):
        for one in samples:
            moved = trained_logprobs(model, prompt, one.ids, precision).cpu() - torch.tensor(one.logprobs)
            worst = max(worst, float(torch.expm1(moved.double()).abs().max()))
    assert worst < most
    assert precision != "bfloat16" or worst > 1e-4  # near miss: 16 bits are seen, so the bound is not met by chance


def test_the_same_uniforms_give_the_same_tokens_again(make_model):
    model = make_model()
    first, again = completions(model)[1], completions(model)[1]
    assert [[one.ids for one in samples] for samples in first] == [[one.ids for one in samples] for samples in again]


def test_in_float64_the_tokens_are_exactly_those_of_the_cpu(make_model):
    on_cpu, on_gpu = (completions(make_model(device).double())[1] for device in ("cpu", "cuda"))
    assert [[one.ids for one in samples] for samples in on_gpu] == [[one.ids for one in samples] for samples in on_cpu]


@pytest.mark.parametrize("max_rows", [1, 7, 16, 64])
def test_rows_and_refilling_change_no_completion(max_rows, make_model):
    model = make_model().double()
    wanted, found = completions(model)[1], completions(model, max_rows=max_rows)[1]
    assert [[one.ids for one in samples] for samples in found] == [[one.ids for one in samples] for samples in wanted]


@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(4, 4, 32), (12, 2, 64), (8, 1, 128), (6, 3, 12)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_kernel_attends_as_matrix_products_do(heads, kv_heads, width, dtype, tolerance):
    rows, rooms, seats, longest, room = 9, 5, 3, 150, 70
    shape = ModelShape(
        vocab_size=64, layers=1, width=heads * width, heads=heads, kv_heads=kv_heads, ffn=8, max_positions=256
    )
    generator = torch.Generator("cuda").manual_seed(0)

    def drawn(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator, device="cuda").to(dtype)

    lengths = torch.randint(1, longest + 1, (rooms,), generator=generator, device="cuda")
    place_R = torch.tensor([0, 3, 4, 5, 14, 13, 6, 9, 10], device="cuda")
    length_R = torch.randint(1, room + 1, (rows,), generator=generator, device="cuda")
    length_R[0], length_R[1] = 1, room
    both = drawn(rows, heads + kv_heads, width), drawn(rows, kv_heads, width)
    prompts, own = drawn(2, rooms, kv_heads, longest, width), drawn(2, 1, rows, kv_heads, room, width)
    mixed = []
    for kind in (dtype, torch.float64):
        cache = KeyValueCache(shape, rows, rooms, seats, longest, room, torch.zeros(1, device="cuda", dtype=kind))
        cache.prompt_lengths[:] = lengths
        for kept, values in ((cache.prompt_keys, prompts[0]), (cache.prompt_values, prompts[1])):
            kept[0].copy_(values)
        for kept, values in ((cache.own_keys, own[0]), (cache.own_values, own[1])):
            kept[0].copy_(values)
        turned, value = (part.to(kind) for part in both)
        reading = cache.reading(place_R, length_R, cache.whole)
        mixed.append(reading.attend(0, turned[:, :heads], turned[:, heads:], value))
        assert cache.by_kernel == (kind != torch.float64)
    torch.testing.assert_close(mixed[0].double(), mixed[1], atol=tolerance, rtol=tolerance)


def test_a_step_is_a_graph_and_never_makes_the_host_wait(monkeypatch, make_model):
    """Between two looks nothing waits: waiting is an error there, once the graph for so many rows is captured."""
    graphed = []

    class Watched(Writer):
        def _write(self) -> None:
            graphs = self._graphs.captured
            graphed.append(graphs.get(self._num_rows) is not None)
            torch.cuda.set_sync_debug_mode("error" if graphed[-1] else "default")
            try:
                super()._write()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert len(graphs) <= 3  # 80 rows, 20 and 16

    model = make_model()
    wanted = completions(model, samples=40, max_rows=80)[1]
    monkeypatch.setattr("gsm_lab.model.cuda_decode.Writer", Watched)
    found = completions(model, samples=40, max_rows=80)[1]
    assert [[one.ids for one in samples] for samples in found] == [[one.ids for one in samples] for samples in wanted]
    assert np.mean(graphed) > 0.5


def test_tf32_for_the_process_leaves_the_sampler_exact(make_model):
    model = make_model(width=512, heads=8, ffn=1024)
    wanted = completions(model)[1]
    torch.set_float32_matmul_precision("high")
    try:
        found = completions(model)[1]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert found == wanted


def test_a_model_trains_and_samples_in_turn(make_model):
    """Every call captures anew: weights that have moved in between are read."""
    model = make_model()
    before = completions(model)[1]
    model(torch.tensor([[2, 3, 4]], device="cuda")).logsumexp(2).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad.sign()
    prompts, after = completions(model)
    assert after != before
    worst = max(
        float((trained_logprobs(model, prompt, one.ids, "float32").cpu() - torch.tensor(one.logprobs)).abs().max())
        for prompt, samples in zip(prompts, after, strict=True)
        for one in samples
    )
    assert worst < 1e-4
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        completions(model)
