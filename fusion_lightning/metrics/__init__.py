"""Published fusion metrics: pure functions, torchmetrics classes, and the collection that a run scores with."""

from collections.abc import Sequence

from torchmetrics import MetricCollection

from fusion_lightning.errors import UserError, suggestion
from fusion_lightning.metrics import (
    color,
    detail,
    exposure,
    features,
    gradients,
    information,
    perception,
    phase,
    similarity,
    statistics,
    structure,
)
from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.features import FMI
from fusion_lightning.metrics.functional.images import to_grey_levels
from fusion_lightning.metrics.registration import EPE
from fusion_lightning.metrics.restoration import RestorationPSNR, RestorationSSIM

CLED: tuple[type[FusionMetric], ...] = (information.MI, structure.VIF, gradients.Qabf, gradients.Nabf, structure.SSIM)
"""The five metrics of CLED-Fusion's tables."""
DRFUSION: tuple[type[FusionMetric], ...] = (
    information.Q_MI,
    information.Q_NCIE,
    gradients.Q_G,
    phase.Q_P,
    perception.Q_CB,
    similarity.Q_Y,
)
"""The six metrics of DRFusion's tables."""
COLOR: tuple[type[FusionMetric], ...] = (color.saturation, color.hue, color.CIEDE2000)
"""What is left of the colour of the source that has it: the others look at grey levels."""

METRICS: dict[str, type[FusionMetric]] = {
    metric.__name__: metric for metric in (*CLED, *DRFUSION, *FusionMetric.listed)
}
"""Every fusion metric by its published name: those of the papers' tables first."""

__all__ = [
    "CLED",
    "COLOR",
    "DRFUSION",
    "EPE",
    "FMI",
    "METRICS",
    "FusionMetric",
    "RestorationPSNR",
    "RestorationSSIM",
    "check_metrics",
    "detail",
    "exposure",
    "features",
    "fusion_metrics",
    "statistics",
    "to_grey_levels",
]


def check_metrics(what: str, names: Sequence[str]) -> None:
    """Refuse names that are no metrics.

    Args:
        what: What the user calls them.
        names: What was given.

    Raises:
        UserError: If one is not known; the message says which are like it.
    """
    for name in names:
        if name not in METRICS:
            raise UserError(f"`{what}`: there is no metric {name!r}; {suggestion(name, METRICS, 'metrics')}")


def fusion_metrics(names: Sequence[str], prefix: str) -> MetricCollection:
    """The metrics called `names`, logged under `prefix` (for example `test/`).

    Raises:
        UserError: If a name is not a metric.

    Example:
        >>> list(fusion_metrics(["MI", "Qabf"], prefix="test/").keys())
        ['test/MI', 'test/Qabf']
    """
    check_metrics("metrics", names)
    # with compute groups, metrics whose states agree after the first batch are merged for good
    return MetricCollection({name: METRICS[name]() for name in names}, prefix=prefix, compute_groups=False)
