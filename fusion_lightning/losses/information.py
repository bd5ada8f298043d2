"""U2Fusion's information preservation: weights of the sources in the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.imaging.color import as_rgb
from fusion_lightning.losses.functional import laplacian, structural_similarity
from fusion_lightning.networks.vgg import VGG16Features

_SCALES = 5
_GREY_LEVELS = 255.0
_SPREAD = 0.225
"""ImageNet's, by which the inputs of VGG16 are divided: with it, features of both kinds are on 0..255."""


class InformationPreservation(nn.Module):
    """Weights ω of the sources from the gradients of their features.

    g_I = 1/5 Σ_j mean |∇φ_j(I)|², ∇ the Laplacian, φ_j the features before VGG16's five poolings;
    [ω_a, ω_b] = softmax([g_a, g_b] / c). Without a VGG16, φ_j is the image itself at five scales, each half the last.

    Args:
        features: A trained VGG16.
        temperature: c, for images on 0..255. The larger, the more equal the weights.
    """

    def __init__(self, features: VGG16Features | None = None, temperature: float = 3000.0) -> None:
        super().__init__()
        self.features = features
        self.temperature = temperature

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The weights (2, B), which add up to 1, of grey images (B, 1, H, W) in [0, 1]."""
        return (torch.stack((self.information(a), self.information(b))) / self.temperature).softmax(dim=0)

    def information(self, image: Tensor) -> Tensor:
        """G of grey images (B, 1, H, W) in [0, 1], (B,)."""
        if self.features is None:
            scales, level = [image.float()], _GREY_LEVELS
            while len(scales) < _SCALES:
                scales.append(F.avg_pool2d(scales[-1], 2, ceil_mode=True))
        else:
            scales, level = self.features(as_rgb(image.float())), _GREY_LEVELS * _SPREAD
        gradients = [laplacian(features).square().mean(dim=(1, 2, 3)) for features in scales]
        return torch.stack(gradients).mean(dim=0) * level**2


def preservation_losses(fused: Tensor, a: Tensor, b: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """U2Fusion's losses of a fusion (B, 1, H, W) against its sources, all in [0, 1].

    Args:
        fused: The fusion.
        a: The first source.
        b: The second source.
        weights: ω of both, (2, B).

    Returns:
        ``ssim``: mean Σ ω_i (1 − SSIM(I_f, I_i)); ``mse``: mean Σ ω_i MSE(I_f, I_i).
    """
    sources = (a.float(), b.float())
    differences = torch.stack([1 - structural_similarity(fused.float(), source) for source in sources])
    errors = preservation_errors(fused, a, b, weights)
    return {"ssim": (weights * differences).sum(dim=0).mean(), "mse": errors.mean()}


def preservation_errors(fused: Tensor, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Σ ω_i MSE(I_f, I_i) of every image, (B,); arguments as of `preservation_losses`."""
    errors = [(fused.float() - source.float()).square().mean(dim=(1, 2, 3)) for source in (a, b)]
    return (weights * torch.stack(errors)).sum(dim=0)
