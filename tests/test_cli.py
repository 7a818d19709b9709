"""Laws of the command line: results on stdout, progress on stderr, exit code 0 only when the work is done."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gsm_lab.cli import main
from gsm_lab.data import read_dataset, read_manifest
from gsm_lab.study.presets import STUDIES

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "pandas", "numpy", "pyarrow", "matplotlib", "networkx", "tokenizers"}
COMMANDS = (
    *("generate", "inspect", "grade", "certify", "run", "evaluate"),
    *("sweep", "edge", "ledger", "report", "demo", "bench"),
)


@dataclass(frozen=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """stderr as one line, without the box that usage errors are drawn in."""
        return " ".join(self.err.replace("│", " ").split())


def in_process(*arguments: object) -> Called:
    """`gsm-lab ...` in a process of its own."""
    command = [sys.executable, "-m", "gsm_lab", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return Called(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def gsm_lab(monkeypatch, capsys) -> Callable[..., Called]:
    """The command line in this process, which is quicker."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.chdir(ROOT)

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["gsm-lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Called(int(ended.value.code or 0), captured.out, captured.err)

    return call


def sha256_below(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ------------------------------------------------------------------------------------ help


def test_help_lists_all_commands():
    shown = in_process("--help")
    assert shown.code == 0
    listed = dict(line.split(maxsplit=1) for line in shown.out.partition("Commands:\n")[2].splitlines())
    assert (*listed,) == COMMANDS
    assert not [sentence for sentence in listed.values() if sentence.endswith("...")]  # none is cut


def modules_after(*commands: tuple[str, ...]) -> set[str]:
    """Which of the heavy packages an interpreter has loaded after these commands, one after another."""
    code = f"""
import sys
from gsm_lab.cli import main
for sys.argv in {[["gsm-lab", *command] for command in commands]}:
    try:
        main()
    except SystemExit:
        pass
print("loaded:", *sorted({HEAVY} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.splitlines()[-1].split()[1:]}


def test_help_is_quick_because_it_loads_nothing_heavy():
    """Under 0.3 s on a machine at rest: `gsm-lab --help`, and of each command. Here, only what would make it slow."""
    assert modules_after(("--help",), *((command, "--help") for command in COMMANDS)) == set()


def test_the_check_sees_what_a_command_loads():
    assert "numpy" in modules_after(("inspect", "/nowhere"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command, gsm_lab):
    shown = gsm_lab(command, "--help")
    assert shown.code == 0
    usage, sentence = [line.strip() for line in shown.out.splitlines() if line.strip()][:2]
    assert f"gsm-lab {command} " in usage
    assert sentence[0].isupper()


def test_the_demo_names_every_scale(gsm_lab):
    scales = gsm_lab("demo", "--help").out.partition("--scale")[2].partition("[default")[0]
    assert {*re.findall(r"[a-z-]+", scales)} >= {*STUDIES}


def test_a_command_that_does_not_exist_is_refused(gsm_lab):
    refused = gsm_lab("trian")
    assert refused.code == 2
    assert "No such command 'trian'" in refused.complaint


# ------------------------------------------------------------------------------------ data sets


def test_a_data_set_is_generated_shown_and_graded(tmp_path):
    """The round trip of a user: four processes, files between them."""
    folder = tmp_path / "set"
    made = in_process("generate", folder, "--ops", "4-8", "--num-problems", 300, "--shard-size", 150, "--split", "test")
    assert (made.code, made.out) == (0, f"{folder}\n")
    assert "problems/s " in made.err.splitlines()[-1]

    shown = in_process("inspect", folder, "--show", 1)
    exercises = list(read_dataset(folder))
    distinct = {exercise.problem_id: exercise for exercise in exercises}
    assert shown.code == 0
    assert f"300 problems, {len(distinct)} distinct; all shards agree with the manifest" in shown.out
    assert exercises[0].prompt in shown.out
    assert exercises[1].prompt not in shown.out
    assert "gold solutions of the first 200 verified: yes" in shown.out
    (ops,) = [line.split() for line in shown.out.splitlines() if line.split()[0] == "op"]
    assert [cell.split(":")[0] for cell in ops[1:]] == ["4", "5", "6", "7", "8"]
    assert sum(int(cell.split(":")[1]) for cell in ops[1:]) == 300

    lines = [{"id": one.problem_id, "completions": [one.completion, "no idea"]} for one in distinct.values()]
    predictions, grades = tmp_path / "model.jsonl", tmp_path / "grades.jsonl"
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    graded = in_process("grade", folder, predictions, "--output", grades)
    assert graded.code == 0
    header, _, *rows = graded.out.split("\n\n")[0].splitlines()
    assert header.split()[1:3] == ["pass@1", "pass@2"]
    assert [row.split()[0] for row in rows] == ["4", "5", "6", "7", "8"]
    assert all(row.split()[1] == "0.500" and row.split()[4] == "1.000" for row in rows)
    verdicts = [json.loads(line)["verdict"] for line in grades.read_text().splitlines()]
    assert verdicts == ["correct", "unreadable"] * len(distinct)


def test_the_same_command_gives_the_same_bytes_and_another_seed_other_ones(tmp_path, gsm_lab):
    command = ("--num-problems", 30, "--shard-size", 20)
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        assert gsm_lab("generate", tmp_path / name, *command, "--seed", seed).code == 0
    one, two, three = (sha256_below(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one["data/pretrain-00000.parquet"] != three["data/pretrain-00000.parquet"]


def test_a_range_of_ops_shares_its_weight(tmp_path, gsm_lab):
    done = gsm_lab("generate", tmp_path / "set", "--ops", "2-4=0.3,6=0.7", "--num-problems", 10)
    assert done.code == 0, done.err
    slices = read_manifest(tmp_path / "set")["settings"]["sources"][0]["mixture"]["slices"]
    assert [piece["spec"]["op"] for piece in slices] == [2, 3, 4, 6]
    assert [piece["weight"] for piece in slices] == pytest.approx([0.1, 0.1, 0.1, 0.7])


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--ops", "2-", "ops: '2-' is no range: write both ends, as 2-10, or one number"),
        ("--ops", "", "ops: '' has an empty entry"),
        ("--ops", "2=", "ops: '2' has no share: give a number such as 0.25"),
        ("--set", "op=3", "set: 'op=3' would contradict --ops, which gives op: write --ops 3"),
        ("--set", "mode=reverse", "would contradict --modes, which gives mode: write --modes reverse"),
        ("--set", "modulus=1", "modulus=1: give a number from 2"),
        ("--set", "dept=3", "did you mean depth?"),
        ("--set", "dept=3", "set: 'dept=3' is no setting: write name=value with a field of ProblemSpec or Style"),
        ("--set", "depth", "set: 'depth' has no value: after depth= give a whole number, or a range such as 1-5"),
        ("--set", "operations=", "set: 'operations=' has no value: after operations= give words with commas between"),
        ("--set", "operations=add,", "'operations=add,' cannot be read: after operations= give words with commas"),
        ("--set", "mode=", "set: 'mode=' has no value: after mode= give a word"),
        ("--set", "depth=5-x", "set: 'depth=5-x' cannot be read: after depth= give a whole number, or a range"),
        ("--set", "constants=5", "set: 'constants=5' cannot be read: after constants= give a range such as 1-5."),
        ("--set", "balanced=maybe", "after balanced= give yes or no"),
        ("--set", "checks=often", "'checks=often' cannot be read: after checks= give a number such as 0.25"),
        ("--modes", "sideways", "mode='sideways': give one of ('forward', 'reverse')"),
        ("--split-by", "luck", "split_by='luck': give one of structure_id, numbers_id, problem_id"),
        ("--shard", "4", "shard: '4' is no part: write i/N with i from 0, as 0/4 for the first of 4"),
        ("--shard", "3/2", "part=(3, 2): give (i, N)"),
        ("--executor", "mpi", "executor='mpi'"),
        ("--ops", "2=0.5,3=0.4", "the weights [0.5, 0.4] sum to 0.9, not 1"),
        ("--ops", "2=0.5,3=nan", "give a share above 0"),
        ("--ops", "2=0.5,3", "gives shares for some and not for others"),
        ("--ops", "2=half", "ops: 'half' is not a share: give a number such as 0.25"),
        ("--ops", "two", "ops: 'two' is not a whole number"),
        ("--ops", "4-2", "ops: '4-2' is empty: write the smaller number first"),
        ("--ops", "201", "op=201: give a number from 1 to 200"),
        (
            "--contexts",
            "moon",
            "there are no contexts 'moon': give one of bakery, festival, harbour, museum, school, zoo",
        ),
        ("--contexts", "my-zoo.toml", "there are no contexts 'my-zoo.toml'"),
        ("--contexts", "zoo=0.5,school=0.4", "sum to 0.9"),
        ("--frames", "french", "no frames 'french': give one of chinese, english, paraphrase, symbolic, terse"),
        ("--split", "exam", "split='exam': give one of pretrain, midtrain, rl, validation, test"),
        ("--unit", "letters", "unit='letters': give one of problems, tokens"),
        ("--split", "rl=", "split: 'rl=' gives no size for rl: write rl=9000,test=1000"),
        ("--split", "rl,test", "split: 'rl,test' gives no size for rl, test: write rl=9000,test=1000"),
        ("--split", "rl=2,test", "gives no size for test"),
        ("--split", "rl=2,", "gives no size for a split"),
        ("--split", "rl=2,rl=3", "split: 'rl=2,rl=3' names a split twice: give each once, with its size"),
        ("--split", "rl=5,test=0", "split: test=0: give a whole number of at least 1"),
        ("--split", "rl=3,test=3", "num-problems: 5 and the 6 of --split rl=3,test=3 contradict each other"),
        ("--set", "distractors=few", "'distractors=few' cannot be read: after distractors= give a whole number, or"),
        ("--set", "distractors=-3", "distractors=(-3, -3): give a least and a greatest number"),
        ("--set", "sentence_order=random", "sentence_order='random'"),
        ("--num-problems", "0", "num_problems=0: give a whole number of at least 1"),
        ("--workers", "0", "workers=0: give a whole number of at least 1"),
    ],
)
def test_what_makes_no_data_set_is_refused_and_nothing_is_written(option, value, complaint, tmp_path, gsm_lab):
    refused = gsm_lab("generate", tmp_path / "set", "--num-problems", "5", option, value)
    assert refused.code in (1, 2)
    assert complaint in refused.complaint
    assert "Traceback" not in refused.err
    assert refused.out == ""
    assert not (tmp_path / "set").exists()


def test_a_setting_is_given_once(tmp_path, gsm_lab):
    refused = gsm_lab("generate", tmp_path / "set", "--set", "depth=2", "--set", "depth=3")
    assert refused.code == 2
    assert "set: 'depth=3' gives depth a second time: give every setting once" in refused.complaint


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("depth=2", [2, 2]),
        ("depth=1-2", [1, 2]),
        ("depth=none", None),
        ("operations=add,subtract", ["add", "subtract"]),
        ("operation_weights=0.5,0.25,0.25", [0.5, 0.25, 0.25]),
        ("constants=1-5", [1, 5]),
        ("reuse=0.5", 0.5),
        ("items=7", 7),
    ],
)
def test_a_setting_is_read_as_its_field_wants_it(setting, value, tmp_path, gsm_lab):
    done = gsm_lab("generate", tmp_path, "--ops", "3", "--num-problems", 2, "--set", setting)
    assert done.code == 0, done.err
    (piece,) = read_manifest(tmp_path)["settings"]["sources"][0]["mixture"]["slices"]
    assert piece["spec"][setting.partition("=")[0]] == value


def test_the_sizes_of_splits_may_be_summed_in_num_problems(tmp_path, gsm_lab):
    assert gsm_lab("generate", tmp_path, "--split", "rl=3,test=2", "--num-problems", 5).code == 0
    assert [source["num_problems"] for source in read_manifest(tmp_path)["settings"]["sources"]] == [3, 2]


def test_a_context_of_ones_own_may_have_a_hyphen_in_its_name(tmp_path, gsm_lab):
    own = tmp_path / "my-zoo.toml"
    own.write_bytes((ROOT / "gsm_lab/problems/contexts/zoo.toml").read_bytes())
    assert gsm_lab("generate", tmp_path / "set", "--contexts", own, "--num-problems", 5).code == 0


def test_the_folder_of_another_data_set_is_left_alone(tmp_path, gsm_lab):
    assert gsm_lab("generate", tmp_path, "--num-problems", 5).code == 0
    before = sha256_below(tmp_path)
    refused = gsm_lab("generate", tmp_path, "--num-problems", 6)
    assert refused.code == 1
    assert "holds another data set (sources.0.num_problems: 5 there, 6 asked)" in refused.complaint
    assert sha256_below(tmp_path) == before


def test_a_damaged_data_set_is_not_shown(tmp_path, gsm_lab):
    assert gsm_lab("generate", tmp_path, "--num-problems", 5).code == 0
    (tmp_path / "data/pretrain-00000.parquet").write_bytes(b"PAR1")
    refused = gsm_lab("inspect", tmp_path)
    assert refused.code == 1
    assert refused.out == ""
    assert "pretrain-00000.parquet is damaged" in refused.complaint


def test_a_folder_of_tokens_is_neither_shown_nor_graded_nor_certified(tmp_path, gsm_lab):
    folder = tmp_path / "ids"
    assert gsm_lab("generate", folder, "--only-tokens", "--num-problems", 5).code == 0
    for command in (("inspect", folder), ("grade", folder, folder), ("certify", "--data", folder)):
        refused = gsm_lab(*command)
        assert (refused.code, refused.out) == (1, "")
        assert (
            refused.complaint == f"error: {folder} holds token arrays only, and no texts: give a folder that was "
            f"generated without --only-tokens."
        )


def test_the_missing_parts_of_a_data_set_are_named_until_they_are_there(tmp_path, gsm_lab):
    command = ("generate", tmp_path, "--num-problems", 5, "--shard-size", 2)
    assert gsm_lab(*command, "--shard", "1/3").code == 0
    refused = gsm_lab("inspect", tmp_path)
    assert (refused.code, refused.out) == (1, "")
    assert "is not whole: 2 of 3 shards are missing (pretrain-00000, pretrain-00002)" in refused.complaint
    assert "without --shard or with each --shard that is missing" in refused.complaint
    assert gsm_lab(*command).code == 0
    assert gsm_lab("inspect", tmp_path, "--show", 0).code == 0


def test_without_ray_nothing_is_written(tmp_path, gsm_lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # so that importing it fails
    refused = gsm_lab("generate", tmp_path / "set", "--num-problems", 5, "--executor", "ray")
    assert (refused.code, refused.out) == (1, "")
    assert "executor='ray' needs Ray" in refused.complaint
    assert "`pip install 'gsm-lab[ray]'`, or use executor='local'." in refused.complaint
    assert not (tmp_path / "set").exists()


def test_a_file_of_gsm_infinite_is_solved_and_its_lost_premises_are_named(tmp_path, gsm_lab):
    told = "The number of adult yak in Moss Field equals 3. The number of adult emu in Moss Field equals 4."
    lost = "The number of adult emu in Moss Field equals the number of adult yak in Fern Field."
    rows = [
        {"id": 0, "problem": told, "question": "What is the total number of adult animals in Moss Field?"},
        {"id": 1, "problem": lost, "question": "How many adult emu does Moss Field have?"},
    ]
    common = {"solution": "Answer: 7.", "op": 4, "mode": "forward", "template": "crazy_zootopia"}
    path = tmp_path / "theirs.jsonl"
    path.write_text("".join(json.dumps(row | common) + "\n" for row in rows))
    shown = gsm_lab("inspect", path, "--show", 0)
    assert shown.code == 0, shown.err
    assert "forward: 1 of 2 solved from the text to the stated answer" in shown.out
    assert "1 (op 4, forward): the text never says how many adult yak in Fern Field there are" in shown.out


# ------------------------------------------------------------------------------------ grading


def test_predictions_for_other_problems_are_refused_and_no_grades_are_written(tmp_path, gsm_lab):
    assert gsm_lab("generate", tmp_path / "set", "--num-problems", 5).code == 0
    predictions = tmp_path / "model.jsonl"
    predictions.write_text('{"id": "feedbeef", "completion": "x"}\n')
    refused = gsm_lab("grade", tmp_path / "set", predictions, "--output", tmp_path / "grades.jsonl")
    assert refused.code == 1
    assert refused.out == ""
    assert "5 ids in" in refused.complaint
    assert not (tmp_path / "grades.jsonl").exists()


def test_the_certificate_is_given_with_code_0():
    given = in_process("certify", "--problems", 100, "--mutations", 20)
    assert given.code == 0
    assert given.out.startswith("perfect solver, from the text alone: 100 of 100 verified\n")
    assert given.out.endswith("the laws hold\n")


def test_a_broken_law_ends_with_code_1(monkeypatch, gsm_lab):
    """A perfect solver that has nothing to say."""
    monkeypatch.setattr("gsm_lab.study.certificate.solve_text", lambda prompt, template, style, rng: "answer 0")
    given = gsm_lab("certify", "--problems", 5, "--mutations", 1)
    assert given.code == 1
    assert given.out.endswith("A LAW IS BROKEN\n")


def test_nothing_tried_is_nothing_certified(gsm_lab):
    refused = gsm_lab("certify", "--problems", 0, "--mutations", 0)
    assert (refused.code, refused.out) == (1, "")


# ------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "nope:x"), "there is no experiment 'nope': give a folder with a recipes.py, or one of "),
        (("run", "edge_of_competence"), "write it as experiment:recipe"),
        (("run", "edge_of_competence:x"), "has no recipe 'x': give one of rl-id-seed0, "),
        (("evaluate", "edge_of_competence:x"), "has no recipe 'x': give one of rl-id-seed0, "),
        (("sweep", "nope"), "there is no experiment 'nope': give a folder with a recipes.py, or one of "),
        (("report", "nope"), "there is no experiment 'nope': give a folder with a recipes.py, or one of "),
        (("demo", "--scale", "huge"), "there is no scale 'huge': give one of tiny, nano, "),
        (("demo", "--threads", "0"), "greater than or equal to 1"),
        (("demo", "--scale", "tiny", "--device", "tpu"), "device: 'tpu': give cpu or cuda"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(arguments, complaint, tmp_path, gsm_lab):
    refused = gsm_lab(*arguments, "--runs", tmp_path / "runs")
    assert refused.code in (1, 2)
    assert complaint in refused.complaint
    assert "Traceback" not in refused.err
    assert not (tmp_path / "runs").exists()


def test_what_is_not_trained_is_neither_evaluated_nor_reported(tmp_path, gsm_lab):
    recipe, runs = "edge_of_competence:rl-edge-seed0", tmp_path / "runs"
    run = f"Run `gsm-lab run {recipe} --runs {runs}"
    refused = gsm_lab("evaluate", recipe, "--runs", runs, "--threads", "1")
    assert refused.code == 1
    assert f"not trained to the end in {runs}: base, seed 0; RL on the edge, seed 0. {run}` first" in refused.complaint
    refused = gsm_lab("edge", recipe, "--stage", "base", "--runs", runs, "--threads", "1")
    assert refused.code == 1
    assert f"not trained to the end in {runs}: base, seed 0. {run} --until 0` first" in refused.complaint
    options = ("--runs", runs, "--results", tmp_path / "results")
    refused = gsm_lab("ledger", "edge_of_competence", *options)
    assert refused.code == 1
    assert "base, seed 0; base, seed 1; base, seed 2; " in refused.complaint
    assert f" more. Run `gsm-lab sweep edge_of_competence --runs {runs}` first" in refused.complaint
    refused = gsm_lab("report", "edge_of_competence", *options)
    assert refused.code == 1
    assert "runs of 'edge_of_competence' are not complete" in refused.complaint
    assert list(tmp_path.iterdir()) == []
