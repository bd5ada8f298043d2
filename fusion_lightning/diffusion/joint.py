"""DRFusion's diffusion of both sources and their fusion together: (4), (5), (18) and (19).

Notation: the joint state x = [x_a, x_b, f] is (B, 3, H, W), luma in about [0, 1]; e is the network's implicit noise of
the same shape; ᾱ_t = Π_{s≤t} α_s, ᾱ_0 = 1, for t = 1 … T; σ_y is the deviation of the observations' noise, in [0, 1]
units. No noise is ever drawn.
"""

import torch
from torch import Tensor, nn

from fusion_lightning.errors import UserError

_MARGIN = 5e-4
"""How far every α stays away from 0 and 1, whatever was learned."""


class JointSchedule(nn.Module):
    """Learned schedule: steps α_1 … α_T in (0, 1), which begin at 0.5, and gains of the noise.

    With A = I and λ = 1 the result is x_0 = y + e_2 − e_1: while the network cannot tell its steps apart, the two
    cancel and have no gradient. Hence the gains of the early steps begin at 0 there; all others at 1.

    Args:
        timesteps: T, how often the network is called.
        corrected: Whether estimates are corrected by the observations.

    Raises:
        UserError: If `timesteps` is less than 1.
    """

    def __init__(self, timesteps: int = 3, corrected: bool = True) -> None:
        super().__init__()
        if timesteps < 1:
            raise UserError(f"`timesteps` must be at least 1, but got {timesteps}")
        self.logits = nn.Parameter(torch.zeros(timesteps))
        gains = torch.ones(2, timesteps)
        if corrected:
            gains[0, 1:] = 0
        self.gains = nn.Parameter(gains)

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.logits)

    def alpha_bar(self) -> Tensor:
        """ᾱ_0 = 1, ᾱ_1, …, ᾱ_T: (T + 1,) float32, falling."""
        alpha = _MARGIN + (1 - 2 * _MARGIN) * self.logits.float().sigmoid()
        return torch.cat((alpha.new_ones(1), alpha.cumprod(0)))

    def gain(self, t: int, lossy: Tensor) -> Tensor:
        """Gain of the network's noise at step t, (B, 1, 1, 1).

        Args:
            t: T … 1.
            lossy: Whether A ≠ I for either source, (B, 1, 1, 1).
        """
        return self.gains[lossy.long().to(self.gains.device), t - 1]


def correction_strength(alpha_bar: Tensor, previous: Tensor, sigma: Tensor) -> Tensor:
    """Correction strength λ_t (19) of an estimate towards its observation, as in DDNM+, for t ≥ 2.

    λ_t = min(1, s_t / (c_t σ_y)) with β_t = 1 − ᾱ_t / ᾱ_{t−1}, s_t = sqrt(β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)) and
    c_t = sqrt(ᾱ_{t−1}) β_t / (1 − ᾱ_t). At t = 1, ᾱ_0 = 1 makes s_1 = 0: λ_1 is 0 under noise, and 1 without.

    Args:
        alpha_bar: ᾱ_t.
        previous: ᾱ_{t−1}, less than 1.
        sigma: σ_y, (B, 1, 1, 1).

    Returns:
        λ_t in (0, 1], (B, 1, 1, 1).
    """
    beta = 1 - alpha_bar / previous
    spread = (beta * (1 - previous) / (1 - alpha_bar)).sqrt()
    gain = previous.sqrt() * beta / (1 - alpha_bar)
    # without noise λ is 1; the floor keeps its slope finite
    return (spread / (gain * sigma.clamp_min(1e-6))).clamp_max(1)
