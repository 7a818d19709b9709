"""Law 4 on disk: whoever writes a data set, in how many processes, in which parts, and however often killed, its bytes
are the same."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gsm_lab
from gsm_lab.data import EXECUTORS, ExerciseSource, Mixture, Slice, is_whole, read_manifest, write_dataset
from gsm_lab.data.executors import results
from gsm_lab.errors import DataError
from gsm_lab.problems import ProblemSpec, Style

SOURCE_TREE = Path(gsm_lab.__file__).parents[1]
SIZES, SHARD, NUM_SHARDS = (60, 20), 10, 8


def sources():
    mixture = Mixture(
        (
            Slice(ProblemSpec(op=8, mode="reverse"), "museum", "chinese", 0.5),
            Slice(ProblemSpec(op=12, nested_totals=0.5), weight=0.5, style=Style(trace_order="random", checks=0.2)),
        )
    )
    return [ExerciseSource(mixture, split, 3) for split in ("pretrain", "test")]


def write(folder, **settings):
    return write_dataset(folder, sources(), SIZES, SHARD, **settings)


def bytes_of(folder):
    """Every file of the folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return bytes_of(write(tmp_path_factory.mktemp("data") / "set"))


def test_two_workers_write_the_same_bytes(expected, tmp_path):
    assert bytes_of(write(tmp_path / "set", workers=2)) == expected


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_three_parts_write_the_same_bytes_in_any_order(expected, tmp_path, order):
    folder = tmp_path / "set"
    for number in order:
        assert not is_whole(folder)
        write(folder, part=(number, 3))
    assert bytes_of(folder) == expected


def test_a_part_writes_every_third_shard_and_tells_its_own_progress(tmp_path):
    seen = []
    folder = write(tmp_path / "set", part=(1, 3), on_shard=seen.append)
    written = sorted(path.name for path in (folder / "data").iterdir())
    assert written == ["pretrain-00001.parquet", "pretrain-00004.parquet", "test-00001.parquet"]  # 1, 4, 7 of 0 to 7
    assert [(one.shards, one.all_shards, one.all_problems) for one in seen] == [(1, 3, 30), (2, 3, 30), (3, 3, 30)]
    with pytest.raises(DataError, match="interrupted"):
        read_manifest(folder)


def test_the_whole_finishes_what_parts_have_begun(expected, tmp_path):
    folder, seen = tmp_path / "set", []
    write(folder, part=(1, 3))
    write(folder, on_shard=seen.append)
    assert bytes_of(folder) == expected
    assert len(seen) == NUM_SHARDS - 3


def test_parts_of_other_numbers_finish_what_three_have_begun(expected, tmp_path):
    folder = tmp_path / "set"
    write(folder, part=(1, 3))
    write(folder, part=(0, 2))
    assert not is_whole(folder)
    write(folder, part=(1, 2))
    assert bytes_of(folder) == expected


def test_a_part_mends_its_damaged_shard_of_a_whole_data_set(expected, tmp_path):
    folder = write(tmp_path / "set")
    path = folder / "data/pretrain-00004.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    write(folder, part=(0, 3))
    assert bytes_of(folder) != expected  # it is not in that part
    write(folder, part=(1, 3))
    assert bytes_of(folder) == expected


@pytest.mark.parametrize("part", [(3, 3), (-1, 3), (0, 0)])
def test_a_part_that_there_is_not_is_refused(tmp_path, part):
    with pytest.raises(DataError, match="give \\(i, N\\) with i from 0 to N - 1"):
        write(tmp_path / "set", part=part)
    assert not (tmp_path / "set").exists()


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
if __name__ == "__main__":
    from test_same_bytes import write
    write(sys.argv[1], workers={workers}, part={part})
"""


def started(folder, *, hash_seed=0, workers=1, part=None):
    """A process that writes the data set."""
    script = folder.parent / f"{folder.name}-{hash_seed}-{part}.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), workers=workers, part=part))
    environment = os.environ | {"PYTHONPATH": str(SOURCE_TREE), "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, str(script), str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("hash_seed", [0, 1, 12345])
def test_processes_with_other_hash_seeds_write_the_same_bytes(expected, tmp_path, hash_seed):
    ended(started(tmp_path / "set", hash_seed=hash_seed))
    assert bytes_of(tmp_path / "set") == expected


def test_three_processes_write_their_parts_at_the_same_time(expected, tmp_path):
    processes = [started(tmp_path / "set", part=(number, 3)) for number in range(3)]
    for process in processes:
        ended(process)
    assert bytes_of(tmp_path / "set") == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_in_the_middle_and_run_again_the_bytes_are_the_same(expected, tmp_path, workers):
    folder = tmp_path / "set"
    process = started(folder, workers=workers)
    while not [*folder.glob("data/*.parquet")]:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not is_whole(folder)
    seen = []
    write(folder, on_shard=seen.append)
    assert len(seen) > 0
    assert bytes_of(folder) == expected


def children_of(pid):
    """The processes that have this one as their parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    process = started(tmp_path / "set", workers=2)
    while len(workers := children_of(process.pid)) < 2 or not [*tmp_path.glob("set/data/*.parquet")]:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except OSError:
        return "Z"


def squared(offset, number):
    return offset + number**2


def pid_of(common, piece):
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_those_of_every_piece(workers):
    assert sorted(results(squared, 1, range(5), workers)) == [1, 2, 5, 10, 17]


def test_one_worker_is_this_process_and_two_are_others():
    assert set(results(pid_of, None, range(3), 1)) == {os.getpid()}
    assert os.getpid() not in set(results(pid_of, None, range(3), 2))
    assert multiprocessing.active_children() == []


def test_an_unknown_executor_is_refused(tmp_path):
    with pytest.raises(DataError, match=f"executor='slurm': give one of {', '.join(EXECUTORS)}"):
        write(tmp_path / "set", executor="slurm")


RAY = """
import json, sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from test_same_bytes import write
seen = []
write(Path(sys.argv[1]), workers=2, executor="ray", on_shard=lambda progress: seen.append(progress.shards))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_ray_writes_the_same_bytes(expected, tmp_path):
    """In a process of its own: Ray leaves threads and warnings behind."""
    pytest.importorskip("ray")
    environment = os.environ | {"PYTHONPATH": f"{SOURCE_TREE}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", RAY.format(here=str(Path(__file__).parent)), str(tmp_path / "set")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [*range(1, NUM_SHARDS + 1)]
    assert bytes_of(tmp_path / "set") == expected
