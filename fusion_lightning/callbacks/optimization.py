"""Optimizer and scheduler settings of a resumed run: those configured now, not those of its beginning."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from fusion_lightning.errors import UserError

_CHANGING = ("lr", "momentum", "betas")
"""What schedulers change in an optimizer while it trains."""


class ConfiguredOptimization(Callback):
    """Applies the configured optimizer and scheduler settings to a resumed run, and reports changes.

    The Trainer goes on with those of the checkpoint, whatever is configured. Where they differ, the schedule is gone
    through again up to the step at hand, as if it had been so from the beginning; the optimizer's moments stay.

    A schedule that is too short for the run is refused where it would end with an error, and named where the learning
    rate would rise again.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from the weights themselves where they are averaged no longer."""
        averages = any(isinstance(one, WeightAveraging) for one in trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.state.fn == "fit" and not averages and "current_model_state" in checkpoint:
            rank_zero_warn("this run averaged its weights before, and does so no longer: it goes on from the last ones")
            pl_module.load_state_dict(checkpoint["current_model_state"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and change what is configured otherwise.

        Raises:
            UserError: If the schedule ends before the run does.
        """
        configs = trainer.lr_scheduler_configs
        scheduler = configs[0].scheduler if configs else None
        if trainer.ckpt_path is not None and trainer.optimizers:
            configured: Any = pl_module.configure_optimizers()
            optimizer, fresh = configured, None
            if isinstance(configured, Mapping):
                optimizer, fresh = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
            if isinstance(optimizer, Optimizer):
                changed = _take_over(trainer.optimizers[0], scheduler, optimizer, fresh)
                if changed:
                    rank_zero_warn(f"this run goes on with {', '.join(changed)}")
        _check_length(scheduler, trainer)


def _take_over(optimizer: Optimizer, scheduler: Any, configured: Optimizer, fresh: Any) -> list[str]:
    """Bring an optimizer and its scheduler to what is configured; returns what has changed."""
    scheduled = isinstance(fresh, LRScheduler) and not isinstance(fresh, ReduceLROnPlateau)
    changed = []
    for group, wanted in zip(optimizer.param_groups, configured.param_groups, strict=False):
        for key, value in wanted.items():
            fixed = key != "params" and not (scheduled and key in _CHANGING)
            if fixed and group.get(key) != value:
                name = {"initial_lr": "lr"}.get(key, key)
                changed.append(f"{name} {value} instead of {group.get(key)}")
                group[key] = value
    if scheduled and isinstance(scheduler, LRScheduler):
        arguments = set(inspect.signature(type(fresh).__init__).parameters) - {"optimizer", "last_epoch"}
        for key in sorted(arguments & set(vars(fresh))):
            if vars(scheduler).get(key) != vars(fresh)[key]:
                changed.append(f"{key} {vars(fresh)[key]} instead of {vars(scheduler).get(key)}")
        if changed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no step of the optimizer belongs to these
                for _ in range(scheduler.last_epoch):
                    fresh.step()
            scheduler.load_state_dict(fresh.state_dict())
            for group, wanted in zip(optimizer.param_groups, configured.param_groups, strict=False):
                group.update({key: wanted[key] for key in _CHANGING if key in wanted})
    return list(dict.fromkeys(changed))


def _check_length(scheduler: Any, trainer: Trainer) -> None:
    if not isinstance(scheduler, OneCycleLR | CosineAnnealingLR):
        return
    steps = trainer.estimated_stepping_batches
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps:
        raise UserError(
            f"the scheduler's `total_steps` is {scheduler.total_steps}, but the run has {steps:.0f} steps: "
            "make them equal"
        )
    if isinstance(scheduler, CosineAnnealingLR) and scheduler.T_max < steps:
        rank_zero_warn(
            f"the scheduler's `T_max` is {scheduler.T_max}, but the run has {steps:.0f} steps (`max_steps`): "
            "the learning rate rises again after its minimum; make them equal"
        )
