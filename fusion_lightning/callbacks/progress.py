"""Progress bar of a run: loss, last score and time left, and a summary at its end."""

import math
import time
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_REFRESH = 0.5
"""Seconds between two looks at the loss, each of which makes a GPU wait."""
_LINE = 120.0
"""Seconds between two lines of a log, where there is no bar."""
_WINDOW = 300
"""Seconds of training that the time left is estimated from."""
_LONG = 5000
"""Steps that take hours without an accelerator, whatever the method."""


class RunProgress(ProgressBar):
    """Progress bar over all steps of a training, or all batches of a test: loss, last score, time left.

    Where there is no terminal, as in a batch system's log, a training says the same in a line per validation, and every
    two minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._looked = 0.0
        self._began = (0.0, 0)
        self._loss = self._score = ""

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the run is; say so if it will take long."""
        total = trainer.estimated_stepping_batches
        if self._enabled and total > _LONG and isinstance(trainer.accelerator, CPUAccelerator):
            self._console.print(
                f"{_amount(total)} without an accelerator take long: --config small.yaml makes a run of twenty "
                "minutes, --config smoke.yaml one that only shows that everything works",
                highlight=False,
                soft_wrap=True,
            )
        self._looked = time.monotonic()
        self._began = (self._looked, trainer.global_step)
        self._start("fit", total, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        if not self._enabled or time.monotonic() - self._looked < (_LINE if self._bar is None else _REFRESH):
            return
        self._look(outputs)
        if self._bar is not None:
            self._update(trainer.global_step)
        else:
            self._print_line(trainer, self._loss)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is happening; validating may be all there is to do."""
        if trainer.state.fn == "validate":
            self._start("validate", sum(trainer.num_val_batches))
        elif self._bar is not None and not trainer.sanity_checking:
            self._bar.update(self._task, description="fit: validating", completed=trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the score."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self._enabled:
            return
        name, score = _last_score(trainer)
        self._score = f"{name} {score:.4g}" if name else ""
        if self._bar is not None:
            self._bar.update(self._task, description="fit")
            self._update(trainer.global_step)
        else:
            self._print_line(trainer, self._score)

    def on_validation_batch_end(  # noqa: D102 (as for training)
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn != "fit":
            self._update(batch_idx + 1)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar over the batches."""
        self._start("test", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar over the batches."""
        self._start("predict", sum(trainer.num_predict_batches))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it stands."""
        self._update(trainer.global_step)
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the bar as it stands."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar as it stands, so that the error has a line of its own."""
        self._stop()

    def _start(self, what: str, total: float, completed: int = 0) -> None:
        self._stop()
        self._loss = self._score = ""
        if not self._enabled or not self._console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, TextColumn("{task.fields[seen]}"), console=self._console, speed_estimate_period=_WINDOW
        )
        whole = total if math.isfinite(total) and total > 0 else None
        self._task = self._bar.add_task(what, total=whole, completed=completed, seen="")
        self._bar.start()

    def _update(self, completed: int) -> None:
        if self._bar is not None:
            seen = ", ".join(part for part in (self._loss, self._score) if part)
            self._bar.update(self._task, completed=completed, seen=seen)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _look(self, outputs: Any) -> None:
        self._looked = time.monotonic()
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor):
            self._loss = f"loss {float(loss):.4g}"

    def _print_line(self, trainer: Trainer, seen: str) -> None:
        self._looked = time.monotonic()
        step, total = trainer.global_step, trainer.estimated_stepping_batches
        seconds, steps = self._looked - self._began[0], step - self._began[1]
        words = [f"step {step}" + (f" of {total:.0f}" if math.isfinite(total) else ""), seen]
        if math.isfinite(total) and steps > 0 and total > step:
            left = int(seconds / steps * (total - step))
            words.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
        self._console.print(", ".join(word for word in words if word), highlight=False, soft_wrap=True)


def best_score(trainer: Trainer) -> str:
    """The best score of a run in words, and nothing if none is kept."""
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, ModelCheckpoint) and one.monitor is not None and one.best_model_score is not None:
            return f"best {one.monitor} {float(one.best_model_score):.4g}"
    return ""


def _last_score(trainer: Trainer) -> tuple[str, float]:
    """The score that decides which checkpoint is the best, else the first that was logged."""
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    monitored = [getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks]
    name = next((one for one in [*monitored, *scores] if one in scores), "")
    return name, scores.get(name, math.nan)


def _amount(steps: float) -> str:
    return f"{steps:,.0f} steps" if math.isfinite(steps) else "endless steps"
