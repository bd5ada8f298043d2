"""Entropies of 8-bit histograms, in bits and float64."""

import math

import torch
from torch import Tensor

LEVELS = 256


def bins(levels: Tensor) -> Tensor:
    """Histogram bin of every pixel: grey levels (B, H, W) rounded and clipped as when saved to 8 bits, (B, H·W).

    The type stays: arithmetic on it is faster than on integers.
    """
    return levels.detach().round().clamp_(0, LEVELS - 1).flatten(1)


def histogram(index: Tensor) -> Tensor:
    """Share of every level: bins (B, N) to (B, 256)."""
    return _count(index, LEVELS)


def joint_histogram(rows: Tensor, columns: Tensor) -> Tensor:
    """Share of every pair of levels: bins (B, N) twice to (B, 256, 256), indexed [row level, column level]."""
    return _count(torch.add(columns, rows, alpha=LEVELS), LEVELS**2).view(-1, LEVELS, LEVELS)


def entropy(shares: Tensor) -> Tensor:
    """Entropy -sum p log2 p of shares (B, ...) with 0 log 0 = 0: (B,)."""
    # log(p + tiny) is vectorised where entr and xlogy are not
    return -(shares * (shares + 1e-300).log_()).flatten(1).sum(1) / math.log(2)


def mutual_information(joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information of the two sides of a joint histogram (B, 256, 256), and the entropy of either: (B,) each."""
    rows, columns = entropy(joint.sum(2)), entropy(joint.sum(1))
    return rows + columns - entropy(joint), rows, columns


def _count(index: Tensor, size: int) -> Tensor:
    counts = torch.stack([torch.bincount(sample, minlength=size) for sample in index.int()])
    return counts.double() / index.shape[1]
