"""The exact prior of a stationary Gaussian field, one Fourier transform per call: what a perfect network would be."""

import torch
from torch import Tensor

from fusion_lightning.diffusion.denoising import NoiseLevel, implied_noise
from fusion_lightning.methods.prior import Prior


class GaussianPrior(Prior):
    """E[x | x_t] for x with a mean and a power spectrum S, the eigenvalues of its covariance, both (H, W)."""

    channels = 1

    def __init__(self, mean: Tensor, spectrum: Tensor) -> None:
        super().__init__()
        self.mean, self.spectrum = mean, spectrum
        self.calls = 0

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        self.calls += 1
        alpha = level.alpha_bar.to(state.dtype).sqrt()
        variance = 1 - level.alpha_bar.to(state.dtype)
        deviation = torch.fft.fft2(state - alpha * self.mean)
        gain = alpha * self.spectrum / (alpha.square() * self.spectrum + variance)
        clean = self.mean + torch.fft.ifft2(gain * deviation).real
        return clean, implied_noise(state, clean, level.alpha_bar.to(state.dtype))

    @classmethod
    def of(cls, images: Tensor) -> "GaussianPrior":
        """The field with the mean and the spectrum of images (B, 1, H, W)."""
        mean = images.mean(dim=(0, 1))
        return cls(mean, torch.fft.fft2(images - images.mean(), norm="ortho").abs().square().mean(dim=(0, 1)))
