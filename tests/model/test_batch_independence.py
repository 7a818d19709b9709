"""Greedy or drawn, a completion is the same alone and in any batch; a decoder that forgets the padding is caught."""

import inspect
import random

import numpy as np
import torch

from gsm_lab.model import sample

EOS, ROOM = 1, 12
LENGTHS = (5, 1, 9, 16, 2, 16, 7, 3)


def prompts(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 64, length).tolist() for length in LENGTHS]


def ours(model, batch) -> list[tuple[int, ...]]:
    nothing = [np.zeros((1, ROOM))] * len(batch)
    results = sample(model, batch, nothing, max_new_tokens=ROOM, eos_id=EOS, temperature=0)
    return [one.ids for [one] in results]


def padded(model, batch, on_the_left: bool) -> list[tuple[int, ...]]:
    """Near miss: full passes over rows padded to one length, read at their last place, without a mask."""
    longest = max(map(len, batch))
    rows = [[0] * (longest - len(ids)) + ids if on_the_left else ids + [0] * (longest - len(ids)) for ids in batch]
    written: list[list[int]] = [[] for _ in rows]
    for _ in range(ROOM):
        with torch.no_grad():
            chosen = model(torch.tensor([row + ids for row, ids in zip(rows, written, strict=True)]))[:, -1].argmax(1)
        for ids, token in zip(written, chosen.tolist(), strict=True):
            if EOS not in ids:
                ids.append(token)
            else:
                ids.append(EOS)
    return [tuple(ids[: ids.index(EOS) + 1] if EOS in ids else ids) for ids in written]


def alone_is_together(decode, model) -> bool:
    """Whether every prompt is completed alike alone, in pairs, in one batch, and in a batch in another order."""
    for seed in range(3):
        batch = prompts(seed)
        alone = [decode(model, [ids])[0] for ids in batch]
        order = random.Random(seed).sample(range(len(batch)), len(batch))
        pairs = [one for first in range(0, len(batch), 2) for one in decode(model, batch[first : first + 2])]
        if not decode(model, batch) == pairs == alone:
            return False
        if decode(model, [batch[place] for place in order]) != [alone[place] for place in order]:
            return False
    return True


def test_greedy_is_the_same_alone_in_pairs_in_a_batch_and_in_any_order(make_model):
    model = make_model(kv_heads=2)
    assert alone_is_together(ours, model)
    assert ours(model, prompts(0)[:1]) == padded(model, prompts(0)[:1], True)  # alone, they agree


def test_near_miss_padding_that_is_read_changes_completions(make_model):
    model = make_model(kv_heads=2)
    assert not alone_is_together(lambda model, batch: padded(model, batch, True), model)
    assert not alone_is_together(lambda model, batch: padded(model, batch, False), model)


def test_the_sampler_draws_from_the_whole_vocabulary_by_temperature_alone(make_model):
    """What truncates a distribution would have to be known to the trainer too (trl#6789): there is no such setting."""
    assert not {"top_k", "top_p", "min_p", "repetition_penalty"} & {*inspect.signature(sample).parameters}
    model = make_model()
    with torch.no_grad():
        logits = model(torch.tensor([[4, 8, 15]]))[0, -1]
    grid = (np.arange(20_000)[:, None] + 0.5) / 20_000
    [samples] = sample(model, [[4, 8, 15]], [grid], max_new_tokens=1, eos_id=EOS, max_rows=20_000)
    counts = np.bincount([one.ids[0] for one in samples], minlength=64)
    assert np.abs(counts - 20_000 * logits.softmax(0).numpy()).max() <= 1.5
    kept = torch.where(logits >= logits.topk(50).values[-1], logits, -torch.inf)  # near miss: the 50 likeliest
    assert np.abs(counts - 20_000 * kept.softmax(0).numpy()).max() > 20
