"""DIDFuse: an autoencoder that takes images apart into a base and details."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.networks.dense import SameConv2d

_MAPS = 64


class Decomposition(NamedTuple):
    """What the encoder makes of images: maps (B, 64, H, W) each."""

    first: Tensor
    second: Tensor
    base: Tensor
    detail: Tensor


class DIDFuseNetwork(nn.Module):
    """Seven 3×3 convolutions with batch normalisation, 64 maps each; 260,935 parameters.

    PReLU, but tanh at base and detail, sigmoid last; the first and the last mirror their borders, the others' are zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _layer(1, _MAPS, nn.PReLU(), mirrored=True)
        self.second = _layer(_MAPS, _MAPS, nn.PReLU())
        self.base, self.detail = _layer(_MAPS, _MAPS, nn.Tanh()), _layer(_MAPS, _MAPS, nn.Tanh())
        self.join, self.refine = (_layer(2 * _MAPS, _MAPS, nn.PReLU()) for _ in range(2))
        self.last = _layer(2 * _MAPS, 1, nn.Sigmoid(), mirrored=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1] to one in [0, 1]: the sum of all their maps."""
        both = zip(self.encode(a), self.encode(b), strict=True)
        return self.decode(Decomposition(*(of_a + of_b for of_a, of_b in both)))

    def encode(self, image: Tensor) -> Decomposition:
        """Take grey images (B, 1, H, W) in [0, 1] apart."""
        first = self.first(image)
        second = self.second(first)
        return Decomposition(first, second, self.base(second), self.detail(second))

    def decode(self, parts: Decomposition) -> Tensor:
        """Put images (B, 1, H, W) in [0, 1] together again."""
        joined = self.join(torch.cat((parts.base, parts.detail), dim=1))
        refined = self.refine(torch.cat((joined, parts.second), dim=1))
        return self.last(torch.cat((refined, parts.first), dim=1))


def _layer(inputs: int, outputs: int, activation: nn.Module, mirrored: bool = False) -> nn.Sequential:
    return nn.Sequential(SameConv2d(inputs, outputs, mirrored=mirrored), nn.BatchNorm2d(outputs), activation)


def _published_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for number, own in enumerate(("first", "second", "base", "detail", "join", "refine", "last"), start=1):
        half = "encoder" if number <= 4 else "decoder"
        padded = own in ("first", "last")  # there the mirroring is a layer of its own
        names |= {f"{half}.cov{number}.cov{number}.{part + padded}": f"{own}.{part}" for part in range(3)}
    return names


PUBLISHED_NAMES = _published_names()
"""Layers of the published file, and what they are called here."""
