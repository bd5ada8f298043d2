"""Restormer: a transformer that restores both sources; it does not fuse."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, sources
from fusion_lightning.imaging.color import as_rgb
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.networks.restormer import RestormerNetwork, RestormerSize


class Restormer(FusionMethod):
    """One Restormer-style network for both sources; grey ones are repeated to three channels and averaged back.

    Args:
        size: Size of the network: ``tiny``, ``small``, ``base`` or ``large``.
        **options: Those of `FusionMethod`.
    """

    def __init__(self, size: RestormerSize = "base", **options: Any) -> None:
        super().__init__(**options)
        self.network = RestormerNetwork(size)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Mean absolute error to the clean sources, averaged over both."""
        a, b = (self._restore(source) for source in sources(batch))
        loss_a, loss_b = F.l1_loss(a, batch["clean_a"]), F.l1_loss(b, batch["clean_b"])
        losses = {"loss": (loss_a + loss_b) / 2, "restoration_a": loss_a, "restoration_b": loss_b}
        return self.log_losses(losses, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = (self._restore(source).clamp(0, 1) for source in sources(batch))
        return FusionOutput(restored_a=a, restored_b=b)

    def _restore(self, source: Tensor) -> Tensor:
        correction = self.network(as_rgb(source)).float()
        return source + (correction if source.shape[1] == 3 else correction.mean(dim=1, keepdim=True))
