"""Gaussian diffusion (DDPM): x_t = sqrt(ᾱ_t) x_0 + sqrt(1 − ᾱ_t) ε, for t = 0 … T − 1 (Ho et al., 2020)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.errors import UserError


class NoiseLevel(NamedTuple):
    """Noise level: a time and its ᾱ."""

    t: float
    """Its time, as a network is told it."""
    alpha_bar: Tensor
    """ᾱ there, in [0, 1]: a number, or (B, 1, 1, 1) where images are at different points."""

    def time(self, like: Tensor) -> Tensor:
        """The time as (1,) float32, for a network that sees images on the device of `like`."""
        return torch.full((1,), float(self.t), device=like.device)


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

    def levels(self, times: Iterable[int]) -> list[NoiseLevel]:
        """The points of the diffusion at some of the T times."""
        return [NoiseLevel(t, self.alpha_bar[t]) for t in times]


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(ᾱ_t) x_0 + sqrt(1 − ᾱ_t) ε: the forward diffusion, and with predictions a deterministic step back."""
    return alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise


def remove_noise(state: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean image x̂ = (x_t − sqrt(1 − ᾱ_t) ε) / sqrt(ᾱ_t) that belongs to a noise; ᾱ_t > 0."""
    return (state - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def implied_noise(state: Tensor, clean: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise ε = (x_t − sqrt(ᾱ_t) x̂) / sqrt(1 − ᾱ_t) that belongs to a clean image; ᾱ_t < 1."""
    return (state - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()


Predict = Callable[[Tensor, NoiseLevel], tuple[Tensor, Tensor]]
"""What a method makes of a state (B, C, H, W): the clean image x̂ and the noise ε, of its shape, float32."""

Guide = Callable[[Tensor, NoiseLevel], Tensor]
"""Moves a clean image (B, C, H, W) towards what else is known of it."""


@dataclass(frozen=True)
class DenoisingStep:
    """State and estimates at one level; tensors (B, C, H, W)."""

    level: NoiseLevel
    """The point."""
    state: Tensor
    """x_t, before the step."""
    estimate: Tensor
    """x̂ as predicted."""
    clean: Tensor
    """x̂ as the walk goes on with it: guided, where there is a guide. The last step's is the result."""
    noise: Tensor
    """ε as the walk goes on with it."""


def denoise(
    predict: Predict,
    state: Tensor,
    levels: Iterable[NoiseLevel],
    guide: Guide | None = None,
    implied: bool = False,
) -> Iterator[DenoisingStep]:
    """Walk from a noisy state to a clean image without drawing noise (DDIM; Song et al., 2021).

    At each level the clean image and the noise are predicted and make the state of the next, `add_noise`. Nothing is
    clamped here, and gradients flow as far as `predict` lets them.

    Args:
        predict: Called once per level.
        state: Where to start: (B, C, H, W), float32; noise, or anything else that belongs to the first level.
        levels: The points to visit, noisy end first. ᾱ may be 0 at the first.
        guide: Changes every clean image before the walk goes on; it may keep state of its own.
        implied: After guiding, go on with the noise that belongs to the guided image instead of the predicted one.

    Yields:
        A step per level, as it is made; the last one's `clean` is the result.
    """
    waiting = list(levels)
    for level, below in zip(waiting, [*waiting[1:], None], strict=True):
        estimate, noise = predict(state, level)
        clean = estimate
        if guide is not None:
            clean = guide(estimate, level)
            if implied:
                noise = implied_noise(state, clean, level.alpha_bar)
        yield DenoisingStep(level, state, estimate, clean, noise)
        if below is not None:
            state = add_noise(clean, noise, below.alpha_bar)
