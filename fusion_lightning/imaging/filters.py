"""Edge-preserving and mean filters on tensors (B, C, H, W)."""

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
