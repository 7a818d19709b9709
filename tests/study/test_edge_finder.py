"""The edge finder on real weights: same result always, cut anywhere, nothing else touched, every answer graded."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from gsm_lab.data import split_of
from gsm_lab.errors import RecipeError, RunError
from gsm_lab.evaluation.edge import UNDECIDED, Edge, EdgeSettings
from gsm_lab.problems import grade
from gsm_lab.study import RunOptions, StageFolder, edge_finder
from gsm_lab.study.edge_finder import FinderSettings, edge_folder, find_edge, read_edge
from gsm_lab.study.evaluate import _uniforms as evaluation_uniforms
from gsm_lab.study.evaluate import test_problems as problems_of_the_test

SEARCH = EdgeSettings(k=4, id_from=0.5, hard_below=0.2, error=0.2, most_per_op=150, most_samples=200)
SETTINGS = FinderSettings(search=SEARCH)


@pytest.fixture(name="base")
def _base(copied_runs, small_recipe) -> StageFolder:
    return StageFolder(copied_runs, small_recipe, 0)


@pytest.fixture(name="sampled")
def _sampled(monkeypatch) -> list[int]:
    """Prompts of every call of the sampler."""
    calls: list[int] = []
    real = edge_finder.sample

    def counted(model, prompts, uniforms, **settings):
        calls.append(len(prompts))
        return real(model, prompts, uniforms, **settings)

    monkeypatch.setattr(edge_finder, "sample", counted)
    return calls


def test_the_result_is_whole_repeats_and_touches_nothing_else(base, bytes_below, sampled):
    before = bytes_below(base.path)
    shown: list[tuple[str, int, int]] = []
    options = RunOptions(on_progress=lambda name, done, total, figures: shown.append((name, done, total)))
    found = find_edge(base, SETTINGS, options)
    assert isinstance(found, Edge)
    assert [one.op for one in found.ops] == [2, 3]
    assert found.samples <= 200
    assert any(one.decision != UNDECIDED for one in found.ops)
    assert shown == [("edge of base", 1, 2), ("edge of base", 2, 2)]
    place = edge_folder(base, SETTINGS)
    first = bytes_below(place)
    assert sorted(first) == ["config.json", "edge.json", "op-002.parquet", "op-003.parquet"]
    assert {name: content for name, content in bytes_below(base.path).items() if place.name not in name} == before
    written = json.loads(first["edge.json"])
    assert written["checkpoint"] == base.result()["model.safetensors"]
    assert written["edge"]["ops"] == found.to_dict()["ops"]

    count = len(sampled)
    assert find_edge(base, SETTINGS).to_dict() == found.to_dict() == read_edge(base, SETTINGS).to_dict()
    assert len(sampled) == count  # what is known is not sampled again
    shutil.rmtree(place)
    find_edge(base, SETTINGS)
    assert bytes_below(place) == first


def test_a_search_that_was_cut_goes_on_and_samples_only_what_is_missing(base, bytes_below, sampled):
    find_edge(base, SETTINGS)
    place, count = edge_folder(base, SETTINGS), len(sampled)
    first = bytes_below(place)
    sizes = {file.name: pq.read_table(file).num_rows for file in place.glob("op-*.parquet")}
    for lost in (("edge.json",), ("edge.json", "op-002.parquet"), ("edge.json", "op-003.parquet")):
        for name in lost:
            (place / name).unlink()
        (place / ".op-002.parquet.x.part").write_bytes(b"half")
        sampled.clear()
        find_edge(base, SETTINGS)
        assert bytes_below(place) == first
        assert bool(sampled) == any(name in sizes for name in lost)
        assert len(sampled) < count
    (place / "op-002.parquet").write_bytes(first["op-002.parquet"][:100])
    (place / "edge.json").unlink()
    find_edge(base, SETTINGS)
    assert bytes_below(place) == first


def test_an_op_that_is_tested_further_later_on_keeps_all_its_completions(base, monkeypatch):
    real = edge_finder.edge.search_edge

    def twice(attempt, ops, settings, on_op):
        found = real(attempt, ops, settings, on_op)
        attempt(2, [900, 901], range(3))
        on_op(found.ops[0])
        return found

    found = find_edge(base, SETTINGS)
    shutil.rmtree(edge_folder(base, SETTINGS))
    monkeypatch.setattr(edge_finder.edge, "search_edge", twice)
    find_edge(base, SETTINGS)
    table = pq.read_table(edge_folder(base, SETTINGS) / "op-002.parquet").to_pandas()
    assert len(table) == found.ops[0].samples + 6
    assert (table["problem"] >= 900).sum() == 6


def test_counts_are_those_of_the_completions_that_are_kept(base):
    found = find_edge(base, SETTINGS)
    for one in found.ops:
        table = pq.read_table(edge_folder(base, SETTINGS) / f"op-{one.op:03d}.parquet").to_pandas()
        assert len(table) == one.samples
        assert table["problem"].nunique() == one.problems
        assert table[table["sample"] == 0]["verified"].mean() == pytest.approx(one.pass_1.value)
        assert not table.duplicated(["problem", "sample"]).any()
        assert {split_of(identity) for identity in table["problem_id"]} == {"test"}


def test_every_completion_has_the_grade_that_its_text_earns(base):
    find_edge(base, SETTINGS)
    for op in (2, 3):
        table = pq.read_table(edge_folder(base, SETTINGS) / f"op-{op:03d}.parquet").to_pandas()
        problems = sorted(set(table["problem"].tolist()))
        exercises = dict(zip(problems, edge_finder._exercises(base.recipe, SETTINGS, op, problems), strict=True))
        assert {exercise.op for exercise in exercises.values()} == {op}
        limit = base.recipe.evaluation.max_new_tokens
        for row in table.itertuples():
            exercise = exercises[row.problem]
            assert row.problem_id == exercise.problem_id
            result = grade(exercise, row.completion, finished=row.tokens < limit or row.verdict != "truncated")
            assert (result.verdict.value, result.verified) == (row.verdict, row.verified)


def test_no_random_number_is_shared_with_the_evaluation_or_another_sample(small_recipe):
    ours = [
        edge_finder._uniforms(small_recipe, FinderSettings(seed=seed), op, problem, range(4))
        for seed in (0, 1)
        for op in (2, 3)
        for problem in range(3)
    ]
    theirs = [
        evaluation_uniforms(small_recipe, one, one.context)
        for op in (2, 3)
        for one in problems_of_the_test(small_recipe, op)
    ]
    numbers = np.concatenate([array.ravel() for array in (*ours, *theirs)])
    assert len(np.unique(numbers)) == numbers.size


def test_the_random_numbers_of_a_sample_do_not_depend_on_the_round_that_asks_for_it(small_recipe):
    whole = edge_finder._uniforms(small_recipe, SETTINGS, 2, 5, range(8))
    parts = [edge_finder._uniforms(small_recipe, SETTINGS, 2, 5, part) for part in (range(3), range(3, 8))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_other_settings_are_kept_apart(base):
    places = {
        edge_folder(base, settings)
        for settings in (
            SETTINGS,
            FinderSettings(search=SEARCH, seed=1),
            FinderSettings(search=SEARCH, split="validation"),
            FinderSettings(search=SEARCH, ops=(2,)),
            FinderSettings(),
        )
    }
    assert len(places) == 5
    assert edge_folder(base, FinderSettings(search=SEARCH, ops=(3, 2))) == edge_folder(base, SETTINGS)


def test_a_stage_that_is_not_trained_is_refused(small_recipe, tmp_path):
    with pytest.raises(RunError, match="not trained to its end"):
        find_edge(StageFolder(tmp_path, small_recipe, 0), SETTINGS)
    assert not list(tmp_path.iterdir())


def test_what_other_weights_gave_is_refused(base):
    find_edge(base, SETTINGS)
    done = json.loads((base.path / "done.json").read_text())
    done["checkpoint"]["model.safetensors"] = "0" * 64
    (base.path / "done.json").write_text(json.dumps(done))
    with pytest.raises(RunError, match="was made with other weights"):
        find_edge(base, SETTINGS)


def test_completions_that_were_changed_are_refused(base):
    find_edge(base, SETTINGS)
    file = edge_folder(base, SETTINGS) / "op-002.parquet"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RunError, match=r"op-002.parquet is missing or has changed"):
        read_edge(base, SETTINGS)


def test_a_length_limit_that_cuts_gold_solutions_is_refused_before_anything_is_sampled(base, sampled):
    short = base.recipe.evaluation.model_copy(update={"max_new_tokens": 8})
    folder = StageFolder(base.home, base.recipe.model_copy(update={"evaluation": short}), 0)
    with pytest.raises(RecipeError, match="edge finder, op 2: a gold solution has"):
        find_edge(folder, SETTINGS)
    assert not sampled
