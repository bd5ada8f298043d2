"""Checkpoints that are whole or not there: what a kill or a full disk may cost is the newest, never the one before."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from fusion_lightning.errors import UserError, plain_reason


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, onto the disk, and only then moves it there.

    Lightning's own writer collects the file in the system's temporary folder: from another file system, moving it is
    copying it, and a kill meanwhile leaves half a checkpoint in the place of a whole one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; a checkpoint of that name is replaced at once or left as it is.

        Raises:
            UserError: If it cannot be written.
        """
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # through a file of our own: torch names no reason when its own writer fails
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:
            # torch's writer fails over the end of a file that could not be written, and hides why
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            with contextlib.suppress(OSError):
                unfinished.unlink()
            kept = "; the one before it is whole" if path.exists() else ""
            raise UserError(f"the checkpoint {path} cannot be written: {plain_reason(cause)}{kept}") from error


def _sync_folder(folder: Path) -> None:
    """Have the new name itself on the disk, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
