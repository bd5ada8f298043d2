"""File locks of a search: which of its runs are being worked on, and by one search at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion_lightning.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def check_locks() -> None:
    """Check that the system has file locks.

    Raises:
        UserError: If it has none (Windows).
    """
    if fcntl is None:
        raise UserError("`sweep` needs file locks, which this system lacks: use `wandb agent`, Linux, macOS or WSL")


def lock_run(folder: Path) -> int | None:
    """A handle that says that a run is being worked on, until the last process that has it ends; None if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lock: searches started together must not re-enqueue the same trials."""
    with (folder / ".lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
