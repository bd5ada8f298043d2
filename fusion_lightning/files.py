"""Atomic file writes, unused file names, and output folders that one process fills at a time."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion_lightning.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has none: there, two processes are not kept apart
    fcntl = None  # type: ignore[assignment]


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically (text as UTF-8): a full disk or a kill leaves no half. Missing folders are made.

    Raises:
        OSError: If it cannot be written; the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process's number: two that write the same file do not write into each other's
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what `write_atomic` has left in a folder when its process was killed."""
    for unfinished in folder.rglob(".*.unfinished*"):
        unfinished.unlink(missing_ok=True)


def output_folder(output: str, inputs: Iterable[Path] = (), parts: Iterable[str] = ("",)) -> Path:
    """The folder that ``--output`` names; it need not be there.

    Args:
        output: As it was typed.
        inputs: Files that are read.
        parts: Folders in it that results go to.

    Raises:
        UserError: If it is a file, or a link to nothing, or an input lies where results would go.
    """
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {output} is a file: give a folder")
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"--output {output} is a link to nothing or to itself: give a folder")
    places = {(folder / part).resolve() for part in parts}
    for path in inputs:
        if path.resolve().parent in places or path.parent.resolve() in places:
            raise UserError(f"--output {output} holds the input {path}: choose another folder for results")
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder that is being filled. It is made, and goes again if it stays empty.

    Raises:
        UserError: If another process is at work there.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    # the lock of the open folder itself: it ends with the process, however that ends, and leaves no file
    handle = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_unfinished(folder)
        yield
    except BlockingIOError as error:
        raise UserError(f"another process is writing into {folder}: wait for it, or choose another --output") from error
    finally:
        if handle is not None:
            os.close(handle)
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def unused_name(path: Path) -> Path:
    """The path itself, or the first free ``name-2.suffix``, ``name-3.suffix``, … beside it."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate
