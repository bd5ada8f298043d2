"""The metrics of DRFusion's tables and their relatives, as Zheng Liu's toolbox has them."""

from typing import Literal

from .base import FusionMetric
from .functional import detail, gradients, information, perception, phase, similarity


class Q_MI(FusionMetric):
    """Normalised mutual information (Hossny), summed over the sources.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_MI()((a + b) / 2, a, b):.3f}")
        0.958
    """

    definition = staticmethod(information.q_mi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 2.0)


class Q_NCIE(FusionMetric):
    """Nonlinear correlation information entropy; 0.80 to 0.82 for real fusions.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_NCIE()((a + b) / 2, a, b):.3f}")
        0.840
    """

    definition = staticmethod(information.q_ncie)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)


class Q_G(FusionMetric):
    """Gradient metric, the mean of Xydeas and Petrović's local ratio.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_G()((a + b) / 2, a, b):.3f}")
        0.326
    """

    definition = staticmethod(gradients.q_g)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)


class Q_P(FusionMetric):
    """Phase congruency metric.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_P()((a + b) / 2, a, b):.3f}")
        0.245
    """

    definition = staticmethod(phase.q_p)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)


class Q_CB(FusionMetric):
    """Chen and Blum's perceptual metric; NaN when an image is constant.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_CB()((a + b) / 2, a, b):.3f}")
        0.585
    """

    definition = staticmethod(perception.q_cb)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)


class Q_Y(FusionMetric):
    """Yang's structural similarity metric.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_Y()((a + b) / 2, a, b):.3f}")
        0.675
    """

    definition = staticmethod(similarity.q_y)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)


class Q_TE(FusionMetric):
    """Tsallis entropy metric.

    Args:
        marginals: `published` reproduces the toolbox, which swaps the marginals.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_TE()((a + b) / 2, a, b):.3f}")
        0.454
    """

    definition = staticmethod(information.q_te)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, float("inf"))

    def __init__(self, marginals: Literal["published", "textbook"] = "published") -> None:
        super().__init__(marginals=marginals)


class Q_M(FusionMetric):
    """Multiscale edge preservation in two Haar levels.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_M()((a + b) / 2, a, b):.3f}")
        0.038
    """

    definition = staticmethod(detail.q_m)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 3.0)


class Q_SF(FusionMetric):
    """Ratio of spatial frequency error; 0 is ideal, negative means lost detail.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_SF()((a + b) / 2, a, b):.3f}")
        -0.445
    """

    definition = staticmethod(detail.q_sf)
    higher_is_better, is_differentiable = None, True
    value_range = (-1.0, float("inf"))


class Q_S(FusionMetric):
    """Saliency-weighted structural similarity (Piella).

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_S()((a + b) / 2, a, b):.3f}")
        0.657
    """

    definition = staticmethod(similarity.q_s)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)


class Q_C(FusionMetric):
    """Covariance-weighted structural similarity (Cvejic); NaN where all is flat in a window.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_C()((a + b) / 2, a, b):.3f}")
        0.655
    """

    definition = staticmethod(similarity.q_c)
    higher_is_better, is_differentiable = True, False
    value_range = (-1.0, 1.0)


class Q_CV(FusionMetric):
    """Chen and Varshney's perceptual error; lower is better.

    Example:
        >>> import torch
        >>> a, b = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{Q_CV()((a + b) / 2, a, b):.4g}")
        2290
    """

    definition = staticmethod(perception.q_cv)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, float("inf"))
