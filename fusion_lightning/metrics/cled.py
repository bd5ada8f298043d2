"""The metrics of CLED-Fusion's tables and their relatives, as the Evaluation-for-Image-Fusion toolbox has them."""

from typing import Literal

from .base import FusionMetric
from .functional import exposure, features, gradients, information, statistics, structure
from .functional.structure import Reduction


class MI(FusionMetric):
    """Mutual information in bits, summed over the sources.

    Args:
        merge_top_levels: Reproduce MATLAB, whose joint histograms merge the levels 254 and 255.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{MI()((a + b) / 2, a, b):.3f}")
        7.474
    """

    definition = staticmethod(information.mi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 16.0)

    def __init__(self, merge_top_levels: bool = False) -> None:
        super().__init__(merge_top_levels=merge_top_levels)


class VIF(FusionMetric):
    """Visual information fidelity in the pixel domain; 2 for identical images (1 with the mean).

    Args:
        reduction: `sum` or `mean` over the two sources.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{VIF()((a + b) / 2, a, b):.3f}")
        0.192
    """

    definition = staticmethod(structure.vif)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction=reduction)


class Qabf(FusionMetric):
    """Edge preservation, Xydeas and Petrović's global weighted ratio.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Qabf()((a + b) / 2, a, b):.3f}")
        0.272
    """

    definition = staticmethod(gradients.qabf)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)


class Nabf(FusionMetric):
    """Artefacts: edges that neither source has, modified by Shreyamsha Kumar; lower is better.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Nabf()((a + b) / 2, a, b):.3f}")
        0.000
    """

    definition = staticmethod(gradients.nabf)
    higher_is_better, is_differentiable = False, True
    value_range = (0.0, 1.0)


class SSIM(FusionMetric):
    """Structural similarity, summed over the sources.

    Args:
        reduction: `sum` or `mean` over the two sources.
        data_range: L of the constants; 1 is MATLAB's trap for doubles in 0..255.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{SSIM()((a + b) / 2, a, b):.3f}")
        1.303
    """

    definition = staticmethod(structure.ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (-2.0, 2.0)

    def __init__(self, reduction: Reduction = "sum", data_range: float = 255.0) -> None:
        super().__init__(reduction=reduction, data_range=data_range)


class EN(FusionMetric):
    """Entropy of the fused image in bits.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{EN()((a + b) / 2, a, b):.3f}")
        7.657
    """

    definition = staticmethod(information.en)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 8.0)


class SD(FusionMetric):
    """Standard deviation of the fused grey levels.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{SD()((a + b) / 2, a, b):.3f}")
        51.491
    """

    definition = staticmethod(statistics.sd)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 127.5)


class SF(FusionMetric):
    """Spatial frequency of the fused image, in grey levels.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{SF()((a + b) / 2, a, b):.3f}")
        102.691
    """

    definition = staticmethod(statistics.sf)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class AG(FusionMetric):
    """Average gradient of the fused image, in grey levels per pixel.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{AG()((a + b) / 2, a, b):.3f}")
        34.825
    """

    definition = staticmethod(statistics.ag)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class CC(FusionMetric):
    """Correlation coefficient, the mean over the sources; NaN when an image is constant.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{CC()((a + b) / 2, a, b):.3f}")
        0.702
    """

    definition = staticmethod(statistics.cc)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)


class SCD(FusionMetric):
    """Sum of the correlations of differences; NaN when the fused image is a source.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{SCD()((a + b) / 2, a, b):.3f}")
        1.424
    """

    definition = staticmethod(statistics.scd)
    higher_is_better, is_differentiable = True, True
    value_range = (-2.0, 2.0)


class PSNR(FusionMetric):
    """Peak signal-to-noise ratio in dB, on the mean of the errors against the two sources.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{PSNR()((a + b) / 2, a, b):.3f}")
        13.773
    """

    definition = staticmethod(statistics.psnr)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class MSE(FusionMetric):
    """Mean squared error on [0, 1], the mean over the sources; lower is better.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{MSE()((a + b) / 2, a, b):.3f}")
        0.042
    """

    definition = staticmethod(statistics.mse)
    higher_is_better, is_differentiable = False, True
    value_range = (0.0, 1.0)


class MS_SSIM(FusionMetric):
    """Multi-scale structural similarity (Wang's), summed over the sources; at least 176x176 pixels.

    Args:
        reduction: `sum` or `mean` over the two sources.
        border: `reflect` as in torchmetrics, or `valid` as in Wang's code, at the coarsest scale.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        >>> print(f"{MS_SSIM()((a + b) / 2, a, b):.3f}")
        1.459
    """

    definition = staticmethod(structure.ms_ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 2.0)

    def __init__(self, reduction: Reduction = "sum", border: Literal["reflect", "valid"] = "reflect") -> None:
        super().__init__(reduction=reduction, border=border)


class MEF_SSIM(FusionMetric):
    """Multi-exposure structural similarity, which one toolbox calls MS_SSIM.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{MEF_SSIM()((a + b) / 2, a, b):.3f}")
        0.938
    """

    definition = staticmethod(exposure.mef_ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)


class FMI(FusionMetric):
    """Feature mutual information, the mean over the sources.

    Args:
        features: What the 3x3 windows look at.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{FMI()((a + b) / 2, a, b):.3f}")
        0.373
    """

    definition = staticmethod(features.fmi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)

    def __init__(self, features: Literal["none", "gradient", "dct"] = "none") -> None:
        super().__init__(features=features)


class FMI_pixel(FMI):
    """Feature mutual information of the grey levels themselves: `FMI` with features "none".

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{FMI_pixel()((a + b) / 2, a, b):.3f}")
        0.373
    """

    def __init__(self) -> None:
        super().__init__("none")
