"""DDFM's likelihood of two sources: one EM step per clean estimate, as a guide of `denoise`.

x = f − b and y = a − b; y | x is Laplacian, and so is x: Gaussians whose variances m and n are exponential with means γ
and ρ. All images are (B, 1, H, W) on [−1, 1]; γ and ρ are (B, 1, 1, 1).
"""

from typing import Literal

import torch
from torch import Tensor

from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.errors import check_choice

Expectation = Literal["released", "paper"]
"""How DDFM weighs its sources: as its code does, or as its paper says."""

_EPSILON = 1e-6
"""Under the root of a distance, whose reciprocal is taken."""


class Likelihood:
    """One EM step per call; the scales γ and ρ, and the smoothed gradient, are carried from call to call.

    ``paper``: the weights of the sources are m̄ = E[1/m] = sqrt(2/γ)/|f − a| and n̄ = E[1/n] = sqrt(2/ρ)/|f − b|; f then
    minimises m̄ (x − y)² + n̄ x² with a penalty on its gradient.
    ``released``: the public code reads f − b as a − f, so that each source is weighed by the distance to the other one,
    and b counts twice as much as a at most.

    Args:
        a: First source.
        b: Second source.
        expectation: ``released`` or ``paper``.
        update: Whether γ and ρ follow the estimates; 1 otherwise.
        smoothness: ψ, the weight of the squared gradient, ``paper`` alone.
        penalty: η, how strongly f and its smoothed copy are held together; 0 leaves the gradient alone.

    Raises:
        UserError: If `expectation` is neither.
    """

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        expectation: Expectation = "released",
        update: bool = True,
        smoothness: float = 0.5,
        penalty: float = 0.1,
    ) -> None:
        check_choice("likelihood", expectation, Expectation)
        self.a, self.b = a, b
        self.released = expectation == "released"
        self.update = update
        self.smoothness, self.penalty = smoothness, penalty
        self.gamma, self.rho = a.new_ones(2, len(a), 1, 1, 1)
        self.gradient = a.new_zeros(2, *a.shape)

    def __call__(self, fused: Tensor, level: NoiseLevel) -> Tensor:
        """The fusion after one EM step from an estimate; how noisy the state was does not matter."""
        to_a, to_b = (((fused - source).square() + _EPSILON).sqrt() for source in (self.a, self.b))
        if self.released:
            to_a, to_b = to_b, to_a
        weight_a, weight_b = (2 / self.gamma).sqrt() / to_a, (2 / self.rho).sqrt() / to_b
        if self.released:
            weight_b = torch.minimum(weight_b, 2 * weight_a)
        if self.update:
            self.gamma = (1 / weight_a + self.gamma / 2).mean(dim=(1, 2, 3), keepdim=True)
            self.rho = (1 / weight_b + self.rho / 2).mean(dim=(1, 2, 3), keepdim=True)
        if self.released or not self.penalty:
            return (weight_a * self.a + weight_b * self.b) / (weight_a + weight_b)
        smooth = smoothed(fused - self.b, self.gradient)
        share = self.penalty / (2 * self.smoothness + self.penalty)
        self.gradient = share * torch.stack(differences(smooth))
        total = 2 * weight_a + 2 * weight_b + self.penalty
        return self.b + (2 * weight_a * (self.a - self.b) + self.penalty * smooth) / total


def differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences of (..., H, W) along rows and columns; the image is continued periodically."""
    return image.roll(-1, -1) - image, image.roll(-1, -2) - image


def smoothed(image: Tensor, gradient: Tensor) -> Tensor:
    """The k (..., H, W) that minimises |∇k − u|² + |k − x|², exactly.

    Args:
        image: x.
        gradient: u along rows and columns, (2, ..., H, W).
    """
    height, width = image.shape[-2:]
    impulse = image.new_zeros(height, width)
    impulse[0, 0] = 1
    spectra = [torch.fft.rfft2(one) for one in differences(impulse)]
    right = torch.fft.rfft2(image)
    for spectrum, one in zip(spectra, gradient, strict=True):
        right = right + spectrum.conj() * torch.fft.rfft2(one)
    return torch.fft.irfft2(right / (1 + sum(spectrum.abs().square() for spectrum in spectra)), s=(height, width))
