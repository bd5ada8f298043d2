"""DRMF: two restoring diffusions walk together, and a small network weighs them pixel by pixel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.diffusion.denoising import NoiseLevel, denoise
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.losses.criteria import Reference, fusion_losses, weighted_sum
from fusion_lightning.losses.functional import sobel_magnitude
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.denoiser import lean
from fusion_lightning.methods.diffusion_restorer import DiffusionRestorer
from fusion_lightning.methods.loading import Arguments, first_stage
from fusion_lightning.networks.denoising_unet import DenoisingSize, DenoisingUNet, base_width


@dataclass(frozen=True)
class Mixture:
    """State, estimates and weights of one sampling step."""

    level: NoiseLevel
    """Where the walk was."""
    a: Tensor
    """x̂_a, (B, 3, H, W) on [−1, 1]."""
    b: Tensor
    """x̂_b."""
    weight: Tensor
    """w, how much of x̂_a was taken, (B, 1, H, W) in [0, 1]."""
    fused: Tensor
    """x̂_f = w x̂_a + (1 − w) x̂_b."""


class DRMF(FusionMethod):
    """Fuses by composing two diffusion priors, each of which restores its modality; stage 2 of two.

    Both see the same state. As the noise that a clean image implies is linear in it, mixing their clean images is
    mixing their noises, ε_f = w ε_a + (1 − w) ε_b, and the mixture makes the next state.

    Args:
        stage1_checkpoint: Checkpoint of a `DiffusionRestorer` of RGB, used frozen. A checkpoint of this stage contains
            it, so it is needed only to begin training.
        size: Size that the weighing network is a quarter of: ``tiny``, ``small`` or ``base``. The priors have stage
            1's, whose steps and predictions are used too.
        intensity: Weight of the intensity loss.
        structure: Weight of the gradient or structure loss.
        smoothness: Weight of the gradient of w.
        reference: The fusion is drawn to the ``maximum`` of the sources, or to ``both``, as in medicine.
        stage1: Arguments of stage 1; taken from the checkpoint when one is given.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If stage 1 is missing or does not fit.
    """

    controls = ("balance",)

    def __init__(
        self,
        stage1_checkpoint: str | None = None,
        size: DenoisingSize = "base",
        intensity: float = 1.0,
        structure: float = 1.0,
        smoothness: float = 0.01,
        reference: Reference = "maximum",
        stage1: Arguments | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("reference", reference, Reference)
        self.loss_weights = {"intensity": intensity, "structure": structure, "smoothness": smoothness}
        self.reference: Reference = reference
        self.seed = seed
        restorer = first_stage(self, DiffusionRestorer, stage1_checkpoint, stage1).restorer
        if restorer.colors is None or len(restorer.denoiser.times) < 2:
            raise UserError(
                "DRMF mixes RGB images from the second step on: "
                "train its stage 1 with `luma: false` and at least 2 `sampling_steps`"
            )
        self.restorer = restorer.requires_grad_(False)
        self.weights = DenoisingUNet(max(8, base_width(size) // 4), 7, 1)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Fusion losses of every step but the first, weighed by sqrt(ᾱ_t), and how rough the weights are."""
        targets = [rgb_to_luma(image) for image in clean(batch)]
        parts: dict[str, Tensor] = {}
        generators = generators_for(batch["name"], self.seed, self.global_step)
        for number, step in enumerate(self.steps(*sources(batch), generators)):
            if number == 0:
                continue  # its weights are given
            losses = fusion_losses(self.reference, rgb_to_luma((step.fused + 1) / 2), *targets)
            losses = {name: step.level.alpha_bar.sqrt() * loss for name, loss in losses.items()}
            losses["smoothness"] = sobel_magnitude(step.weight, "l1").mean()
            parts = {name: parts.get(name, 0) + loss for name, loss in losses.items()}
        return self.log_losses({"loss": weighted_sum(parts, self.loss_weights), **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion in the colours of the restored source that has some, both restored sources, and the last weights.

        Raises:
            UserError: If a strength is given: there is only a balance.
        """
        balance = self.balance_alone(controls)
        a, b = sources(batch)
        *_, last = self.steps(a, b, generators_for(batch["name"], self.seed), balance)
        restored_a, restored_b = self.restorer.image(last.a, a), self.restorer.image(last.b, b)
        luma = last.weight * rgb_to_luma(restored_a) + (1 - last.weight) * rgb_to_luma(restored_b)
        return FusionOutput(
            fused=with_chroma(luma, cbcr_of(restored_a, restored_b)),
            restored_a=restored_a,
            restored_b=restored_b,
            weight=last.weight,
        )

    def steps(
        self, a: Tensor, b: Tensor, generators: Sequence[torch.Generator], balance: float = 0.5
    ) -> Iterator[Mixture]:
        """Walk over the S times of stage 1. Gradients reach the weights alone.

        Args:
            a: Source a, (B, 1 or 3, H, W) in [0, 1].
            b: Source b.
            generators: Where each image's noise comes from; both modalities share it.
            balance: Below 0.5 leans to a, above to b.
        """
        conditions = [self.restorer.condition(source) for source in (a, b)]
        weight = torch.full_like(conditions[0][:, :1], 0.5)
        made: list[Mixture] = []

        def predict(state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
            nonlocal weight
            state = state.detach()
            with torch.no_grad():
                x_a, x_b = (
                    self.restorer.predict(modality, state, y, level)[0]
                    for modality, y in zip(MODALITIES, conditions, strict=True)
                )
            if made:
                weight = self.weights(torch.cat((x_a, x_b, weight), dim=1), level.time(state)).sigmoid()
            share = lean(weight, balance)
            fused, noise = self.restorer.denoiser.agree(share * x_a + (1 - share) * x_b, state, level.alpha_bar)
            made.append(Mixture(level, x_a, x_b, share, fused))
            return fused, noise

        start = draw_noise(conditions[0], generators)
        denoiser = self.restorer.denoiser
        for _ in denoise(predict, start, denoiser.schedule.levels(denoiser.times)):
            yield made[-1]

    @torch.no_grad()
    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]]:
        """The first pair's steps as rows of pictures in [0, 1], and the columns' labels."""
        rows = []
        for step in self.steps(*sources(batch), generators_for(batch["name"], self.seed)):
            images = [((image[0] + 1) / 2).cpu() for image in (step.a, step.b, step.fused)]
            rows.append([*images, step.weight[0].cpu()])
        return rows, ["estimated a", "estimated b", "mixed", "weight of a"]
