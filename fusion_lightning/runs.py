"""Where a run's files go, and the loggers that record it."""

import netrc
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from fusion_lightning.errors import UserError

_RUN_ID = "FUSION_LIGHTNING_RUN_ID"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunFolder:
    """``<root>/<experiment>/<run id>``: configuration, checkpoints, pictures, scores and logs of one run."""

    root: str
    experiment: str
    run_id: str

    @classmethod
    def choose(cls, root: str, experiment: str, run_id: str | None, checkpoint: str | None) -> "RunFolder":
        """The folder of the run a checkpoint belongs to, else of the run that is named, else of a new one.

        Raises:
            UserError: If a name has characters that do not belong in a folder's or a W&B run's name.
        """
        if checkpoint is not None and run_id is None:
            folder = Path(checkpoint).resolve().parent
            if folder.name == _CHECKPOINTS:
                return cls(str(folder.parents[2]), folder.parents[1].name, folder.parent.name)
        # the other ranks on this machine are started by the first one and inherit its choice
        inherited = os.environ.get(_RUN_ID) if os.environ.get("LOCAL_RANK", "0") != "0" else None
        run_id = run_id or os.environ.get("WANDB_RUN_ID") or inherited or _new_run_id()
        for option, value in (("--experiment", experiment), ("--run_id", run_id)):
            if not re.fullmatch(r"[\w.-]+", value):
                raise UserError(f"{option} must be made of letters, digits, '.', '_' and '-', but got {value!r}")
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


def make_loggers(run: RunFolder, verb: str) -> list[Logger]:
    """Weights & Biases, offline by itself when nobody is logged in, and a CSV of the same scalars beside it."""
    from wandb import Settings  # slow to import, and only needed once a run starts

    offline = not _logged_in()
    if offline and os.environ.get("WANDB_MODE") is None:
        rank_zero_info(f"W&B: not logged in, so this run is recorded offline in {run.path / 'wandb'}")
    project = os.environ.get("WANDB_PROJECT", "fusion_lightning")
    wandb = WandbLogger(
        project=project,
        name=f"{run.experiment}/{run.run_id}",
        id=run.run_id,
        save_dir=str(run.path),
        offline=offline,
        resume=None if offline else "allow",
        group=run.experiment,
        settings=Settings(silent=True, console="off"),
    )
    return [wandb, CSVLogger(save_dir=str(run.path), name="csv", version=_unused(run.path / "csv", verb))]


def _unused(folder: Path, name: str) -> str:
    """A name not taken in a folder: CSVLogger would delete an earlier record of that name."""
    number, candidate = 1, name
    while (folder / candidate).exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _new_run_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _logged_in() -> bool:
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"] == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
