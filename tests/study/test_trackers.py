"""Laws of trackers: a record holds the log, each step once, whatever was cut or broke; and no tracker moves a run."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gsm_lab.errors import RunError
from gsm_lab.study import RunOptions, StageFolder, check_trackers, missing_records, train_stage
from gsm_lab.study.trackers import KINDS, open_tracker
from gsm_lab.study.tracking import Record, figures_of

KIND = "json"
"""The kind of the fake trackers: a package that is there, as a tracker's has to be."""


@dataclass
class Memory:
    """Trackers that keep what they are given; they break as often as they are told to, at a step or in a method."""

    records: dict[str, list[tuple[int, dict[str, float]]]] = field(default_factory=dict)
    opened: list[tuple[Path, str]] = field(default_factory=list)
    breaks_at: object = None
    times: int = 10**9

    def open(self, folder, name, settings):
        self.opened.append((folder, name))
        self.settings = json.loads(json.dumps(settings))
        self.records[name] = []
        self._break("open")
        return Told(self, name)

    def _break(self, place: object) -> None:
        if place == self.breaks_at and self.times:
            self.times -= 1
            raise OSError(f"no room at {place}")


@dataclass
class Told:
    """One tracker of a memory."""

    memory: Memory
    name: str

    def log(self, step, figures):
        self.memory._break(step)
        self.memory.records[self.name].append((step, dict(figures)))

    def finish(self):
        self.memory._break("finish")


@pytest.fixture
def memory(monkeypatch) -> Memory:
    memory = Memory()
    monkeypatch.setitem(KINDS, KIND, memory.open)
    return memory


@pytest.fixture
def base(small_recipe, tmp_path) -> StageFolder:
    return StageFolder(tmp_path / "runs", small_recipe.until(0), 0)


def tracked(notices: list[str] | None = None, **options) -> RunOptions:
    return RunOptions(trackers=(KIND,), on_notice=[].append if notices is None else notices.append, **options)


def lines_of(stage: StageFolder, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (stage.path / name).read_text().splitlines()]


def log_of(stage: StageFolder) -> list[tuple[int, dict[str, float]]]:
    """What a record of the stage should hold."""
    return [
        (line["step"], figures_of({**seconds, **line}))
        for line, seconds in zip(lines_of(stage), lines_of(stage, "timings.jsonl"), strict=True)
    ]


# ------------------------------------------------------------------------------------ what a record holds


def test_a_record_holds_every_line_of_the_log_with_its_seconds(memory, base):
    train_stage(base, tracked())
    ((folder, name),) = memory.opened
    assert (folder, name) == (base.home / "tracking" / KIND, f"base-seed0-{base.path.name}")
    assert memory.records[name] == log_of(base)
    steps = [step for step, _ in memory.records[name]]
    assert steps == list(range(10, 121, 10))
    assert {"loss", "tokens", "gradient_norm", "seconds"} <= memory.records[name][0][1].keys()
    assert memory.settings == json.loads((base.path / "config.json").read_text())
    assert not missing_records([base], [KIND])


def test_reinforcement_counts_its_steps_from_0_and_names_parts(memory, small_recipe, copied_runs):
    stage = StageFolder(copied_runs, small_recipe, 2)
    shutil.rmtree(stage.path)
    train_stage(stage, tracked())
    record = memory.records[f"RL-seed0-{stage.path.name}"]
    assert [step for step, _ in record] == [0, 1, 2, 3, 4, 5]
    assert {"reward_mean", "zero_variance_share", "verdict_shares/wrong", "sample_seconds"} <= record[0][1].keys()


def test_figures_are_the_finite_numbers_of_a_line():
    line = {"step": 3, "loss": 0.5, "tokens": 7, "done": True, "kl": None, "word": "x", "odd": float("inf")}
    assert figures_of(line | {"shares": {"wrong": 0.25, "deep": {"x": 1}}}) == {
        "loss": 0.5,
        "tokens": 7.0,
        "done": 1.0,
        "shares/wrong": 0.25,
        "shares/deep/x": 1.0,
    }


def test_the_records_of_two_stages_have_two_names_that_trackers_take(small, tmp_path):
    stages = [StageFolder(tmp_path, recipe, len(recipe.stages) - 1) for recipe in small.recipes]
    renamed = small.recipes[0].model_copy(
        update={"stages": (small.recipes[0].stages[0].model_copy(update={"name": "数 / RL: #1"}),)}
    )
    names = [Record(KIND, stage).name for stage in (*stages, StageFolder(tmp_path, renamed, 0))]
    assert names[1].startswith("RL-alone-seed0-")
    assert names[2].startswith("RL-1-seed0-")
    assert len({*names}) == 3
    assert all(name.replace("-", "").isalnum() and name.isascii() for name in names)


# ------------------------------------------------------------------------------------ no tracker moves a run


def without_times(folder: Path, bytes_below) -> dict[str, bytes]:
    return {
        name: content for name, content in bytes_below(folder).items() if name not in ("timings.jsonl", "done.json")
    }


@pytest.mark.parametrize("breaks_at", [None, "open", 50, "finish"])
def test_a_stage_leaves_the_same_bytes_with_a_tracker_with_a_broken_one_and_without(
    breaks_at, memory, base, small_recipe, small_runs, bytes_below
):
    memory.breaks_at = breaks_at
    train_stage(base, tracked())
    theirs = StageFolder(small_runs, small_recipe, 0).path
    evaluations = {name for name in without_times(theirs, bytes_below) if name.startswith("evaluation")}
    expected = {name: text for name, text in without_times(theirs, bytes_below).items() if name not in evaluations}
    assert without_times(base.path, bytes_below) == expected
    assert bool(missing_records([base], [KIND])) == (breaks_at is not None)


class Cut(Exception):
    """A run that ends in the middle."""


def cut_at(step: int):
    def on_progress(name, done, total, figures):
        if done == step:
            raise Cut

    return on_progress


def test_a_stage_that_was_cut_gives_no_step_twice_and_none_too_few(memory, base):
    with pytest.raises(Cut):
        train_stage(base, tracked(on_progress=cut_at(70)))  # its last state is that of step 40
    name = memory.opened[0][1]
    assert [step for step, _ in memory.records[name]] == [10, 20, 30, 40, 50, 60]
    train_stage(base, tracked())
    assert memory.records[name] == log_of(base)
    assert not missing_records([base], [KIND])


def test_a_stage_that_is_done_is_shown_later_and_not_trained_again(memory, small_recipe, copied_runs, bytes_below):
    stages = [StageFolder(copied_runs, small_recipe, number) for number in range(3)]
    before = bytes_below(copied_runs)
    for stage in stages:
        train_stage(stage, tracked())
        assert memory.records[Record(KIND, stage).name] == log_of(stage)
    assert {name: bytes_below(copied_runs)[name] for name in before} == before
    opened = len(memory.opened)
    train_stage(stages[0], tracked())
    assert len(memory.opened) == opened  # it is whole, and is left alone
    (stages[0].path / "metrics.jsonl").write_text((stages[1].path / "metrics.jsonl").read_text())
    assert [record.stage for record in missing_records(stages, [KIND])] == [stages[0]]  # the log is another one now


def test_a_damaged_log_is_named_and_not_shown(memory, small_recipe, copied_runs):
    stage = StageFolder(copied_runs, small_recipe, 1)
    (stage.path / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo\n')
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged .*: remove its folder and run the recipe again"):
        train_stage(stage, tracked())
    assert missing_records([stage], [KIND])


def test_a_tracker_that_breaks_once_is_told_and_filled_when_the_stage_is_done(memory, base):
    memory.breaks_at, memory.times, notices = 50, 1, []
    train_stage(base, tracked(notices))
    (said,) = [line for line in notices if "broke" in line]
    assert said.startswith(
        f"the tracker json of base-seed0-{base.path.name} broke (OSError: no room at 50): the run goes"
    )
    assert memory.records[memory.opened[0][1]] == log_of(base)
    assert not missing_records([base], [KIND])


# ------------------------------------------------------------------------------------ through the command line


def test_a_tracker_that_stays_broken_ends_a_finished_command_with_an_error(
    memory, small_place, small_recipe, copied_runs, gsm_lab
):
    memory.breaks_at, memory.times = "finish", 1
    command = ("run", f"{small_place}:mid-rl", "--until=1", "--runs", copied_runs, "--threads", "1", "--track", KIND)
    ended = gsm_lab(*command)
    assert ended.code == 1
    assert ended.out.splitlines() == [str(StageFolder(copied_runs, small_recipe, number).path) for number in range(2)]
    base = Record(KIND, StageFolder(copied_runs, small_recipe, 0))
    assert ended.err.splitlines()[-1] == (
        f"error: all stages are done, but records of trackers are not whole: json of {base.name}. Run the same again."
    )
    assert gsm_lab(*command).code == 0
    assert base.is_whole


def test_a_sweep_shows_what_was_done_before_too(memory, small, small_place, copied_runs, gsm_lab):
    done = gsm_lab("sweep", small_place, "--runs", copied_runs, "--track", KIND)
    assert done.code == 0, done.err
    assert len(memory.records) == 4
    memory.breaks_at = "open"
    shutil.rmtree(copied_runs / "tracking")
    ended = gsm_lab("sweep", small_place, "--runs", copied_runs, "--track", KIND)
    assert ended.code == 1
    assert "4 of 4 runs done" in ended.out
    assert "records of trackers are not whole" in ended.err


@pytest.mark.parametrize("command", ["run", "sweep", "demo"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("mlflow", "there is no tracker 'mlflow': give one of tensorboard, wandb, trackio"),
        ("no_such_package", "which is not installed: `pip install no_such_package`, or `pip install gsm-lab[track]`"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_any_work(
    command, kind, message, small_place, tmp_path, monkeypatch, gsm_lab
):
    monkeypatch.setitem(KINDS, "no_such_package", Memory().open)
    place = {"run": [f"{small_place}:mid-rl"], "sweep": [small_place], "demo": ["--scale", "tiny"]}[command]
    refused = gsm_lab(command, *place, "--runs", tmp_path / "runs", "--track", kind)
    assert refused.code == 1
    assert message in refused.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_is_not_used_to_send_records_away(variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, "https://elsewhere.example")
    with pytest.raises(RunError, match=rf"{variable} is set, and our records stay on this machine"):
        open_tracker("trackio", tmp_path, "record", {})
    with pytest.raises(RunError, match=variable):
        check_trackers(["trackio"])
