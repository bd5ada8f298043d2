"""Entropies of 8-bit histograms, in bits."""

import torch
from torch import Tensor

LEVELS = 256


def bins(levels: Tensor) -> Tensor:
    """Histogram bin of every pixel: grey levels (B, H, W) rounded and clipped as when saved to 8 bits, (B, H·W)."""
    return levels.detach().round().clamp(0, LEVELS - 1).flatten(1).to(torch.int32)


def histogram(index: Tensor) -> Tensor:
    """Share of every level: bins (B, N) to (B, 256), float64."""
    return _count(index, LEVELS)


def joint_histogram(rows: Tensor, columns: Tensor) -> Tensor:
    """Share of every pair of levels: bins (B, N) twice to (B, 256, 256), float64, indexed [row level, column level]."""
    return _count(rows * LEVELS + columns, LEVELS**2).view(-1, LEVELS, LEVELS)


def entropy(shares: Tensor) -> Tensor:
    """Entropy -sum p log2 p of shares (B, ...) with 0 log 0 = 0: (B,)."""
    return -torch.special.xlogy(shares, shares).flatten(1).sum(1).div(torch.log(torch.tensor(2.0)).item())


def _count(index: Tensor, size: int) -> Tensor:
    counts = torch.stack([torch.bincount(sample, minlength=size) for sample in index])
    return counts.double() / index.shape[1]
