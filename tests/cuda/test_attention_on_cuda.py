"""The fused kernel under document masks: values and gradients of the dense mask."""

import pytest
import torch

from gsm_lab.model.cuda_attention import attend
from gsm_lab.model.transformer import attend_rows, document_mask

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # inductor imports modules of torch that warn
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # the same
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # advice to give up float32, which is wanted here
    pytest.mark.filterwarnings("ignore:Please use the new API settings"),  # torch#166387: inductor needs the old one
]


def documents_of(rows: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    documents = (torch.rand(rows, length, generator=generator) < 0.02).cumsum(1)
    documents[:, length - 9 :] = -1
    return documents.int().cuda()


def heads_of(length: int, kv_heads: int, width: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((3, count, length, width) for count in (4, kv_heads, kv_heads))
    drawn = (torch.randn(size, generator=generator).to("cuda", dtype) for size in sizes)
    return [one.requires_grad_() for one in drawn]


@pytest.mark.parametrize("length", [64, 128, 300, 512])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_values_and_gradients_are_those_of_the_dense_mask(length, kv_heads, dtype, tolerance):
    documents = documents_of(3, length)
    ours, exact = heads_of(length, kv_heads, 32, dtype), heads_of(length, kv_heads, 32, dtype)
    wanted = attend_rows(*(one.float() for one in exact), document_mask(documents, torch.float32))
    found = attend(*ours, documents)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, atol=tolerance, rtol=tolerance)
    push = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).cuda()
    (found.float() * push).sum().backward()
    (wanted * push).sum().backward()
    for one, other in zip(ours, exact, strict=True):
        scale = float(other.grad.float().abs().max())
        torch.testing.assert_close(one.grad.float(), other.grad.float(), atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("width", [16, 64, 128])
def test_every_width_of_head_that_scales_use(width):
    documents = documents_of(3, 256)
    query, key, value = heads_of(256, 2, width, torch.float32)
    wanted = attend_rows(query, key, value, document_mask(documents, torch.float32))
    torch.testing.assert_close(attend(query, key, value, documents), wanted, atol=1e-4, rtol=1e-4)


def test_gradients_are_the_same_in_every_run():
    documents = documents_of(3, 512)
    gradients = []
    for _ in range(2):
        query, key, value = heads_of(512, 2, 32, torch.bfloat16)
        attend(query, key, value, documents).float().square().sum().backward()
        gradients.append((query.grad, key.grad, value.grad))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
