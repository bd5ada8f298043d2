"""Metrics on Sobel gradients: how much of the sources' edges arrives, and what edges are invented."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import root, sobel
from .images import fusion_score


@fusion_score()
def qabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edge preservation Q^AB/F of Xydeas and Petrović (2000); 0..1 (0.975 is reached), higher is better.

    Q^AB/F = sum(Q^AF g_A + Q^BF g_B) / sum(g_A + g_B), where Q^XF is the product of two sigmoids, of the relative
    edge strength G and of the agreement of the edge angles. NaN when both sources are constant.
    """
    gradient = _strength_angle(fused)
    kept = weight = torch.zeros((), dtype=fused.dtype, device=fused.device)
    for source in (source_a, source_b):
        strength, angle = _strength_angle(source)
        kept = kept + (_preservation(strength, angle, *gradient) * strength).sum((1, 2))
        weight = weight + strength.sum((1, 2))
    return kept / weight


@fusion_score(smallest=2)
def nabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edges in the fused image that neither source has, N^AB/F modified by Shreyamsha Kumar; 0..1, lower is better.

    N^AB/F = sum over {g_F > g_A and g_F > g_B} of (1 - Q^AF) w_A + (1 - Q^BF) w_B, divided by sum(w_A + w_B), with
    w = g^1.5 where the gradient reaches 2 grey levels, else 0.001.
    """
    gradient, orientation = _reflected_gradient(fused)
    artefact = torch.ones_like(gradient, dtype=torch.bool)
    lost, weight = torch.zeros_like(gradient), torch.zeros((), dtype=fused.dtype, device=fused.device)
    for source in (source_a, source_b):
        strength, angle = _reflected_gradient(source)
        relative = torch.minimum(strength, gradient) / torch.maximum(strength, gradient).clamp(min=1e-30)
        agreement = ((angle - orientation).abs() - math.pi / 2).abs() * (2 / math.pi)
        quality = root(0.9999 * torch.sigmoid(19 * (relative - 0.5)) * 0.9995 * torch.sigmoid(22 * (agreement - 0.5)))
        importance = torch.where(strength >= 2, strength**1.5, 0.001)
        artefact = artefact & (gradient > strength)
        lost = lost + (1 - quality) * importance
        weight = weight + importance.sum((1, 2))
    return (lost * artefact).sum((1, 2)) / weight


def _strength_angle(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and its angle in (-pi/2, pi/2] with zero padding, so that the border counts as an edge."""
    x, y = sobel(F.pad(levels, (1, 1, 1, 1)))
    vertical = x == 0
    angle = torch.atan(-y / x.masked_fill(vertical, 1)).masked_fill(vertical, math.pi / 2)
    return root(x * x + y * y), angle


def _preservation(strength: Tensor, angle: Tensor, fused_strength: Tensor, fused_angle: Tensor) -> Tensor:
    # equal gradients give the gradient itself, not 1: the toolbox's code, and every published table
    equal = strength == fused_strength
    smaller, larger = torch.minimum(strength, fused_strength), torch.maximum(strength, fused_strength)
    relative = torch.where(equal, fused_strength, smaller / larger.masked_fill(equal, 1))
    agreement = 1 - (angle - fused_angle).abs() * (2 / math.pi)
    return 0.9994 * torch.sigmoid(15 * (relative - 0.5)) * 0.9879 * torch.sigmoid(22 * (agreement - 0.8))


def _reflected_gradient(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient in grey levels per pixel and atan(vertical / horizontal), 0 where flat; the border is reflected."""
    padded = F.pad(levels[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    x, y = sobel(padded)
    flat = (x == 0) & (y == 0)
    upright = y == 0
    angle = torch.atan(x / y.masked_fill(upright, 1))
    angle = torch.where(upright, torch.sign(x) * (math.pi / 2), angle).masked_fill(flat, 0)
    return root(x * x + y * y) / 8, angle
