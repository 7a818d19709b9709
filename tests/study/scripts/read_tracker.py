"""Prints what a tracker holds, read by its own package: record name to a list of [step, figures], as JSON.

Started by test_tracker_packages.py as `python read_tracker.py KIND FOLDER`, in an environment with the package.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Records = dict[str, list[tuple[int, dict[str, float]]]]


def of_tensorboard(folder: Path) -> Records:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Records = {}
    for events in folder.glob("*/events*"):
        accumulator = EventAccumulator(str(events), size_guidance={"scalars": 0})
        accumulator.Reload()
        steps: dict[int, dict[str, float]] = {}
        for tag in accumulator.Tags()["scalars"]:
            for event in accumulator.Scalars(tag):
                assert tag not in steps.setdefault(event.step, {}), f"{tag} comes twice at step {event.step}"
                steps[event.step][tag] = event.value
        assert events.parent.name not in found, "a record is one file"
        found[events.parent.name] = sorted(steps.items())
    return found


def of_wandb(folder: Path) -> Records:
    from wandb.proto import wandb_internal_pb2

    found: Records = {}
    for path in folder.glob("wandb/offline-run-*/run-*.wandb"):
        name = path.stem.removeprefix("run-")
        assert name not in found, "a record is one run"
        found[name] = []
        for content in log_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                figures = {key: json.loads(value) for key, value in values.items() if not key.startswith("_")}
                found[name].append((int(values["_step"]), figures))
    return found


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB, behind a head of 7 bytes."""
    place, record = 7, b""
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:  # too little for the head of a part
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def of_trackio(folder: Path) -> Records:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found: Records = {}
    for run in trackio.Api().runs("gsm_lab"):
        assert run.name not in found, "a record is one run"
        lines: list[dict[str, Any]] = SQLiteStorage.get_logs("gsm_lab", run.name, run_id=run.id)
        found[run.name] = [
            (line["step"], {key: value for key, value in line.items() if key not in ("step", "timestamp")})
            for line in lines
        ]
    return found


if __name__ == "__main__":
    kind, folder = sys.argv[1:]
    read = {"tensorboard": of_tensorboard, "wandb": of_wandb, "trackio": of_trackio}[kind]
    print(json.dumps(read(Path(folder))))
