"""Published fusion metrics: pure functions, torchmetrics classes, and the collection that a run scores with."""

from collections.abc import Sequence

from torchmetrics import MetricCollection

from fusion_lightning.errors import UserError

from .base import FusionMetric
from .cled import MI, SSIM, VIF, Nabf, Qabf

__all__ = ["METRICS", "MI", "SSIM", "VIF", "FusionMetric", "Nabf", "Qabf", "fusion_metrics"]

METRICS: dict[str, type[FusionMetric]] = {metric.__name__: metric for metric in (MI, VIF, Qabf, Nabf, SSIM)}
"""Every fusion metric by its published name."""


def fusion_metrics(names: Sequence[str], prefix: str) -> MetricCollection:
    """The metrics called `names`, logged under `prefix` (for example `test/`).

    Raises:
        UserError: if a name is not a metric; the message lists those there are.

    Example:
        >>> list(fusion_metrics(["MI", "Qabf"], prefix="test/").keys())
        ['test/MI', 'test/Qabf']
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UserError(f"`metrics` must be among {', '.join(METRICS)}, but got {', '.join(unknown)}")
    # with compute groups, metrics whose states agree after the first batch are merged for good
    return MetricCollection({name: METRICS[name]() for name in names}, prefix=prefix, compute_groups=False)
