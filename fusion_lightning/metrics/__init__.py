"""Published fusion metrics: pure functions, torchmetrics classes, and the collection that a run scores with."""

from collections.abc import Sequence

from torchmetrics import MetricCollection

from fusion_lightning.errors import UserError

from .base import FusionMetric
from .cled import (
    AG,
    CC,
    EN,
    FMI,
    MEF_SSIM,
    MI,
    MS_SSIM,
    MSE,
    PSNR,
    SCD,
    SD,
    SF,
    SSIM,
    VIF,
    FMI_pixel,
    Nabf,
    Qabf,
)
from .color import CIEDE2000, hue, saturation
from .drfusion import Q_C, Q_CB, Q_CV, Q_G, Q_M, Q_MI, Q_NCIE, Q_P, Q_S, Q_SF, Q_TE, Q_Y
from .functional.images import to_grey_levels
from .restoration import RestorationPSNR, RestorationSSIM

CLED = (MI, VIF, Qabf, Nabf, SSIM)
"""The five metrics of CLED-Fusion's tables."""
DRFUSION = (Q_MI, Q_NCIE, Q_G, Q_P, Q_CB, Q_Y)
"""The six metrics of DRFusion's tables."""
_CLED_RELATIVES = (EN, SD, SF, AG, CC, SCD, PSNR, MSE, MS_SSIM, MEF_SSIM, FMI_pixel)
_DRFUSION_RELATIVES = (Q_TE, Q_M, Q_SF, Q_S, Q_C, Q_CV)

COLOR = (saturation, hue, CIEDE2000)
"""What is left of the colour of the source that has it: the others look at grey levels."""

METRICS: dict[str, type[FusionMetric]] = {
    metric.__name__: metric for metric in (*CLED, *_CLED_RELATIVES, *DRFUSION, *_DRFUSION_RELATIVES, *COLOR)
}
"""Every fusion metric by its published name."""

__all__ = [
    "CLED",
    "COLOR",
    "DRFUSION",
    "FMI",
    "METRICS",
    "FusionMetric",
    "RestorationPSNR",
    "RestorationSSIM",
    "fusion_metrics",
    "to_grey_levels",
    *METRICS,
]


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
