"""Scores of restored images against the clean ones, where those are known."""

from torch import Tensor

from fusion_lightning.metrics.base import ImageMean
from fusion_lightning.metrics.functional.restoration import psnr_to, ssim_to


class RestorationPSNR(ImageMean):
    """Peak signal-to-noise ratio in dB against the clean image, averaged over images.

    Example:
        >>> import torch
        >>> clean = torch.full((1, 1, 16, 16), 0.5)
        >>> print(f"{RestorationPSNR()(clean + 0.1, clean):.3f}")
        20.000
    """

    higher_is_better, is_differentiable = True, True

    def update(self, image: Tensor, clean: Tensor) -> None:
        """Score images against their clean versions, both (B, C, H, W) in [0, 1]."""
        self.accumulate(psnr_to(image, clean))


class RestorationSSIM(ImageMean):
    """Structural similarity to the clean image, averaged over images; -1..1.

    Example:
        >>> import torch
        >>> clean = torch.full((1, 1, 16, 16), 0.5)
        >>> print(f"{RestorationSSIM()(clean + 0.1, clean):.3f}")
        0.984
    """

    higher_is_better, is_differentiable = True, True

    def update(self, image: Tensor, clean: Tensor) -> None:
        """Score images against their clean versions, both (B, C, H, W) in [0, 1]."""
        self.accumulate(ssim_to(image, clean))
