"""Image priors: unconditional diffusion networks, trained here or published."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.batch import AppliedDegradation, Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.diffusion.denoising import NoiseLevel, NoiseSchedule
from fusion_lightning.diffusion.flow import TIMES, from_velocity, to_line
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.pretrained import load_strict, read_weights
from fusion_lightning.networks.denoising_unet import DenoisingSize, DenoisingUNet
from fusion_lightning.networks.guided_unet import GuidedUNet
from fusion_lightning.operators import from_batch


class Prior(nn.Module):
    """Image prior: predicts the clean image and the noise of a diffusion state, on [−1, 1]."""

    channels: int
    """Of the images it knows: 1 for luma, 3 for RGB."""

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The clean image and the noise in a diffusion's state (B, C, H, W), float32; see `denoise`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it knows")


class VelocityPrior(Prior):
    """A network that predicts the velocity of a luma image on its straight line from or to noise.

    Args:
        size: Size of the U-Net.
    """

    channels = 1

    def __init__(self, size: DenoisingSize = "base") -> None:
        super().__init__()
        self.size: DenoisingSize = size
        self.network = DenoisingUNet(size)

    def velocity(self, line: Tensor, s: Tensor) -> Tensor:
        """û of images x_s (B, 1, H, W); s is a number or (B, 1, 1, 1)."""
        return self.network(line, TIMES * s.flatten())

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The clean image and the noise in a diffusion's state (B, 1, H, W)."""
        line, s = to_line(state, level.alpha_bar.to(state.device))
        return from_velocity(line, self.velocity(line, s), s)


class GuidedPrior(Prior):
    """What a published network of guided diffusion knows of RGB images; it predicts noise at 1000 times.

    Args:
        weights: The file, named as published; nothing of it is shipped.

    Raises:
        UserError: If the file cannot be read, or holds something else.
    """

    channels = 3

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        state = read_weights(weights)
        if "input_blocks.0.0.weight" not in state:
            raise UserError(f"{weights} holds no network of guided diffusion: give its file, or a .ckpt with a prior")
        self.network = GuidedUNet.like(state)
        load_strict(self.network, state, weights)
        self.schedule = NoiseSchedule()

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The clean image and the noise in a diffusion's state (B, 3, H, W), by the nearest time it was taught."""
        line, s = to_line(state, level.alpha_bar.to(state.device))
        alpha_bars = self.schedule.alpha_bar
        t = (alpha_bars - level.alpha_bar.to(state.device).reshape(-1, 1)).abs().argmin(dim=1).expand(len(state))
        alpha, sigma = (part.sqrt()[:, None, None, None] for part in (alpha_bars[t], 1 - alpha_bars[t]))
        taught = (alpha + sigma) * line
        clean = (taught - sigma * self.network(taught, t)) / alpha
        return from_velocity(line, (line - clean) / s, s)


class UnconditionalPrior(FusionMethod):
    """Learns what both modalities' clean luma looks like; by itself it removes noise of known strength.

    L = mean (û − (ε − x))² at x_s = (1 − s) x + s ε, s uniform. Beside it ``train/linear`` is logged, the least loss
    that a linear predictor could have on the crops seen: a prior is worth its name below it.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base`` (1.7, 6.7, 26.7 M parameters).
        mixed: Share of the training images that are a random average of both sources, as states are while fusing.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    knows_degradation = True

    def __init__(self, size: DenoisingSize = "base", mixed: float = 0.0, seed: int = 0, **options: Any) -> None:
        super().__init__(size=size, **options)
        if not 0 <= mixed <= 1:
            raise UserError(f"`mixed` must lie in [0, 1], but got {mixed}")
        self.mixed, self.seed = mixed, seed
        self.prior: Prior = VelocityPrior(size)
        self.spectrum = MeanSpectrum()

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The velocity's squared error on the clean luma of both modalities."""
        assert isinstance(self.prior, VelocityPrior)
        a, b = (_centred(rgb_to_luma(target)) for target in clean(batch))
        images, noises, points = [], [], []
        for modality, image in (("a", a), ("b", b)):
            generators = generators_for(batch["name"], modality, self.seed, self.global_step)
            points += [torch.rand(1, 1, 1, generator=one) for one in generators]
            chosen, share = torch.stack([torch.rand(2, generator=one) for one in generators]).to(image.device).T
            share = share[:, None, None, None]
            mixture = share * a + (1 - share) * b
            images.append(torch.where((chosen < self.mixed)[:, None, None, None], mixture, image))
            noises.append(draw_noise(image, generators))
        image, noise, s = torch.cat(images), torch.cat(noises), torch.stack(points).to(a.device)
        loss = F.mse_loss(self.prior.velocity((1 - s) * image + s * noise, s), noise - image)
        return self.log_losses({"loss": loss, "linear": self.spectrum(image)}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Both sources without the noise that is recorded in the batch; what else went wrong stays, chroma too.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        degradations = batch["degradation"]
        return FusionOutput(
            restored_a=with_chroma(self.denoised(rgb_to_luma(a), [one["a"] for one in degradations]), cbcr_of(a)),
            restored_b=with_chroma(self.denoised(rgb_to_luma(b), [one["b"] for one in degradations]), cbcr_of(b)),
        )

    def denoised(self, image: Tensor, degradations: Sequence[Sequence[AppliedDegradation]]) -> Tensor:
        """Grey images (B, 1, H, W) in [0, 1] without their recorded noise, in one call; without noise as they are.

        x + σ ε is a state of the diffusion but for its scale: ᾱ = 1 / (1 + σ²).
        """
        sigma = 2 * torch.as_tensor(from_batch(degradations).sigma).to(image.device).float()
        alpha_bar = (1 / (1 + sigma.square())).expand(len(image), 1, 1, 1)
        known, _ = self.prior.predict(alpha_bar.sqrt() * _centred(image).float(), NoiseLevel(0, alpha_bar))
        return torch.where(sigma > 0, (known + 1) / 2, image)


class MeanSpectrum(nn.Module):
    """The mean power spectrum of the crops seen, and the least loss it leaves to a linear predictor of velocities."""

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor | None = None
        self.count = 0

    def forward(self, crops: Tensor) -> Tensor:
        """(π/2) mean_k sqrt(S_k) over the crops (B, 1, H, W) seen so far, S = |FFT|² / pixels without their means."""
        crops = crops.detach().float()
        spectra = torch.fft.fft2(crops - crops.mean(dim=(2, 3), keepdim=True), norm="ortho").abs().square()
        if self.total is None or self.total.shape != spectra.shape[1:]:
            self.total, self.count = spectra.new_zeros(spectra.shape[1:]), 0
        self.total += spectra.sum(dim=0)
        self.count += len(crops)
        return math.pi / 2 * (self.total / self.count).sqrt().mean()


def _centred(image: Tensor) -> Tensor:
    """An image in [0, 1] on [−1, 1]."""
    return image * 2 - 1
