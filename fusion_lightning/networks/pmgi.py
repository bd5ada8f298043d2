"""PMGI: a path per kind of information, which exchange what they know."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.dense import SameConv2d, interleave

_MAPS = 16


class PMGINetwork(nn.Module):
    """Two paths of four convolutions of 16 maps with two exchanges between them, one to join them; 41,633 parameters.

    Each layer is normalised by the image's own statistics, without gain or offset; leaky ReLU of slope 0.2, tanh last;
    borders are zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _Path(), _Path()
        self.join = SameConv2d(8 * _MAPS, 1, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], infrared and visible, to one in [0, 1]."""
        a, b = 2 * a - 1, 2 * b - 1
        of_a, of_b = self.a.begin(torch.cat((a, a, b), dim=1)), self.b.begin(torch.cat((b, b, a), dim=1))
        for turn in range(2):
            last = torch.cat((of_a[:, -_MAPS:], of_b[:, -_MAPS:]), dim=1)
            of_a, of_b = self.a.go_on(of_a, last, turn), self.b.go_on(of_b, last, turn)
        return (self.join(interleave(of_a, of_b, 4)).tanh() + 1) / 2


class _Path(nn.Module):
    """One path: two layers, then twice an exchange and a layer that sees all of the path's before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SameConv2d(3, _MAPS, 5), SameConv2d(_MAPS, _MAPS)
        self.exchange = nn.ModuleList(SameConv2d(2 * _MAPS, _MAPS, 1) for _ in range(2))
        self.later = nn.ModuleList(SameConv2d((3 + turn) * _MAPS, _MAPS) for turn in range(2))

    def begin(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the maps of two layers, (B, 32, H, W)."""
        first = _activated(self.first(images))
        return torch.cat((first, _activated(self.second(first))), dim=1)

    def go_on(self, features: Tensor, last: Tensor, turn: int) -> Tensor:
        """Append a layer that also sees what it is told of the last layers of both paths, (B, 32, H, W)."""
        told = _activated(self.exchange[turn](last))
        return torch.cat((features, _activated(self.later[turn](torch.cat((features, told), dim=1)))), dim=1)


def _activated(features: Tensor) -> Tensor:
    return F.leaky_relu(F.instance_norm(features), 0.2, inplace=True)


PUBLISHED_NAMES = {"layer5": "join"}
"""Layers of the published file, and what they are called here."""
UNUSED: tuple[str, ...] = ()
"""The published norms' gains, offsets and moments, which the published images were made without: 768 numbers."""
_ORDER = {"1": "first", "2": "second", "2_3": "exchange.0", "3": "later.0", "3_4": "exchange.1", "4": "later.1"}
for _own, _published in (("a", ""), ("b", "_vi")):
    PUBLISHED_NAMES |= {f"layer{layer}{_published}": f"{_own}.{name}" for layer, name in _ORDER.items()}
    UNUSED += tuple(f"layer{layer}{_published}.bn" for layer in _ORDER)
