"""Rectified flow: the straight line from an image to noise, and how Gaussian diffusion lies on it.

x_s = (1 − s) x + s ε for s in [0, 1]; s = 1 is noise. Its velocity is u = ε − x, so that x = x_s − s u and
ε = x_s + (1 − s) u. A diffusion's x_t = α x + σ ε with α = sqrt(ᾱ_t), σ = sqrt(1 − ᾱ_t) is (α + σ) x_s with
s = σ / (α + σ): deterministic steps of a diffusion are Euler steps on the line, and one network serves both. An error
of u is at most itself in x and in ε at every s; one of ε would be 155 times as large in x at the noisy end.
"""

import torch
from torch import Tensor

from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.errors import UserError

TIMES = 1000
"""What a network is told instead of s = 1."""


def line_level(s: float) -> NoiseLevel:
    """The point s of the line as one of a diffusion: ᾱ = (1 − s)² / ((1 − s)² + s²)."""
    clean, noise = (1 - s) ** 2, s**2
    return NoiseLevel(TIMES * s, torch.tensor(clean / (clean + noise)))


def to_line(state: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """X_s and s of a diffusion's state x_t (B, C, H, W); s has the shape of ᾱ, a number or (B, 1, 1, 1)."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return state / (signal + noise), noise / (signal + noise)


def from_velocity(line: Tensor, velocity: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The clean image x̂ = x_s − s û, clamped to [−1, 1], and the noise that agrees with it.

    Where nothing is clamped the noise is x_s + (1 − s) û.
    """
    clean = (line - s * velocity).clamp(-1, 1)
    return clean, (line - (1 - s) * clean) / s.clamp_min(1e-8)


def even_times(count: int, timesteps: int = TIMES) -> list[int]:
    """Spread `count` times evenly from T − 1 to 0, both visited, as published samplers of DDPM do.

    Raises:
        UserError: If `count` is not between 1 and T.
    """
    if not 1 <= count <= timesteps:
        raise UserError(f"`sampling_steps` must lie between 1 and {timesteps}, but got {count}")
    return torch.linspace(timesteps - 1, 0, count, dtype=torch.float64).round().int().tolist()
