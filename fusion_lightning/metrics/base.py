"""The one class behind every fusion metric: per-image values, their sum and how many there were."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class FusionMetric(Metric):
    """A fusion metric, averaged over images.

    A subclass says which function it computes and what its values mean. The states are scalar sums, so that they add
    up over batches and processes. An image for which the metric is undefined (NaN) is left out of the mean, never
    silently: `update` warns and names it, `undefined` counts it, and `compute` says how many were left out.

    Args:
        options: The named options of the subclass's function.
    """

    full_state_update = False
    definition: ClassVar[Callable[..., Tensor]]
    """The function of `metrics.functional` that gives the per-image values."""
    lowest: ClassVar[float]
    """The smallest value an image can have."""
    highest: ClassVar[float]
    """The largest value an image can have."""

    total: Tensor
    count: Tensor
    undefined: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        for state in ("total", "count", "undefined"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def per_image(self, fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
        """The metric of every image of a batch; images (B, 1 or 3, H, W) in [0, 1] to (B,), NaN where undefined."""
        return type(self).definition(fused, source_a, source_b, **self.options)

    def update(self, fused: Tensor, source_a: Tensor, source_b: Tensor, names: Sequence[str] | None = None) -> None:
        """Score a batch and add it to the mean; `names` are used in the warning about undefined images."""
        self.accumulate(self.per_image(fused, source_a, source_b), names)

    def accumulate(self, values: Tensor, names: Sequence[str] | None = None) -> None:
        """Add values (B,) that `per_image` gave, so that a caller who keeps them computes them once."""
        values = values.detach().double()
        missing = values.isnan()
        if missing.any():
            where = [names[i] if names else f"image {i} of the batch" for i in missing.nonzero()[:, 0].tolist()]
            warnings.warn(f"{type(self).__name__} is undefined (NaN) for {', '.join(where)}", stacklevel=3)
        # += would change the default when the state still is it
        self.total = self.total + values.masked_fill(missing, 0).sum()
        self.count = self.count + (~missing).sum()
        self.undefined = self.undefined + missing.sum()

    def compute(self) -> Tensor:
        """Mean over the images for which the metric is defined; NaN when there is none."""
        if self.undefined > 0:
            left_out, images = int(self.undefined), int(self.undefined + self.count)
            warnings.warn(
                f"{type(self).__name__} is the mean over {images - left_out} of {images} images: "
                f"it is undefined for the other {left_out}",
                stacklevel=2,
            )
        return (self.total / self.count).float() if self.count > 0 else torch.full_like(self.total, torch.nan).float()
