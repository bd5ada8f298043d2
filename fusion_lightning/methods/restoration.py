"""Restorers: they give both sources back restored, and fuse nothing."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from fusion_lightning.batch import AppliedDegradation, FusionBatch
from fusion_lightning.color import as_rgb
from fusion_lightning.errors import UserError
from fusion_lightning.methods.base import CLED_METRICS, Controls, FusionMethod, FusionOutput, adam, same_size
from fusion_lightning.networks.restormer import RestormerNetwork, RestormerSize
from fusion_lightning.operators import from_degradations
from fusion_lightning.operators.blur import DEFAULT_RHO

Denoiser = Literal["nlm", "bilateral"]

_BLURS = ("blur", "motion_blur", "defocus")
_SIGNAL = 0.1
"""Standard deviation of detail in ordinary images, in [0, 1] units, for the Wiener filter's noise ratio."""


class Restormer(FusionMethod):
    """One Restormer-style network for both sources; grey ones are repeated to three channels and averaged back.

    Args:
        size: Size of the network: ``tiny``, ``small``, ``base`` or ``large``.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the learning-rate scheduler from the optimizer.
        metrics: Without effect: there is no fusion.
        score_against: Without effect.
    """

    def __init__(
        self,
        size: RestormerSize = "base",
        optimizer: OptimizerCallable = adam,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[str] = CLED_METRICS,
        score_against: Literal["clean", "delivered"] = "clean",
    ) -> None:
        super().__init__(optimizer, scheduler, metrics, score_against)
        self.save_hyperparameters(ignore=self.HPARAMS_NOT_SAVED, logger=False)
        self.network = RestormerNetwork(size)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Mean absolute error to the clean sources, averaged over both."""
        a, b = (self._restore(source) for source in same_size(batch["source_a"], batch["source_b"]))
        loss_a, loss_b = F.l1_loss(a, batch["clean_a"]), F.l1_loss(b, batch["clean_b"])
        losses = {"loss": (loss_a + loss_b) / 2, "restoration_a": loss_a, "restoration_b": loss_b}
        return self.log_losses(losses, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = (self._restore(source).clamp(0, 1) for source in same_size(batch["source_a"], batch["source_b"]))
        return FusionOutput(restored_a=a, restored_b=b)

    def _restore(self, source: Tensor) -> Tensor:
        correction = self.network(as_rgb(source)).float()
        return source + (correction if source.shape[1] == 3 else correction.mean(dim=1, keepdim=True))


class ClassicalRestorer(FusionMethod):
    """Textbook filters, each chosen from what is recorded to have happened: a restorer that is told the degradation.

    A source of lower resolution is enlarged (bicubic), no more. A blur is undone by its Wiener filter, whose ρ is the
    ratio of the variances of noise and detail; noise alone is smoothed as strongly as it is. Other effects (haze, rain,
    light) and sources of unknown history stay as they are.

    Args:
        denoiser: ``nlm``, non-local means on 8 bits, or ``bilateral``.
        size: Without effect, as filters learn nothing; overlays set it for every method.
        optimizer: Without effect.
        scheduler: Without effect.
        metrics: Without effect: there is no fusion.
        score_against: Without effect.

    Raises:
        UserError: If there is no such denoiser.
    """

    def __init__(
        self,
        denoiser: Denoiser = "nlm",
        size: str | None = None,
        optimizer: OptimizerCallable = adam,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[str] = CLED_METRICS,
        score_against: Literal["clean", "delivered"] = "clean",
    ) -> None:
        super().__init__(optimizer, scheduler, metrics, score_against)
        self.save_hyperparameters(ignore=self.HPARAMS_NOT_SAVED, logger=False)
        if denoiser not in get_args(Denoiser):
            raise UserError(f"`denoiser` must be one of {', '.join(get_args(Denoiser))}, but got {denoiser!r}")
        self.denoiser = denoiser

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        enlarged = same_size(batch["source_a"], batch["source_b"])
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

    def configure_optimizers(self) -> Any:
        """Nothing is learned."""
        return None

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
