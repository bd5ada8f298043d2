"""Base classes of metrics: per-image values, summed over batches and processes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from fusion_lightning.metrics.functional.images import GreyImages, Score, check_size, to_grey_levels
from fusion_lightning.text import counted


class ImageMean(Metric):
    """A mean over images that adds up over batches and processes: its states are scalar sums.

    An image for which the metric is undefined (NaN) is left out of the mean, never silently: `update` warns and names
    it, `undefined` counts it, and `compute` says how many were left out.
    """

    full_state_update = False
    total: Tensor
    count: Tensor
    undefined: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("total", "count", "undefined"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def accumulate(self, values: Tensor, names: Sequence[str] | None = None) -> None:
        """Add precomputed per-image values (B,), without scoring again.

        Args:
            values: What `per_image` gave.
            names: The images' names for the warning about undefined ones; else their place in the batch.
        """
        # torchmetrics counts calls of `update` to warn about a mean over nothing; values may come without it
        self._update_count += 1
        self._computed = None
        values = values.detach().double()
        missing = values.isnan()
        if missing.any():
            where = [names[i] if names else f"image {i} of the batch" for i in missing.nonzero()[:, 0].tolist()]
            warnings.warn(f"{type(self).__name__} is undefined (NaN) for {', '.join(where)}", stacklevel=3)
        # not +=, which would change the default that `reset` goes back to
        self.total = self.total + values.masked_fill(missing, 0).sum()
        self.count = self.count + (~missing).sum()
        self.undefined = self.undefined + missing.sum()

    def compute(self) -> Tensor:
        """Mean over the images for which the metric is defined, float64; NaN when there is none."""
        if self.undefined > 0:
            left_out, images = int(self.undefined), int(self.undefined + self.count)
            warnings.warn(
                f"{type(self).__name__} is the mean over {images - left_out} of {counted(images, 'image')}: "
                f"it is undefined for the other {left_out}",
                stacklevel=2,
            )
        return self.total / self.count  # 0 / 0 is NaN


class FusionMetric(ImageMean):
    """A fusion metric, averaged over images.

    A subclass says which function it computes, how its values are read and where they lie. Its name is the metric's:
    with it, the metric is found wherever metrics are named.

    Args:
        options: The named options of the subclass's function.

    Example:
        >>> import torch
        >>> from fusion_lightning.metrics import METRICS
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{METRICS['MI']()((a + b) / 2, a, b):.3f}")
        7.474
    """

    definition: ClassVar[Callable[..., Tensor]]
    """The function of `metrics.functional` that gives the per-image values."""
    value_range: ClassVar[tuple[float, float]]
    """The smallest and the largest value an image can have."""
    listed: ClassVar[list[type["FusionMetric"]]] = []
    """Every metric that users may name, in the order of definition."""

    def __init_subclass__(cls, listed: bool = True, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if listed:
            FusionMetric.listed.append(cls)

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def per_image(self, fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
        """The metric of every image of a batch; images (B, 1 or 3, H, W) in [0, 1] to (B,), NaN where undefined."""
        return self.score_grey(to_grey_levels(fused, source_a, source_b))

    def score_grey(self, levels: GreyImages) -> Tensor:
        """As `per_image`, from grey levels that `to_grey_levels` made once for several metrics."""
        definition = cast(Score[...], type(self).definition)
        check_size(type(self).__name__, self.smallest(), levels)
        return definition.score_grey(levels, **self.options)

    def update(self, fused: Tensor, source_a: Tensor, source_b: Tensor, names: Sequence[str] | None = None) -> None:
        """Score a batch and add it to the mean; `names` appear in the warning about undefined images."""
        self.accumulate(self.per_image(fused, source_a, source_b), names)

    @classmethod
    def smallest(cls) -> int:
        """The smallest height and width of an image that it can score."""
        return cast(Score[...], cls.definition).smallest

    @classmethod
    def distance(cls, value: float) -> float:
        """How far a value is from the best one, for ranking: smaller is better."""
        if cls.higher_is_better is None:
            return abs(value)
        return -value if cls.higher_is_better else value
