"""Signal handling: a run that is asked to stop saves and can be resumed exactly."""

import signal
import threading
import time
from collections.abc import Sized
from pathlib import Path
from types import FrameType
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from fusion_lightning.callbacks.folders import shared_folder
from fusion_lightning.errors import Interrupted
from fusion_lightning.loops import ResumableSteps
from fusion_lightning.patience import Patience
from fusion_lightning.runs import newest_checkpoint

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Ctrl-C; `kill`, a batch system's pre-emption; and the warnings before a time limit that users can ask it for."""

_LEAST_PATIENCE = 20.0
"""Seconds that a step may take to end after a request, at least."""

_UNSAVED = (
    "before the first checkpoint: nothing was saved, so the same command starts anew; "
    "--checkpoint.every_n_train_steps saves earlier"
)
"""How to begin again where there is no checkpoint yet."""


class StopOnSignal(Callback):
    """Signal handler: stops a run on SIGINT, SIGTERM, SIGUSR1 and SIGUSR2.

    The run stops when the current batch is finished, on all processes at the same one. A second Ctrl-C does not
    wait for that; and the process ends by force when it takes four times as long as the slowest batch so far, but at
    least 20 seconds: it waits for something that does not come.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._step = 0
        self._began = time.monotonic()
        self._longest = 0.0
        self._patience = Patience(_SIGNALS, lambda: max(_LEAST_PATIENCE, 4 * self._longest), self._farewell)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Clear the request of an earlier command."""
        self._asked = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()
        self._step = trainer.global_step
        if trainer.received_sigterm:  # before this could listen
            self._asked = signal.SIGTERM

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to."""
        self._measure()
        if trainer.global_step == self._step:
            return  # gradients are being accumulated: the step is not finished
        self._step = trainer.global_step
        if self._is_asked(trainer):
            self._stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handler where the command only validates."""
        self._listen()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if asked to."""
        self._measure()
        evaluated = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        loader: DataLoader[Any] | None = trainer.predict_dataloaders if trainer.predicting else evaluated
        assert loader is not None
        # the processes agree on it as long as all of them have batches
        everybody_has = len(cast(Sized, loader.dataset)) // trainer.world_size // (loader.batch_size or 1)
        if (trainer.world_size == 1 or batch_idx < everybody_has) and self._is_asked(trainer):
            self._stop(trainer)

    on_test_start = on_predict_start = on_sanity_check_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run ends."""
        self._patience.end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The run has ended."""
        self._patience.end()

    def _listen(self) -> None:
        """Take the signals over from the Trainer, which gives them back when it ends."""
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                signal.signal(one, self._heed)
            self._patience.begin()
        self._began = time.monotonic()

    def _heed(self, signum: int, frame: FrameType | None) -> None:
        if self._asked is not None and signum == signal.SIGINT:
            raise Interrupted(self._farewell(signum), signum)
        self._asked = signum

    def _measure(self) -> None:
        now = time.monotonic()
        self._longest, self._began = max(self._longest, now - self._began), now

    def _is_asked(self, trainer: Trainer) -> bool:
        """Whether any process was signalled, so that all of them stop at the same step."""
        return trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False)

    def _stop(self, trainer: Trainer) -> None:
        signum = self._asked or signal.SIGTERM  # or another process was asked
        self._patience.end()
        raise Interrupted(f"interrupted by {signal.Signals(signum).name} {self._where(trainer)}", signum)

    def _where(self, trainer: Trainer) -> str:
        """How far the run came, and how to go on."""
        if trainer.state.fn != "fit":
            return "before all images were seen: start again"
        return f"after step {trainer.global_step}: no checkpoints are kept, so that it has to start again"

    def _farewell(self, signum: int) -> str:
        """What to say when the step at hand is not waited for."""
        return f"interrupted by {signal.Signals(signum).name} in the middle of a step: start again"


class SignalCheckpoint(StopOnSignal, Checkpoint):
    """Checkpoint on a signal, before every validation, and at the end of training.

    What is saved is ``<folder>/last.ckpt``, from which training goes on as if nothing had happened. A validation is
    left at once, and done again when the run goes on.

    Being a `Checkpoint` it runs after all other callbacks, so that it saves what they have done in a step.

    Args:
        folder: The run's folder of checkpoints.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self._saved_step: int | None = None
        self._trains = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Share the folder among processes."""
        super().setup(trainer, pl_module, stage)
        self._trains = stage == "fit"
        self.folder = shared_folder(trainer, self.folder)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notice what others save."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if asked to; save if this was the last step."""
        if trainer.global_step != self._step and (self._is_asked(trainer) or _is_last(trainer)):
            self._save(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the validation."""
        super().on_validation_start(trainer, pl_module)
        # gradients that are being accumulated are not saved, so what was saved before is the place to go on from
        if _is_due(trainer) and not trainer.fit_loop._should_accumulate():
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that it was done; save that if nothing will be saved any more."""
        if not _is_due(trainer):
            return
        steps = trainer.fit_loop.epoch_loop
        assert isinstance(steps, ResumableSteps)
        steps.validated = steps.total_batch_idx
        if _is_last(trainer):
            self._saved_step = None
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._saved_step != trainer.global_step:
            trainer.save_checkpoint(Path(self.folder) / "last.ckpt", weights_only=False)

    def _where(self, trainer: Trainer) -> str:
        newest = newest_checkpoint(self.folder)
        if trainer.state.fn != "fit":
            return super()._where(trainer)
        if newest is None:
            return _UNSAVED
        return f"after step {trainer.global_step}: go on with the same command and --ckpt_path {newest}"

    def _farewell(self, signum: int) -> str:
        if not self._trains:
            return super()._farewell(signum)
        newest = newest_checkpoint(self.folder)
        asked = f"interrupted by {signal.Signals(signum).name} in the middle of a step"
        if newest is None:
            return f"{asked} and {_UNSAVED}"
        return f"{asked}: go on with the same command and --ckpt_path {newest}"


def _is_due(trainer: Trainer) -> bool:
    """Whether this validation belongs to a training."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _is_last(trainer: Trainer) -> bool:
    """Whether training ends with this step; what comes later may change the weights (averaging does)."""
    last_epoch = trainer.max_epochs is not None and 0 < trainer.max_epochs <= trainer.current_epoch + 1
    last_step = 0 <= trainer.max_steps <= trainer.global_step
    return trainer.should_stop or last_step or (last_epoch and trainer.is_last_batch)
