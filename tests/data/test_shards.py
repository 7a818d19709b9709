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
    HeldOut,
    Mixture,
    Slice,
    Tokenizer,
    is_whole,
    overlap,
    read_dataset,
    read_manifest,
    split_of,
    write_dataset,
)
from gsm_lab.data.jobs import only_writer
from gsm_lab.data.rows import SCHEMA
from gsm_lab.errors import DataError, SpecError, StorageError
from gsm_lab.problems import LEVELS, ProblemSpec, Style, Template, read_problem

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


EVERY_KIND = Mixture(
    (
        Slice(ProblemSpec(op=6, mode="reverse"), "museum", "paraphrase", 0.25, Style(sentence_order="reversed")),
        Slice(
            ProblemSpec(op=9, implicit_totals=0.8, nested_totals=0.5),
            weight=0.25,
            style=Style(form="think", rules=True),
        ),
        Slice(ProblemSpec(op=4, modulus=23), "harbour", "chinese", 0.25, Style(trace_order="random", recovery=0.3)),
        Slice(ProblemSpec(op=1, distractors=0), "bakery", "symbolic", 0.25, Style(form="answer_only")),
    )
)


def test_exercises_of_every_kind_are_read_as_they_were(tmp_path):
    source = ExerciseSource(EVERY_KIND, "pretrain", 0)
    folder = write_dataset(tmp_path / "set", source, 60, 25)
    read = list(read_dataset(folder))
    assert read == [source.at(index) for index in range(60)]
    assert {(one.problem.mode, one.frames, one.style.form) for one in read} == {
        ("reverse", "paraphrase", "steps"),
        ("forward", "english", "think"),
        ("forward", "chinese", "steps"),
        ("forward", "symbolic", "answer_only"),
    }


def test_disorder_is_null_where_there_is_no_order(tmp_path):
    """Not nan, which would spoil every mean that a table is asked for."""
    source = ExerciseSource(Mixture((Slice(ProblemSpec(op=1, distractors=0)),)), "pretrain", 0)
    folder = write_dataset(tmp_path / "set", source, 5)
    column = pq.read_table(folder / "data/pretrain-00000.parquet", columns=["disorder"]).column("disorder")
    assert column.to_pylist() == [None] * 5


def test_a_data_set_is_read_without_the_files_that_its_words_came_from(tmp_path):
    for kind, name in (("contexts", "zoo"), ("frames", "english")):
        text = (Path(gsm_lab.__file__).parent / "problems" / kind / f"{name}.toml").read_text()
        (tmp_path / f"{kind}.toml").write_text(text.replace(f'name = "{name}"', f'name = "my_{name}"'))
    paths = [str(tmp_path / f"{kind}.toml") for kind in ("contexts", "frames")]
    source = ExerciseSource(Mixture((Slice(ProblemSpec(op=4), *paths),)), "rl", 0)
    folder = write_dataset(tmp_path / "set", source, 5)
    for path in paths:
        Path(path).unlink()
    read = list(read_dataset(folder))
    assert read == [source.at(index) for index in range(5)]
    assert {(one.context, one.frames) for one in read} == {("my_zoo", "my_english")}
    template = Template.from_dict(read_manifest(folder)["templates"][source.settings()["templates"][0]])
    assert read_problem(read[0].prompt, template).answer == read[0].answer


def test_a_deleted_shard_is_written_again_with_the_same_bytes_and_the_others_are_kept(
    dataset, pristine, source, tokenizer
):
    kept = dataset / "data/test-00000.parquet"
    before = kept.stat().st_mtime_ns
    (dataset / "data/test-00001.parquet").unlink()
    done = []
    write_dataset(dataset, source, NUMBER, SHARD, tokenizer, on_shard=done.append)
    assert bytes_of(dataset) == bytes_of(pristine)
    assert kept.stat().st_mtime_ns == before
    assert [(one.shards, one.all_shards) for one in done] == [(3, 3)]


class Killed(BaseException):
    """What an interrupt looks like from inside."""


@pytest.mark.parametrize("shards_done", [1, 2, 3])
def test_killed_and_run_again_the_bytes_are_the_same(pristine, source, tokenizer, tmp_path, shards_done):
    def kill(progress):
        if progress.shards == shards_done:
            raise Killed

    folder = tmp_path / "set"
    with pytest.raises(Killed):
        write_dataset(folder, source, NUMBER, SHARD, tokenizer, on_shard=kill)
    assert not is_whole(folder)
    (folder / "data" / ".test-00002.parquet.xyz.part").write_bytes(b"left by a writer that was killed")
    written = []
    write_dataset(folder, source, NUMBER, SHARD, tokenizer, on_shard=written.append)
    assert is_whole(folder)
    assert bytes_of(folder) == bytes_of(pristine)
    assert [one.shards for one in written] == [*range(shards_done + 1, 4)]


def test_an_interrupted_data_set_cannot_be_read(source, tmp_path):
    def kill(progress):
        raise Killed

    with pytest.raises(Killed):
        write_dataset(tmp_path / "set", source, NUMBER, SHARD, on_shard=kill)
    with pytest.raises(DataError, match="interrupted, so run the same command again"):
        read_dataset(tmp_path / "set")


def test_progress_is_told_shard_by_shard(source, tokenizer, pristine, tmp_path):
    seen = []
    write_dataset(tmp_path / "set", source, NUMBER, SHARD, tokenizer, on_shard=seen.append)
    assert [(one.shards, one.all_shards) for one in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [(one.problems, one.all_problems) for one in seen] == [(20, 50), (40, 50), (50, 50)]
    counts = read_manifest(pristine)["splits"]["test"]
    assert seen[-1].tokens == counts["prompt_tokens"] + counts["completion_tokens"]
    last = seen[-1]
    assert last.problems_per_second == 50 / last.seconds
    assert last.tokens_per_second == last.tokens / last.seconds
    assert last.seconds_left == 0
    assert seen[0].seconds_left == pytest.approx(seen[0].seconds * 30 / 20)


def test_speed_is_of_this_run_alone(dataset, source, tokenizer):
    (dataset / "data/test-00001.parquet").unlink()
    seen = []
    write_dataset(dataset, source, NUMBER, SHARD, tokenizer, on_shard=seen.append)
    assert [(one.problems, one.new_problems) for one in seen] == [(50, 20)]
    assert seen[0].problems_per_second == 20 / seen[0].seconds
    assert seen[0].new_tokens < seen[0].tokens


def test_without_a_tokenizer_there_are_no_tokens_to_tell(source, tmp_path):
    seen = []
    folder = write_dataset(tmp_path / "set", source, 5, on_shard=seen.append)
    assert seen[0].tokens is seen[0].tokens_per_second is None
    assert "prompt_tokens" not in read_manifest(folder)["splits"]["test"]


def test_the_manifest_tells_settings_counts_and_checksums(pristine, source, tokenizer):
    manifest = read_manifest(pristine)
    drawn = [source.draw(index) for index in range(NUMBER)]
    exercises = [one.exercise for one in drawn]
    settings = manifest["settings"]["sources"][0]
    assert (settings["num_problems"], settings["seed"], settings["split"]) == (NUMBER, 4, "test")
    assert [piece["spec"]["op"] for piece in settings["mixture"]["slices"]] == [3, 5]
    assert [shard["rows"] for shard in manifest["shards"]] == [20, 20, 10]
    counts = manifest["splits"]["test"]
    assert counts["rows"] == NUMBER
    for level in LEVELS:
        assert counts["different"][level] == len({getattr(one.identities, level) for one in exercises})
    for kind, values in (("op", [3, 5]), ("context", ["school", "zoo"]), ("frames", ["english", "terse"])):
        rows = [[value, sum(getattr(exercise, kind) == value for exercise in exercises)] for value in values]
        assert counts["rows_by"][kind] == rows
    assert counts["rows_by"]["mode"] == [["forward", NUMBER]]
    assert counts["rows_by"]["language"] == [["en", NUMBER]]
    depths = [exercise.sizes()["depth"] for exercise in exercises]
    mean = pytest.approx(sum(depths) / NUMBER)
    assert counts["sizes"]["depth"] == {"least": min(depths), "mean": mean, "greatest": max(depths)}
    assert counts["drawn_per_row"]["problems"] == sum(one.problems for one in drawn) / NUMBER
    assert counts["prompt_tokens"] == sum(len(tokenizer.encode(exercise.prompt)) for exercise in exercises)
    ends = NUMBER
    completions = sum(len(tokenizer.encode(exercise.completion)) for exercise in exercises)
    assert counts["completion_tokens"] == completions + ends


def test_the_tokenizer_lies_beside_the_shards(pristine, tokenizer):
    assert Tokenizer.load(pristine / "tokenizer") == tokenizer


def test_columns_agree_with_the_exercise_they_stand_beside(pristine, source):
    rows = pq.read_table(pristine / "data/test-00000.parquet", schema=SCHEMA).to_pylist()
    for index, (row, exercise) in enumerate(zip(rows, read_dataset(pristine), strict=False)):
        value = json.loads(json.dumps(exercise.to_dict()))
        assert json.loads(row["graph"]) == value["problem"]
        assert " " not in row["graph"]
        assert (row["names"], row["sentences"]) == (value["names"], value["sentences"])
        assert split_of(row["problem_id"]) == row["split"] == "test"
        for name in ("context", "frames", "prompt", "completion", "answer"):
            assert row[name] == getattr(exercise, name)
        assert {name: row[name] for name in LEVELS} == exercise.identities._asdict()
        assert {name: row[name] for name in exercise.sizes()} == exercise.sizes()
        assert (row["mode"], row["language"], row["slice"]) == ("forward", "en", source.slice_of(index))
        share = exercise.disorder
        assert row["disorder"] is None if share != share else row["disorder"] == pytest.approx(share)


@pytest.fixture(scope="module")
def several(mixture, tmp_path_factory):
    """Three splits in one folder."""
    sources = [ExerciseSource(mixture, split, 4) for split in ("pretrain", "rl", "test")]
    return write_dataset(tmp_path_factory.mktemp("data") / "several", sources, [40, 25, 10], 15)


def test_one_folder_holds_several_splits_each_as_its_source_gives_it(several, mixture):
    names = sorted(path.name for path in (several / "data").iterdir())
    assert [f"{split}-0000{number}.parquet" for split, size in (("pretrain", 3), ("rl", 2), ("test", 1))
            for number in range(size)] == names  # fmt: skip
    for split, number in (("pretrain", 40), ("rl", 25), ("test", 10)):
        source = ExerciseSource(mixture, split, 4)
        assert list(read_dataset(several, split)) == [source.at(index) for index in range(number)]
        assert read_manifest(several)["splits"][split]["rows"] == number
    assert len(list(read_dataset(several))) == 75


def test_the_manifest_tells_the_overlap_of_every_pair_of_splits_at_every_level(several):
    pairs = read_manifest(several)["overlap"]
    assert [pair["splits"] for pair in pairs] == [["pretrain", "rl"], ["pretrain", "test"], ["rl", "test"]]
    for pair in pairs:
        one, other = ([*read_dataset(several, split)] for split in pair["splits"])
        for level in LEVELS:
            own, others = ({getattr(exercise.identities, level) for exercise in of} for of in (one, other))
            assert pair[level] == len(own & others)
        assert pair["problem_id"] == 0
    assert pairs[0]["structure_id"] > 0  # near miss: op 3 has few structures


def test_a_split_that_is_not_there_cannot_be_read(several):
    with pytest.raises(DataError, match=r"split='validation': .* has pretrain, rl, test"):
        read_dataset(several, "validation")


def test_two_sources_for_one_split_are_refused(mixture, tmp_path):
    sources = [ExerciseSource(mixture, "rl", seed) for seed in (0, 1)]
    with pytest.raises(DataError, match="have the splits rl, rl: give one source for each split"):
        write_dataset(tmp_path / "set", sources, [5, 5])


def test_sources_that_share_out_identities_differently_are_refused(mixture, tmp_path):
    sources = [ExerciseSource(mixture, "rl", 0), ExerciseSource(mixture, "test", 0, split_by="structure_id")]
    with pytest.raises(DataError, match=r"split by problem_id, structure_id, .*: make them alike"):
        write_dataset(tmp_path / "set", sources, [5, 5])


def test_one_number_for_two_sources_is_refused(mixture, tmp_path):
    sources = [ExerciseSource(mixture, split, 0) for split in ("rl", "test")]
    with pytest.raises(DataError, match="2 sources and num_problems=5: give a number for each"):
        write_dataset(tmp_path / "set", sources, 5)


def test_the_lines_of_the_card_write_the_same_bytes(dataset, pristine, tmp_path):
    text = (dataset / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE)}
    subprocess.run([sys.executable, "-c", code], cwd=dataset, env=environment, check=True)
    assert bytes_of(dataset / "again") == bytes_of(pristine)


def test_the_lines_of_the_card_hold_for_shares_in_tokens_and_settings_of_every_kind(tokenizer, tmp_path):
    slices = (
        Slice(ProblemSpec(op=4, modulus=23, operations=("add",)), "festival", "terse", 0.3),
        Slice(ProblemSpec(op=3, distractors=(0, 1), places=5), weight=0.7, places_from=5, style=Style(rules=True)),
    )
    held_out = HeldOut(("0" * 32,), "rl")
    sources = [
        ExerciseSource(mixture, split, 1, tokenizer, "numbers_id", held_out)
        for split, mixture in (("rl", Mixture(slices, "tokens")), ("test", Mixture(slices[::-1], "tokens")))
    ]
    folder = write_dataset(tmp_path / "set", sources, [10, 5], 6)
    before = bytes_of(folder)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    assert bytes_of(folder / "again") == before


def test_the_card_tells_what_the_manifest_does(pristine):
    text, manifest = (pristine / "README.md").read_text(), read_manifest(pristine)
    counts = manifest["splits"]["test"]
    assert "50 exercises in 3 Parquet shards" in text
    different = [f"{counts['different'][level]:,}" for level in LEVELS]
    drawn = f"{counts['drawn_per_row']['problems']:.2f}"
    assert " | ".join(["| `test` | 50", *different, drawn, f"{counts['prompt_tokens']:,}"]) in text
    assert "| distractors | quantities that the answer does not depend on | 0 |" in text
    assert re.search(r"\| 1 \| 5 \| forward \| `school` \| `terse` \| 0.75 \| 0.7500 \|", text)
    for of in manifest["structures"]:
        assert f"| {of['op']} | forward | {of['draws']} | {of['different']} |" in text
    for of in manifest["guesses"]:
        assert f"| {of['surface']['guess']} | {100 * of['surface']['share']:.1f} % (" in text


def test_the_card_tells_the_overlap_of_splits(several):
    pair = read_manifest(several)["overlap"][0]
    text = (several / "README.md").read_text()
    assert f"| `pretrain` and `rl` | {pair['structure_id']} | {pair['numbers_id']} | 0 |" in text


def test_splits_share_no_problem_and_a_data_set_shares_all_with_itself(pristine, mixture, tmp_path):
    """Law 5, on disk; the small problem space makes chance overlaps within a split."""
    small = Mixture((Slice(ProblemSpec(op=3, distractors=(0, 0)), "zoo", "terse"),))
    folders = [
        write_dataset(tmp_path / f"{split}{seed}", ExerciseSource(small, split, seed), 60)
        for split, seed in (("pretrain", 0), ("midtrain", 0), ("test", 0), ("test", 1))
    ]
    assert overlap(folders[0], folders[1]) == overlap(folders[1], folders[2]) == overlap(folders[0], folders[3]) == 0
    assert overlap(folders[2], folders[3]) > 0
    different = read_manifest(pristine)["splits"]["test"]["different"]
    assert {level: overlap(pristine, pristine, level) for level in LEVELS} == different
    assert overlap(folders[0], folders[1], "structure_id") > 0


def test_a_truncated_shard_is_named(dataset):
    path = dataset / "data/test-00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"data/test-00001.parquet is damaged .*Write the data set again"):
        read_dataset(dataset)


def test_near_miss_one_flipped_bit_is_found(dataset):
    path = dataset / "data/test-00002.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data/test-00002.parquet is damaged"):
        read_dataset(dataset)


def test_a_missing_shard_is_named(dataset):
    (dataset / "data/test-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"data/test-00000.parquet is damaged or missing"):
        read_dataset(dataset)


def test_a_shard_of_another_data_set_is_named(dataset):
    (dataset / "data/test-00007.parquet").write_bytes((dataset / "data/test-00000.parquet").read_bytes())
    with pytest.raises(DataError, match=r"data/test-00007.parquet does not belong to this data set"):
        read_dataset(dataset)


def test_a_truncated_shard_is_written_again(dataset, pristine, source, tokenizer):
    path = dataset / "data/test-00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    write_dataset(dataset, source, NUMBER, SHARD, tokenizer)
    assert bytes_of(dataset) == bytes_of(pristine)


def test_a_damaged_manifest_is_refused(dataset):
    path = dataset / "manifest.json"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(DataError, match=r"manifest.json is damaged .*write the data set again"):
        read_dataset(dataset)


def test_a_manifest_of_another_layout_is_refused(dataset):
    path = dataset / "manifest.json"
    path.write_text(path.read_text().replace("layout 2", "layout 1"))
    with pytest.raises(DataError, match=r"is not of 'gsm_lab data set, layout 2'"):
        read_dataset(dataset)


def test_a_folder_without_a_data_set_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*manifest.json: give the folder of a data set"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("seed", "split", "number", "differing"),
    [
        (5, "test", NUMBER, r"sources.0.seed: 4 there, 5 asked"),
        (4, "rl", NUMBER, r"sources.0.split: test there, rl asked"),
        (4, "test", NUMBER + 1, r"sources.0.num_problems: 50 there, 51 asked"),
    ],
)
def test_a_folder_with_another_data_set_is_refused_and_left_alone(
    dataset, mixture, tokenizer, seed, split, number, differing
):
    before = bytes_of(dataset)
    with pytest.raises(DataError, match=rf"holds another data set \({differing}\): give a new folder"):
        write_dataset(dataset, ExerciseSource(mixture, split, seed), number, SHARD, tokenizer)
    assert bytes_of(dataset) == before


def test_a_folder_with_foreign_files_is_refused_and_left_alone(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("the only copy")
    with pytest.raises(DataError, match=r"holds 'thesis.tex', but neither manifest.json nor progress"):
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
    assert re.search(r"data/test-0000[01].parquet could not be written .*nothing was left there", done.stdout)
    assert set(bytes_of(tmp_path / "set")) == {"progress/settings.json"}


def test_a_shard_is_one_row_group(pristine):
    metadata = [pq.read_metadata(path) for path in sorted(pristine.glob("data/*.parquet"))]
    assert [(shard.num_rows, shard.num_row_groups) for shard in metadata] == [(20, 1), (20, 1), (10, 1)]


def test_a_second_writer_is_refused(tmp_path, source):
    with only_writer(tmp_path / "set"):
        with pytest.raises(DataError, match="is being written already: wait for that process"):
            write_dataset(tmp_path / "set", source, 10)
        assert not (tmp_path / "set").exists()
    assert write_dataset(tmp_path / "set", source, 10).is_dir()
