"""Residual diffusion with a shared prior: CLED-Fusion's equations (11)–(14).

Notation (images in [−1, 1], tensors (B, C, H, W)):

=================  ==========================================  =======================
paper              here                                        meaning
=================  ==========================================  =======================
I_0, I_in          `clean`, `degraded`                         images
I_res = I_in − I_0 `residual`                                  what the degradation added, in [−2, 2]
I_t                `state`                                     the diffusion's state
ε                  `noise`                                     standard normal
ᾱ_t, β̄_t, δ̄_t      `alpha_bar`, `beta_bar`, `delta_bar`        cumulative coefficients
α_t, β_t, δ_t      `alpha`, `beta`, `delta`                    those of one step
=================  ==========================================  =======================

Times count from 0 as the published sampling times do: `t` = 0 … T − 1 stands for the paper's t + 1, so that
`t` = T − 1 = 999 is the fully degraded end, and `CLEAN` = −1 is the clean image, where every coefficient is 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.errors import UserError

CLEAN = -1
"""The time of the clean image, one step before t = 0."""

Time = int | Tensor
"""One time for the whole batch, or one per image: integers (B,)."""


class Coefficients(NamedTuple):
    """ᾱ, β̄ and δ̄ at some time, shaped to multiply images (B, C, H, W)."""

    alpha_bar: Tensor
    beta_bar: Tensor
    delta_bar: Tensor


class ResidualSchedule(nn.Module):
    """The coefficients of the residual–noise diffusion, as buffers of length T.

    With b_t rising linearly from 1e-4 to 2e-2: ᾱ_t = 1 − sqrt(Π(1 − b)), β̄_t² = 1 − Π(1 − b), and δ̄_t sums a line from
    1e-6 to 1.8e-3. So ᾱ_T = 0.9936, β̄_T = 1.0000, δ̄_T = 0.9005: every degradation ends near 0.1 I_in + ε.
    For T other than 1000 the increments are scaled by 1000 / T, which keeps the ends.

    Args:
        timesteps: T, the number of times.
        shared_prior: Whether the δ̄ I_in term is there; without it δ̄ = 0 and the diffusion ends near I_in + ε.
        noise_scale: Factor on every β̄_t, in (0, 1]: how strong the noise ends. 1 in the paper.

    Raises:
        UserError: If `timesteps` is too small for the increments to stay below 1, or `noise_scale` out of its range.
    """

    alpha_bar: Tensor
    beta_bar: Tensor
    delta_bar: Tensor
    alpha: Tensor
    beta: Tensor
    delta: Tensor

    def __init__(self, timesteps: int = 1000, shared_prior: bool = True, noise_scale: float = 1.0) -> None:
        super().__init__()
        if timesteps < 25:
            raise UserError(f"`timesteps` must be at least 25, but got {timesteps}")
        if not 0 < noise_scale <= 1:
            raise UserError(f"`noise_scale` must lie in (0, 1], but got {noise_scale}")
        self.timesteps = timesteps
        # computed in float64: β̄_t² is the difference of nearly equal numbers at small t
        scale = 1000 / timesteps
        kept = torch.cumprod(1 - scale * torch.linspace(1e-4, 2e-2, timesteps, dtype=torch.float64), dim=0)
        delta = scale * torch.linspace(1e-6, 1.8e-3, timesteps, dtype=torch.float64) * shared_prior
        alpha_bar, beta_bar_squared = 1 - kept.sqrt(), 1 - kept
        start = torch.zeros(1, dtype=torch.float64)
        coefficients = {
            "alpha_bar": alpha_bar,
            "beta_bar": noise_scale * beta_bar_squared.sqrt(),
            "delta_bar": delta.cumsum(dim=0),
            "alpha": alpha_bar.diff(prepend=start),
            "beta": noise_scale * beta_bar_squared.diff(prepend=start).sqrt(),
            "delta": delta,
        }
        for name, values in coefficients.items():
            self.register_buffer(name, values.float(), persistent=False)

    def at(self, t: Time) -> Coefficients:
        """Return ᾱ_t, β̄_t and δ̄_t; all 0 at `CLEAN`.

        Raises:
            ValueError: If an integer `t` lies outside CLEAN … T − 1.
        """
        if isinstance(t, Tensor):
            bars = (self.alpha_bar, self.beta_bar, self.delta_bar)
            return Coefficients(*(bar[t][:, None, None, None] for bar in bars))
        if not CLEAN <= t < self.timesteps:
            raise ValueError(f"`t` must lie in {CLEAN} … {self.timesteps - 1}, but got {t}")
        if t == CLEAN:
            zero = self.alpha_bar.new_zeros(())
            return Coefficients(zero, zero, zero)
        return Coefficients(self.alpha_bar[t], self.beta_bar[t], self.delta_bar[t])

    def residual_time(self, t: Tensor) -> Tensor:
        """The time as a network that predicts the residual is told it: ᾱ_t·T, float (B,)."""
        return self.alpha_bar[t] * self.timesteps

    def noise_time(self, t: Tensor) -> Tensor:
        """The time as a network that predicts the noise is told it: β̄_t·T, float (B,)."""
        return self.beta_bar[t] * self.timesteps

    def sampling_times(self, count: int) -> list[int]:
        """Spread `count` of the T times evenly, from the degraded end down: 999, 665, 332 for 3 of 1000.

        Raises:
            UserError: If `count` is not between 1 and T.
        """
        if not 1 <= count <= self.timesteps:
            raise UserError(f"`sampling_steps` must lie between 1 and {self.timesteps}, but got {count}")
        return [self.timesteps * part // count - 1 for part in range(count, 0, -1)]


def diffuse(schedule: ResidualSchedule, clean: Tensor, degraded: Tensor, noise: Tensor, t: Time) -> Tensor:
    """Forward diffusion (11)(12): I_t = I_0 + ᾱ_t I_res + β̄_t ε − δ̄_t I_in."""
    alpha_bar, beta_bar, delta_bar = schedule.at(t)
    return clean + alpha_bar * (degraded - clean) + beta_bar * noise - delta_bar * degraded


def start_state(
    schedule: ResidualSchedule, degraded: Tensor, noise: Tensor, start_noise: float | None = None
) -> Tensor:
    """Where sampling begins: (1 − δ̄_T) I_in + n ε, about 0.1 I_in + ε.

    It lacks the (1 − ᾱ_T)(I_0 − I_in) that a true I_T holds, which is below 1 % and needs the clean image.

    Args:
        schedule: The coefficients.
        degraded: I_in, (B, C, H, W) in [−1, 1].
        noise: ε, standard normal, of the same shape.
        start_noise: n; None stands for β̄_T as in the paper, DiffUIR's code uses 0.1.
    """
    _, beta_bar, delta_bar = schedule.at(schedule.timesteps - 1)
    return (1 - delta_bar) * degraded + (beta_bar if start_noise is None else start_noise) * noise


def estimate_noise(schedule: ResidualSchedule, state: Tensor, degraded: Tensor, residual: Tensor, t: Time) -> Tensor:
    """The noise that (11) leaves once the residual is known: ε = (I_t − (1 − δ̄_t) I_in − (ᾱ_t − 1) I_res) / β̄_t."""
    alpha_bar, beta_bar, delta_bar = schedule.at(t)
    return (state - (1 - delta_bar) * degraded - (alpha_bar - 1) * residual) / beta_bar


def estimate_clean(
    schedule: ResidualSchedule, state: Tensor, degraded: Tensor, residual: Tensor, noise: Tensor, t: Time
) -> Tensor:
    """Solve (11) for the clean image: I_0 = I_t − ᾱ_t I_res − β̄_t ε + δ̄_t I_in.

    With the noise from `estimate_noise` this is I_in − I_res; with a noise network's it takes both into account.
    """
    alpha_bar, beta_bar, delta_bar = schedule.at(t)
    return state - alpha_bar * residual - beta_bar * noise + delta_bar * degraded


def implicit_step(
    schedule: ResidualSchedule, state: Tensor, degraded: Tensor, residual: Tensor, t: Time, previous: Time
) -> Tensor:
    """Implicit reverse step (14) from `t` to any earlier time: I_t' = I_t − (ᾱ_t − ᾱ_t') I_res + (δ̄_t − δ̄_t') I_in.

    The noise stays at its strength β̄_t; see `consistent_step`.
    """
    now, then = schedule.at(t), schedule.at(previous)
    kept = state - (now.alpha_bar - then.alpha_bar) * residual
    return kept + (now.delta_bar - then.delta_bar) * degraded


def consistent_step(
    schedule: ResidualSchedule,
    state: Tensor,
    degraded: Tensor,
    residual: Tensor,
    noise: Tensor,
    t: Time,
    previous: Time,
) -> Tensor:
    """Implicit reverse step that also removes (β̄_t − β̄_t') ε, so that I_t' has the noise of (11) at its own time."""
    excess = schedule.at(t).beta_bar - schedule.at(previous).beta_bar
    return implicit_step(schedule, state, degraded, residual, t, previous) - excess * noise


def stochastic_step(
    schedule: ResidualSchedule,
    state: Tensor,
    degraded: Tensor,
    residual: Tensor,
    noise: Tensor,
    fresh_noise: Tensor,
    t: int,
    previous: int,
) -> Tensor:
    """Stochastic reverse step (13), the exact posterior of I_t' given I_t, I_0 and I_in.

    Mean I_t − α I_res + δ I_in − (β² / β̄_t) ε, deviation β β̄_t' / β̄_t, where α = ᾱ_t − ᾱ_t', δ = δ̄_t − δ̄_t' and
    β² = β̄_t² − β̄_t'² are the paper's α_t, δ_t and β_t² when t' = t − 1, and hold for any earlier t'.
    """
    now, then = schedule.at(t).beta_bar, schedule.at(previous).beta_bar
    # summed, because β̄_t² − β̄_t'² loses all its digits where β̄ is close to 1
    variance = schedule.beta[previous + 1 : t + 1].square().sum()
    mean = implicit_step(schedule, state, degraded, residual, t, previous) - variance / now * noise
    return mean + variance.sqrt() * then / now * fresh_noise
