"""Fusion by rule: nothing to train, and what every method has to beat."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.color import chroma, luma, merge
from fusion_lightning.methods.base import CLED_METRICS, Controls, FusionMethod, FusionOutput, adam, same_size


class _PixelRule(FusionMethod):
    """A rule for two luma values; the chroma of the source that has colour is kept."""

    rule: Callable[[Tensor, Tensor], Tensor]

    def __init__(
        self,
        size: str | None = None,
        optimizer: OptimizerCallable = adam,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[str] = CLED_METRICS,
        score_against: Literal["clean", "delivered"] = "clean",
    ) -> None:
        super().__init__(optimizer, scheduler, metrics, score_against)
        self.save_hyperparameters(ignore=self.HPARAMS_NOT_SAVED, logger=False)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Fuse the delivered sources pixel by pixel.

        Raises:
            UserError: If controls are given: a rule has none.
        """
        self.check_no_controls(controls)
        a, b = same_size(batch["source_a"], batch["source_b"])
        fused = type(self).rule(luma(a), luma(b))
        colored = next((source for source in (a, b) if source.shape[1] == 3), None)
        return FusionOutput(fused=fused if colored is None else merge(fused, chroma(colored)).clamp(0, 1))

    def configure_optimizers(self) -> Any:
        """Nothing is learned."""
        return None


class Average(_PixelRule):
    """The mean of the two sources.

    Args:
        size: Without effect, as a rule has nothing to learn; overlays set it for every method.
        optimizer: Without effect.
        scheduler: Without effect.
        metrics: Fusion metrics to log.
        score_against: Score against the ``clean`` sources where they are known, or the ``delivered`` ones.
    """

    rule = staticmethod(lambda a, b: (a + b) / 2)


class Maximum(_PixelRule):
    """The brighter of the two sources at every pixel.

    Args:
        size: Without effect, as a rule has nothing to learn; overlays set it for every method.
        optimizer: Without effect.
        scheduler: Without effect.
        metrics: Fusion metrics to log.
        score_against: Score against the ``clean`` sources where they are known, or the ``delivered`` ones.
    """

    rule = staticmethod(torch.maximum)
