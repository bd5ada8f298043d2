"""Restoring both sources by conditional diffusion: the first stage of DRMF and of Text-DiFuse."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, Modality, clean, sources
from fusion_lightning.diffusion.denoising import DenoisingStep, NoiseLevel
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.imaging.color import as_rgb, rgb_to_cbcr, rgb_to_luma, with_chroma
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.denoiser import Denoiser, Prediction
from fusion_lightning.methods.residual_restorer import Times
from fusion_lightning.networks.denoising_unet import DenoisingSize, DenoisingUNet
from fusion_lightning.networks.layers import OpponentColors


class ConditionalDiffusion(nn.Module):
    """Diffusions that draw a clean image x_0 from noise while they see the degraded one y.

    Inside, images are (B, C, H, W) on [−1, 1], with C = 3, or 1 with `luma`; a network sees cat(x_t, y) and the time.
    RGB enters and leaves it in opponent colours, which noise looks the same in.

    Args:
        size: Size of the U-Nets: ``tiny``, ``small`` or ``base``.
        shared_network: One network for both modalities, or one each.
        luma: Diffuse the luma alone.
        **diffusion: Arguments of `Denoiser`.
    """

    def __init__(self, size: DenoisingSize, shared_network: bool, luma: bool, **diffusion: Any) -> None:
        super().__init__()
        channels = 1 if luma else 3
        names = ("shared",) if shared_network else MODALITIES
        self.denoiser = Denoiser(**diffusion)
        self.networks = nn.ModuleDict({name: DenoisingUNet(size, 2 * channels, channels) for name in names})
        self.colors = None if luma else OpponentColors()

    def network(self, modality: Modality) -> DenoisingUNet:
        """The network of a modality."""
        return cast(DenoisingUNet, self.networks[modality if modality in self.networks else "shared"])

    def condition(self, source: Tensor) -> Tensor:
        """A source (B, 1 or 3, H, W) in [0, 1] as the diffusion sees it."""
        return 2 * (rgb_to_luma(source) if self.colors is None else as_rgb(source)) - 1

    def image(self, x: Tensor, source: Tensor) -> Tensor:
        """A clean image x̂ in [0, 1], with as many channels as the source it was drawn from.

        A diffusion of luma leaves the source's chroma as it was delivered.
        """
        x = (x + 1) / 2
        if source.shape[1] == 1:
            return x.mean(dim=1, keepdim=True).clamp(0, 1)
        return with_chroma(x, rgb_to_cbcr(source)) if self.colors is None else x.clamp(0, 1)

    def output(self, modality: Modality, state: Tensor, y: Tensor, time: Tensor) -> Tensor:
        """What a modality's network says of a state x_t beside the condition y."""
        network = self.network(modality)
        if self.colors is None:
            return network(torch.cat((state, y), dim=1), time)
        return self.colors.to_rgb(network(torch.cat((self.colors(state), self.colors(y)), dim=1), time))

    def predict(self, modality: Modality, state: Tensor, y: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The clean image x̂ and the noise ε of a modality in a state."""
        output = self.output(modality, state, y, level.time(state))
        return self.denoiser.interpret(output, state, level.alpha_bar, y)

    def loss(self, modality: Modality, x: Tensor, y: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The loss at a random time per image.

        Args:
            modality: Whose network is asked.
            x: x_0, what should come out.
            y: The condition.
            generators: Where each image's time and noise come from.
        """
        drawn = self.denoiser.draw(x, generators)
        return self.denoiser.loss(self.output(modality, drawn.state, y, drawn.t.float()), drawn, x, y)

    def walk(self, modality: Modality, y: Tensor, generators: Sequence[torch.Generator]) -> list[DenoisingStep]:
        """From noise to the restored image; the last step's `clean` is it."""
        return self.denoiser.walk(lambda state, level: self.predict(modality, state, y, level), y, generators)


class DiffusionRestorer(FusionMethod):
    """Restores both sources by conditional diffusion; it does not fuse.

    Args:
        size: Size of the U-Nets: ``tiny``, ``small`` or ``base`` (1.7, 6.7, 26.7 M parameters each).
        shared_network: One network for both modalities, or one each: Text-DiFuse has one, DRMF two.
        luma: Restore the luma and leave the chroma as delivered, as Text-DiFuse does; DRMF restores RGB.
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited.
        prediction: What the networks say: the ``noise``, as published, or what to add to the delivered source for the
            ``clean`` one, which suits short trainings.
        times: Train at ``all`` T times, or only at the S ``sampled`` ones.
        seed: Seed of the times and the noise. Both modalities of a pair share their noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        size: DenoisingSize = "base",
        shared_network: bool = False,
        luma: bool = False,
        timesteps: int = 1000,
        sampling_steps: int = 5,
        prediction: Prediction = "noise",
        times: Times = "all",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.seed = seed
        self.restorer = ConditionalDiffusion(
            size,
            shared_network,
            luma,
            timesteps=timesteps,
            sampling_steps=sampling_steps,
            prediction=prediction,
            times=times,
        )

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The mean of both modalities' losses, at times of their own pair."""
        parts = {
            f"restoration_{modality}": self.restorer.loss(
                modality,
                self.restorer.condition(target),
                self.restorer.condition(source),
                generators_for(batch["name"], self.seed, self.global_step),
            )
            for modality, source, target in zip(MODALITIES, sources(batch), clean(batch), strict=True)
        }
        return self.log_losses({"loss": torch.stack(list(parts.values())).mean(), **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        restored = []
        for modality, source in zip(MODALITIES, sources(batch), strict=True):
            y = self.restorer.condition(source)
            *_, last = self.restorer.walk(modality, y, generators_for(batch["name"], self.seed))
            restored.append(self.restorer.image(last.clean, source))
        return FusionOutput(restored_a=restored[0], restored_b=restored[1])
