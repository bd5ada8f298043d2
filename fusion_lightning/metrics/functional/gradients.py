"""Metrics on Sobel gradients: how much of the sources' edges arrives, and what edges are invented."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import root, sobel, strips
from .images import fusion_score


@fusion_score()
def qabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edge preservation Q^AB/F of Xydeas and Petrović (2000); 0..1 (0.975 is reached), higher is better.

    Q^AB/F = sum(Q^AF g_A + Q^BF g_B) / sum(g_A + g_B), where Q^XF is the product of two sigmoids, of the relative
    edge strength G and of the agreement of the edge angles. NaN when both sources are black.
    """
    kept = weight = torch.zeros((), dtype=torch.float64, device=fused.device)
    padded = [F.pad(image, (1, 1, 1, 1)) for image in (fused, source_a, source_b)]
    for strip in strips(padded, 2):
        gradient, *sources = (_strength_angle(levels) for levels in strip)
        for strength, angle in sources:
            kept = kept + (_preservation(strength, angle, *gradient) * strength).sum((1, 2))
            weight = weight + strength.sum((1, 2))
    return kept / weight


@fusion_score(smallest=2)
def nabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edges in the fused image that neither source has, N^AB/F modified by Shreyamsha Kumar; 0..1, lower is better.

    N^AB/F = sum over {g_F > g_A and g_F > g_B} of (1 - Q^AF) w_A + (1 - Q^BF) w_B, divided by sum(w_A + w_B), with
    w = g^1.5 where the gradient reaches 2 grey levels, else 0.001. The toolbox's driver swaps the arguments; its
    numbers are `nabf(source_a, source_b, fused)`.
    """
    invented = weight = torch.zeros((), dtype=torch.float64, device=fused.device)
    images = torch.stack((fused, source_a, source_b))
    for strip in strips(list(F.pad(images, (1, 1, 1, 1), mode="reflect")), 2):
        (gradient, orientation), *sources = (_reflected_gradient(levels) for levels in strip)
        lost: Tensor | float = 0.0
        for strength, angle in sources:
            relative = torch.minimum(strength, gradient) / torch.maximum(strength, gradient).clamp(min=1e-30)
            agreement = ((angle - orientation).abs() - math.pi / 2).abs() * (2 / math.pi)
            agreed = torch.sigmoid(19 * (relative - 0.5)) * torch.sigmoid(22 * (agreement - 0.5))
            importance = torch.where(strength >= 2, strength * root(strength), 0.001)
            lost = lost + (1 - math.sqrt(0.9999 * 0.9995) * agreed.sqrt()) * importance
            weight = weight + importance.sum((1, 2))
        artefact = (gradient > sources[0][0]) & (gradient > sources[1][0])
        invented = invented + (lost * artefact).sum((1, 2))
    return invented / weight


@fusion_score()
def q_g(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Gradient metric Q_G, Xydeas and Petrović's as Liu's toolbox has it; 0..1 (0.987 is reached), higher is better.

    The mean over pixels of the local ratio (Q^AF g_A + Q^BF g_B) / (g_A + g_B), not the ratio of the sums as in
    `qabf`; other constants and flat pixels that count as kept. A zero gradient is 1e-5.
    """
    tiny = 1e-5
    total = torch.zeros((), dtype=torch.float64, device=fused.device)
    padded = [F.pad(image, (1, 1, 1, 1)) for image in (fused, source_a, source_b)]
    for strip in strips(padded, 2):
        (gradient, orientation), *sources = (_gradient_metric(levels) for levels in strip)
        kept = weight = torch.zeros_like(gradient)
        for strength, angle in sources:
            stronger = strength > gradient
            strength = strength.masked_fill(strength == 0, tiny)
            weaker = gradient / strength
            # from here on, for the second source too: the toolbox changes the fused gradient in place
            gradient = gradient.masked_fill(gradient == 0, tiny)
            relative = torch.where(stronger, weaker, strength / gradient)
            agreement = ((angle - orientation).abs() - math.pi / 2).abs() * (2 / math.pi)
            quality = torch.sigmoid(10 * (relative - 0.5)) * torch.sigmoid(20 * (agreement - 0.75))
            kept = kept + quality * strength
            weight = weight + strength
        total = total + (kept / weight).sum((1, 2), dtype=torch.float64)
    return total / fused[0].numel()


def _strength_angle(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and its angle in (-pi/2, pi/2]."""
    x, y = sobel(padded)
    vertical = x == 0
    angle = torch.atan(-y / x.masked_fill(vertical, 1)).masked_fill(vertical, math.pi / 2)
    return root(x * x + y * y), angle


def _preservation(strength: Tensor, angle: Tensor, fused_strength: Tensor, fused_angle: Tensor) -> Tensor:
    # equal gradients give the gradient itself, not 1: the toolbox's code, and every published table
    equal = strength == fused_strength
    smaller, larger = torch.minimum(strength, fused_strength), torch.maximum(strength, fused_strength)
    relative = torch.where(equal, fused_strength, smaller / larger.masked_fill(equal, 1))
    agreement = 1 - (angle - fused_angle).abs() * (2 / math.pi)
    return 0.9994 * 0.9879 * torch.sigmoid(15 * (relative - 0.5)) * torch.sigmoid(22 * (agreement - 0.8))


def _reflected_gradient(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient in grey levels per pixel and atan(x / y), 0 where flat."""
    x, y = sobel(padded)
    upright = y == 0
    angle = torch.atan(x / y.masked_fill(upright, 1))
    return root(x * x + y * y) / 8, torch.where(upright, torch.sign(x) * (math.pi / 2), angle)


def _gradient_metric(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and atan(y / x) with x = 1e-5 where it is 0, so that the angle is 0 where flat."""
    x, y = sobel(padded)
    return root(x * x + y * y), torch.atan(y / x.masked_fill(x == 0, 1e-5))
