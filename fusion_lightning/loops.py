"""Trainer loops over epochs and steps that resume exactly where a checkpoint left them.

Lightning 2.6 guesses from its counters what a checkpoint was saved in the middle of. It is wrong where a validation
ends an epoch (the run spins for ever, or ends too early), at an epoch's end (the data of an epoch are passed over), and
in a last validation (it is left out). Here every checkpoint stands behind a batch, and what belongs to that batch, the
validation and the end of the epoch, is done unless the checkpoint says that it was.
"""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.progress import _ProcessedTracker, _ReadyCompletedTracker
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from fusion_lightning.datamodules import ResumableLoader


class ResumableEpochs(_FitLoop):
    """The loop over epochs.

    Args:
        replaced: The Trainer's own, whose limits are kept.
    """

    def __init__(self, replaced: _FitLoop) -> None:
        trainer: Trainer = replaced.trainer
        super().__init__(trainer, replaced.min_epochs, replaced.max_epochs)
        self.epoch_loop: ResumableSteps = ResumableSteps(trainer, replaced.min_steps, replaced.max_steps)

    @property
    def restarting(self) -> bool:
        """Whether the epoch at hand was begun before the checkpoint; Lightning claims it of all with `max_steps`."""
        return self._restarting

    @restarting.setter
    def restarting(self, restarting: bool) -> None:
        epochs = _processed(self.epoch_progress.current)
        _Loop.restarting.fset(self, restarting and epochs.processed != epochs.started)  # type: ignore[attr-defined]

    @property
    def done(self) -> bool:
        """Whether to stop; not before what belongs to the checkpoint's batch has been done."""
        return not self.restarting and super().done

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Stand behind the last batch that was trained on, in its epoch or, if that was finished, before the next."""
        super().load_state_dict(state_dict, prefix)
        batches, epoch = self.epoch_loop.batch_progress, _processed(self.epoch_progress.current)
        for count in map(_processed, (batches.total, batches.current)):
            count.ready = count.started = count.completed = count.processed
        # a run that stopped in the middle of an epoch has counted it, too
        finished = batches.is_last_batch and epoch.processed == epoch.started
        for count in map(_processed, (self.epoch_progress.total, self.epoch_progress.current)):
            count.ready = count.started
            count.completed = count.processed = count.started - (not finished)
        if finished:
            self._combined_loader_states_to_load = []
        self.restarting = True

    def setup_data(self) -> None:
        """Count the batches of an unfinished epoch anew: their size may have changed."""
        super().setup_data()
        loader = self._combined_loader.flattened[0] if self._combined_loader is not None else None
        if self.restarting and isinstance(loader, ResumableLoader):
            batches = self.epoch_loop.batch_progress
            if loader.batches_done != _processed(batches.current).processed:
                batches.current.reset()
                batches.current.increment_by(loader.batches_done)
                batches.is_last_batch = loader.batches_done >= self.max_batches

    def on_run_start(self) -> None:
        """Make up for the validation that was left."""
        super().on_run_start()
        assert self._data_fetcher is not None
        if self.restarting:
            self.epoch_loop.make_up(self._data_fetcher)


class ResumableSteps(_TrainingEpochLoop):
    """The loop over the steps of an epoch.

    Attributes:
        validated: The batch, counted over all epochs, behind which the last validation was finished.
    """

    validated = -1
    restarting: bool

    def reset(self) -> None:
        """Begin an epoch, or go on in one."""
        if not self.restarting:
            super().reset()
            return
        self.scheduler_progress.reset_on_restart()
        self.automatic_optimization.optim_progress.reset_on_restart()
        if not self._should_accumulate():
            self._batches_that_stepped += 1  # it is saved before it is counted
        self.restarting = False

    def make_up(self, data_fetcher: _DataFetcher) -> None:
        """Validate if that was due behind the last batch and was not finished."""
        if self.validated != self.total_batch_idx and self._should_check_val_fx(data_fetcher):
            self.val_loop.restarting = False
            self.trainer.validating = True
            self.val_loop.run()
            self.trainer.training = True

    def on_save_checkpoint(self) -> dict[str, Any]:
        """What the counters do not tell."""
        return {**super().on_save_checkpoint(), "validated": self.validated}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(state_dict)
        self.validated = state_dict.get("validated", -1)


def _processed(count: _ReadyCompletedTracker) -> _ProcessedTracker:
    """Epochs and batches are counted in four stages."""
    assert isinstance(count, _ProcessedTracker)
    return count
