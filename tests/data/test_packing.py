"""Laws of packing: every token once, no exercise cut, the loss on exactly what it says."""

import numpy as np
import pytest

from gsm_lab.data import DrawnDocuments, ExerciseSource, Jumps, Packer, Tokenizer
from gsm_lab.errors import TokenError

ROWS, LENGTH = 4, 300


@pytest.fixture(scope="module")
def source(mixture):
    return ExerciseSource(mixture, "pretrain", 0)


def ids_of(source, tokenizer, index):
    exercise = source.at(index)
    prompt, completion = tokenizer.encode(exercise.prompt), tokenizer.encode(exercise.completion)
    return prompt, [*completion, tokenizer.eos_id]


def document_of(source, tokenizer, index):
    prompt, completion = ids_of(source, tokenizer, index)
    return prompt + completion


def documents_of(packed):
    """(row, number) -> positions in the row, for every document."""
    return {
        (row, number): np.nonzero(numbers == number)[0]
        for row, numbers in enumerate(packed.documents)
        for number in range(numbers.max() + 1)
    }


def test_tokens_in_are_tokens_out_and_no_exercise_is_cut(source, tokenizer):
    packed, following = Packer(source, tokenizer, ROWS, LENGTH, "all").batch(0)
    expected = sorted(document_of(source, tokenizer, index) for index in range(following))
    found = []
    for (row, _), places in documents_of(packed).items():
        assert list(places) == list(range(places[0], places[-1] + 1))
        found.append(packed.tokens[row, places].tolist())
    assert sorted(found) == expected
    assert packed.num_tokens == sum(map(len, expected))
    assert (packed.tokens[packed.documents < 0] == tokenizer.pad_id).all()


def test_shapes_and_types(source, tokenizer):
    packed, _ = Packer(source, tokenizer, ROWS, LENGTH, "all").batch(0)
    for array in (packed.tokens, packed.targets, packed.positions, packed.documents):
        assert array.shape == (ROWS, LENGTH)
        assert array.dtype == np.int32
    assert packed.loss_mask.shape == (ROWS, LENGTH)
    assert packed.loss_mask.dtype == np.bool_


def test_positions_restart_and_documents_count_up_in_every_row(source, tokenizer):
    packed, _ = Packer(source, tokenizer, ROWS, LENGTH, "all").batch(0)
    for (row, _), places in documents_of(packed).items():
        assert packed.positions[row, places].tolist() == list(range(len(places)))
    for row in packed.documents:
        used = row[row >= 0]
        assert used[0] == 0
        assert set(np.diff(used).tolist()) <= {0, 1}
    assert packed.documents.max() >= 1
    assert (packed.positions[packed.documents < 0] == 0).all()


def test_targets_are_the_next_token_of_the_same_document_and_pads_where_none_is(source, tokenizer):
    packed, _ = Packer(source, tokenizer, ROWS, LENGTH, "all").batch(0)
    has_target = np.zeros_like(packed.loss_mask)
    for (row, _), places in documents_of(packed).items():
        assert packed.targets[row, places[:-1]].tolist() == packed.tokens[row, places[1:]].tolist()
        assert packed.targets[row, places[-2]] == tokenizer.eos_id
        has_target[row, places[:-1]] = True
    assert (packed.targets[~has_target] == tokenizer.pad_id).all()
    assert (packed.loss_mask == has_target).all()  # loss_on="all"


def test_loss_on_completion_covers_exactly_the_completion_and_its_end(source, tokenizer):
    """Trap D31: neither a prompt token nor a missing end of sequence."""
    packed, following = Packer(source, tokenizer, ROWS, LENGTH, "completion").batch(0)
    completions = {}
    for index in range(following):
        prompt, completion = ids_of(source, tokenizer, index)
        completions[tuple(prompt + completion)] = completion
    for (row, _), places in documents_of(packed).items():
        counted = places[packed.loss_mask[row, places]]
        completion = completions.pop(tuple(packed.tokens[row, places].tolist()))
        assert packed.targets[row, counted].tolist() == completion
        assert counted[-1] == places[-2]
    assert not completions
    assert not packed.loss_mask[packed.documents < 0].any()
    assert packed.num_targets == int(packed.loss_mask.sum()) > 0


def test_a_batch_from_a_cursor_is_the_same_whatever_came_before(source, tokenizer):
    packer = Packer(source, tokenizer, ROWS, LENGTH, "completion")
    cursors, batches = [0], []
    for _ in range(3):
        packed, following = packer.batch(cursors[-1])
        batches.append(packed)
        cursors.append(following)
    assert cursors == sorted(set(cursors))
    again = Packer(source, tokenizer, ROWS, LENGTH, "completion")
    for cursor, following, packed in reversed(list(zip(cursors, cursors[1:], batches, strict=False))):
        copy, copy_following = again.batch(cursor)
        assert copy_following == following
        for name in ("tokens", "targets", "positions", "documents", "loss_mask"):
            assert (getattr(copy, name) == getattr(packed, name)).all()


def test_batches_in_a_row_hold_every_exercise_once(source, tokenizer):
    packer = Packer(source, tokenizer, ROWS, LENGTH, "all")
    cursor, total = 0, 0
    for _ in range(3):
        packed, cursor = packer.batch(cursor)
        total += packed.num_tokens
    assert total == sum(len(document_of(source, tokenizer, index)) for index in range(cursor))


def test_an_exercise_as_long_as_a_row_fits(source, tokenizer):
    sizes = [len(document_of(source, tokenizer, index)) for index in range(60)]
    first, longest = next(  # the document that finds no room is no longer than a row
        (index, longest) for index in range(50) if (longest := max(sizes[index : index + 3])) == max(sizes[index:][:10])
    )
    packed, following = Packer(source, tokenizer, 3, longest, "all").batch(first)
    assert following >= first + 3
    assert (packed.documents >= 0).all(axis=1).any()


def test_near_miss_an_exercise_one_token_longer_than_a_row_is_refused(source, tokenizer):
    length = len(document_of(source, tokenizer, 0))
    packer = Packer(source, tokenizer, 1, length - 1, "all")
    with pytest.raises(TokenError, match=f"exercise 0 has {length} tokens .* row length to at least {length}"):
        packer.batch(0)


def test_no_rows_are_refused(source, tokenizer):
    with pytest.raises(TokenError, match="rows=0 and length=8: give at least 1 row"):
        Packer(source, tokenizer, 0, 8, "all")


def test_an_unknown_loss_is_refused(source, tokenizer):
    with pytest.raises(TokenError, match="loss_on='prompt': give one of completion, all"):
        Packer(source, tokenizer, 1, 8, "prompt")


def test_an_exercise_source_and_its_documents_pack_alike(source, tokenizer):
    packed, following = Packer(source, tokenizer, ROWS, LENGTH).batch(5)
    copy, copy_following = Packer(DrawnDocuments(source, tokenizer), tokenizer, ROWS, LENGTH).batch(5)
    assert copy_following == following
    assert (copy.tokens == packed.tokens).all()


def test_a_block_of_documents_holds_what_they_are_one_by_one(source, tokenizer):
    documents = DrawnDocuments(source, tokenizer)
    block = documents.block(3, 9)
    assert len(block) == 6
    for number in range(6):
        prompt, completion = ids_of(source, tokenizer, 3 + number)
        for document in (block.document(number), documents.document(3 + number)):
            assert document.ids.tolist() == prompt + completion
            assert document.num_prompt == len(prompt)


def test_documents_of_another_tokenizer_are_refused(source, tokenizer):
    documents = DrawnDocuments(source, Tokenizer([" apples"]))
    with pytest.raises(TokenError, match="another tokenizer"):
        Packer(documents, tokenizer, ROWS, LENGTH)


def test_positions_jump_by_the_number_of_the_document_and_nothing_else_changes(source, tokenizer):
    jumps = Jumps(1, 1.0, 5, 1000)
    plain, following = Packer(source, tokenizer, ROWS, LENGTH).batch(7)
    packed, copy_following = Packer(source, tokenizer, ROWS, LENGTH, jumps=jumps).batch(7)
    assert following == copy_following
    assert (plain.tokens == packed.tokens).all()
    first = np.array(document_of(source, tokenizer, 7))
    ends = np.array([tokenizer.tokens[token_id].strip() in (".", ";", ":", "?") for token_id in first])
    assert packed.positions[0, : len(first)].tolist() == jumps.positions(ends, 7).tolist()
    assert packed.positions.max() > plain.positions.max()


def test_chinese_sentences_end_too(tokenizer):
    packer = Packer(DrawnDocuments(None, tokenizer), tokenizer, ROWS, LENGTH)
    ends = {tokenizer.tokens[token_id].strip() for token_id in np.nonzero(packer._ends)[0]}
    assert ends == {".", ";", ":", "?", "。", "\uff1a", "\uff1f"}
