"""Losses of SDNet and PMGI: intensity and texture of both sources in proportion. All in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.imaging.kernels import gaussian
from fusion_lightning.losses.functional import laplacian


def intensity_errors(fused: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distance of a fusion (B, 1, H, W) from each source."""
    return F.mse_loss(fused.float(), a.float()), F.mse_loss(fused.float(), b.float())


def texture_errors(fused: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distance of the Laplacian of a fusion (B, 1, H, W) from each source's."""
    return intensity_errors(laplacian(fused.float()), laplacian(a.float()), laplacian(b.float()))


def richer_texture_error(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of the Laplacian of a fusion (B, 1, H, W) from that of the source richer in texture there.

    Which one is richer is decided at every pixel (SDNet's adaptive decision block), on smoothed images, so that noise
    does not count as texture.
    """
    a, b = a.float(), b.float()
    kernel = torch.from_numpy(gaussian(1.0)).to(a)[None, None]
    reach = kernel.shape[-1] // 2
    with torch.autocast(a.device.type, enabled=False):
        smooth = (F.conv2d(F.pad(image, (reach,) * 4, mode="replicate"), kernel) for image in (a, b))
        texture_a, texture_b = (laplacian(image).abs() for image in smooth)
    return F.mse_loss(laplacian(fused.float()), torch.where(texture_a > texture_b, laplacian(a), laplacian(b)))
