"""Stopping when asked to, without losing a step."""

import signal
import threading
from collections.abc import Sized
from pathlib import Path
from types import FrameType
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from fusion_lightning.callbacks.folders import shared_folder
from fusion_lightning.errors import Interrupted
from fusion_lightning.runs import newest_checkpoint

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Ctrl-C; `kill`, a batch system's pre-emption; and the warnings before a time limit that users can ask it for."""


class SignalCheckpoint(Checkpoint):
    """Saves a run when it is asked to stop (SIGINT, SIGTERM, SIGUSR1, SIGUSR2), before validations, and at its end.

    The request is heeded when the step at hand is finished, on all processes at the same step. What is saved is
    ``<folder>/last.ckpt``, from which training goes on as if nothing had happened. A validation is left at once, and
    done again when the run goes on. A second Ctrl-C does not wait for the step.

    Being a `Checkpoint` it runs after all other callbacks, so that it saves what they have done in a step.

    Args:
        folder: The run's folder of checkpoints.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._asked: int | None = None
        self._step = 0
        self._saved_step: int | None = None
        self._validating = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder, and forget what an earlier command was asked."""
        self.folder = shared_folder(trainer, self.folder)
        self._asked = None

    def state_dict(self) -> dict[str, Any]:
        """Whether a validation was to be done when this was saved."""
        return {"validating": self._validating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know whether the validation was done."""
        self._validating = state_dict["validating"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notice what others save."""
        self._saved_step = trainer.global_step

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, and make up for the validation that was left."""
        self._listen()
        self._step = trainer.global_step
        if self._validating:
            # the Trainer believes that a validation which was due is a validation that was done
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False
            trainer.validating = True
            validation.run()
            trainer.training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if asked to; save if this was the last step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated: the step is not finished
        self._step = trainer.global_step
        asked = self._is_asked(trainer)
        if (asked or _is_last(trainer)) and self._saved_step != self._step:
            self._save(trainer)
        if asked:
            self._stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the validation, and listen where validating is all there is to do."""
        self._listen()
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self._validating:
            self._validating = True
            self._save(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that it was done, before those who save the best do so."""
        if not trainer.sanity_checking:
            self._validating = False

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
        evaluated = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        loader: DataLoader[Any] | None = trainer.predict_dataloaders if trainer.predicting else evaluated
        assert loader is not None
        # the processes agree on it as long as all of them have batches
        everybody_has = len(cast(Sized, loader.dataset)) // trainer.world_size // (loader.batch_size or 1)
        if (trainer.world_size == 1 or batch_idx < everybody_has) and self._is_asked(trainer):
            self._stop(trainer)

    on_test_start = on_predict_start = on_sanity_check_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def _listen(self) -> None:
        """Take the signals over from the Trainer, which gives them back when it ends."""
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                signal.signal(one, self._heed)

    def _heed(self, signum: int, frame: FrameType | None) -> None:
        if self._asked is not None and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        self._asked = signum

    def _is_asked(self, trainer: Trainer) -> bool:
        """Whether any process was asked, so that all of them stop at the same step."""
        return trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(Path(self.folder) / "last.ckpt", weights_only=False)

    def _stop(self, trainer: Trainer) -> None:
        signum = self._asked or signal.SIGTERM  # or another process was asked
        asked = f"interrupted by {signal.Signals(signum).name}"
        newest = newest_checkpoint(self.folder)
        if trainer.state.fn != "fit":
            raise Interrupted(f"{asked} before all images were seen: start again", signum)
        if newest is None:
            raise Interrupted(f"{asked} before the first step: start again", signum)
        raise Interrupted(
            f"{asked} after step {trainer.global_step}: go on with the same command and --ckpt_path {newest}", signum
        )


def _is_last(trainer: Trainer) -> bool:
    """Whether training ends with this step; what comes later may change the weights (averaging does)."""
    last_epoch = trainer.max_epochs is not None and 0 < trainer.max_epochs <= trainer.current_epoch + 1
    last_step = 0 <= trainer.max_steps <= trainer.global_step
    return trainer.should_stop or last_step or (last_epoch and trainer.is_last_batch)
