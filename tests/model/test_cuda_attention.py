"""The attention for GPUs, as far as a CPU can run it: what the dense mask gives, in every layout of rows."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from gsm_lab.model.cuda_attention import BLOCK, attend, block_mask, document_attention
from gsm_lab.model.transformer import attend_rows, document_mask

# On the CPU the kernel is PyTorch's slow reference, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def documents_of(rows: int, length: int, padding: int = 7) -> torch.Tensor:
    """Rows of documents of about 30 tokens, each row another way, padded at the end."""
    generator = torch.Generator().manual_seed(length)
    documents = (torch.rand(rows, length, generator=generator) < 0.03).cumsum(1)
    documents[:, length - padding :] = -1
    return documents.int()


def heads_of(rows: int, length: int, heads: int, kv_heads: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(heads)
    sizes = ((rows, count, length, 16) for count in (heads, kv_heads, kv_heads))
    return [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]


@pytest.mark.parametrize("length", [40, BLOCK, 200, 3 * BLOCK], ids=lambda length: f"{length} tokens")
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (3, 1)])
def test_it_attends_as_the_dense_mask_does(length, heads, kv_heads):
    documents = documents_of(2, length)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        query, key, value = heads_of(2, length, heads, kv_heads, dtype)
        wanted = attend_rows(query, key, value, document_mask(documents, dtype))
        torch.testing.assert_close(attend(query, key, value, documents), wanted, atol=tolerance, rtol=0)
        # near miss: without the documents it is another attention
        assert float((attend_rows(query, key, value, None) - wanted).abs().max()) > 0.01


@pytest.mark.parametrize("length", [40, 200])
def test_nothing_of_another_document_and_nothing_that_comes_later_is_seen(length):
    documents = torch.zeros(1, length, dtype=torch.int32)
    documents[:, 25:] = 1
    attend_rows = document_attention(documents)
    query, key, value = heads_of(1, length, 2, 2, torch.float32)
    before = attend_rows(query, key, value)
    value[:, :, 30] += 1.0
    changed = (attend_rows(query, key, value) != before).any(dim=3)[0].any(dim=0)
    assert changed.nonzero().flatten().tolist() == list(range(30, length))
    value[:, :, 3] += 1.0
    changed = (attend_rows(query, key, value) != before).any(dim=3)[0].any(dim=0)
    assert changed.nonzero().flatten().tolist() == [*range(3, 25), *range(30, length)]


def test_queries_and_keys_come_to_the_dtype_of_the_values():
    query, key, value = heads_of(1, 150, 2, 1, torch.float32)
    documents = documents_of(1, 150)
    mixed = attend(query, key, value.bfloat16(), documents)
    assert mixed.dtype == torch.bfloat16
    wanted = attend_rows(query, key, value, document_mask(documents, torch.float32))
    torch.testing.assert_close(mixed.float(), wanted, atol=0.05, rtol=0)


@pytest.mark.parametrize("length", [BLOCK, 300, 4 * BLOCK, 1000])
def test_the_blocks_are_those_that_pytorch_finds_by_the_whole_square(length):
    documents = documents_of(3, length)
    documents[2] = 0  # one document, so that some blocks need no mask

    def is_seen(row, head, query, key):
        return (documents[row, query] == documents[row, key]) & (query >= key)

    wanted, found = create_block_mask(is_seen, 3, None, length, length, "cpu"), block_mask(documents)
    assert found.shape == wanted.shape
    assert torch.equal(found.to_dense(), wanted.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert length < 300 or int(found.full_kv_num_blocks.sum()) > 0


def test_documents_in_any_order_are_attended_rightly():
    """Packing counts documents up, but nothing relies on it."""
    documents = torch.tensor([[5] * 60 + [-1] * 50 + [2] * 60 + [5] * 60 + [-1] * 26], dtype=torch.int32)
    query, key, value = heads_of(1, 256, 2, 2, torch.float64)
    wanted = attend_rows(query, key, value, document_mask(documents, torch.float64))
    torch.testing.assert_close(attend(query, key, value, documents), wanted, atol=1e-12, rtol=0)


def test_it_is_part_of_one_graph_whatever_the_documents():
    """As in training on a GPU, where mask and layers are compiled together, once."""

    def two_layers(query, key, value, documents):
        attend_rows = document_attention(documents)
        return attend_rows(attend_rows(query, key, value), key, value)

    compiled = torch.compile(two_layers, backend="eager", fullgraph=True, dynamic=False)
    heads = heads_of(2, 200, 4, 2, torch.float32)
    for documents, recompiling_is_an_error in ((documents_of(2, 200), False), (documents_of(2, 200, padding=70), True)):
        with torch._dynamo.config.patch(error_on_recompile=recompiling_is_an_error):
            assert torch.equal(compiled(*heads, documents), two_layers(*heads, documents))
