"""Scores of a registration: of its warp against the known one, the way back, landmarks, and of what came out."""

import torch
from torch import Tensor

from fusion_lightning.imaging import warps
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.metrics.functional.histograms import bins, joint_histogram, mutual_information


def epe(warp: Tensor, known: Tensor) -> Tensor:
    """End-point error: mean distance in pixels between a warp and the known one, over what lies in the image.

    Args:
        warp: Where each pixel of b's frame is said to lie in a, (B, 2, H, W).
        known: Where it lies.

    Returns:
        One value per pair, (B,); NaN where everything lies outside.
    """
    apart = (warp - known).norm(dim=1)
    valid = warps.inside(known, (known.shape[-2], known.shape[-1]))[:, 0]
    return torch.where(valid, apart, 0).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1))


def inverse_consistency(there: Tensor, back: Tensor) -> Tensor:
    """Mean distance in pixels of there(back(p)) from p, over what stays in the image; (B, 2, H, W) twice to (B,)."""
    size = (back.shape[-2], back.shape[-1])
    apart = (warps.compose(there, back) - warps.identity(size, back)).norm(dim=1)
    valid = warps.inside(back, size)[:, 0]
    return torch.where(valid, apart, 0).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1))


def landmark_error(warp: Tensor, fixed: Tensor, moving: Tensor) -> Tensor:
    """Mean distance in pixels between landmarks in a and where a warp takes them from.

    Args:
        warp: (1, 2, H, W).
        fixed: Landmarks in b's frame, x and y, (N, 2).
        moving: The same ones in a, (N, 2).

    Returns:
        One value, (1,).
    """
    places = fixed.T[None, :, None].to(warp)  # a row of N pixels
    found = warps.sample(warp, places)[0, :, 0].T
    return (found - moving.to(warp)).norm(dim=1).mean()[None]


def mi_gain(aligned: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mutual information with b that aligning a has brought, I(aligned; b) − I(a; b), in bits.

    Never a proof: a warp that bends edges onto edges gains more than the true one.

    Args:
        aligned: Source a in the frame of b, (B, 1 or 3, H, W) in [0, 1].
        a: Source a as it was.
        b: Source b.

    Returns:
        One value per pair, (B,).
    """
    after, before, fixed = (bins(255 * rgb_to_luma(image)[:, 0]) for image in (aligned, a, b))
    return mutual_information(joint_histogram(after, fixed))[0] - mutual_information(joint_histogram(before, fixed))[0]
