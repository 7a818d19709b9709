"""Notebooks define nothing and run from top to bottom: on made-up results of their studies, and on the committed ones.

The made-up results have every stage and seed of the real experiment, few problems, and files written by the functions
that reports are made of; their columns are held against those of committed results. The slow test sweeps a study at the
tiny scale instead, and reports on it.
"""

import ast
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from gsm_lab.evaluation import ALL, STRUCTURAL, differences, tabulate
from gsm_lab.study import Experiment, Ledger, StageCost, context_labels, load_experiment, plan, write_ledger
from gsm_lab.study.claims import judge, ks_of, pairs_of
from gsm_lab.study.ledger import Passes, Seconds

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDIES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/recipes.py"))

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of the Jupyter client
]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels find this source and leave their files in the test's folder; experiments are loaded from the root."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "temporary").mkdir()
    settings = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary"), "OMP_NUM_THREADS": "1"}
    for name, value in {**settings, "JUPYTER_PLATFORM_DIRS": "1"}.items():
        monkeypatch.setenv(name, value)


# ------------------------------------------------------------------------------------ what they are made of


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def definitions_in(source: str) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return [type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def test_there_is_a_notebook_for_every_study_and_a_tour() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted([*STUDIES, "tour"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_the_library_and_defines_nothing(path: Path) -> None:
    assert [name for source in code_of(path) for name in definitions_in(source)] == []
    assert any("from gsm_lab." in source for source in code_of(path))


@pytest.mark.parametrize("source", ["def f(): pass", "async def f(): pass", "class A: pass", "f = lambda: 1"])
def test_a_definition_is_seen(source: str) -> None:
    assert definitions_in(source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_shows(path: Path) -> None:
    """So that a change of a notebook is a change of its cells."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert text == nbformat.writes(notebook) + "\n"
    assert [cell.id for cell in notebook.cells] == [f"cell-{number}" for number in range(len(notebook.cells))]
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


# ------------------------------------------------------------------------------------ results that were made up


def made_up_rollouts(experiment: Experiment) -> pd.DataFrame:
    """Every stage and seed, the ends of every band, the contexts that matter; two problems each.

    Later stages are better, greater ops worse, and some problems are out of reach.
    """
    rng, recipe = np.random.default_rng(0), experiment.recipes[0]
    runs = [(job.recipe.stages[job.number].name, job.recipe.seed) for job in plan(experiment.recipes)]
    ops = sorted({op for band in experiment.bands.values() for op in band})
    has_contexts = any(axis.context != ALL for axis in experiment.axes)
    contexts = dict.fromkeys(context_labels(recipe)) if has_contexts else context_labels(recipe)[:1]
    index = pd.MultiIndex.from_product([runs, ops, contexts, ("a", "b")], names=["run", "op", "context", "problem_id"])
    items = index.to_frame(index=False)
    items["stage"], items["seed"] = items["run"].str[0], items["run"].str[1]
    items["problem_id"] += items["op"].astype(str)
    place = items["stage"].map({name: number for number, name in enumerate(experiment.stage_names)})
    ease = 1.0 - 0.09 * items["op"] + 0.2 * place / len(experiment.stage_names)
    items["chance"] = np.where(rng.random(len(items)) < ease, ease.clip(0.02, 0.95), 0.0)
    samples = pd.DataFrame({"sample": range(recipe.evaluation.samples)})
    table = items.drop(columns="run").merge(samples, how="cross")
    lot, chance = rng.random(len(table)), table.pop("chance")
    verified, right = lot < chance, lot < chance + 0.1
    return table.assign(
        answer=np.where(right, 7, 5),
        answer_correct=right,
        verdict=np.select([verified, right], ["correct", "lucky"], "wrong"),
        verified=verified,
        process_accuracy=np.where(verified, 1.0, 0.5),
        tokens=9,
        **{STRUCTURAL: ~verified & (rng.random(len(table)) < 0.5)},
    )


def made_up_ledger(experiment: Experiment) -> Ledger:
    """A thousand tokens and a million operations a step."""
    lines: dict[str, tuple[StageCost, ...]] = {}
    for recipe in experiment.recipes:
        line: tuple[StageCost, ...] = ()
        for number, stage in enumerate(recipe.stages):
            tokens, flops, seconds = Passes(trained=1e3 * stage.steps), Passes(trained=1e6 * stage.steps), Seconds(1.0)
            cost = StageCost(
                recipe.stage_id(number), stage.name, recipe.seed, stage.kind, stage.steps, 1000, tokens, flops, seconds
            )
            line = lines.setdefault(cost.id, (*line, cost))
    return Ledger(tuple(lines.values()))


def made_up_beyond_passes(experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The likelihood of gold and the novelty of structures, as `gsm_lab.study.beyond_passes` tabulates them."""
    gold = pd.MultiIndex.from_product(
        [experiment.stage_names, experiment.recipes[0].evaluation.ops], names=["stage", "op"]
    ).to_frame(index=False)
    gold["nll"] = 0.1 * gold["op"]
    gold = gold.assign(low=gold["nll"] - 0.05, high=gold["nll"] + 0.05, num_problems=3, num_seeds=3)
    novelty = pd.MultiIndex.from_product(
        [experiment.stage_names, experiment.recipes[0].evaluation.ops], names=["stage", "op"]
    ).to_frame(index=False)
    novelty = novelty.assign(num_tested=9, share_new=np.where(novelty["op"] == 6, 0.5, 0.0))
    for word in ("new", "known"):
        there = novelty["share_new"].gt(0) if word == "new" else novelty["share_new"].lt(1)
        for name, value in (("pass", 0.3), ("low", 0.2), ("high", 0.4)):
            novelty[f"{name}_{word}"] = np.where(there, value, np.nan)
    return gold, novelty


def write_made_up(experiment: Experiment, folder: Path) -> None:
    """The tables of a report, under their names, from made-up rollouts."""
    folder.mkdir(parents=True)
    rng, rollouts = np.random.default_rng(0), made_up_rollouts(experiment)
    bands, ks = experiment.bands, ks_of(experiment)
    table = tabulate(rollouts, rng, bands=bands, ks=ks, draws=20)
    gains = differences(rollouts, pairs_of(experiment), rng, bands=bands, ks=ks, draws=20)
    gold, novelty = made_up_beyond_passes(experiment)
    table.to_parquet(folder / "table.parquet")
    written = {
        "differences": gains[gains["band"].notna() & (gains["context"] == ALL)],
        "claims": judge(experiment, gains),
        "gold_nll": gold,
        "novelty": novelty,
    }
    for name, frame in written.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    write_ledger(made_up_ledger(experiment), folder)


# ------------------------------------------------------------------------------------ running them


def executed(path: Path, place: Path, study: str | None = None) -> nbformat.NotebookNode:
    """The notebook with what it shows, run in a folder; with another study if one is given."""
    notebook = nbformat.read(path, as_version=4)
    if study is not None:
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
        cell.source = f"study = {study!r}"
    NotebookClient(notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    return notebook


def shown_by(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def check_shown(notebook: nbformat.NotebookNode, experiment: Experiment) -> None:
    """A figure, every claim, no warning, and something from every cell but that of the parameters."""
    outputs = shown_by(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert [claim.name for claim in experiment.claims if claim.name not in "".join(tables)] == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and not cell.metadata.get("tags")]
    assert [cell.source for cell in code if not cell.outputs] == []


@pytest.fixture(scope="module", params=STUDIES)
def made_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """A study, and a folder with the experiments and made-up results of that one."""
    place = tmp_path_factory.mktemp("made-up")
    shutil.copytree(ROOT / "experiments", place / "experiments")
    with contextlib.chdir(place):
        experiment = load_experiment(request.param)
        write_made_up(experiment, place / "results" / experiment.name)
    return experiment, place


def test_a_notebook_runs_on_made_up_results_of_its_study(made_up: tuple[Experiment, Path]) -> None:
    experiment, place = made_up
    check_shown(executed(ROOT / "notebooks" / f"{experiment.name}.ipynb", place), experiment)


def test_made_up_results_have_the_columns_of_the_committed_ones(made_up: tuple[Experiment, Path]) -> None:
    experiment, place = made_up
    skip_unless_committed(experiment.name)
    folder = place / "results" / experiment.name
    names = sorted(path.stem for path in folder.glob("*.csv"))
    assert columns_in(ROOT / "results" / experiment.name, names) == columns_in(folder, names)


def columns_in(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    return {name: list(pd.read_csv(folder / f"{name}.csv", nrows=1).columns) for name in names}


# ------------------------------------------------------------------------------------ running them on real results


def skip_unless_committed(name: str) -> None:
    """Studies whose runs are not done yet have no results, or those of earlier recipes."""
    table, remedy = ROOT / "results" / name / "table.parquet", f"gsm-lab sweep {name}, then gsm-lab report {name}."
    if not table.is_file():
        pytest.skip(f"results/{name} has no table yet: {remedy}")  # its sweep takes an hour; it runs on made-up ones
    if {*pd.read_parquet(table, columns=["stage"])["stage"]} != {*load_experiment(name).stage_names}:
        pytest.skip(f"results/{name} has other stages than recipes.py: {remedy}")  # likewise


@pytest.mark.parametrize("name", STUDIES)
def test_a_notebook_runs_on_the_committed_results(name: str) -> None:
    """From the folder of the notebooks, as whoever opens one runs it."""
    skip_unless_committed(name)
    check_shown(executed(ROOT / "notebooks" / f"{name}.ipynb", ROOT / "notebooks"), load_experiment(name))


def test_the_tour_runs() -> None:
    outputs = shown_by(executed(ROOT / "notebooks" / "tour.ipynb", ROOT / "notebooks"))
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "= correct word for word" in printed
    assert "= lucky; answer 1, right" in printed
    assert "= wrong; answer " in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_notebook_runs_on_the_report_of_another_scale(tmp_path: Path) -> None:
    """Swept, reported on and read by its notebook, of which only the first cell is changed."""
    name = "passk_vs_majk"
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for command in (["sweep", f"{name}@tiny", "--workers", "1", "--threads", "1"], ["report", f"{name}@tiny"]):
        subprocess.run([sys.executable, "-m", "gsm_lab", *command], cwd=tmp_path, check=True)
    experiment = load_experiment(f"{name}@tiny")
    check_shown(executed(ROOT / "notebooks" / f"{name}.ipynb", tmp_path, f"{name}@tiny"), experiment)
