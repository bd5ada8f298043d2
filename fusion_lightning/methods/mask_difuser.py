"""Mask-DiFuser: fusion as drawing one image from two views of it, learned on views with complementary masks."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb, rgb_to_luma
from fusion_lightning.losses.criteria import weighted_sum
from fusion_lightning.losses.functional import color_loss, structural_similarity
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.denoiser import Denoiser, Prediction
from fusion_lightning.methods.residual_restorer import Times
from fusion_lightning.networks.denoising_unet import DenoisingSize
from fusion_lightning.networks.masked_views import MaskedViewsUNet, dual_masks, masked_view


class MaskDiFuser(FusionMethod):
    """A conditional diffusion of one RGB image; in use, both sources are its views. It never sees a pair in training.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base``.
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited.
        prediction: What the network says: the ``noise``, as published, or what to add to the mean of the views for the
            ``clean`` image, which suits short trainings.
        times: Train at ``all`` T times, or only at the S ``sampled`` ones.
        grid: Blocks per side of the masks.
        noise: Weight of the diffusion's own loss.
        image: Weight of the clean image's mean squared error.
        structure: Weight of its structural dissimilarity.
        color: Weight of its chroma's mean absolute error.
        seed: Seed of masks, times and noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        size: DenoisingSize = "base",
        timesteps: int = 1000,
        sampling_steps: int = 5,
        prediction: Prediction = "noise",
        times: Times = "all",
        grid: int = 8,
        noise: float = 1.0,
        image: float = 0.05,
        structure: float = 0.025,
        color: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if grid < 2:
            raise UserError(f"`grid` must be at least 2, but got {grid}")
        self.grid = grid
        self.loss_weights = {"noise": noise, "image": image, "structure": structure, "color": color}
        self.seed = seed
        self.denoiser = Denoiser(timesteps, sampling_steps, prediction, times)
        self.network = MaskedViewsUNet(size)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The diffusion's loss on masked views of one source per pair, and three of the clean image it implies."""
        generators = generators_for(batch["name"], self.seed, self.global_step)
        x, a, b = self.views(batch, generators)
        drawn = self.denoiser.draw(x, generators)
        output = self.network(drawn.state, self.network.see(a, b), drawn.t.float())
        estimate, _ = self.denoiser.interpret(output, drawn.state, drawn.alpha_bar, (a + b) / 2)
        seen, real = (estimate + 1) / 2, (x + 1) / 2
        parts = {
            "noise": self.denoiser.loss(output, drawn, x, (a + b) / 2),
            "image": F.mse_loss(estimate, x),
            "structure": (1 - structural_similarity(rgb_to_luma(seen), rgb_to_luma(real))).mean(),
            "color": color_loss(seen, real, rgb_to_luma(real)),
        }
        return self.log_losses({"loss": weighted_sum(parts, self.loss_weights), **parts}, batch)

    def views(self, batch: FusionBatch, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor]:
        """One clean source per pair, by the toss of a coin, and two masked views of it: (B, 3, H, W) on [−1, 1].

        What is degraded in a view is what the sensor delivered.
        """
        coins = torch.tensor([int(torch.randint(2, (1,), generator=one)) for one in generators])
        labels = torch.stack([dual_masks(self.grid, one) for one in generators])
        greys = torch.stack([torch.rand(1, 1, 1, generator=one) for one in generators])
        device = batch["source_a"].device
        first = (coins == 0)[:, None, None, None].to(device)

        def chosen(a: Tensor, b: Tensor) -> Tensor:
            return 2 * torch.where(first, as_rgb(a), as_rgb(b)) - 1

        x, degraded = chosen(*clean(batch)), chosen(*sources(batch))
        labels, grey = labels.to(device), 2 * greys.to(device) - 1
        a, b = (masked_view(labels[:, view], x, degraded, grey) for view in (0, 1))
        return x, a, b

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion in RGB as it was drawn; its luma where no source has colour.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        fused = self.draw(2 * as_rgb(a) - 1, 2 * as_rgb(b) - 1, generators_for(batch["name"], self.seed))
        return FusionOutput(fused=fused if 3 in (a.shape[1], b.shape[1]) else rgb_to_luma(fused))

    def draw(self, a: Tensor, b: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The image (B, 3, H, W) in [0, 1] that two views, (B, 3, H, W) on [−1, 1], belong to."""
        seen = self.network.see(a, b)

        def predict(state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
            output = self.network(state, seen, level.time(state))
            return self.denoiser.interpret(output, state, level.alpha_bar, (a + b) / 2)

        *_, last = self.denoiser.walk(predict, a, generators)
        return (last.clean + 1) / 2
