"""Averaged weights, which are validated, tested and saved in place of the last ones."""

from collections.abc import Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from fusion_lightning.errors import UserError


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, which forgets faster while it is young.

    After n steps the average is ``decay_n · average + (1 - decay_n) · weights`` with
    ``decay_n = min(decay, (1 + n) / (10 + n))``: about the last tenth of the training, until that is longer than
    1 / (1 - decay) steps. A constant decay of 0.995 would still be a third first weights after 200 steps.

    Args:
        decay: What the average keeps in the long run, in [0, 1).

    Raises:
        UserError: If the decay is out of its range.
    """

    def __init__(self, decay: float = 0.995) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"`decay` must be in [0, 1), but got {decay}")

        @torch.no_grad()
        def update(averages: Sequence[Tensor], weights: Sequence[Tensor], averaged: Tensor) -> None:
            count = averaged.item()
            share = 1 - min(decay, (1 + count) / (10 + count))
            for average, weight in zip(averages, weights, strict=True):
                average.lerp_(weight, share)

        # buffers are no weights: they are as the last step left them
        super().__init__(use_buffers=False, multi_avg_fn=update)
