"""Classical fusion rules and restoration filters: nothing to train."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_lightning.batch import AppliedDegradation, Controls, FusionBatch, FusionOutput, sources
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import ColorRule
from fusion_lightning.imaging.filters import blur_separably, guided_filter_fusion
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.operators import from_degradations
from fusion_lightning.operators.blur import DEFAULT_RHO

Denoiser = Literal["nlm", "bilateral"]

_BLURS = ("blur", "motion_blur", "defocus")
_SIGNAL = 0.1
"""Standard deviation of detail in ordinary images, in [0, 1] units, for the Wiener filter's noise ratio."""


class _Rule(LumaFusion):
    """Base of the classical rules: a function of two luma images."""

    rule: Callable[[Tensor, Tensor], Tensor]

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], in float32: half precision blurs a pyramid."""
        with torch.autocast(a.device.type, enabled=False):
            return type(self).rule(a.float(), b.float())


def laplacian_pyramid(a: Tensor, b: Tensor) -> Tensor:
    """Fuse in Laplacian pyramids (Burt and Adelson 1983): the stronger detail, the mean of what is left at the top.

    Levels are added until the shorter side is less than 8 pixels.
    """
    if min(a.shape[-2:]) < 8:
        return (a + b) / 2
    smaller = [_blur(image)[..., ::2, ::2] for image in (a, b)]
    details = [image - _enlarge(small, image) for image, small in zip((a, b), smaller, strict=True)]
    return _enlarge(laplacian_pyramid(*smaller), a) + _stronger(*details)


def wavelet_maximum(a: Tensor, b: Tensor) -> Tensor:
    """Fuse in wavelet space: the stronger detail, the mean of the approximations; biorthogonal 4.4, up to 4 levels."""
    import pywt  # only needed here

    levels = min(4, pywt.dwt_max_level(min(a.shape[-2:]), "bior4.4"))
    decomposed = [pywt.wavedec2(x.float().cpu().numpy(), "bior4.4", "symmetric", levels, (-2, -1)) for x in (a, b)]
    (top_a, *details_a), (top_b, *details_b) = decomposed
    fused = [(top_a + top_b) / 2]
    for bands in zip(details_a, details_b, strict=True):
        fused.append(tuple(_stronger(*map(torch.from_numpy, band)).numpy() for band in zip(*bands, strict=True)))
    image = torch.from_numpy(pywt.waverec2(fused, "bior4.4", "symmetric", (-2, -1)))
    return image[..., : a.shape[-2], : a.shape[-1]].to(a)


class Average(_Rule):
    """The mean of the two sources."""

    sees_whole_image = False
    rule = staticmethod(lambda a, b: (a + b) / 2)


class Maximum(_Rule):
    """The brighter of the two sources at every pixel."""

    sees_whole_image = False
    rule = staticmethod(torch.maximum)


class LaplacianPyramid(_Rule):
    """The stronger detail at every scale of a Laplacian pyramid."""

    rule = staticmethod(laplacian_pyramid)


class GuidedFilter(_Rule):
    """Base and detail, weighted by guided filters."""

    rule = staticmethod(guided_filter_fusion)


class WaveletMaximum(_Rule):
    """The stronger detail in every band of a wavelet decomposition."""

    rule = staticmethod(wavelet_maximum)


class Overlay(FusionMethod):
    """Source a laid over source b, as radiologists look at PET over MRI: α a + (1 - α) b in every channel.

    Args:
        alpha: α, how opaque source a is, from 0 to 1.
        color_rule: As in `FusionMethod`; the colours are a mixture already.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `alpha` is out of its range.
    """

    def __init__(self, alpha: float = 0.5, color_rule: ColorRule = "chroma", **options: Any) -> None:
        super().__init__(color_rule=color_rule, **options)
        if not 0 <= alpha <= 1:
            raise UserError(f"`alpha` must be between 0 and 1, but got {alpha}")
        self.alpha = alpha

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Lay one over the other.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        return FusionOutput(fused=self.alpha * a + (1 - self.alpha) * b)


class ClassicalRestorer(FusionMethod):
    """Restorer of textbook filters, chosen by the recorded degradation.

    A source of lower resolution is enlarged (bicubic), no more. A blur is undone by its Wiener filter, whose ρ is the
    ratio of the variances of noise and detail; noise alone is smoothed as strongly as it is. Other effects (haze, rain,
    light) and sources of unknown history stay as they are.

    Args:
        denoiser: ``nlm``, non-local means on 8 bits, or ``bilateral``.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If there is no such denoiser.
    """

    def __init__(self, denoiser: Denoiser = "nlm", **options: Any) -> None:
        super().__init__(**options)
        check_choice("denoiser", denoiser, Denoiser)
        self.denoiser = denoiser

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        enlarged = sources(batch)
        restored = []
        for side, delivered, image in zip("ab", (batch["source_a"], batch["source_b"]), enlarged, strict=True):
            if image.shape != delivered.shape:
                # a filter would sharpen the pixels of the enlarged image, not the scene: worse than leaving it
                restored.append(image)
                continue
            effects = [sample[side] for sample in batch["degradation"]]  # type: ignore[literal-required]
            pairs = zip(image.split(1), effects, strict=True)
            restored.append(torch.cat([self._restore(one, applied) for one, applied in pairs]))
        return FusionOutput(restored_a=restored[0], restored_b=restored[1])

    def _restore(self, image: Tensor, effects: Sequence[AppliedDegradation]) -> Tensor:
        noise = float(from_degradations(effects).sigma)
        blurs = [effect for effect in effects if effect["name"] in _BLURS]
        if blurs:
            rho = max(DEFAULT_RHO, (noise / _SIGNAL) ** 2)
            # the filter dims flat areas to 1 / (1 + ρ) of their light
            return ((1 + rho) ** len(blurs) * from_degradations(blurs, rho=rho).A_dagger(image)).clamp(0, 1)
        return self._denoise(image, noise) if noise > 0 else image

    def _denoise(self, image: Tensor, noise: float) -> Tensor:
        """Smooth an image (1, C, H, W) whose noise has this standard deviation."""
        pixels = image[0].permute(1, 2, 0).float().cpu().numpy()
        if self.denoiser == "nlm":
            levels = np.ascontiguousarray(np.rint(pixels * 255).astype(np.uint8))
            smooth = cv2.fastNlMeansDenoising(levels, None, h=255 * noise) / np.float32(255)
        else:
            smooth = np.asarray(cv2.bilateralFilter(np.ascontiguousarray(pixels), -1, 3 * noise, 2.0), np.float32)
        return torch.from_numpy(smooth.reshape(pixels.shape)).permute(2, 0, 1)[None].to(image)


def _stronger(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a.abs() >= b.abs(), a, b)


def _blur(image: Tensor) -> Tensor:
    """Burt and Adelson's [1 4 6 4 1] / 16, borders mirrored."""
    taps = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    return blur_separably(image, taps, "reflect")


def _enlarge(small: Tensor, like: Tensor) -> Tensor:
    """Double an image to the size of another: zeros between its pixels, then four times the blur."""
    spread = torch.zeros_like(like)
    spread[..., ::2, ::2] = small
    return 4 * _blur(spread)
