"""The two sources of a batch as observations: luma, linear operator, noise level, and the colour beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from fusion_lightning.batch import AppliedDegradation, FusionBatch
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.imaging.filters import box_mean, guided_filter
from fusion_lightning.imaging.resize import enlarge
from fusion_lightning.operators import Identity, Observation, from_batch

_CHROMA_RADIUS = 2
_CHROMA_EPSILON = 1e-3
"""The guided filter of noisy chroma."""
_REST_RADIUS = 3
_CHROMA_NOISE = 0.47
"""Variance of noisy chroma, as a part of the noise's: 0.41, the mean of Cb's and Cr's weights squared, and what an
estimate from 7 × 7 pixels needs above it. On RoadScene less keeps noise (42 dB for 44), on PET more loses colours."""


@dataclass(frozen=True)
class ObservedPair:
    """Observations of both sensors, with their operators and noise."""

    a: Observation
    """Luma of the first source, (B, 1, h, w), and its operators."""
    b: Observation
    """The second's."""
    chroma_a: Tensor | None
    """Cb and Cr of the first source, (B, 2, h, w); None if it is grey."""
    chroma_b: Tensor | None
    """The second's."""
    size: tuple[int, int]
    """(H, W) of the result."""
    lossy: Tensor
    """Whether anything other than noise went wrong with either source, A ≠ I, (B, 1, 1, 1) on the CPU."""

    @property
    def sigma(self) -> Tensor:
        """σ_y, the larger of the two sources' noise deviations, (B, 1, 1, 1) in [0, 1] units, on the CPU."""
        return torch.maximum(torch.as_tensor(self.a.operator.sigma), torch.as_tensor(self.b.operator.sigma))

    def start(self) -> Tensor:
        """[A_a†y_a, A_b†y_b, their mean]: (B, 3, H, W)."""
        sources = torch.cat([seen.operator.A_dagger(seen.y) for seen in (self.a, self.b)], dim=1)
        return torch.cat((sources, sources.mean(dim=1, keepdim=True)), dim=1)

    def chromas(self, lumas: tuple[Tensor, Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
        """Cb and Cr of both sources at full size (B, 2, H, W), None for a grey source.

        Args:
            lumas: The restored lumas (B, 1, H, W), to restore the chroma along: A† is applied, and noise is smoothed
                by a guided filter that stops at the luma's edges. What that takes away is given back as far as it
                varies more than noise does: the colours of a palette are no line in its luma. None leaves the chroma
                as observed, enlarged (bicubic) if need be.
        """

        def full_size(colors: Tensor | None, seen: Observation, grey: Tensor | None) -> Tensor | None:
            if colors is None:
                return None
            if grey is None:
                return enlarge(colors, self.size)
            # deviations from grey: a black border has none
            restored = seen.operator.A_dagger(colors - 0.5) + 0.5
            sigma = torch.as_tensor(seen.operator.sigma).to(restored.device)
            if not (sigma > 0).any():
                return restored
            smooth = guided_filter(grey, restored, _CHROMA_RADIUS, _CHROMA_EPSILON)
            rest = restored - smooth
            variance = box_mean(rest.square().mean(dim=1, keepdim=True), _REST_RADIUS).clamp(min=1e-12)
            # A† multiplies the noise's variance by the energy of its answer to a single pixel
            pixel = torch.zeros_like(colors[:, :1])
            pixel[..., pixel.shape[-2] // 2, pixel.shape[-1] // 2] = 1
            energy = seen.operator.A_dagger(pixel).square().sum(dim=(1, 2, 3), keepdim=True)
            return smooth + (1 - _CHROMA_NOISE * sigma.square() * energy / variance).clamp(min=0) * rest

        grey_a, grey_b = lumas or (None, None)
        return full_size(self.chroma_a, self.a, grey_a), full_size(self.chroma_b, self.b, grey_b)


def observe_pair(batch: FusionBatch, rho: float) -> ObservedPair:
    """Take a batch apart into observations.

    A source that is known to have been averaged down keeps its size, and its operator leads to the full one. One that
    is smaller than the other without anything being known is enlarged (bicubic).

    Args:
        batch: Sources (B, 1 or 3, h, w) in [0, 1], and their `degradation`.
        rho: ρ of the Wiener inverses.

    Raises:
        UserError: If a source's size does not belong to what its degradation makes of the full size.
    """
    sources = [batch["source_a"].float(), batch["source_b"].float()]
    effects = ([one["a"] for one in batch["degradation"]], [one["b"] for one in batch["degradation"]])
    factors = [_reduction(each[0]) for each in effects]
    size = _full_size(sources, factors)
    sources = [source if factor > 1 else enlarge(source, size) for source, factor in zip(sources, factors, strict=True)]
    operators = [from_batch(each, size, rho) for each in effects]
    lossy = [[not isinstance(one, Identity) for one in operator.operators] for operator in operators]
    colors = [rgb_to_cbcr(source) if source.shape[1] == 3 else None for source in sources]
    return ObservedPair(
        a=Observation(rgb_to_luma(sources[0]), operators[0]),
        b=Observation(rgb_to_luma(sources[1]), operators[1]),
        chroma_a=colors[0],
        chroma_b=colors[1],
        size=size,
        lossy=torch.tensor(lossy).any(dim=0).view(-1, 1, 1, 1),
    )


def _reduction(effects: Sequence[AppliedDegradation]) -> int:
    """How many times smaller a degradation with these effects leaves its source."""
    return prod(one["params"]["factor"] for one in effects if one["name"] == "downsample" and not one["params"]["up"])


def _full_size(sources: Sequence[Tensor], factors: Sequence[int]) -> tuple[int, int]:
    """(H, W): the size of the sources that kept it; if none did, the least that the factors allow."""
    sizes = [(source.shape[-2] * by, source.shape[-1] * by) for source, by in zip(sources, factors, strict=True)]
    kept = [size for size, by in zip(sizes, factors, strict=True) if by == 1]
    rows, columns = zip(*(kept or sizes), strict=True)
    choose = max if kept else min
    return choose(rows), choose(columns)
