"""SDNet: two sources squeezed into one image, and that image decomposed into them again."""

from torch import Tensor, nn

from fusion_lightning.networks.dense import DenseBlock, SameConv2d, interleave

_LAYERS, _SLOPE = 4, 0.2


class SDNetNetwork(nn.Module):
    """Four dense convolutions of 16 maps per source, one to squeeze; seven to decompose; 67,091 parameters.

    Leaky ReLU of slope 0.2, tanh at the images; borders are zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (DenseBlock(1, 16, _LAYERS, kernel=5, slope=_SLOPE) for _ in range(2))
        self.squeeze = SameConv2d(128, 1, 1)
        self.expand = SameConv2d(1, 128, 1)
        self.source_a, self.source_b = _decomposer(), _decomposer()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], infrared and visible, to one in [0, 1]."""
        features = interleave(self.a(2 * a - 1), self.b(2 * b - 1), _LAYERS)
        return (self.squeeze(features).tanh() + 1) / 2

    def decompose(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """The sources that a fusion (B, 1, H, W) in [0, 1] was made of, as far as it tells; used in training alone."""
        features = nn.functional.leaky_relu(self.expand(2 * fused - 1), _SLOPE)
        return (self.source_a(features) + 1) / 2, (self.source_b(features) + 1) / 2


def _decomposer() -> nn.Sequential:
    first, second, last = SameConv2d(128, 16), SameConv2d(16, 4), SameConv2d(4, 1)
    return nn.Sequential(first, nn.LeakyReLU(_SLOPE), second, nn.LeakyReLU(_SLOPE), last, nn.Tanh())


PUBLISHED_NAMES = {"layer5_fuse": "squeeze", "layer6_sept": "expand"}
"""Layers of the published file, and what they are called here."""
for _own, _published in (("a", "ir"), ("b", "vi")):
    PUBLISHED_NAMES |= {f"layer{layer + 1}_{_published}": f"{_own}.{layer}" for layer in range(_LAYERS)}
    PUBLISHED_NAMES |= {f"layer{7 + layer}_{_published}": f"source_{_own}.{2 * layer}" for layer in range(3)}
