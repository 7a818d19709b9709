"""Laws of reports: what was written can be recomputed, and the page shows all of it and runs nobody else's script."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from gsm_lab.errors import DataError, RunError
from gsm_lab.problems import Verdict
from gsm_lab.study import Axis, Claim, Experiment, Report, read_rollouts, write_report
from gsm_lab.study import test_problems as problems_of_the_test
from gsm_lab.study.claims import CLAIM_COLUMNS
from gsm_lab.study.evaluate import context_labels
from gsm_lab.study.recipe import INSTRUMENT
from gsm_lab.study.report_graph import graph_svg, layers_of
from gsm_lab.study.report_page import MOST_BYTES, Page, PageFigure, PageRecipe, PageTable, page_text
from gsm_lab.study.report_samples import SAMPLE_COLUMNS, chosen_rollouts, read_problems
from gsm_lab.study.sweep import plan

FIGURES = ("edge_of_competence", "factor_1", "pass_and_majority", "training_loss", "training_reward_mean", "verdicts")
TABLES = (
    *(
        "table.parquet",
        "table.csv",
        "differences.csv",
        "claims.csv",
        "ledger.csv",
        "gold_nll.csv",
        "gold_nll_by_context.csv",
        "novelty.csv",
    ),
    *("runs.json", "report.html"),
)
FROM_OUTSIDE = re.compile(r"https?:|<link|@import|<iframe|<object|(?:src|href)\s*=\s*[\"']?+(?!data:)")


@pytest.fixture(scope="session")
def questions(small) -> Experiment:
    """The small experiment with two claims and an axis; the runs are the same."""
    more = {"text": "RL <b>helps</b>.", "source": "nobody", "band": "edge"}
    claims = [
        {"name": "more", "stage": "RL", "baseline": "base", **more},
        {"name": "order", "stage": "RL", "baseline": "RL alone", "metric": "maj@k", "k": 2, **more},
    ]
    axis = Axis(label="stages", series={"one": {"0": "base", "2": "RL alone", "3": "RL"}})
    claimed = tuple(Claim.model_validate(one) for one in claims)
    return Experiment(**dict(small) | {"claims": claimed, "axes": (axis,)})


@pytest.fixture(scope="session")
def report(questions, small_runs, tmp_path_factory) -> Report:
    return write_report(questions, small_runs, tmp_path_factory.mktemp("report") / "results")


@pytest.fixture(scope="session")
def page(report) -> str:
    return report.page.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------ the files


def test_a_report_has_its_tables_and_every_figure_in_three_formats(report):
    figures = {f"{name}{suffix}" for name in FIGURES for suffix in (".svg", ".png", ".pdf")}
    assert {path.name for path in report.folder.iterdir()} == figures | {*TABLES}
    assert report.figure == report.folder / "edge_of_competence.png"
    assert report.page == report.folder / "report.html"
    assert report.summary.index.tolist() == ["base", "mid", "RL", "RL alone"]


def test_it_says_by_which_instrument_and_from_which_runs_it_was_made(report, small_runs):
    found = json.loads((report.folder / "runs.json").read_text())
    assert found["instrument"] == INSTRUMENT
    assert {one["id"] for one in found["runs"]} == {path.parent.name for path in small_runs.glob("*/config.json")}


def test_the_tables_beside_pass_at_k_are_of_every_stage(report):
    page = report.page.read_text()
    for name, title in (("gold_nll", "Negative log-likelihood of gold"), ("novelty", "Is what is solved new?")):
        table = pd.read_csv(report.folder / f"{name}.csv")
        assert {*table["stage"]} == {"base", "mid", "RL", "RL alone"}
        assert title in page
    shown = pd.read_csv(report.folder / "gold_nll.csv").iloc[0]
    assert f"{shown.nll:.3f} [{shown.low:.3f}, {shown.high:.3f}]" in page


def test_every_claim_is_judged_by_a_difference_that_is_in_the_table(report):
    claims = pd.read_csv(report.folder / "claims.csv")
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert claims["claim"].tolist() == ["more", "order"]
    gains = pd.read_csv(report.folder / "differences.csv")
    for claim in claims.itertuples():
        chosen = gains[(gains["stage"] == claim.stage) & (gains["baseline"] == claim.baseline)]
        chosen = chosen[(chosen["metric"] == claim.metric) & (chosen["k"] == claim.k) & (chosen["seed"] == "all")]
        row = chosen[chosen["band"] == claim.band].iloc[0]
        assert (claim.difference, claim.low, claim.high) == (row.value, row.low, row.high)


def test_a_claim_about_what_was_not_tested_writes_nothing(questions, small_runs, tmp_path):
    claim = questions.claims[0].model_copy(update={"context": "school"})
    with pytest.raises(DataError, match="one of the contexts"):
        write_report(questions.model_copy(update={"claims": (claim,)}), small_runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_runs_that_are_missing_are_named(questions, tmp_path):
    with pytest.raises(RunError, match=r"4 of 4 runs of 'small' are not complete in .* \(base, seed 0;"):
        write_report(questions, tmp_path / "runs", tmp_path / "results")


# ------------------------------------------------------------------------------------ the page


def test_the_page_shows_claims_figures_tables_recipes_and_rollouts(page):
    for text in ("not decided at this scale", "more</strong>: RL &lt;b&gt;helps&lt;/b&gt;.", "edge, maj@2"):
        assert text in page
    assert page.count("<figure>") == page.count("data:image/svg+xml;base64,") == len(FIGURES)
    for title in ("Verified pass@k", "Gain over base, paired over problems", "What every stage took", "Recipes"):
        assert f"{title}</h2>" in page
    assert page.count("<details><summary><strong>") == 4  # a recipe for each stage
    assert "stage.prompts_per_step: 4" in page
    assert page.count('<div class="rollout"') == 64  # 4 stages x 2 ops x 4 problems x 2 samples
    assert page.count('<svg class="graph"') == 8


def test_the_page_asks_for_nothing_from_outside(page):
    assert FROM_OUTSIDE.findall(page) == []
    assert page.count("<script") == page.count("</script>") == 1
    assert "default-src 'none'" in page


@pytest.mark.parametrize("wrong", ['<img src="a.png">', '<a href="b">', "<link rel=x>", "http://x", "<img src=//x>"])
def test_the_check_sees_what_a_page_would_fetch(wrong):
    assert FROM_OUTSIDE.findall(wrong)


def test_a_report_of_a_few_hundred_rollouts_is_small(page):
    assert len(page.encode()) < 2_000_000


# ------------------------------------------------------------------------------------ rollouts


@pytest.fixture(scope="module")
def rollouts(small, small_runs) -> pd.DataFrame:
    return pd.concat([read_rollouts(job.folder(small_runs)) for job in plan(small.recipes)], ignore_index=True)


def written(small, completions: list[str], stage: str = "base") -> pd.DataFrame:
    """Rollouts of the first test problem with these texts."""
    recipe = small.recipes[0]
    exercise = problems_of_the_test(recipe, 2)[0]
    rows = [
        {"stage": stage, "seed": 0, "op": 2, "context": context_labels(recipe)[0], "sample": number}
        | {"problem_id": exercise.problem_id, "verdict": Verdict.WRONG.value, "completion": text}
        for number, text in enumerate(completions)
    ]
    return pd.DataFrame(rows)


def page_of(small, claims: pd.DataFrame, chosen: pd.DataFrame, most_bytes: int = MOST_BYTES) -> str:
    recipes = dict.fromkeys(small.stage_names, small.recipes[0])
    table = PageTable("A table", pd.DataFrame({"<i>": ["<u>"]}, index=pd.Index(["<s>"], name="<b>")))
    parts = (PageFigure("<em>", b"<svg/>"),), (table,), (PageRecipe("base", "short", "<pre>"),)
    return page_text(Page(small, claims, *parts, tuple(read_problems(recipes, chosen))), most_bytes)


NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> answer </div>'\"{{ 7 * 7 }}\u202e"


def test_what_a_model_wrote_is_text_and_nothing_else(small, report):
    page = page_of(small, report.claims, written(small, [NASTY]))
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "49" not in page[page.index("rollouts to read".capitalize()) :]
    assert "[U+202E]" in page
    for tag in ("<i>", "<u>", "<s>", "<em>"):
        assert tag not in page


def test_a_page_that_would_be_too_long_shows_fewer_problems(small, report, rollouts):
    chosen = chosen_rollouts(rollouts, 64)
    whole, none = page_of(small, report.claims, chosen), page_of(small, report.claims, chosen.head(0))
    bound = (len(whole.encode()) + len(none.encode())) // 2
    shorter = page_of(small, report.claims, chosen, bound)
    assert len(shorter.encode()) <= bound < len(whole.encode())
    assert 0 < shorter.count('<div class="rollout"') < whole.count('<div class="rollout"')
    assert page_of(small, report.claims, chosen, 1) == none


def test_the_sample_takes_every_op_and_verdict_of_a_stage_alike(small):
    frames = []
    for op in (2, 3):
        for verdict, number in (("correct", 50), ("lucky", 3), ("wrong", 20)):
            frame = written(small, [f"{verdict} {index}" for index in range(number)])
            frames.append(frame.assign(op=op, verdict=verdict, problem_id=[f"{i % 7}" for i in range(number)]))
    table = pd.concat(frames, ignore_index=True)
    chosen = chosen_rollouts(table, 12)
    assert chosen.groupby(["op", "verdict"]).size().tolist() == [2] * 6
    assert chosen.columns.tolist() == SAMPLE_COLUMNS
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(chosen_rollouts(shuffled, 12).reset_index(drop=True), chosen.reset_index(drop=True))
    assert len(chosen_rollouts(table, 1000)) == len(table)
    assert chosen_rollouts(table, 0).empty


def test_stages_are_shown_on_the_same_problems_where_they_can_be(small):
    ids = [f"problem {number}" for number in range(20)]
    base, after = (written(small, ids, stage).assign(problem_id=ids) for stage in ("base", "mid"))
    after.loc[::2, "verdict"] = "correct"  # half of the problems are wrong after both
    one, two = chosen_rollouts(base, 3), chosen_rollouts(after, 6)
    both = set(after.loc[after["verdict"] == "wrong", "problem_id"])
    assert len(both & {*one["problem_id"]}) >= 1
    assert both & {*one["problem_id"]} <= {*two["problem_id"]}


def test_a_rollout_of_an_unknown_problem_is_refused(small):
    chosen = written(small, ["answer 1"]).assign(problem_id="nobody's")
    with pytest.raises(RunError, match=r"problem nobody's \(op 2, context 'zoo'\), which the evaluation"):
        read_problems(dict.fromkeys(small.stage_names, small.recipes[0]), chosen)


# ------------------------------------------------------------------------------------ graphs


def test_a_graph_shows_every_quantity_below_its_parents(small):
    for exercise in problems_of_the_test(small.recipes[0], 3):
        nodes, drawn, layers = exercise.problem.graph.nodes, graph_svg(exercise), layers_of(exercise)
        assert drawn.count("<rect") == len(nodes)
        assert drawn.count("<path") == sum(len(node.parents) for node in nodes)
        assert all(layers[parent] < layers[place] for place, node in enumerate(nodes) for parent in node.parents)
        assert drawn.count('class="needed asked"') == 1
        assert drawn.count('<g class="needed') == len(exercise.problem.needed)
        assert drawn.count('<g class="distractor') == exercise.sizes()["distractors"]
        assert all(name[:20] in drawn for name in exercise.names)


# ------------------------------------------------------------------------------------ in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: pages are not opened in a browser")


def opened(page: Path, tmp_path: Path, *arguments: str, hash_: str = "") -> str:
    """What the browser writes to its standard output."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += [*arguments, f"{page.as_uri()}{hash_}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def shown(dom: str) -> list[tuple[str, str]]:
    """Stage and verdict of the rollouts that are not hidden."""
    return re.findall(r'<div class="rollout" data-stage="([^"]*)" data-verdict="([^"]*)">', dom)


@needs_browser
def test_the_page_filters_its_rollouts(report, rollouts, tmp_path):
    everything = opened(report.page, tmp_path, "--dump-dom")
    assert "64 of 64 rollouts are shown." in everything
    verdict = rollouts["verdict"].mode()[0]
    wanted = rollouts[(rollouts["verdict"] == verdict) & (rollouts["op"] == 3) & (rollouts["stage"] == "RL alone")]
    dom = opened(report.page, tmp_path, "--dump-dom", hash_=f"#verdict={verdict}&op=3&stage=RL+alone")
    assert f"{len(wanted)} of 64 rollouts are shown." in dom
    assert len(shown(dom)) == len(wanted) > 0
    assert {*shown(dom)} == {("RL alone", verdict)}


@needs_browser
def test_the_page_finds_words_in_problems_and_completions(small, report, tmp_path):
    path = tmp_path / "page.html"
    rows = written(small, ["one Zebra = 1", "two = 2", "three = 3"])
    path.write_text(page_of(small, report.claims, rows), encoding="utf-8")
    word = problems_of_the_test(small.recipes[0], 2)[0].prompt.split()[-2]  # the asked quantity
    for query, number in (("zebra", 1), ("no+such+word", 0), (word, 3), ("", 3)):
        assert f"{number} of 3 rollouts are shown." in opened(path, tmp_path, "--dump-dom", hash_=f"#q={query}")


@needs_browser
def test_a_script_in_a_completion_does_not_run(small, report, tmp_path):
    text = "<script>document.title = 'stolen'</script><img src=x onerror=\"document.title = 'stolen'\"> answer 1"
    path = tmp_path / "page.html"
    path.write_text(page_of(small, report.claims, written(small, [text, "answer 2"])), encoding="utf-8")
    dom = opened(path, tmp_path, "--dump-dom", hash_="#q=document.title")
    assert "<title>Small</title>" in dom
    assert "1 of 2 rollouts are shown." in dom


@needs_browser
def test_the_page_forbids_scripts_that_are_not_its_own(small, report, tmp_path):
    """The near miss: were a text not escaped, it would still not run."""
    whole = page_of(small, report.claims, written(small, ["answer 1"]))
    path = tmp_path / "page.html"
    path.write_text(whole.replace("<h1>", "<script>document.title = 'stolen'</script><h1>"), encoding="utf-8")
    assert "<title>Small</title>" in opened(path, tmp_path, "--dump-dom")
    path.write_text(
        re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8")), encoding="utf-8"
    )  # and without the rule it would
    assert "<title>stolen</title>" in opened(path, tmp_path, "--dump-dom")


@needs_browser
def test_the_page_can_be_looked_at(report, tmp_path):
    picture = tmp_path / "page.png"
    opened(report.page, tmp_path, f"--screenshot={picture}", "--window-size=1280,2000", "--hide-scrollbars")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
