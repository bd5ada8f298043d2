"""Atomic file writes, and unused file names."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically (text as UTF-8): a full disk or a kill leaves no half. Missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process's number: two that write the same file do not write into each other's
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def unused_name(path: Path) -> Path:
    """The path itself, or the first free ``name-2.suffix``, ``name-3.suffix``, … beside it."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate
