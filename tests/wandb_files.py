"""Reads W&B's offline files: protobuf records in LevelDB's log format, after a seven-byte file header."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(run_folder: Path) -> list[Any]:
    """Every record of the one offline run under a run's folder, once W&B's own process has written the last."""
    deadline = time.monotonic() + 60
    while True:
        found = list(_read(run_folder))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < deadline, "the record of the run was never finished"
        time.sleep(0.5)


def _read(run_folder: Path) -> Iterator[Any]:
    (path,) = run_folder.glob("wandb/offline-run-*/*.wandb")
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


def history(run_folder: Path) -> list[dict[str, Any]]:
    """What was logged, step by step."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(run_folder)
        if record.WhichOneof("record_type") == "history"
    ]


def config(run_folder: Path) -> dict[str, Any]:
    """The run's configuration."""
    found: dict[str, Any] = {}
    for record in records(run_folder):
        updates = [record.run.config.update, record.config.update]
        for item in (item for update in updates for item in update):
            found[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return found
