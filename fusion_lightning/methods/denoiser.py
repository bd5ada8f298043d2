"""Gaussian diffusion shared by methods: prediction type, training loss, sampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.diffusion.denoising import (
    DenoisingStep,
    NoiseSchedule,
    Predict,
    add_noise,
    denoise,
    implied_noise,
    remove_noise,
)
from fusion_lightning.diffusion.sampling import draw_noise
from fusion_lightning.errors import check_choice
from fusion_lightning.losses.functional import residual_loss
from fusion_lightning.methods.residual_restorer import Times

Prediction = Literal["noise", "clean"]
"""What a network's output stands for: the noise ε, or what is to be added to a base image for the clean one."""


@dataclass(frozen=True)
class Drawn:
    """A random point of the diffusion for every image of a batch."""

    t: Tensor
    """The times, (B,)."""
    alpha_bar: Tensor
    """ᾱ_t, (B, 1, 1, 1)."""
    noise: Tensor
    """ε, of the images' shape."""
    state: Tensor
    """x_t."""


class Denoiser(nn.Module):
    """A diffusion by noise around networks that it does not hold: methods call them, each in its own way.

    Images are (B, C, H, W) on [−1, 1]. A network's output, with the `base` that a method names, is read as a clean
    image x̂ and a noise ε that agree: x_t = sqrt(ᾱ_t) x̂ + sqrt(1 − ᾱ_t) ε.

    Args:
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited.
        prediction: ``noise``: the output is ε, as published, and its errors reach x̂ multiplied by
            sqrt((1 − ᾱ_t) / ᾱ_t), up to 157. ``clean``: x̂ is the output on top of the base, for short trainings.
        times: Train at ``all`` T times, or only at the S ``sampled`` ones, which a short training cannot afford to
            miss.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        timesteps: int = 1000,
        sampling_steps: int = 5,
        prediction: Prediction = "noise",
        times: Times = "all",
    ) -> None:
        super().__init__()
        check_choice("prediction", prediction, Prediction)
        check_choice("times", times, Times)
        self.prediction = prediction
        self.schedule = NoiseSchedule(timesteps)
        self.times = self.schedule.sampling_times(sampling_steps)
        self.training_times = torch.tensor(self.times if times == "sampled" else range(timesteps))

    def draw(self, clean: Tensor, generators: Sequence[torch.Generator]) -> Drawn:
        """A training time and noise for clean images x_0, each from its image's generator."""
        chosen = torch.cat([torch.randint(len(self.training_times), (1,), generator=one) for one in generators])
        t = self.training_times[chosen].to(clean.device)
        alpha_bar = self.schedule.alpha_bar[t][:, None, None, None]
        noise = draw_noise(clean, generators)
        return Drawn(t, alpha_bar, noise, add_noise(clean, noise, alpha_bar))

    def interpret(
        self, output: Tensor, state: Tensor, alpha_bar: Tensor, base: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The clean image x̂, clamped to [−1, 1], and the noise ε that agrees with it.

        Args:
            output: What the network said.
            state: x_t, which it saw.
            alpha_bar: ᾱ_t.
            base: What ``clean`` adds the output to.
        """
        return self.agree(self._clean(output, state, alpha_bar, base), state, alpha_bar)

    @staticmethod
    def agree(clean: Tensor, state: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """Clamp a clean image to [−1, 1], and the noise that then agrees with the state."""
        clean = clean.clamp(-1, 1)
        return clean, implied_noise(state, clean, alpha_bar)

    def loss(self, output: Tensor, drawn: Drawn, clean: Tensor, base: Tensor | None = None) -> Tensor:
        """Mean squared error of the noise, or with ``clean`` the `balanced` residual loss of the clean image x_0."""
        if self.prediction == "noise":
            return F.mse_loss(output.float(), drawn.noise)
        return residual_loss(self._clean(output, drawn.state, drawn.alpha_bar, base), clean, "balanced")

    def walk(self, predict: Predict, like: Tensor, generators: Sequence[torch.Generator]) -> list[DenoisingStep]:
        """From noise of the shape of `like` over the S times; the last step's `clean` is the result."""
        return list(denoise(predict, draw_noise(like, generators), self.schedule.levels(self.times)))

    def _clean(self, output: Tensor, state: Tensor, alpha_bar: Tensor, base: Tensor | None) -> Tensor:
        if self.prediction == "noise":
            return remove_noise(state, output.float(), alpha_bar)
        return output.float() if base is None else base + output.float()


def lean(share: Tensor, balance: float) -> Tensor:
    """Move shares of source a in [0, 1] to 1 as the balance falls from 0.5 to 0, and to 0 as it rises to 1."""
    return share + abs(2 * balance - 1) * (float(balance < 0.5) - share)
