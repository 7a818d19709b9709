"""Laws of data sets on disk: the same bytes always, whole or no data set, nothing damaged is read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import gsm_lab
from gsm_lab.data import (
    ExerciseSource,
    Mixture,
    Slice,
    Tokenizer,
    overlap,
    read_dataset,
    read_manifest,
    split_of,
    write_dataset,
)
from gsm_lab.data.shards import SCHEMA, _only_writer
from gsm_lab.errors import DataError, SpecError, StorageError
from gsm_lab.problems import ProblemSpec

SOURCE_TREE = Path(gsm_lab.__file__).parents[1]
NUMBER, SHARD = 50, 20


@pytest.fixture(scope="module")
def source(mixture):
    return ExerciseSource(mixture, "test", 4)


@pytest.fixture(scope="module")
def pristine(source, tokenizer, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "set", source, NUMBER, SHARD, tokenizer)


@pytest.fixture
def dataset(pristine, tmp_path):
    """A copy that may be damaged."""
    copy = tmp_path / "set"
    for name, content in bytes_of(pristine).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    return copy


def bytes_of(folder):
    """Every file of the folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_is_what_the_source_gives(pristine, source):
    assert list(read_dataset(pristine)) == [source.at(index) for index in range(NUMBER)]


def test_bytes_are_the_same_with_one_and_two_workers(pristine, source, tokenizer, tmp_path):
    two = write_dataset(tmp_path / "two", source, NUMBER, SHARD, tokenizer, workers=2)
    assert bytes_of(two) == bytes_of(pristine)


def test_a_deleted_shard_is_written_again_with_the_same_bytes_and_the_others_are_kept(
    dataset, pristine, source, tokenizer
):
    kept = dataset / "shard-00000.parquet"
    before = kept.stat().st_mtime_ns
    (dataset / "shard-00001.parquet").unlink()
    done = []
    write_dataset(dataset, source, NUMBER, SHARD, tokenizer, on_shard=lambda *numbers: done.append(numbers))
    assert bytes_of(dataset) == bytes_of(pristine)
    assert kept.stat().st_mtime_ns == before
    assert done == [(3, 3)]


class Killed(BaseException):
    """What an interrupt looks like from inside."""


@pytest.mark.parametrize("shards_done", [1, 2, 3])
def test_killed_and_run_again_the_bytes_are_the_same(pristine, source, tokenizer, tmp_path, shards_done):
    def kill(done, total):
        if done == shards_done:
            raise Killed

    folder = tmp_path / "set"
    with pytest.raises(Killed):
        write_dataset(folder, source, NUMBER, SHARD, tokenizer, on_shard=kill)
    assert not (folder / "manifest.json").exists()
    (folder / ".shard-00002.parquet.xyz.part").write_bytes(b"left by a writer that was killed")
    written = []
    write_dataset(folder, source, NUMBER, SHARD, tokenizer, on_shard=lambda *numbers: written.append(numbers))
    assert bytes_of(folder) == bytes_of(pristine)
    assert written == [(number, 3) for number in range(shards_done + 1, 4)]


def test_an_interrupted_data_set_cannot_be_read(source, tmp_path):
    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        write_dataset(tmp_path / "set", source, NUMBER, SHARD, on_shard=kill)
    with pytest.raises(DataError, match="interrupted, so run the same command again"):
        read_dataset(tmp_path / "set")


def test_progress_is_told_shard_by_shard(source, tmp_path):
    seen = []
    write_dataset(tmp_path / "set", source, NUMBER, SHARD, on_shard=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_manifest_tells_settings_counts_and_checksums(pristine, source, tokenizer):
    manifest = read_manifest(pristine)
    exercises = [source.at(index) for index in range(NUMBER)]
    settings = manifest["settings"]
    assert (settings["num_problems"], settings["seed"], settings["split"]) == (NUMBER, 4, "test")
    assert [piece["spec"]["op"] for piece in settings["mixture"]["slices"]] == [3, 5]
    assert [shard["rows"] for shard in manifest["shards"]] == [20, 20, 10]
    assert manifest["num_distinct_problems"] == len({exercise.problem_id for exercise in exercises})
    for kind, values in (("op", [3, 5]), ("context", ["school", "zoo"]), ("frames", ["english", "terse"])):
        counts = [[value, sum(getattr(exercise, kind) == value for exercise in exercises)] for value in values]
        assert manifest["problems_by"][kind] == counts
    depths = [exercise.sizes()["depth"] for exercise in exercises]
    mean = pytest.approx(sum(depths) / NUMBER)
    assert manifest["sizes"]["depth"] == {"least": min(depths), "mean": mean, "greatest": max(depths)}
    assert manifest["prompt_tokens"] == sum(len(tokenizer.encode(exercise.prompt)) for exercise in exercises)
    ends = NUMBER
    completions = sum(len(tokenizer.encode(exercise.completion)) for exercise in exercises)
    assert manifest["completion_tokens"] == completions + ends


def test_the_tokenizer_lies_beside_the_shards(pristine, tokenizer):
    assert Tokenizer.load(pristine / "tokenizer") == tokenizer


def test_columns_agree_with_the_exercise_they_stand_beside(pristine):
    rows = pq.read_table(pristine / "shard-00000.parquet", schema=SCHEMA).to_pylist()
    for row, exercise in zip(rows, read_dataset(pristine), strict=False):
        assert json.loads(row.pop("exercise")) == json.loads(json.dumps(exercise.to_dict()))
        assert split_of(row["problem_id"]) == row["split"] == "test"
        for name in ("problem_id", "context", "frames", "prompt", "completion", "answer"):
            assert row[name] == getattr(exercise, name)
        assert {name: row[name] for name in exercise.sizes()} == exercise.sizes()


def test_the_lines_of_the_card_write_the_same_bytes(dataset, pristine, tmp_path):
    text = (dataset / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE)}
    subprocess.run([sys.executable, "-c", code], cwd=dataset, env=environment, check=True)
    assert bytes_of(dataset / "again") == bytes_of(pristine)


def test_the_lines_of_the_card_hold_for_shares_in_tokens_and_settings_of_every_kind(tokenizer, tmp_path):
    slices = (
        Slice(ProblemSpec(op=4, modulus=23, operations=("add",)), "festival", "terse", 0.3),
        Slice(ProblemSpec(op=3, distractors=(0, 1)), weight=0.7),
    )
    folder = write_dataset(tmp_path / "set", ExerciseSource(Mixture(slices, "tokens"), "rl", 1, tokenizer), 10)
    before = bytes_of(folder)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    assert bytes_of(folder / "again") == before


def test_the_card_tells_counts_and_sizes(pristine):
    text = (pristine / "README.md").read_text()
    distinct = read_manifest(pristine)["num_distinct_problems"]
    assert "50 exercises in 3 Parquet shards" in text
    assert f"{distinct} of the problems different" in text
    assert "| distractors | quantities that the answer does not depend on | 0 |" in text
    assert re.search(r"\| 5 \| `school` \| `terse` \| 0.75 \| 0.7500 \|", text)


def test_splits_share_no_problem_and_a_data_set_shares_all_with_itself(pristine, mixture, tmp_path):
    """Law 5, on disk; the small problem space makes chance overlaps within a split."""
    small = Mixture((Slice(ProblemSpec(op=2, distractors=(0, 0)), "zoo", "terse"),))
    folders = [
        write_dataset(tmp_path / f"{split}{seed}", ExerciseSource(small, split, seed), 60)
        for split, seed in (("pretrain", 0), ("midtrain", 0), ("test", 0), ("test", 1))
    ]
    assert overlap(folders[0], folders[1]) == overlap(folders[1], folders[2]) == overlap(folders[0], folders[3]) == 0
    assert overlap(folders[2], folders[3]) > 0
    assert overlap(pristine, pristine) == read_manifest(pristine)["num_distinct_problems"]


def test_a_truncated_shard_is_named(dataset):
    path = dataset / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"shard-00001.parquet is damaged .*Generate the data set again"):
        read_dataset(dataset)


def test_near_miss_one_flipped_bit_is_found(dataset):
    path = dataset / "shard-00002.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-00002.parquet is damaged"):
        read_dataset(dataset)


def test_a_missing_shard_is_named(dataset):
    (dataset / "shard-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"shard-00000.parquet is damaged or missing: its SHA-256 is no file"):
        read_dataset(dataset)


def test_a_shard_of_another_data_set_is_named(dataset):
    (dataset / "shard-00007.parquet").write_bytes((dataset / "shard-00000.parquet").read_bytes())
    with pytest.raises(DataError, match=r"shard-00007.parquet does not belong to this data set"):
        read_dataset(dataset)


def test_a_truncated_shard_is_written_again(dataset, pristine, source, tokenizer):
    path = dataset / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    write_dataset(dataset, source, NUMBER, SHARD, tokenizer)
    assert bytes_of(dataset) == bytes_of(pristine)


def test_a_damaged_manifest_is_refused(dataset):
    path = dataset / "manifest.json"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(DataError, match=r"manifest.json is damaged .*generate the data set again"):
        read_dataset(dataset)


def test_a_manifest_of_another_layout_is_refused(dataset):
    path = dataset / "manifest.json"
    path.write_text(path.read_text().replace("layout 1", "layout 0"))
    with pytest.raises(DataError, match=r"is not of 'gsm_lab data set, layout 1'"):
        read_dataset(dataset)


def test_a_folder_without_a_data_set_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*manifest.json: give the folder of a data set"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("seed", "split", "number", "differing"),
    [(5, "test", NUMBER, "seed"), (4, "rl", NUMBER, "split"), (4, "test", NUMBER + 1, "num_problems")],
)
def test_a_folder_with_another_data_set_is_refused_and_left_alone(
    dataset, mixture, tokenizer, seed, split, number, differing
):
    before = bytes_of(dataset)
    with pytest.raises(DataError, match=f"holds another data set, with other {differing}: give a new folder"):
        write_dataset(dataset, ExerciseSource(mixture, split, seed), number, SHARD, tokenizer)
    assert bytes_of(dataset) == before


def test_a_folder_with_foreign_files_is_refused_and_left_alone(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("the only copy")
    with pytest.raises(DataError, match=r"holds files, but neither manifest.json nor progress.json"):
        write_dataset(tmp_path, source, NUMBER)
    assert bytes_of(tmp_path) == {"thesis.tex": b"the only copy"}


def test_an_empty_folder_is_welcome(source, tmp_path):
    assert len(list(read_dataset(write_dataset(tmp_path, source, 3)))) == 3


@pytest.mark.parametrize("wrong", [{"num_problems": 0}, {"shard_size": 0}, {"workers": 0}])
def test_a_number_below_one_is_refused_before_any_work(source, tmp_path, wrong):
    settings = {"num_problems": 5, "shard_size": 5, "workers": 1} | wrong
    with pytest.raises(DataError, match=f"{next(iter(wrong))}=0: give a whole number of at least 1"):
        write_dataset(tmp_path / "set", source, **settings)
    assert not (tmp_path / "set").exists()


def test_a_slice_without_problems_is_refused_before_any_work(tmp_path):
    hopeless = Mixture((Slice(ProblemSpec(op=1, distractors=(0, 0), constants=(1, 1))),))
    with pytest.raises(SpecError, match="too few such problems"):
        write_dataset(tmp_path / "set", ExerciseSource(hopeless, "validation", 0), 5)
    assert not (tmp_path / "set").exists()


def test_a_file_in_place_of_the_folder_is_refused(source, tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(StorageError, match="is a file: give another name"):
        write_dataset(tmp_path / "set", source, 5)


FULL_DISK = """
import resource, sys
from gsm_lab.data import ExerciseSource, Mixture, Slice, write_dataset
from gsm_lab.errors import StorageError
from gsm_lab.problems import ProblemSpec
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
source = ExerciseSource(Mixture((Slice(ProblemSpec(op=6)),)), "test", 0)
try:
    write_dataset(sys.argv[1], source, 200, 100, workers=int(sys.argv[2]))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_leaves_no_manifest_and_no_half_file(tmp_path, workers):
    """No file may grow past 4096 bytes: that is enough for progress.json but not for a shard of 100 rows."""
    script = tmp_path / "full_disk.py"
    script.write_text(f"if __name__ == '__main__':\n{re.sub('^', '    ', FULL_DISK, flags=re.MULTILINE)}")
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE)}
    command = [sys.executable, str(script), str(tmp_path / "set"), str(workers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"shard-0000[01].parquet could not be written .*nothing was left there", done.stdout)
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"progress.json"}


def test_a_shard_is_one_row_group(pristine):
    metadata = [pq.read_metadata(path) for path in sorted(pristine.glob("*.parquet"))]
    assert [(shard.num_rows, shard.num_row_groups) for shard in metadata] == [(20, 1), (20, 1), (10, 1)]


def test_a_second_writer_is_refused(tmp_path, source):
    with _only_writer(tmp_path / "set"):
        with pytest.raises(DataError, match="is being written already: wait for that process"):
            write_dataset(tmp_path / "set", source, 10)
        assert not (tmp_path / "set").exists()
    assert write_dataset(tmp_path / "set", source, 10).is_dir()
