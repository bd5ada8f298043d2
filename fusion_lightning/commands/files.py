"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file under another name first, so that a full disk or a Ctrl-C leaves no half of it; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(unfinished, path)
