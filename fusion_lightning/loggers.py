"""Loggers of a run: Weights & Biases, and a CSV of the same scalars."""

import contextlib
import netrc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from fusion_lightning.files import unused_name

_PATIENCE = 60
"""Seconds that a beginning or ending run waits for the W&B server."""


class WandbRecord(WandbLogger):
    """W&B logger whose failures never stop the training.

    What cannot be recorded is reported once and left out. A run that cannot reach the server when it starts is kept
    offline; one that loses it later goes on, and its own file still receives everything (``wandb sync`` sends it).

    Args:
        folder: The run's folder; W&B's own lies in it.
        experiment: Group of the run.
        run_id: Name and id of the run: resuming continues the same one.
        offline: Keep the record on disk and send nothing.
        checkpoints: Add the checkpoints to the record as artifacts when training ends.
    """

    def __init__(self, folder: Path, experiment: str, run_id: str, offline: bool, checkpoints: bool) -> None:
        from wandb import Settings  # slow to import, and only needed once a run starts

        super().__init__(
            project=os.environ.get("WANDB_PROJECT", "fusion_lightning"),
            name=f"{experiment}/{run_id}",
            id=run_id,
            save_dir=str(folder),
            # not Lightning's `offline`, which refuses artifacts and changes the environment
            mode="offline" if offline and "WANDB_MODE" not in os.environ else None,
            resume=None if offline else "allow",
            group=experiment,
            log_model=checkpoints,
            settings=Settings(
                silent=True,
                console="off",
                init_timeout=_PATIENCE,
                # checkpoints take long to send; scalars and pictures are sent while training
                finish_timeout=30 * _PATIENCE if checkpoints else _PATIENCE,
            ),
        )
        self._wandb_init.pop("anonymous", None)  # Lightning's own, which W&B warns about
        self._failed = False

    @rank_zero_only
    def begin(self) -> None:
        """Begin the record, offline if the server cannot be reached; on the first process only."""
        import wandb
        from wandb.errors import Error

        try:
            _ = self.experiment
        except Error as error:
            rank_zero_warn(f"W&B cannot be reached, so this run is recorded offline: {_first_line(error)}")
            wandb.teardown()  # its process still waits for the server with this run's id
            self._wandb_init |= {"mode": "offline", "resume": None}
            _ = self.experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars, pictures or tables, or report that it is not possible."""
        try:
            super().log_metrics(metrics, step)
        except Exception as error:
            self._report(error)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration, or report that it is not possible."""
        try:
            super().log_hyperparams(params)
        except Exception as error:
            self._report(error)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Add the checkpoints if they were asked for, or report that it is not possible."""
        try:
            super().finalize(status)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._failed:
            rank_zero_warn(f"W&B records this run no longer, training goes on: {_first_line(error)}")
        self._failed = True


def make_loggers(folder: Path, experiment: str, run_id: str, verb: str, checkpoints: bool = False) -> list[Logger]:
    """W&B, offline by itself when nobody is logged in, and a CSV of the same scalars."""
    offline = not _logged_in()
    if offline and os.environ.get("WANDB_MODE") is None:
        rank_zero_info(f"W&B: not logged in, so this run is recorded offline in {folder / 'wandb'}")
    return [
        WandbRecord(folder, experiment, run_id, offline, checkpoints),
        # under a name not taken: CSVLogger would delete an earlier record
        CSVLogger(save_dir=str(folder), name="csv", version=unused_name(folder / "csv" / verb).name),
    ]


def finish_record(failed: bool) -> None:
    """Close the W&B run, so that its file is complete and the next run in this process has its own."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    try:
        wandb.finish(exit_code=int(failed))
    except Exception as error:
        rank_zero_warn(f"W&B did not finish its record of this run: {_first_line(error)}")
        with contextlib.suppress(Exception):
            wandb.teardown()


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
