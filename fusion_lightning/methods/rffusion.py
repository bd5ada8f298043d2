"""RFfusion: one step of a rectified flow from the visible image, and the EM step of DDFM."""

from typing import Any

import torch
from torch import Tensor

from fusion_lightning.diffusion.denoising import denoise
from fusion_lightning.diffusion.flow import line_level
from fusion_lightning.diffusion.likelihood import Expectation, Likelihood
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.methods.prior_fusion import load_prior, on_luma, stretched


class RFFusion(LumaFusion):
    """Asks a prior once, for the clean image behind the visible one, and draws that to both sources.

    Args:
        prior: As in `PriorFusion`. None is what the released code
            comes to: a clean image of mid-grey, whatever the prior; each source then counts by its distance from
            mid-grey, a for two thirds at most. That is a rule of every pixel, without a network.
        level: s in (0, 1], how much noise the prior is told that the visible image holds. At the paper's 1 a prior can
            but answer with the mean of all images.
        likelihood: The EM step: ``released`` or ``paper``.
        stretch: Stretch every result to its own darkest and brightest pixel, as the public code does.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range, or `prior` cannot be read or is something else.
    """

    def __init__(
        self,
        prior: str | None = None,
        level: float = 1.0,
        likelihood: Expectation = "released",
        stretch: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 < level <= 1:
            raise UserError(f"`level` must lie in (0, 1], but got {level}")
        check_choice("likelihood", likelihood, Expectation)
        self.level, self.stretch = line_level(level), stretch
        self.likelihood: Expectation = likelihood
        self.prior = None if prior is None else load_prior(prior)

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        a, b = a.float() * 2 - 1, b.float() * 2 - 1
        # the cap of the released weights is on a: the roles of the sources are exchanged
        guide = Likelihood(b, a, self.likelihood)
        if self.prior is None:
            fused = guide(torch.zeros_like(b), self.level)
        else:
            signal, noise = self.level.alpha_bar.sqrt(), (1 - self.level.alpha_bar).sqrt()
            start = (signal + noise) * b.expand(-1, self.prior.channels, -1, -1)
            (step,) = denoise(self.prior.predict, start, [self.level], on_luma(guide))
            fused = rgb_to_luma(step.clean)
        fused = (fused + 1) / 2
        return stretched(fused) if self.stretch else fused
