"""Fusion by rule: nothing to train, and what every method has to beat."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from fusion_lightning.methods.base import CLED_METRICS, adam
from fusion_lightning.methods.luma import LumaFusion


class _Rule(LumaFusion):
    """A rule for the luma of two images."""

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

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        return type(self).rule(a, b)

    def configure_optimizers(self) -> Any:
        """Nothing is learned."""
        return None


class Average(_Rule):
    """The mean of the two sources.

    Args:
        size: Without effect, as a rule has nothing to learn; overlays set it for every method.
        optimizer: Without effect.
        scheduler: Without effect.
        metrics: Fusion metrics to log.
        score_against: Score against the ``clean`` sources where they are known, or the ``delivered`` ones.
    """

    rule = staticmethod(lambda a, b: (a + b) / 2)


class Maximum(_Rule):
    """The brighter of the two sources at every pixel.

    Args:
        size: Without effect, as a rule has nothing to learn; overlays set it for every method.
        optimizer: Without effect.
        scheduler: Without effect.
        metrics: Fusion metrics to log.
        score_against: Score against the ``clean`` sources where they are known, or the ``delivered`` ones.
    """

    rule = staticmethod(torch.maximum)
