"""The compiled kernels do what PyTorch's operations do, and the number of threads changes no bit."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gsm_lab.errors import TokenError
from gsm_lab.model import ModelShape, Texts, Transformer, kernels
from gsm_lab.model.kernels import library
from gsm_lab.model.sampler import choose

SHAPES = [
    (32, 2, 1, 48), (128, 4, 4, 384), (48, 3, 1, 80), (96, 2, 2, 100), (64, 8, 2, 64), (12, 6, 3, 33), (68, 2, 1, 17),
]  # fmt: skip
"""Width, heads, key-value heads, hidden width: whole vectors and not, with and without groups."""
TREES = [(7, [3, 0, 9, 20]), (1, [4]), (40, [33, 17, 8]), (70, [])]


@pytest.fixture(autouse=True)
def built():
    assert kernels.available(), "the kernels are not built: run `make setup`"


def both(shape: ModelShape) -> tuple[Transformer, Transformer]:
    """The same weights in float32, by kernels, and in float64, by PyTorch."""
    ours = Transformer.initial(shape, seed=1, std=0.3)
    exact = Transformer(shape).double()
    exact.load_state_dict({name: value.double() for name, value in ours.state_dict().items()})
    return ours, exact


def make_shape(width=32, heads=2, kv_heads=1, ffn=48) -> ModelShape:
    return ModelShape(vocab_size=53, layers=2, width=width, heads=heads, kv_heads=kv_heads, ffn=ffn, max_positions=200)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_texts_that_share_prompts_have_the_logits_and_gradients_of_float64(sizes):
    ours, exact = both(make_shape(*sizes))
    texts = Texts.of_trees(TREES)
    tokens = torch.randint(0, 53, (int(texts.trees[-1]),), generator=torch.Generator().manual_seed(0))
    slopes = torch.randn(len(tokens), 53, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, wanted = ours.head(ours.hidden_of(tokens, texts)), exact.head(exact.hidden_of(tokens, texts))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())
    (found * slopes.float()).sum().backward()
    (wanted * slopes).sum().backward()
    for parameter, other in zip(ours.parameters(), exact.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        largest = other.grad.abs().max().item()
        torch.testing.assert_close(parameter.grad.double(), other.grad, rtol=0, atol=5e-5 * largest)


def test_a_shared_prompt_is_the_prompt_before_each_completion():
    """And the near miss: completions that saw one another would differ."""
    model = both(make_shape())[1]
    prompt, completions = [5, 6, 7], [[8, 9], [10, 11, 12]]
    shared = model.hidden_of(torch.tensor([*prompt, *completions[0], *completions[1]]), Texts.of_trees([(3, [2, 3])]))
    apart = [model.hidden(torch.tensor([prompt + completion]))[0] for completion in completions]
    torch.testing.assert_close(shared, torch.cat((apart[0], apart[1][3:])))
    joined = model.hidden(torch.tensor([[*prompt, *completions[0], *completions[1]]]))[0]
    assert (shared - joined)[5:].abs().max() > 1e-3


@pytest.mark.parametrize("width", [8, 16, 33, 448])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_logprobs_and_entropy(width, temperature):
    generator = torch.Generator().manual_seed(width)
    logits = (5 * torch.randn(40, width, generator=generator)).requires_grad_()
    ids, slopes = torch.randint(0, width, (40,), generator=generator), torch.randn(40, generator=generator)
    exact = logits.detach().double().requires_grad_()
    all_logprobs = torch.log_softmax(exact / temperature, dim=1)
    wanted = all_logprobs.gather(1, ids[:, None])[:, 0]
    found, entropy = kernels.logprobs_and_entropy(logits, ids, temperature)
    torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(entropy.double(), -(all_logprobs.exp() * all_logprobs).sum(1), rtol=0, atol=5e-6)
    (found * slopes).sum().backward()
    (wanted * slopes).sum().backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=0, atol=2e-6 / temperature)


@pytest.mark.parametrize(("offset", "temperature"), [(0.0, 1.0), (1e4, 1.0), (-1e4, 1.0), (0.0, 1e-3), (0.0, 1e3)])
def test_the_gradient_of_logprobs_is_as_exact_far_from_zero(offset, temperature):
    logits = (3 * torch.randn(40, 33, generator=torch.Generator().manual_seed(0)) + offset).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    ids = torch.arange(40) % 33
    kernels.logprobs_and_entropy(logits, ids, temperature)[0].sum().backward()
    torch.log_softmax(exact / temperature, dim=1)[torch.arange(40), ids].sum().backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=0, atol=1e-6 / temperature)


@pytest.mark.parametrize("ids", [[0, 20, 1], [0, -100, 1], [0, 1]], ids=str)
def test_ids_that_are_no_tokens_are_refused(ids):
    """C would read, and the gradient write, what stands there in memory."""
    with pytest.raises(TokenError, match=r"give one id for each row, from 0 to 19"):
        kernels.logprobs_and_entropy(torch.zeros(3, 20), torch.tensor(ids), 1.0)


def test_whole_numbers_of_any_width_and_stride_serve():
    model = both(make_shape())[0]
    tokens, far = torch.arange(20), torch.arange(60)
    wanted = model.hidden_of(tokens, Texts.of_lengths(torch.tensor([20]), far[::3].contiguous()))
    for positions in (far[::3], far[::3].to(torch.int32)):
        assert torch.equal(model.hidden_of(tokens, Texts.of_lengths(torch.tensor([20]), positions)), wanted)
        assert torch.equal(model.hidden(tokens[None], positions[None])[0], wanted)
    logits = torch.randn(20, 33, generator=torch.Generator().manual_seed(0))
    found = [kernels.logprobs_and_entropy(logits, ids, 1.0)[0] for ids in (tokens, tokens.int(), far[:20])]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("place", [200, -1])
def test_a_position_that_the_model_does_not_have_is_refused(place):
    model = both(make_shape())[0]
    with pytest.raises(TokenError, match="do not fit into 200"):
        model.hidden(torch.tensor([[3, 4]]), torch.tensor([[0, place]]))
    assert model.hidden(torch.tensor([[3, 4]]), torch.tensor([[0, 199]])).isfinite().all()  # near miss


def test_a_whole_number_serves_as_the_norms_epsilon():
    x_ND, weight_D = torch.full((2, 8), 3.0), torch.ones(8)
    assert torch.equal(kernels.add_norm(x_ND, x_ND, weight_D, 1)[1], kernels.add_norm(x_ND, x_ND, weight_D, 1.0)[1])


@pytest.mark.parametrize(
    "function",
    [
        kernels.swiglu,
        lambda x: kernels.add_norm(x, None, torch.ones(20), 1e-6)[1],
        lambda x: kernels.add_norm(x, 2 * x, torch.ones(20), 1e-6)[1],
        lambda x: kernels.logprobs_and_entropy(x, torch.tensor([1, 2]), 1.0)[0],
    ],
    ids=["swiglu", "norm", "add_norm", "logprobs"],
)
def test_second_derivatives_are_refused(function):
    """Autograd does not see into C: parts of them would be missing in silence."""
    x = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):  # the refusal is what is wanted
        torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    assert torch.autograd.grad(function(x).square().sum(), x)[0].isfinite().all()  # near miss


def test_a_tensor_that_is_changed_before_the_backward_pass_is_noticed():
    x = torch.ones(2, 20, requires_grad=True) * 1.0
    out = kernels.swiglu(x)
    x += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_what_torch_compiles_is_left_to_it():
    compiled = torch.compile(lambda x: x + 1.0 if kernels.suit(x) else x - 1.0, backend="eager")
    assert compiled(torch.zeros(1)).item() == -1.0


def chosen_tokens(logits_RV, uniforms, temperature):
    """The first tokens of rows and their log-probabilities, (R, 1) each; no token ends a row."""
    rows, vocabulary = logits_RV.shape
    tokens, logprobs = np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.float32)
    made = (tokens, logprobs, np.zeros(rows, np.int64), np.zeros(rows, np.bool_))
    uniforms_RX = np.array(uniforms)[:, None]
    writing = kernels.Writing(uniforms_RX, np.zeros(vocabulary, np.bool_), temperature, *made, rows)
    writing.begin([0] * rows, list(range(rows)), list(range(rows)), logits_RV)
    assert writing.take_ended() == (list(range(rows)), list(range(rows)))  # one token is all there is room for
    assert not made[3].any()
    return tokens, logprobs


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_tokens_are_those_of_the_cumulative_distribution(temperature):
    logits_RV = 3 * torch.randn(300, 37, generator=torch.Generator().manual_seed(0))
    logits_RV[:, [5, 21]] = 9.0  # of two that are likeliest, the first
    uniforms_R = np.random.default_rng(0).random(300)
    wanted, wanted_logprobs = choose(logits_RV.double(), torch.from_numpy(uniforms_R), temperature)
    chosen, logprobs = chosen_tokens(logits_RV, uniforms_R, temperature)
    assert (chosen[:, 0] == wanted.numpy()).all()
    assert np.abs(logprobs[:, 0] - wanted_logprobs.numpy()).max() < 1e-5


def test_at_a_huge_temperature_all_tokens_are_alike():
    uniforms_R = (np.arange(40) + 0.5) / 40
    chosen, logprobs = chosen_tokens(torch.randn(40, 20), uniforms_R, 1e60)
    assert (chosen[:, 0] == np.arange(40) // 2).all()
    assert np.abs(logprobs + np.log(20)).max() < 1e-5


@pytest.mark.parametrize("greedy", [chosen_tokens, lambda *given: choose(given[0], torch.empty(0), given[2])])
def test_the_likeliest_token_is_that_of_the_largest_logit_however_close_the_next(greedy):
    logits = torch.zeros(1, 64)
    logits[0, 3] = 0.1
    logits[0, 9] = torch.tensor(0.1).nextafter(torch.tensor(1.0))
    chosen, _ = greedy(logits, [0.5], 0.0)
    assert chosen.item() == 9


def test_impossible_tokens_have_no_share_and_are_never_chosen():
    logits = torch.zeros(1, 20)
    logits[0, [0, 7, 19]] = float("-inf")
    _, entropy = kernels.logprobs_and_entropy(logits, torch.tensor([3]), 1.0)
    assert entropy.item() == pytest.approx(torch.tensor(17.0).log().item(), abs=1e-6)
    for uniform in (0.0, 0.37, 1.0 - 1e-16):
        chosen, _ = chosen_tokens(logits, [uniform], 1.0)
        assert chosen.item() not in (0, 7, 19)


def test_numbers_that_are_none_stay_none():
    """A damaged model must be noticed, not sampled from."""
    logits = torch.full((2, 20), float("nan"))
    for temperature in (1.0, 0.0):
        chosen, logprobs = chosen_tokens(logits, [0.2, 0.9], temperature)
        assert np.isnan(logprobs).all()
        assert ((chosen >= 0) & (chosen < 20)).all()
    assert kernels.swiglu(torch.full((1, 32), float("nan"))).isnan().all()


def test_far_numbers():
    """Where the exponential under- and overflows."""
    both_NF = torch.tensor([[-1e4, -200.0, -88.5, -87.2, -50.0, 0.0, 50.0, 88.5, 200.0, 1e4] + [1.0] * 10])
    gate, up = both_NF.double().chunk(2, dim=1)
    torch.testing.assert_close(
        kernels.swiglu(both_NF).double(), torch.nn.functional.silu(gate) * up, rtol=1e-6, atol=1e-30
    )


def test_the_number_of_threads_changes_no_bit():
    threads = torch.get_num_threads()
    model = both(make_shape(128, 4, 4, 384))[0]
    texts = Texts.of_trees(TREES)
    qkv = torch.randn(int(texts.trees[-1]), 3 * 128, generator=torch.Generator().manual_seed(0))
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            leaf = qkv.clone().requires_grad_()
            mixed = kernels.attention(leaf, model.heads_for(texts))
            _, normed = kernels.add_norm(mixed, mixed * 0.5, torch.linspace(0.5, 2.0, 128), 1e-6)
            normed.square().sum().backward()
            found.append((normed.detach(), leaf.grad))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_other_tensors_are_left_to_pytorch():
    assert kernels.suit(torch.zeros(1))
    assert not kernels.suit(torch.zeros(1, dtype=torch.float64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.suit(torch.zeros(1))


def test_what_was_built_from_another_source_is_not_loaded(monkeypatch, tmp_path):
    source = tmp_path / "kernels.c"
    source.write_text(library.SOURCE.read_text() + "\n/* edited */\n")
    before = library.compiled_path().name
    monkeypatch.setattr(library, "SOURCE", source)
    assert library.compiled_path().name != before
    assert library.library.__wrapped__() is None


def test_building_leaves_the_new_file_only(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "SOURCE", tmp_path / "kernels.c")
    library.SOURCE.write_text("int one(void) { return 1; }")
    (tmp_path / "kernels-0123.so").touch()
    assert library.build() == library.build()  # also where it is already
    assert {path.name for path in tmp_path.iterdir()} == {"kernels.c", library.compiled_path().name}


def test_a_compiler_that_refuses_leaves_nothing(monkeypatch, tmp_path):
    source = tmp_path / "kernels.c"
    source.write_text("int broken(")
    monkeypatch.setattr(library, "SOURCE", source)
    with pytest.raises(OSError, match=r"does not compile kernels\.c"):
        library.build()
    assert [path.name for path in tmp_path.iterdir()] == ["kernels.c"]


def test_an_error_that_only_one_option_shows_costs_not_that_option(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "SOURCE", tmp_path / "kernels.c")
    monkeypatch.setattr(library, "_TRIALS", (("-DFAST=1",), ("-no-such-option",), ()))
    library.SOURCE.write_text("#ifdef FAST\n#error slip\n#endif\nint one(void) { return 1; }")
    with pytest.raises(OSError, match="slip"):
        library.build()
    monkeypatch.setattr(library, "_TRIALS", library._TRIALS[1:])
    assert library.build().exists()


def test_the_source_has_no_warnings(tmp_path):
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]  # the vectors are never passed between compilers
    command = ["cc", "-std=gnu11", "-O2", *strict, "-fopenmp", "-c", str(library.SOURCE)]
    done = subprocess.run([*command, "-o", str(tmp_path / "kernels.o")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def halves_of_a_layer(x_ND, added_ND, mixed_NM, weights, eps=1e-5):
    """What `project` and `feed_forward` should give, by PyTorch's operations."""
    norm_D, matrix_WD, bias_W, out_DM, mlp_norm_D, gate_up_FD, down_DF = weights

    def normed(x, weight_D):
        return torch.nn.functional.rms_norm(x, weight_D.shape, weight_D, eps)

    total_ND = x_ND if added_ND is None else x_ND + added_ND
    later_ND = total_ND + mixed_NM @ out_DM.T
    gate, up = (normed(later_ND, mlp_norm_D) @ gate_up_FD.T).chunk(2, dim=1)
    projected_NW = normed(total_ND, norm_D) @ matrix_WD.T + bias_W
    return total_ND, projected_NW, later_ND, (torch.nn.functional.silu(gate) * up) @ down_DF.T


@pytest.mark.parametrize("is_first", [True, False], ids=["first layer", "later layer"])
@pytest.mark.parametrize("rows", [0, 1, 5, 130, 700])
@pytest.mark.parametrize(("width", "mixed", "hidden"), [(32, 32, 48), (33, 20, 17), (128, 128, 384), (300, 90, 64)])
def test_the_halves_of_a_layer_have_the_values_and_gradients_of_float64(width, mixed, hidden, rows, is_first):
    generator = torch.Generator().manual_seed(rows)
    sizes = [(rows, width), (rows, width), (rows, mixed), (width,), (50, width), (50,), (width, mixed), (width,)]
    sizes += [(2 * hidden, width), (width, hidden)]
    arrays = [0.5 * torch.randn(size, generator=generator) for size in sizes]
    slopes = [torch.randn(rows, columns, generator=generator) for columns in (width, 50, width, width)]
    ours = [array.clone().requires_grad_() for array in arrays]
    exact = [array.double().requires_grad_() for array in arrays]
    x_ND, added_ND, mixed_NM, norm_D, matrix_WD, bias_W, *rest = ours
    total_ND, projected_NW = kernels.project(x_ND, None if is_first else added_ND, norm_D, matrix_WD, bias_W, 1e-5)
    found = (total_ND, projected_NW, *kernels.feed_forward(total_ND, mixed_NM, *rest, 1e-5))
    wanted = halves_of_a_layer(exact[0], None if is_first else exact[1], exact[2], exact[3:])
    for one, other in zip(found, wanted, strict=True):
        largest = max([1.0, *other.detach().abs().flatten().tolist()])
        torch.testing.assert_close(one.double(), other, rtol=0, atol=5e-6 * largest)
    sum((one * slope).sum() for one, slope in zip(found, slopes, strict=True)).backward()
    sum((other * slope.double()).sum() for other, slope in zip(wanted, slopes, strict=True)).backward()
    for one, other in zip(ours, exact, strict=True):
        assert (one.grad is None) == (other.grad is None)
        if other.grad is not None and other.grad.numel():
            largest = max(other.grad.abs().max().item(), 1.0)
            torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("rows", [3, 130, 700])
def test_rows_of_a_layer_do_not_depend_on_the_others_nor_on_gradients(rows):
    generator = torch.Generator().manual_seed(0)
    x_ND, mixed_NM = (torch.randn(rows, 48, generator=generator) for _ in range(2))
    weights = [torch.randn(size, generator=generator) for size in ((48, 48), (48,), (160, 48), (48, 80))]
    found = kernels.feed_forward(x_ND, mixed_NM, *weights, 1e-6)
    for leaf in weights:
        leaf.requires_grad_()
    again = kernels.feed_forward(x_ND, mixed_NM, *weights, 1e-6)
    few = kernels.feed_forward(x_ND[-2:], mixed_NM[-2:], *weights, 1e-6)
    for one, other, part in zip(found, again, few, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(part, other[-2:])


def test_few_rows_of_a_wide_layer_are_left_to_products_that_share_the_weights():
    assert kernels.suit_halves(torch.zeros(200, 100))
    assert not kernels.suit_halves(torch.zeros(199, 100))
    assert not kernels.suit_halves(torch.zeros(2, 200, 100))
    assert not kernels.suit_halves(torch.zeros(200, 100, dtype=torch.float64))


@pytest.mark.parametrize("rows", [5, 130, 700])
def test_rows_of_a_layer_do_not_depend_on_the_number_of_threads(rows):
    generator = torch.Generator().manual_seed(0)
    x_ND, mixed_NM = (torch.randn(rows, 40, generator=generator) for _ in range(2))
    norm_D, matrix_WD, bias_W, out_DM, gate_up_FD, down_DF = (
        torch.randn(size, generator=generator) for size in ((40,), (72, 40), (72,), (40, 40), (132, 40), (40, 66))
    )
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            projected = kernels.project(x_ND, mixed_NM, norm_D, matrix_WD, bias_W, 1e-6)
            fed = kernels.feed_forward(x_ND, mixed_NM, out_DM, norm_D, gate_up_FD, down_DF, 1e-6)
            found.append((*projected, *fed, torch.tensor(kernels.length_of([x_ND, matrix_WD]))))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_gradients_count_all_threads_where_those_within_a_thread_are_limited():
    """`OMP_NUM_THREADS=3,1` gives three threads, and one to whoever asks within them."""
    code = """if True:
        import torch
        from gsm_lab.model import kernels
        torch.set_num_threads(3)
        generator = torch.Generator().manual_seed(0)
        sizes = ((90, 32), (90, 32), (32,), (96, 32), (96,), (32, 32), (80, 32), (32, 40))
        x, added, *weights = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
        norm, matrix, bias, out, gate_up, down = weights
        total, projected = kernels.project(x, added, norm, matrix, bias, 1e-6)
        later, fed = kernels.feed_forward(total, projected[:, :32], out, norm, gate_up, down, 1e-6)
        found = torch.autograd.grad(later.sum() + fed.square().sum(), weights)
        torch.set_num_threads(1)
        total, projected = kernels.project(x, added, norm, matrix, bias, 1e-6)
        later, fed = kernels.feed_forward(total, projected[:, :32], out, norm, gate_up, down, 1e-6)
        for one, other in zip(found, torch.autograd.grad(later.sum() + fed.square().sum(), weights)):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * other.abs().max().item())
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "3,1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_length_of_tensors_is_that_in_float64():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator) for size in ((1,), (4096,), (4097,), (60, 300), (0,))]
    wanted = torch.cat([tensor.double().flatten() for tensor in tensors]).norm().item()
    assert kernels.length_of(tensors) == pytest.approx(wanted, rel=1e-7)
    assert kernels.length_of([]) == 0.0
    assert math.isnan(kernels.length_of([torch.tensor([1.0, math.nan])]))
    assert math.isinf(kernels.length_of([torch.tensor([1.0, math.inf])]))


def test_a_step_of_adamw_is_that_in_float64():
    generator = torch.Generator().manual_seed(0)
    shapes = ((3,), (70, 90), (4096,))
    values, averages = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    squares = [torch.rand(shape, generator=generator) for shape in shapes]
    wanted = [[tensor.double() for tensor in kept] for kept in zip(values, averages, squares, strict=True)]
    told = {"learning_rate": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}
    for step in (4, 5):
        gradients = [torch.randn(shape, generator=generator) for shape in shapes]
        kernels.adamw_step(values, gradients, averages, squares, scale=0.5, step=step, **told)
        for (value, average, square), gradient in zip(wanted, gradients, strict=True):
            halved = 0.5 * gradient.double()
            average.mul_(0.9).add_(0.1 * halved)
            square.mul_(0.95).add_(0.05 * halved**2)
            moved = (average / (1 - 0.9**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
            value.mul_(1 - 0.01 * 0.1).sub_(0.01 * moved)
    for kept, expected in zip(zip(values, averages, squares, strict=True), wanted, strict=True):
        for one, other in zip(kept, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=2e-6, atol=2e-6)
