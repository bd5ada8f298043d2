"""Sampling of the residual diffusion: from the degraded end back to the clean image."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fusion_lightning.diffusion.residual import (
    CLEAN,
    ResidualSchedule,
    consistent_step,
    estimate_clean,
    estimate_noise,
    implicit_step,
    start_state,
    stochastic_step,
)
from fusion_lightning.errors import check_choice

Sampler = Literal["implicit", "consistent", "stochastic"]
"""How a reverse step treats the noise: keep it (14), shrink it along the schedule, or draw it anew (13)."""

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predicts the residual or the noise from (state, degraded, t): images (B, C, H, W) and integer times (B,)."""

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Where noise comes from: one generator for the batch, or one per image so that no image depends on its neighbours."""


@dataclass(frozen=True)
class SamplingStep:
    """State and estimates at one time; tensors (B, C, H, W), float32, none of them clamped.

    The fields satisfy I_t = I_0^θ + ᾱ_t I_res^θ + β̄_t ε^θ − δ̄_t I_in.
    """

    t: int
    """The time, T − 1 … 0."""
    state: Tensor
    """I_t, before the step."""
    residual: Tensor
    """I_res^θ, what is being removed, in about [−2, 2]."""
    noise: Tensor
    """ε^θ, the noise estimate."""
    restored: Tensor
    """I_0^θ, the clean image as estimated at this time, in about [−1, 1]."""

    @property
    def image(self) -> Tensor:
        """The restored estimate as an image, clamped to [−1, 1]."""
        return self.restored.clamp(-1, 1)


@torch.no_grad()
def sample(
    schedule: ResidualSchedule,
    predict_residual: Network,
    degraded: Tensor,
    sampling_steps: int = 3,
    *,
    predict_noise: Network | None = None,
    sampler: Sampler = "implicit",
    start_noise: float | None = None,
    generator: Generators = None,
) -> Iterator[SamplingStep]:
    """Restore images step by step; the last step's `image` is the result.

    No clamp touches a residual: it spans [−2, 2], and a bound of 1 would forbid half of all brightening. The state
    and all arithmetic stay in float32 whatever number type the networks compute in.

    Args:
        schedule: The coefficients.
        predict_residual: The network's I_res^θ(I_t, I_in, t).
        degraded: I_in, (B, C, H, W) in [−1, 1].
        sampling_steps: S, how many of the T times are visited.
        predict_noise: A second network's ε^θ(I_t, I_in, t) (9); without it the noise follows from the residual.
        sampler: `implicit` (14), `consistent`, or `stochastic` (13).
        start_noise: n of the start (1 − δ̄_T) I_in + n ε; None stands for β̄_T.
        generator: Source of the noise; the same generator state gives the same images.

    Yields:
        One `SamplingStep` per time, from T − 1 down.

    Raises:
        UserError: If `sampler` or `sampling_steps` is out of its range.
    """
    check_choice("sampler", sampler, Sampler)
    times = schedule.sampling_times(sampling_steps)
    degraded = degraded.float()
    state = start_state(schedule, degraded, draw_noise(degraded, generator), start_noise)
    for t, previous in zip(times, [*times[1:], CLEAN], strict=True):
        batch_t = torch.full((len(degraded),), t, device=degraded.device)
        residual = predict_residual(state, degraded, batch_t).float()
        if predict_noise is None:
            noise = estimate_noise(schedule, state, degraded, residual, t)
            restored = degraded - residual
        else:
            noise = predict_noise(state, degraded, batch_t).float()
            restored = estimate_clean(schedule, state, degraded, residual, noise, t)
        yield SamplingStep(t, state, residual, noise, restored)
        if previous == CLEAN:
            return
        if sampler == "implicit":
            state = implicit_step(schedule, state, degraded, residual, t, previous)
        elif sampler == "consistent":
            state = consistent_step(schedule, state, degraded, residual, noise, t, previous)
        else:
            fresh = draw_noise(degraded, generator)
            state = stochastic_step(schedule, state, degraded, residual, noise, fresh, t, previous)


def generators_for(names: Sequence[str], *keys: object) -> list[torch.Generator]:
    """One random generator per image, fixed by its name and some keys.

    So an image's noise does not depend on its batch, the world size, or on how often training was interrupted.
    """
    key = "/".join(map(str, keys))
    return [torch.Generator().manual_seed(zlib.crc32(f"{key}/{name}".encode())) for name in names]


_given: ContextVar[tuple[Iterator[Tensor] | None, list[Tensor]] | None] = ContextVar("given", default=None)


@contextmanager
def given_noise(noise: Iterable[Tensor] | None) -> Iterator[list[Tensor]]:
    """Let `draw_noise` take these tensors in turn, so that noise becomes an input; None draws as ever.

    Yields:
        What was drawn meanwhile, in its order.
    """
    drawn: list[Tensor] = []
    token = _given.set((None if noise is None else iter(noise), drawn))
    try:
        yield drawn
    finally:
        _given.reset(token)


def draw_noise(image: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise of an image's shape (B, C, H, W), float32, on the image's device.

    It is drawn on the generator's device, so that a CPU generator gives the same noise wherever the images are. Within
    `given_noise` it is what is given there.

    Raises:
        ValueError: If a sequence does not hold one generator per image.
    """
    given, drawn = _given.get() or (None, [])
    noise = _draw(image, generator) if given is None else next(given)
    drawn.append(noise)
    return noise


def _draw(image: Tensor, generator: Generators) -> Tensor:
    if generator is None:
        return torch.randn(image.shape, device=image.device)
    if isinstance(generator, torch.Generator):
        return torch.randn(image.shape, generator=generator, device=generator.device).to(image.device)
    if len(generator) != len(image):
        raise ValueError(f"`generator` must hold one generator per image ({len(image)}), but got {len(generator)}")
    noise = [torch.randn(image.shape[1:], generator=one, device=one.device) for one in generator]
    return torch.stack(noise).to(image.device)
