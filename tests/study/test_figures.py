"""Laws of figures: they say what they show, and the same table gives the same bytes."""

import itertools
import re
import struct
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from gsm_lab.errors import DataError
from gsm_lab.evaluation import tabulate
from gsm_lab.study import Axis
from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure, verdicts_figure
from gsm_lab.study.figures_arms import factor_figure, pass_and_majority_figure
from gsm_lab.study.figures_style import drawing, handles_of, head, head_inches, looks, rows_of_panels

Draw = Callable[[Path], Path]
BANDS = {"ID": (2, 3), "edge": (4, 5), "hard": (6, 6)}
CHANCE = {"base": 0.2, "reinforced": 0.5}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two stages, two seeds, five ops, three problems an op, four samples a problem."""
    draw = np.random.default_rng(0)
    rows = [
        {"stage": stage, "seed": seed, "problem_id": f"{op}-{problem}", "op": op, "sample": sample, "right": right}
        for stage, chance in CHANCE.items()
        for seed in (0, 1)
        for op in range(2, 7)
        for problem in range(3)
        for sample, right in enumerate((draw.random(4) < chance).tolist())
    ]
    rollouts = pd.DataFrame(rows).assign(context="zoo", process_accuracy=1.0, tokens=9)
    right = rollouts.pop("right")
    rollouts = rollouts.assign(
        verdict=np.where(right, "correct", "wrong"), verified=right, answer_correct=right, answer=np.where(right, 7, 5)
    )
    return tabulate(rollouts, np.random.default_rng(0), bands=BANDS, draws=50)


@pytest.fixture(scope="module")
def logs() -> dict[str, pd.DataFrame]:
    steps = np.arange(10)
    return {
        "pretrain": pd.DataFrame({"step": steps, "loss": 3.0 / (1 + steps), "note": "x"}),
        "reinforce": pd.DataFrame({"step": steps, "mean_reward": steps / 10}),
    }


@pytest.fixture(scope="module")
def rewards() -> dict[str, pd.DataFrame]:
    """Logs of two stages of reinforcement learning with two seeds; one verdict comes up in the last step only."""
    shares = [{"correct": 0.5, "lucky": 0.25, "wrong": 0.25}] * 3 + [{"correct": 0.5, "truncated": 0.5}]
    log = pd.DataFrame({"step": range(4), "reward_mean": [0.1, 0.2, 0.3, 0.4], "verdict_shares": shares})
    both = pd.concat([log.assign(seed=0), log.assign(seed=1, reward_mean=0.2)], ignore_index=True)
    return {"outcome": both, "process": both}


def test_a_figure_names_its_stages_bands_axes_and_numbers(table: pd.DataFrame, tmp_path: Path) -> None:
    drawn = edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title").read_text(encoding="utf-8")
    # Letters are drawn as paths, and matplotlib writes each text as a comment beside them.
    for text in (
        *("A title", "base", "reinforced", "ID", "edge", "hard"),
        *("(a) verified pass@1", "(b) verified pass@4", "(c) verified pass@k, edge (op 4 to 5)"),
        *("op, difficulty of the problem", "k, tries a problem", "share of problems"),
        "Each point by op: 2 seeds, 3 problems, 24 samples. Ribbons: 95 % bootstrap intervals over "
        "problems and seeds, Wilson's where all problems agree. Thin lines: single seeds.",
    ):
        assert f"<!-- {text} -->" in drawn


def test_only_the_chosen_stages_are_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    path = edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title", stages=["reinforced"])
    assert "<!-- base -->" not in path.read_text(encoding="utf-8")


@pytest.fixture(params=["edge", "factor", "majority", "training", "verdicts"])
def draw(request: pytest.FixtureRequest, table: pd.DataFrame, rewards: dict[str, pd.DataFrame]) -> Draw:
    """Every figure, as a function of its path."""
    axis = Axis(label="share", series={"one": {"0": "base", "1": "reinforced"}})
    also = (".png", ".pdf")  # all formats are written in one place: one figure in three of them is enough
    figures: dict[str, Draw] = {
        "edge": lambda path: edge_of_competence_figure(table, BANDS, path, "A title", also=also),
        "factor": lambda path: factor_figure(table, axis, BANDS, path, "A title"),
        "majority": lambda path: pass_and_majority_figure(table, BANDS, list(CHANCE), path, "A title"),
        "training": lambda path: training_curve_figure(rewards, path, columns=["reward_mean"]),
        "verdicts": lambda path: verdicts_figure(rewards, path),
    }
    return figures[request.param]


def test_a_figure_shows_every_seed_and_is_the_same_bytes_again_whatever_the_users_settings(
    draw: Draw, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = draw(tmp_path / "first.svg")
    found = re.findall(r'id="(seed-[^"]+)"', first.read_text(encoding="utf-8"))
    stages, seeds = 2, 2
    lines = {  # panels x lines a panel
        "edge": 3 * stages,
        "factor": 3 * 2 * stages,  # bands x pass@1 and pass@4, a dot for each stage
        "majority": 3 * 2 * stages,  # bands x pass@k and maj@k
        "training": stages,
        "verdicts": stages * 5,
    }
    assert len(found) == len(set(found)) == lines[request.node.callspec.params["draw"]] * seeds
    assert {name.rpartition("-")[2] for name in found} == {"0", "1"}
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "none", "axes.facecolor": "red"}):
        second = draw(tmp_path / "second.svg")
    written = sorted(path.suffix for path in tmp_path.glob("first.*"))
    assert ".svg" in written
    for suffix in written:
        assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()


def test_what_is_written_beside_a_figure_is_the_same_drawing(table: pd.DataFrame, tmp_path: Path) -> None:
    both = edge_of_competence_figure(table, BANDS, tmp_path / "both.svg", "A title", also=(".png",))
    alone = edge_of_competence_figure(table, BANDS, tmp_path / "alone.png", "A title")
    assert both.with_suffix(".png").read_bytes() == alone.read_bytes()
    assert not (tmp_path / "both.pdf").exists()


def test_a_single_seed_is_not_drawn_twice(table: pd.DataFrame, tmp_path: Path) -> None:
    one = table[table["seed"].isin(["all", "0"])]
    drawn = edge_of_competence_figure(one, BANDS, tmp_path / "edge.svg", "A title").read_text(encoding="utf-8")
    assert 'id="seed-' not in drawn


def test_another_table_gives_other_bytes(table: pd.DataFrame, tmp_path: Path) -> None:
    first = edge_of_competence_figure(table, BANDS, tmp_path / "first.svg", "A title")
    moved = table.assign(value=table["value"] / 2)
    assert first.read_bytes() != edge_of_competence_figure(moved, BANDS, tmp_path / "b.svg", "A title").read_bytes()


def test_drawing_leaves_the_users_settings_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title")
    assert dict(matplotlib.rcParams) == before


def test_a_png_fills_a_laptops_screen(table: pd.DataFrame, tmp_path: Path) -> None:
    content = edge_of_competence_figure(table, BANDS, tmp_path / "edge.png", "A title").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", content[16:20])[0] >= 1200  # what is printed is the PDF


def test_a_figure_that_fails_leaves_nothing_behind(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of which one is 'edge'"):
        edge_of_competence_figure(table[table["band"].isna()], BANDS, tmp_path / "edge.svg", "A title")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_without_data_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pass@k of \['midtrained'\]"):
        edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title", stages=["base", "midtrained"])


def test_an_unknown_suffix_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"end the name in \.svg, \.png or \.pdf"):
        edge_of_competence_figure(table, BANDS, tmp_path / "edge.jpg", "A title")


def test_training_curves_have_a_panel_for_each_number_that_was_logged(
    logs: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    labels = {"loss": "loss (nats a token)"}
    first = training_curve_figure(logs, tmp_path / "first.svg", labels=labels)
    drawn = first.read_text(encoding="utf-8")
    for text in ("pretrain", "reinforce", "loss (nats a token)", "mean reward", "optimiser step of the stage"):
        assert f"<!-- {text} -->" in drawn
    assert "<!-- note -->" not in drawn
    assert first.read_bytes() == training_curve_figure(logs, tmp_path / "second.svg", labels=labels).read_bytes()


def test_a_training_column_that_nobody_logged_is_refused(logs: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name columns that at least one stage logged"):
        training_curve_figure(logs, tmp_path / "curves.svg", columns=["entropy"])


# ------------------------------------------------------------------------------------ many stages


def test_no_two_of_many_stages_look_the_same() -> None:
    styles = looks([str(number) for number in range(98)])
    seen = {(look["color"], look["marker"], look["markerfacecolor"] == "white") for look in styles.values()}
    assert len(seen) == 98


def test_neighbours_differ_in_colour_marker_and_dashes() -> None:
    for one, other in itertools.pairwise(looks([str(number) for number in range(98)]).values()):
        assert all(one[part] != other[part] for part in ("color", "marker", "linestyle"))


@pytest.mark.parametrize("number", range(1, 40))
def test_many_stages_go_into_rows_of_seven_with_the_baseline_in_each(number: int) -> None:
    stages = [str(stage) for stage in range(number)]
    rows = rows_of_panels(stages, 7, "0")
    assert all(1 <= len(row) <= 7 and row[0] == "0" and row == sorted(row, key=int) for row in rows)
    assert sorted(stage for row in rows for stage in row if stage != "0") == sorted(stages[1:])
    assert (len(rows) == 1) is (number <= 7)


def test_a_figure_of_many_stages_shows_each_once_and_the_baseline_in_every_row(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    others = [table[table["stage"] == "reinforced"].assign(stage=f"arm {number}") for number in range(12)]
    stages = ["base", *(f"arm {number}" for number in range(12))]
    path = tmp_path / "edge.svg"
    edge_of_competence_figure(pd.concat([table, *others]), BANDS, path, "A title", stages=stages, baseline="base")
    drawn = path.read_text(encoding="utf-8")
    assert drawn.count("<!-- (a) verified pass@1 -->") == 2
    assert len(re.findall(r'id="seed-', drawn)) == 3 * (12 + 2) * 2  # panels a row x (arms + baseline twice) x seeds
    for stage in stages:
        assert drawn.count(f"<!-- {stage} -->") == 1  # in the legend


@pytest.mark.parametrize("number", [1, 7, 30])
def test_the_legend_covers_no_panel_and_stays_inside(number: int, tmp_path: Path) -> None:
    names = [f"mid-trained, RL on the edge {stage}" for stage in range(number)]
    height = 2.9 + head_inches(names, 10.2)
    with drawing(tmp_path / "figure.png", (10.2, height)) as figure:
        panels = figure.subplots(1, 3)
        head(figure, "A title", handles_of(looks(names)))
        figure.canvas.draw()
        legend = figure.legends[0].get_window_extent()
        assert all(axes.get_tightbbox().ymax <= legend.ymin + 1 for axes in panels)
        assert figure.bbox.xmin - 1 <= legend.xmin
        assert legend.xmax <= figure.bbox.xmax + 1
        assert panels[0].get_window_extent().height > 150
        title = figure.texts[0].get_window_extent()
        assert title.ymin >= legend.ymax - 1


# ------------------------------------------------------------------------------------ arms


def test_a_factor_has_its_levels_in_the_order_of_the_axis(table: pd.DataFrame, tmp_path: Path) -> None:
    axis = Axis(
        label="share (%)", series={"one": {"50": "base", "5": "reinforced"}, "other": {"5": "base", "20": "base"}}
    )
    drawn = factor_figure(table, axis, BANDS, tmp_path / "factor.svg", "A title").read_text(encoding="utf-8")
    levels = [text for text in re.findall(r"<!-- (\S+) -->", drawn) if text in ("50", "5", "20")]
    assert levels == ["50", "5", "20"] * 3  # under the last row of panels
    for text in ("share (%)", "one", "other", "ID (op 2 to 3), pass@1", "hard (op 6 to 6), pass@4"):
        assert f"<!-- {text} -->" in drawn
    assert "Each point: 2 seeds, 3 to 6 problems, 24 to 48 samples." in drawn


def test_a_factor_may_be_of_one_context(table: pd.DataFrame, tmp_path: Path) -> None:
    axis = Axis(label="share", series={"one": {"0": "base"}}, context="zoo")
    drawn = factor_figure(table, axis, BANDS, tmp_path / "factor.svg", "A title").read_text(encoding="utf-8")
    assert "Context: zoo." in drawn


def test_a_factor_of_an_untested_stage_or_context_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    axis = Axis(label="share", series={"one": {"0": "base", "1": "other"}})
    with pytest.raises(DataError, match=r"no verified pass@k of \['other'\]"):
        factor_figure(table, axis, BANDS, tmp_path / "factor.svg", "A title")
    elsewhere = Axis(label="share", series={"one": {"0": "base"}}, context="school")
    with pytest.raises(DataError, match=r"one of the contexts \['all', 'zoo'\]"):
        factor_figure(table, elsewhere, BANDS, tmp_path / "factor.svg", "A title")
    assert list(tmp_path.iterdir()) == []


def test_tries_and_votes_need_the_numbers_of_every_stage(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'nobody', 'ID', 'pass@k'"):
        pass_and_majority_figure(table, BANDS, ["base", "nobody"], tmp_path / "majority.svg", "A title")


# ------------------------------------------------------------------------------------ training


def test_the_thick_line_is_the_mean_of_those_steps_that_all_seeds_have(tmp_path: Path) -> None:
    two = pd.DataFrame({"step": [0, 1, 0], "loss": [1.0, 9.0, 3.0], "seed": [0, 0, 1]})
    one = pd.DataFrame({"step": [0], "loss": [2.0]})
    first = training_curve_figure({"a": two}, tmp_path / "first.svg").read_text(encoding="utf-8")
    second = training_curve_figure({"a": one}, tmp_path / "second.svg").read_text(encoding="utf-8")
    assert first.count('id="seed-') == 2
    assert 'id="seed-' not in second
    assert "<!-- seed -->" not in first  # the seed is no metric


def test_verdicts_need_their_shares(rewards: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"logs of \['bare'\] lack step or verdict_shares"):
        verdicts_figure(rewards | {"bare": pd.DataFrame({"step": [0]})}, tmp_path / "verdicts.svg")
    drawn = verdicts_figure(rewards, tmp_path / "verdicts.svg").read_text(encoding="utf-8")
    for text in ("correct", "lucky", "wrong", "unreadable", "truncated", "outcome", "process"):
        assert f"<!-- {text} -->" in drawn
