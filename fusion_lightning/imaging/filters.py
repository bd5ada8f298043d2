"""Edge-preserving and mean filters on tensors (B, C, H, W)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def guided_filter(image: Tensor, values: Tensor, radius: int, epsilon: float) -> Tensor:
    """Guided filter (He, Sun and Tang 2010): smooth `values` (B, C, H, W) within the edges of `image` (B, 1, H, W).

    In every window of radius r the result is a line in the image, q = s I + o, closest to the values with a penalty
    ε s²; a pixel gets the mean of the lines of its windows.
    """
    mean_image, mean_values = box_mean(image, radius), box_mean(values, radius)
    covariance = box_mean(image * values, radius) - mean_image * mean_values
    variance = (box_mean(image * image, radius) - mean_image * mean_image).clamp(min=0)
    slope = covariance / (variance + epsilon)
    return box_mean(slope, radius) * image + box_mean(mean_values - slope * mean_image, radius)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a square window, of the pixels that lie inside the image."""
    mean = image.double()  # running sums lose digits
    for dim in (-2, -1):
        length = image.shape[dim]
        position = torch.arange(length, device=image.device)
        ends, starts = (position + radius + 1).clamp(max=length), (position - radius).clamp(min=0)
        sums = F.pad(mean.cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
        count = (ends - starts).view(-1, *[1] * (-1 - dim))
        mean = (sums.index_select(dim, ends) - sums.index_select(dim, starts)) / count
    return mean.to(image)


def guided_filter_fusion(a: Tensor, b: Tensor, brightness: float = 0.0) -> Tensor:
    """Fuse base and detail by weights that follow the images' edges (Li, Kang and Hu 2013), with that paper's settings.

    The base is a mean over 31 × 31 pixels. Where |∇²I|, smoothed (σ = 5), is larger, a source's weight is 1; both
    weight maps are guided by their source: r = 45, ε = 0.3 for the base, r = 7, ε = 1e-6 for the detail.

    Args:
        a: Luma (B, 1, H, W) in [0, 1].
        b: Luma of the same size.
        brightness: How much of the base counts beside |∇²I|, for the base; 0 in the paper. Above it the brighter source
            is taken where neither has contrast, instead of the one with more noise.
    """
    images = torch.stack((a, b))
    flat = images.flatten(0, 1)
    # half precision has no digits for contrasts, and would choose the other source
    with torch.autocast(flat.device.type, enabled=False):
        saliency = _gaussian(_laplacian(flat).abs(), 5.0).view_as(images)
    base = box_mean(flat, 15)
    bright = saliency + brightness * base.view_as(images)
    fused = torch.zeros_like(a)
    for layer, salient, radius, epsilon in ((base, bright, 45, 0.3), (flat - base, saliency, 7, 1e-6)):
        chosen = (salient == salient.amax(dim=0)).to(flat).flatten(0, 1)
        weights = guided_filter(flat, chosen, radius, epsilon).clamp(min=0).view_as(images) + 1e-6
        fused += (weights / weights.sum(dim=0) * layer.view_as(images)).sum(dim=0)
    return fused


def thermal_fusion(infrared: Tensor, visible: Tensor) -> Tensor:
    """Guided-filter fusion in which what is hot stays bright; lumas (B, 1, H, W) in [0, 1].

    Two things differ from `guided_filter_fusion`. Where neither source has contrast the brighter one is taken: a clear
    sky is not darkened by the infrared's noise. And the fused luma F becomes F + min(1, 2A) · max(0, A − F), with A the
    infrared's luma: above half of its range nothing hot is darkened.
    """
    fused = guided_filter_fusion(infrared, visible, brightness=0.01)
    return fused + (2 * infrared).clamp(max=1) * (infrared - fused).clamp(min=0)


def blur_separably(image: Tensor, taps: Tensor, mode: Literal["replicate", "reflect"] = "replicate") -> Tensor:
    """Convolve grey images (B, 1, H, W) along rows, then columns, with an odd number of symmetric taps.

    Args:
        image: Images of any size; to mirror a border it must be larger than half the taps.
        taps: Of the images' type.
        mode: Whether borders are repeated or mirrored.
    """
    padded = F.pad(image, (len(taps) // 2,) * 4, mode=mode)
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over 11 × 11 pixels, borders repeated."""
    taps = image.new_tensor([math.exp(-0.5 * (x / sigma) ** 2) for x in range(-5, 6)])
    taps = taps / taps.sum()
    return blur_separably(image, taps)


def _laplacian(image: Tensor) -> Tensor:
    kernel = image.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel[None, None])
