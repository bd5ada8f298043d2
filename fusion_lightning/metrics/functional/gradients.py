"""Metrics on Sobel gradients: edges preserved, and edges that neither source has."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.metrics.functional.filters import flags, root, sobel, strips, sum_up
from fusion_lightning.metrics.functional.images import fusion_score

_STRIP = 2**18  # bytes of a map: those of three images are worked on together


@fusion_score()
def qabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edge preservation Q^AB/F of Xydeas and Petrović (2000); 0..1 (0.975 is reached), higher is better.

    Q^AB/F = sum(Q^AF g_A + Q^BF g_B) / sum(g_A + g_B), where Q^XF is the product of two sigmoids, of the relative
    edge strength G and of the agreement of the edge angles. NaN when both sources are black.
    """
    kept = weight = torch.zeros((), dtype=torch.float64, device=fused.device)
    for x, y in _sobel_strips((fused, source_a, source_b), "constant"):
        power = (x * x).addcmul_(y, y)
        strength = root(power)
        vertical = flags(torch.eq, x, 0)
        # an angle of pi / 2 wherever x is 0
        angle = (1e30 * vertical).sub_(y).div_(x + vertical).atan_()
        # equal gradients give the gradient itself, not 1: the toolbox's code, and every published table
        equal = flags(torch.eq, power[1:], power[:1].expand_as(power[1:]))
        larger = torch.maximum(strength[1:], strength[:1])
        relative = torch.minimum(strength[1:], strength[:1]).div_(torch.addcmul(larger, equal, 1 - larger))
        difference = (angle[1:] - angle[:1]).abs_()
        quality = relative.mul_(15).sub_(7.5).sigmoid_() * difference.mul_(-44 / math.pi).add_(4.4).sigmoid_()
        kept = kept + sum_up((quality * strength[1:]).sum(0))
        weight = weight + sum_up(strength[1] + strength[2])
    return 0.9994 * 0.9879 * kept / weight


@fusion_score(smallest=2)
def nabf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Edges in the fused image that neither source has, N^AB/F modified by Shreyamsha Kumar; 0..1, lower is better.

    N^AB/F = sum over {g_F > g_A and g_F > g_B} of (1 - Q^AF) w_A + (1 - Q^BF) w_B, divided by sum(w_A + w_B), with
    w = g^1.5 where the gradient reaches 2 grey levels, else 0.001. The toolbox's driver swaps the arguments; its
    numbers are `nabf(source_a, source_b, fused)`.
    """
    invented = weight = torch.zeros((), dtype=torch.float64, device=fused.device)
    for x, y in _sobel_strips((fused, source_a, source_b), "reflect"):
        power = (x * x).addcmul_(y, y)
        strength = root(power) / 8
        larger = torch.maximum(strength[1:], strength[:1]).clamp_(min=1e-30)
        relative = torch.minimum(strength[1:], strength[:1]).div_(larger)
        # where an image is flat, its angle atan(x / y) is 0
        turn = _turn(x, y + flags(torch.eq, power, 0))
        # the root of the product of two sigmoids
        agreed = (relative.mul_(-19).add_(9.5).exp_() + 1) * (turn.mul_(44 / math.pi).sub_(11).exp_() + 1)
        lost = 1 - math.sqrt(0.9999 * 0.9995) * agreed.rsqrt_()
        edge = flags(torch.ge, strength[1:], 2)
        importance = (strength[1:] * root(strength[1:])).sub_(0.001).mul_(edge).add_(0.001)
        artefact = flags(torch.gt, power[0], torch.maximum(power[1], power[2]))
        invented = invented + sum_up((lost * importance).sum(0).mul_(artefact))
        weight = weight + sum_up(importance[0] + importance[1])
    return invented / weight


@fusion_score()
def q_g(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Gradient metric Q_G, Xydeas and Petrović's as Liu's toolbox has it; 0..1 (0.987 is reached), higher is better.

    The mean over pixels of the local ratio (Q^AF g_A + Q^BF g_B) / (g_A + g_B), not the ratio of the sums as in
    `qabf`; other constants and flat pixels that count as kept. A zero gradient is 1e-5.
    """
    tiny = 1e-5
    total = torch.zeros((), dtype=torch.float64, device=fused.device)
    for x, y in _sobel_strips((fused, source_a, source_b), "constant"):
        strength = root((x * x).addcmul_(y, y))
        flat = flags(torch.eq, strength, 0)
        strength = strength + tiny * flat
        relative = torch.minimum(strength[1:], strength[:1]) / torch.maximum(strength[1:], strength[:1])
        # the toolbox compares the first source with the fused gradient before the zeros in this are replaced
        relative = relative * torch.stack((1 - flat[0] * (1 - flat[1]), torch.ones_like(flat[0])))
        turn = _turn(x + tiny * flags(torch.eq, x, 0), y)
        quality = relative.mul_(10).sub_(5).sigmoid_() * turn.mul_(-40 / math.pi).add_(5).sigmoid_()
        kept = (quality * strength[1:]).sum(0)
        total = total + sum_up(kept.div_(strength[1] + strength[2]))
    return total / fused[0].numel()


def _sobel_strips(images: Sequence[Tensor], border: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Sobel sums along x and y of the three images together, each (3, B, h, W), by horizontal strips."""
    padded = [F.pad(image[:, None], (1, 1, 1, 1), mode=border)[:, 0] for image in images]
    for strip in strips(padded, 2, images[0].dtype, _STRIP):
        yield sobel(torch.stack(strip))


def _turn(x: Tensor, y: Tensor) -> Tensor:
    """Angle between the edges of the sources and those of the fused image, (2, B, h, w): 0..pi/2.

    That is pi/2 - | |a_X - a_F| - pi/2 | of the angles a = atan(x / y) or atan(y / x), without computing these.
    """
    along = (x[1:] * x[:1]).addcmul_(y[1:], y[:1]).abs_().clamp_(min=1e-15)
    across = (x[1:] * y[:1]).addcmul_(y[1:], x[:1], value=-1)
    return across.div_(along).abs_().atan_()
