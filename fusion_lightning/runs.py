"""The folder of a run, and its newest checkpoint."""

import errno
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fusion_lightning.errors import UserError, plain_reason

try:
    import fcntl
except ImportError:  # Windows, where runs are not locked
    fcntl = None  # type: ignore[assignment]

_RUN_ID = "FUSION_LIGHTNING_RUN_ID"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunFolder:
    """``<root>/<experiment>/<run id>``: configuration, checkpoints, pictures, scores and logs of one run."""

    root: str
    experiment: str
    run_id: str

    @classmethod
    def choose(
        cls, root: str | None, experiment: str | None, run_id: str | None, checkpoint: str | None, default: str
    ) -> "RunFolder":
        """The folder of the run that is named, else of the run a checkpoint belongs to, else of a new one.

        Args:
            root: Where experiments go; None is where the checkpoint's run lies, or ``logs``.
            experiment: Folder of the run; None is the checkpoint's, or the default.
            run_id: Name of the run; None is the checkpoint's, or a new one.
            checkpoint: The checkpoint that is taken up, if any.
            default: What the experiment is called if nothing else says so.

        Raises:
            UserError: If a name has characters that do not belong in a folder's or a W&B run's name.
        """
        if checkpoint is not None and run_id is None:
            folder = Path(checkpoint).resolve().parent
            if folder.name == _CHECKPOINTS:
                root, experiment = root or str(folder.parents[2]), experiment or folder.parents[1].name
                run_id = folder.parent.name
        root, experiment = root or "logs", experiment or default
        # the other ranks on this machine are started by the first one and inherit its choice
        inherited = os.environ.get(_RUN_ID) if os.environ.get("LOCAL_RANK", "0") != "0" else None
        run_id = run_id or os.environ.get("WANDB_RUN_ID") or inherited or _new_run_id()
        for option, value in (("--experiment", experiment), ("--run_id", run_id)):
            if not re.fullmatch(r"[\w-][\w.-]*", value):
                raise UserError(
                    f"{option} must be made of letters, digits, '_', '-' and, inside, '.', but got {value!r}"
                )
        os.environ[_RUN_ID] = run_id
        return cls(root, experiment, run_id)

    @property
    def path(self) -> Path:
        """The run's own folder."""
        return Path(self.root) / self.experiment / self.run_id

    @property
    def checkpoints(self) -> Path:
        """Where the run's ``.ckpt`` files go."""
        return self.path / _CHECKPOINTS

    @property
    def pictures(self) -> Path:
        """Where contact sheets go."""
        return self.path / "pictures"

    @property
    def predictions(self) -> Path:
        """Where `predict` writes fused images."""
        return self.path / "predictions"

    @property
    def faults(self) -> Path:
        """Where the state before a NaN or infinite loss is saved."""
        return self.path / "faults"

    def lock(self) -> IO[bytes]:
        """A file that is locked as long as it is open and this process lives: two trainings of one run would mix.

        Raises:
            UserError: If another process has it.
        """
        self.make()
        file = (self.path / ".fit.lock").open("a+b")
        if fcntl is None:
            return file
        try:
            # unlike `flock`, no lock of the processes that are forked from this one
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise UserError(
                f"the run {self.path} is being trained by another process: wait for it, or choose another --run_id"
            ) from error
        return file

    def make(self) -> None:
        """Make the folder before training, so that an unwritable disk is found out while nothing can be lost.

        Raises:
            UserError: If it cannot be made or written to.
        """
        probe = self.path / ".probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"0")
            probe.unlink()
        except OSError as error:
            raise UserError(f"the folder {self.path} cannot be used (--log_dir): {plain_reason(error)}") from error


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint in a folder that was written last, which is the one furthest on; None if there is none."""
    return max(Path(folder).glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)


def _new_run_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
