"""Laws of token data sets: the documents themselves, the same bytes however written, nothing wrong accepted."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gsm_lab.data.tokens as tokens_module
from gsm_lab.data import (
    DrawnDocuments,
    ExerciseSource,
    Jumps,
    Packer,
    TokenDocuments,
    Tokenizer,
    write_tokens,
)
from gsm_lab.data.jobs import differences, only_writer, share_of
from gsm_lab.data.tokens import problems_for
from gsm_lab.errors import DataError, StorageError, TokenError
from gsm_lab.files import sha256_of

NUM, SHARD = 70, 20
"""Four shards, the last of ten documents."""


@pytest.fixture(scope="module")
def source(mixture):
    return ExerciseSource(mixture, "pretrain", 0)


@pytest.fixture(scope="module")
def written(source, tokenizer, tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("tokens") / "set", source, tokenizer, NUM, shard_size=SHARD)


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_every_document_on_disk_is_the_one_that_is_drawn(written, source, tokenizer):
    documents, drawn = TokenDocuments(written), DrawnDocuments(source, tokenizer)
    assert len(documents) == NUM
    assert documents.tokenizer == tokenizer
    for index in (*range(NUM), 3):
        there, here = documents.document(index), drawn.document(index)
        assert there.ids.tolist() == here.ids.tolist()
        assert there.num_prompt == here.num_prompt
    assert documents.num_tokens == len(drawn.block(0, NUM).ids)


def test_files_are_raw_16_bit_numbers_that_need_no_code_of_ours(written, source, tokenizer):
    ids = np.fromfile(written / "tokens-00001.bin", "<u2")
    rows = np.load(written / "documents-00001.npy", allow_pickle=False)
    assert rows.dtype == np.dtype("<u4")
    assert rows.shape == (SHARD, 2)
    assert (ids[rows[:, 0] - 1] == tokenizer.eos_id).all()
    assert (ids == tokenizer.eos_id).sum() == SHARD
    exercise = source.at(SHARD)  # the first of shard 1
    assert tokenizer.decode(ids[: rows[0, 1]]) == exercise.prompt
    assert tokenizer.decode(ids[rows[0, 1] : rows[0, 0]]) == exercise.completion


def test_manifest_counts_what_is_there(written):
    manifest = json.loads((written / "manifest.json").read_text())
    shards = [TokenDocuments(written)._shard(number) for number in range(4)]
    assert manifest["num_documents"] == sum(map(len, shards)) == NUM
    assert manifest["num_tokens"] == sum(len(shard.ids) for shard in shards)
    assert manifest["num_prompt_tokens"] == sum(int(shard.num_prompts.sum()) for shard in shards)


def test_packed_from_disk_is_packed_from_the_source(written, source, tokenizer):
    jumps = Jumps(0.5, 0.5, 5, 1000, seed=3)
    for loss_on in ("all", "completion"):
        for cursor in (0, 17):
            packed, following = Packer(source, tokenizer, 3, 300, loss_on, jumps).batch(cursor)
            copy, copy_following = Packer(TokenDocuments(written), tokenizer, 3, 300, loss_on, jumps).batch(cursor)
            assert copy_following == following
            for name in ("tokens", "targets", "positions", "documents", "loss_mask"):
                assert getattr(copy, name).dtype == getattr(packed, name).dtype
                assert (getattr(copy, name) == getattr(packed, name)).all()


def test_two_workers_write_the_same_bytes(written, source, tokenizer, tmp_path):
    write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, workers=2)
    assert files_of(tmp_path / "set") == files_of(written)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_in_any_order_write_the_same_bytes_and_the_last_one_the_manifest(
    written, source, tokenizer, tmp_path, order
):
    for number in order:
        assert not (tmp_path / "set" / "manifest.json").exists()
        write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, part=(number, 3))
    assert files_of(tmp_path / "set") == files_of(written)


def test_parts_share_out_all_jobs_and_none_twice():
    jobs = list(range(10))
    assert sorted(job for number in range(3) for job in share_of(jobs, (number, 3))) == jobs
    assert list(share_of(jobs, None)) == jobs


@pytest.mark.parametrize("part", [(3, 3), (-1, 3), (0, 0)])
def test_a_part_that_is_none_is_refused(source, tokenizer, tmp_path, part):
    with pytest.raises(DataError, match="give \\(i, N\\) with i from 0 to N - 1"):
        write_tokens(tmp_path / "set", source, tokenizer, NUM, part=part)


def test_what_is_whole_is_kept_and_what_is_damaged_written_anew(written, source, tokenizer, tmp_path):
    folder = write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD)
    flipped = bytearray((folder / "tokens-00002.bin").read_bytes())
    flipped[5] ^= 1
    (folder / "tokens-00002.bin").write_bytes(flipped)
    (folder / "documents-00003.npy").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.bin")}
    told = []
    write_tokens(folder, source, tokenizer, NUM, shard_size=SHARD, on_shard=lambda *numbers: told.append(numbers))
    assert told == [(3, 4), (4, 4)]
    anew = {path.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert anew == {"tokens-00002.bin", "tokens-00003.bin"}
    assert files_of(folder) == files_of(written)


def test_killed_and_run_again_gives_the_same_bytes(written, source, tokenizer, tmp_path):
    """The writer is killed as soon as it has one whole shard; a second one finds that shard and keeps it."""
    code = (
        "import sys, pickle; from gsm_lab.data import write_tokens; "
        "source, tokenizer = pickle.load(open(sys.argv[2], 'rb')); "
        f"write_tokens(sys.argv[1], source, tokenizer, {NUM}, shard_size={SHARD}, "
        "on_shard=lambda *_: print('whole', flush=True) or sys.stdin.readline())"
    )
    (tmp_path / "source").write_bytes(pickle.dumps((source, tokenizer)))
    arguments = [sys.executable, "-c", code, str(tmp_path / "set"), str(tmp_path / "source")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "whole\n"
        os.kill(writer.pid, signal.SIGKILL)
    with pytest.raises(DataError, match="interrupted, so run the same command again"):
        TokenDocuments(tmp_path / "set")
    told = []
    write_tokens(
        tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, on_shard=lambda *numbers: told.append(numbers)
    )
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert files_of(tmp_path / "set") == files_of(written)


def test_a_folder_of_other_settings_is_refused_with_the_difference(written, mixture, tokenizer):
    other = ExerciseSource(mixture, "pretrain", 1)
    with pytest.raises(
        DataError, match=r"another data set \(num_problems: 70 there, 80 asked; seed: 0 there, 1 asked\)"
    ):
        write_tokens(written, other, tokenizer, 80, shard_size=SHARD)


def test_a_half_written_folder_of_other_settings_is_refused_too(source, tokenizer, tmp_path):
    write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, part=(0, 2))
    with pytest.raises(DataError, match=r"\(shard_size: 20 there, 30 asked\)"):
        write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=30, part=(1, 2))


def test_differences_are_named_by_their_place():
    there = {"a": [{"op": 3}, {"op": 4}], "b": 1, "c": [1]}
    asked = {"a": [{"op": 3}, {"op": 5}], "c": [1, 2], "d": None}
    assert list(differences(there, asked)) == [
        "a.1.op: 4 there, 5 asked",
        "b: 1 there, None asked",
        "c: [1] there, [1, 2] asked",
    ]
    assert not list(differences(there, there))


def test_a_folder_with_files_of_somebody_else_is_refused(source, tokenizer, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match=r"holds 'thesis\.tex'"):
        write_tokens(tmp_path, source, tokenizer, NUM)


def test_a_file_in_place_of_the_folder_is_refused(source, tokenizer, tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        write_tokens(tmp_path / "set", source, tokenizer, NUM)


def test_a_second_writer_is_refused_but_not_one_of_another_part(source, tokenizer, tmp_path):
    with only_writer(tmp_path / "set", (0, 2)):
        with pytest.raises(DataError, match="is being written already"):
            write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, part=(0, 2))
        write_tokens(tmp_path / "set", source, tokenizer, NUM, shard_size=SHARD, part=(1, 2))


def test_about_so_many_tokens_are_written_as_asked(source, tokenizer, tmp_path):
    documents = TokenDocuments(write_tokens(tmp_path / "set", source, tokenizer, num_tokens=30_000))
    assert len(documents) == problems_for(30_000, DrawnDocuments(source, tokenizer))
    # about 400 documents with a standard deviation of some 60 %: 3 % of the total
    assert abs(documents.num_tokens - 30_000) < 4000


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({}, "give one of them"),
        ({"num_problems": 3, "num_tokens": 5}, "give one of them"),
        ({"num_problems": 0}, "num_problems=0: give a whole number"),
        ({"num_tokens": -1}, "num_tokens=-1: give a whole number"),
        ({"num_problems": 3, "shard_size": 0}, "shard_size=0"),
        ({"num_problems": 3, "workers": 0}, "workers=0"),
    ],
)
def test_numbers_that_make_no_data_set_are_refused(source, tokenizer, tmp_path, numbers, message):
    with pytest.raises(DataError, match=message):
        write_tokens(tmp_path / "set", source, tokenizer, **numbers)


def test_more_ids_than_16_bits_hold_are_refused(source, tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f" {a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters[:4]]
    with pytest.raises(TokenError, match=r"has 70336 ids and 16 bits hold 65536"):
        write_tokens(tmp_path / "set", source, Tokenizer(words), NUM)


def test_a_shard_of_more_tokens_than_its_index_counts_is_refused(source, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "MOST_TOKENS", 100)
    with pytest.raises(DataError, match=r"shard 0 has \d+ tokens, 100 are the most: lower shard_size"):
        write_tokens(tmp_path / "set", source, tokenizer, NUM)


@pytest.mark.parametrize("name", ["tokens-00001.bin", "documents-00000.npy"])
@pytest.mark.parametrize("fault", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_named_when_the_data_set_is_opened(written, tmp_path, name, fault):
    copy = copied(written, tmp_path)
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    if fault == "gone":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content if fault == "flipped" else content[:-2])
    with pytest.raises(DataError, match=f"{name} is damaged or missing"):
        TokenDocuments(copy)
    if fault == "flipped":  # the near miss: sizes alone do not show it
        assert len(TokenDocuments(copy, checksums=False)) == NUM
    else:
        with pytest.raises(DataError, match=f"{name} is damaged or missing"):
            TokenDocuments(copy, checksums=False)


def test_a_file_that_does_not_belong_there_is_named(written, tmp_path):
    copy = copied(written, tmp_path)
    (copy / "tokens-00004.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"tokens-00004\.bin does not belong"):
        TokenDocuments(copy)


def test_another_tokenizer_in_the_folder_is_noticed(written, tmp_path):
    copy = copied(written, tmp_path)
    Tokenizer([" apples"]).save(copy / "tokenizer")
    with pytest.raises(DataError, match="is not the tokenizer of these tokens"):
        TokenDocuments(copy)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"settings": 3, "shards": []}', '{"settings": {}, "shards": [3]}']
)
def test_a_damaged_manifest_is_refused(written, tmp_path, content):
    copy = copied(written, tmp_path)
    (copy / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        TokenDocuments(copy)


def test_a_data_set_of_another_format_is_refused(written, tmp_path):
    copy = copied(written, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["settings"]["format"] = "gsm_lab tokens, layout 2"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not of 'gsm_lab tokens, layout 1'"):
        TokenDocuments(copy)


@pytest.mark.parametrize("index", [-1, NUM])
def test_a_document_outside_the_data_set_is_refused(written, index):
    with pytest.raises(DataError, match=f"documents 0 to 69, and document {index} is wanted"):
        TokenDocuments(written).document(index)


def copied(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    for path in folder.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    return copy


def test_a_long_difference_is_told_by_its_length():
    (told,) = differences({"slices": [{"op": number} for number in range(18)]}, {"slices": [{"op": 1}] * 20})
    assert told == "slices: 18 entries there, 20 entries asked"
