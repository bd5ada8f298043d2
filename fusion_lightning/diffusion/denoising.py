"""The ordinary diffusion by noise: x_t = sqrt(ᾱ_t) x_0 + sqrt(1 − ᾱ_t) ε, for t = 0 … T − 1 (Ho et al., 2020)."""

import torch
from torch import Tensor, nn

from fusion_lightning.errors import UserError


class NoiseSchedule(nn.Module):
    """ᾱ_t = Π_{s≤t} (1 − β_s) as a buffer of length T, with β rising linearly from 1e-4 to 0.02.

    For T other than 1000 the ends of β are scaled by 1000 / T, which keeps the end of ᾱ.

    Args:
        timesteps: T.

    Raises:
        UserError: If T is so small that β would reach 1.
    """

    alpha_bar: Tensor

    def __init__(self, timesteps: int = 1000) -> None:
        super().__init__()
        scale = 1000 / timesteps if timesteps > 0 else float("inf")
        if 0.02 * scale >= 1:
            raise UserError(f"`timesteps` must be at least 21, but got {timesteps}")
        beta = torch.linspace(1e-4 * scale, 0.02 * scale, timesteps, dtype=torch.float64)
        self.register_buffer("alpha_bar", (1 - beta).cumprod(0).float(), persistent=False)

    def sampling_times(self, count: int) -> list[int]:
        """Spread `count` of the T times evenly, from the noisy end down.

        Raises:
            UserError: If `count` is not between 1 and T.
        """
        timesteps = len(self.alpha_bar)
        if not 1 <= count <= timesteps:
            raise UserError(f"`sampling_steps` must lie between 1 and {timesteps}, but got {count}")
        return [timesteps * part // count - 1 for part in range(count, 0, -1)]


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(ᾱ_t) x_0 + sqrt(1 − ᾱ_t) ε: the forward diffusion, and with predictions a deterministic step back."""
    return alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
