"""Dif-Fusion: a diffusion learns infrared and colour together, and a head paints from what it sees in them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.diffusion.denoising import add_noise
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import as_rgb, rgb_to_luma
from fusion_lightning.losses.criteria import Reference, fusion_losses, weighted_sum
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.denoiser import Denoiser
from fusion_lightning.methods.loading import Arguments, first_stage
from fusion_lightning.networks.denoising_unet import DenoisingSize, DenoisingUNet
from fusion_lightning.networks.diffusion_head import DiffusionHead
from fusion_lightning.networks.layers import OpponentColors


class JointPrior(nn.Module):
    """The diffusion of [R, G, B, grey] without a condition: colour and infrared of one scene, (B, 4, H, W) on [−1, 1].

    Args:
        size: Size of the U-Net.
        timesteps: T, the diffusion's times.
    """

    def __init__(self, size: DenoisingSize, timesteps: int) -> None:
        super().__init__()
        self.denoiser = Denoiser(timesteps, sampling_steps=1)
        self.network = DenoisingUNet(size, 4, 4)
        self.colors = OpponentColors()

    def noise(self, state: Tensor, time: Tensor) -> Tensor:
        """ε from x_t, both in RGB."""
        noise = self.network(self._turned(state), time)
        return torch.cat((self.colors.to_rgb(noise[:, :3]), noise[:, 3:]), dim=1)

    def loss(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Mean squared error of the noise at a random time per image."""
        drawn = self.denoiser.draw(x, generators)
        return self.denoiser.loss(self.noise(drawn.state, drawn.t.float()), drawn, x)

    def estimate(self, x: Tensor, t: int, generators: Sequence[torch.Generator]) -> Tensor:
        """x̂ of images that noise was added to, in one step from time t."""
        state, time = self._noisy(x, t, draw_noise(x, generators))
        return self.denoiser.interpret(self.noise(state, time), state, self.denoiser.schedule.alpha_bar[t])[0]

    @torch.no_grad()
    def maps(self, x: Tensor, times: Sequence[int], generators: Sequence[torch.Generator]) -> list[list[Tensor]]:
        """The decoder's maps, coarsest first, of images that noise was added to, for each of the times."""
        maps = []
        for t in times:
            state, time = self._noisy(x, t, draw_noise(x, generators))
            maps.append(self.network.decode(self.network.encode(self._turned(state), time), time))
        return maps

    def _noisy(self, x: Tensor, t: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        (level,) = self.denoiser.schedule.levels([t])
        return add_noise(x, noise, level.alpha_bar), level.time(x)

    def _turned(self, state: Tensor) -> Tensor:
        return torch.cat((self.colors(state[:, :3]), state[:, 3:]), dim=1)


class DifFusionStage1(FusionMethod):
    """Stage 1: the joint diffusion of clean pairs; it does not fuse.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base`` (1.7, 6.7, 26.7 M parameters).
        timesteps: T, the diffusion's times.
        seed: Seed of the times and the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(self, size: DenoisingSize = "base", timesteps: int = 2000, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.seed = seed
        self.prior = JointPrior(size, timesteps)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The noise loss on clean pairs."""
        generators = generators_for(batch["name"], self.seed, self.global_step)
        return self.log_losses({"loss": self.prior.loss(stack(*clean(batch)), generators)}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Both sources as the prior sees them at a twentieth of its times, in one step; there is no ``fused``.

        So validation can watch the prior: it removes faint noise from what was delivered.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        t = len(self.prior.denoiser.schedule.alpha_bar) // 20
        x = (self.prior.estimate(stack(a, b), t, generators_for(batch["name"], self.seed)) + 1) / 2
        color, grey = x[:, :3], x[:, 3:]
        if a.shape[1] == 3:
            return FusionOutput(restored_a=color, restored_b=grey)
        return FusionOutput(restored_a=grey, restored_b=color if b.shape[1] == 3 else color.mean(dim=1, keepdim=True))


class DifFusionStage2(FusionMethod):
    """Stage 2: the head, on top of the frozen prior. It paints RGB at once; nothing is sampled.

    Args:
        stage1_checkpoint: Checkpoint of `DifFusionStage1`, used frozen. A checkpoint of this stage contains it, so it
            is needed only to begin training.
        feature_times: The times at which the prior is asked for its maps.
        intensity: Weight of the multi-channel intensity loss.
        gradient: Weight of the multi-channel gradient loss.
        reference: The fusion is drawn to the ``maximum`` of the sources, or to ``both``, as in medicine.
        stage1: Arguments of stage 1; taken from the checkpoint when one is given. The head's widths follow from it.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If stage 1 is missing or an argument is out of its range.
    """

    def __init__(
        self,
        stage1_checkpoint: str | None = None,
        feature_times: Sequence[int] = (5, 50, 100),
        intensity: float = 1.0,
        gradient: float = 1.0,
        reference: Reference = "maximum",
        stage1: Arguments | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("reference", reference, Reference)
        self.loss_weights = {"intensity": intensity, "gradient": gradient}
        self.reference: Reference = reference
        self.seed = seed
        self.prior = first_stage(self, DifFusionStage1, stage1_checkpoint, stage1).prior.requires_grad_(False)
        timesteps = len(self.prior.denoiser.schedule.alpha_bar)
        if not feature_times or not all(0 <= t < timesteps for t in feature_times):
            raise UserError(f"`feature_times` must lie between 0 and {timesteps - 1}, but got {list(feature_times)}")
        self.feature_times = tuple(feature_times)
        self.head = DiffusionHead(self.prior.network.widths, len(self.feature_times))

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The multi-channel intensity and gradient losses, against the clean sources."""
        fused = self._paint(*sources(batch), generators_for(batch["name"], self.seed, self.global_step))
        # a channel is an image of its own
        parts = fusion_losses(self.reference, *(_channels(image) for image in (fused, *clean(batch))))
        parts = {"intensity": parts["intensity"], "gradient": parts["structure"]}
        return self.log_losses({"loss": weighted_sum(parts, self.loss_weights), **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion in RGB as it was painted; its luma where no source has colour.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        fused = self._paint(a, b, generators_for(batch["name"], self.seed))
        return FusionOutput(fused=fused if 3 in (a.shape[1], b.shape[1]) else rgb_to_luma(fused))

    def _paint(self, a: Tensor, b: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        maps = self.prior.maps(stack(a, b), self.feature_times, generators)
        return self.head(maps, (a.shape[-2], a.shape[-1]))


def stack(a: Tensor, b: Tensor) -> Tensor:
    """[R, G, B, grey] on [−1, 1] of two sources (B, 1 or 3, H, W) in [0, 1], the one with colour first.

    Where neither has, b is the one, repeated.
    """
    color, grey = (a, b) if a.shape[1] == 3 else (b, a)
    return 2 * torch.cat((as_rgb(color), rgb_to_luma(grey)), dim=1) - 1


def _channels(image: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) as three times as many grey ones."""
    return as_rgb(image).flatten(0, 1)[:, None]
