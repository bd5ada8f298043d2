"""Stop on, or skip, steps with NaN or infinite losses or gradients."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed import all_gather_object
from torch.nn.utils import get_total_norm

from fusion_lightning.batch import FusionBatch
from fusion_lightning.callbacks.folders import shared_folder
from fusion_lightning.errors import UserError, check_choice

Action = Literal["stop", "skip"]

_PATIENCE = 10
"""Skipping as many steps in a row does not help."""


class NonFiniteGuard(Callback):
    """Guard against NaN and infinite losses and gradients: acts before they change the weights.

    The error names the step, the images and, where it can be told, their pixels that are not finite.
    ``<folder>/step<N>/`` receives the batch (``batch-<process>.pt``) and the state before the step (``state.ckpt``),
    both readable with ``weights_only``.

    Args:
        action: ``stop``, or ``skip`` the step, which leaves weights and optimizer alone; ten in a row do stop.
        folder: Where the state is saved for inspection; None saves none.

    Raises:
        UserError: If the action is unknown.
    """

    def __init__(self, action: Action = "stop", folder: str | None = None) -> None:
        check_choice("faults.action", action, Action)
        self.action = action
        self.folder = folder
        self._batches: list[FusionBatch] = []
        self._losses: list[Tensor] = []
        self._in_a_row = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Share the folder among processes."""
        if self.folder is not None:
            self.folder = shared_folder(trainer, self.folder)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: FusionBatch, batch_idx: int
    ) -> None:
        """Keep the batches of a step; several where gradients are accumulated."""
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the losses of a step; looking at each now would make a GPU wait."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Check the losses and the gradients of a step.

        Raises:
            UserError: If one is not finite and the action is to stop, or skipping does not help.
        """
        batches, losses = self._batches, torch.stack(self._losses)
        self._batches, self._losses = [], []
        gradients = [] if _are_scaled(trainer) else [p.grad for p in pl_module.parameters() if p.grad is not None]
        finite = torch.isfinite(losses.sum() + (get_total_norm(gradients) if gradients else 0))
        # all processes have to stop or skip together
        if not trainer.strategy.reduce_boolean_decision(not finite.item(), all=False):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        sentence = self._describe(trainer, batches, losses)
        if self.folder is not None:
            sentence += f"; saved for inspection in {self._save(trainer, batches)}"
        if self.action == "stop":
            raise UserError(f"{sentence}: lower the learning rate, mend the data, or set --faults.action skip")
        if self._in_a_row >= _PATIENCE:
            raise UserError(f"{sentence}; {_PATIENCE} steps in a row were skipped, so that training does not go on")
        rank_zero_warn(f"{sentence}; the step is skipped")
        optimizer.zero_grad(set_to_none=True)  # an optimizer leaves alone what has no gradient

    def _describe(self, trainer: Trainer, batches: list[FusionBatch], losses: Tensor) -> str:
        bad = [batch for batch, loss in zip(batches, losses, strict=True) if not torch.isfinite(loss)]
        found = {
            "loss": [f"{float(loss)}" for loss in losses if not torch.isfinite(loss)],
            "data": [text for batch in batches for text in _not_finite(batch)],
            "names": [name for batch in bad or batches for name in batch["name"]],
        }
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            all_gather_object(gathered, found)
            # a process whose own loss is finite only has the others' gradients
            guilty = [one for one in gathered if one["loss"]] or gathered
            found = {key: [text for one in guilty for text in one[key]] for key in found}
        what = f"the loss is {found['loss'][0]}" if found["loss"] else "the loss is finite, but its gradient is not"
        where = f" because {', '.join(found['data'])}" if found["data"] else ""
        return f"step {trainer.global_step + 1}: {what}{where} (images {', '.join(found['names'])})"

    def _save(self, trainer: Trainer, batches: list[FusionBatch]) -> Path:
        assert self.folder is not None
        folder = Path(self.folder) / f"step{trainer.global_step + 1:06d}"
        # with the state of a first fault, the ones skipped after it can be reproduced
        if self._in_a_row == 1:
            trainer.save_checkpoint(folder / "state.ckpt", weights_only=False)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save([dict(batch) for batch in batches], folder / f"batch-{trainer.global_rank}.pt")
        return folder


def _not_finite(batch: FusionBatch) -> list[str]:
    """The first image of a pair that holds NaN or Inf."""
    found = []
    for key in ("source_a", "source_b", "clean_a", "clean_b"):
        images: Tensor = batch[key]
        for name, image in zip(batch["name"], images, strict=True):
            if not torch.isfinite(image).all():
                found.append(f"{key} of {name} holds NaN or Inf")
    return found


def _are_scaled(trainer: Trainer) -> bool:
    """Whether a loss scaler lets gradients overflow on purpose (16-mixed)."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None
