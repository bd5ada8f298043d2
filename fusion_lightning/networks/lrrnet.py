"""LRRNet: each source a sum of a low-rank and a sparse part, found by unrolled iterations."""

import torch
from torch import Tensor, nn

from fusion_lightning.networks.dense import SameConv2d

_MAPS, _ITERATIONS = 128, 4


class LRRNetNetwork(nn.Module):
    """A decomposition per source, 128 low-rank and 128 sparse maps, and six small convolutions; 49,204 parameters.

    Borders are mirrored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = LearnedDecomposition(), LearnedDecomposition()
        self.low_a, self.sparse_a, self.low_b, self.sparse_b = (SameConv2d(_MAPS, 1, mirrored=True) for _ in range(4))
        self.low, self.sparse = SameConv2d(2, 1, mirrored=True), SameConv2d(2, 1, mirrored=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W), infrared and visible, that span [0, 1]; the result may leave it a little."""
        (low_a, sparse_a), (low_b, sparse_b) = self.a(a), self.b(b)
        low = self.low(torch.cat((self.low_a(low_a), self.low_b(low_b)), dim=1))
        sparse = self.sparse(torch.cat((self.sparse_a(sparse_a), self.sparse_b(sparse_b)), dim=1))
        return low + sparse


class LearnedDecomposition(nn.Module):
    """Iterations of shrinkage z ← S_λ(ζ z + Wᵀ(x − W z)) from z = S_λ(W₀ x), with W and Wᵀ of their own each."""

    def __init__(self) -> None:
        super().__init__()
        codes = 2 * _MAPS
        self.threshold = nn.Parameter(torch.full((1, codes), 0.01))
        self.keep = nn.Parameter(torch.ones(1, 1))
        self.first = SameConv2d(1, codes, mirrored=True)
        self.synthesis = nn.ModuleList(SameConv2d(codes, 1, mirrored=True) for _ in range(_ITERATIONS))
        self.analysis = nn.ModuleList(SameConv2d(1, codes, mirrored=True) for _ in range(_ITERATIONS))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Low-rank and sparse maps, (B, 128, H, W) each, of grey images (B, 1, H, W)."""
        codes = self._shrink(self.first(image))
        for synthesis, analysis in zip(self.synthesis, self.analysis, strict=True):
            codes = self._shrink(self.keep * codes + analysis(image - synthesis(codes)))
        low, sparse = codes.chunk(2, dim=1)
        return low, sparse

    def _shrink(self, codes: Tensor) -> Tensor:
        return torch.copysign((codes.abs() - self.threshold[..., None, None]).relu_(), codes)


def _published_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for own, published in (("a", "get_ls1"), ("b", "get_ls2")):
        names |= {
            f"{published}.lamj": f"{own}.threshold",
            f"{published}.lamz": f"{own}.keep",
            f"{published}.conv_W00.conv2d": f"{own}.first",
        }
        for turn in range(_ITERATIONS):
            names[f"{published}.lrrblock{turn}.conv_Wdz.conv2d"] = f"{own}.synthesis.{turn}"
            names[f"{published}.lrrblock{turn}.conv_Wdtz.conv2d"] = f"{own}.analysis.{turn}"
    heads = {"ReZx": "low_a", "ReUx": "sparse_a", "ReZy": "low_b", "ReUy": "sparse_b", "ReL": "low", "ReH": "sparse"}
    return names | {f"decoder.conv_{published}.conv2d": own for published, own in heads.items()}


PUBLISHED_NAMES = _published_names()
"""Layers of the published file, and what they are called here."""
