"""Reads W&B's offline files: protobuf records in LevelDB's log format, after a seven-byte file header."""

import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def logged_out(home: Path) -> dict[str, str]:
    """The environment of a user who has no login."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "FUSION_"))}
    # a new home alone would have Matplotlib look for fonts again
    return {**environment, "HOME": str(home), "MPLCONFIGDIR": matplotlib.get_configdir(), "OMP_NUM_THREADS": "1"}


def records(run_folder: Path, number: int = 0, finished: bool = True) -> list[Any]:
    """What W&B wrote under a run's folder, of the first command or a later one; waits for the record of its end."""
    deadline = time.monotonic() + 60
    while True:
        found = list(_read(sorted(run_folder.glob("wandb/*run-*/*.wandb"), key=_began)[number]))
        if not finished or any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < deadline, "the record of the run was never finished"
        time.sleep(0.5)


def _began(path: Path) -> str:
    return path.parent.name.removeprefix("offline-")


def _read(path: Path) -> Iterator[Any]:
    data, position, parts = path.read_bytes(), _FILE_HEADER, b""
    while position + _HEADER <= len(data):
        if _BLOCK - position % _BLOCK < _HEADER:  # the rest of a block too short for a header is padding
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += _HEADER
        parts = (
            data[position : position + length]
            if kind in (_FULL, _FIRST)
            else parts + data[position : position + length]
        )
        position += length
        if kind in (_FULL, _LAST) and position <= len(data):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def history(run_folder: Path, number: int = 0, finished: bool = True) -> list[dict[str, Any]]:
    """What was logged, step by step."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(run_folder, number, finished)
        if record.WhichOneof("record_type") == "history"
    ]


def config(run_folder: Path, number: int = 0) -> dict[str, Any]:
    """The run's configuration."""
    found: dict[str, Any] = {}
    for record in records(run_folder, number):
        updates = [record.run.config.update, record.config.update]
        for item in (item for update in updates for item in update):
            found[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return found
