"""Laws of figures: they say what they show, and the same table gives the same bytes."""

import struct
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from gsm_lab.errors import DataError
from gsm_lab.evaluation import tabulate
from gsm_lab.study.figures import edge_of_competence_figure, training_curve_figure

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


def test_a_figure_names_its_stages_bands_axes_and_numbers(table: pd.DataFrame, tmp_path: Path) -> None:
    drawn = edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title").read_text(encoding="utf-8")
    # Letters are drawn as paths, and matplotlib writes each text as a comment beside them.
    for text in (
        *("A title", "base", "reinforced", "ID", "edge", "hard"),
        *("(a) verified pass@1", "(b) verified pass@4", "(c) verified pass@k, edge (op 4 to 5)"),
        *("op, difficulty of the problem", "k, tries a problem", "share of problems"),
        "Each point by op: 2 seeds, 3 problems, 24 samples. Ribbons: 95 % bootstrap intervals over "
        "problems and seeds, Wilson's where all problems agree.",
    ):
        assert f"<!-- {text} -->" in drawn


def test_only_the_chosen_stages_are_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    path = edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title", stages=["reinforced"])
    assert "<!-- base -->" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_table_gives_the_same_bytes_whatever_the_users_settings(
    table: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    first = edge_of_competence_figure(table, BANDS, tmp_path / f"first{suffix}", "A title")
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "none", "axes.facecolor": "red"}):
        second = edge_of_competence_figure(table, BANDS, tmp_path / f"second{suffix}", "A title")
    assert first.read_bytes() == second.read_bytes()


def test_another_table_gives_other_bytes(table: pd.DataFrame, tmp_path: Path) -> None:
    first = edge_of_competence_figure(table, BANDS, tmp_path / "first.svg", "A title")
    moved = table.assign(value=table["value"] / 2)
    assert first.read_bytes() != edge_of_competence_figure(moved, BANDS, tmp_path / "b.svg", "A title").read_bytes()


def test_drawing_leaves_the_users_settings_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title")
    assert dict(matplotlib.rcParams) == before


def test_a_png_is_large_enough_to_print(table: pd.DataFrame, tmp_path: Path) -> None:
    content = edge_of_competence_figure(table, BANDS, tmp_path / "edge.png", "A title").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", content[16:20])[0] >= 2000


def test_a_figure_that_fails_leaves_nothing_behind(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of which one is 'edge'"):
        edge_of_competence_figure(table[table["band"].isna()], BANDS, tmp_path / "edge.svg", "A title")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_without_data_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pass@k of \['midtrained'\]"):
        edge_of_competence_figure(table, BANDS, tmp_path / "edge.svg", "A title", stages=["base", "midtrained"])


def test_an_unknown_suffix_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"end the name in \.svg or \.png"):
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
