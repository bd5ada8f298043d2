"""VDMUFusion: a diffusion whose network predicts noise and, in the same pass, how to weigh the sources."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.diffusion.denoising import NoiseLevel, NoiseSchedule, add_noise, denoise
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import check_choice
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.losses.criteria import Reference, fusion_losses, weighted_sum
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.networks.denoising_unet import DenoisingSize
from fusion_lightning.networks.two_decoder_unet import TwoDecoderUNet


class VDMUFusion(FusionMethod):
    """Fuser by weighted averaging, f = w a + (1 − w) b, within the sampling of a diffusion; it does not restore.

    There is no fused image to add noise to. But if both sources carry the same noise ε, so does every weighted average
    of them: x_t = u a_t + (1 − u) b_t = sqrt(ᾱ_t)(u a + (1 − u) b) + sqrt(1 − ᾱ_t) ε. So the noise is learned on
    averages with random u, and the weights w, by a fusion loss, from the same features.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base`` (2, 8, 31 M parameters).
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited when fusing: a few, or up to T.
        noise: Weight of the noise loss.
        intensity: Weight of the intensity loss.
        structure: Weight of the gradient or structure loss.
        reference: The fusion is drawn to the ``maximum`` of the sources, or to ``both``, as in medicine.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        size: DenoisingSize = "base",
        timesteps: int = 1000,
        sampling_steps: int = 3,
        noise: float = 1.0,
        intensity: float = 5.0,
        structure: float = 1.0,
        reference: Reference = "maximum",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("reference", reference, Reference)
        self.loss_weights = {"noise": noise, "intensity": intensity, "structure": structure}
        self.reference: Reference = reference
        self.seed = seed
        self.schedule = NoiseSchedule(timesteps)
        self.times = self.schedule.sampling_times(sampling_steps)
        self.network = TwoDecoderUNet(size, in_channels=3, out_channels=1)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Noise loss on averages of the sources at random times, fusion loss on what the weights make of them."""
        a, b = (rgb_to_luma(source) for source in sources(batch))
        generators = generators_for(batch["name"], self.seed, self.global_step)
        timesteps = len(self.schedule.alpha_bar)
        t = torch.cat([torch.randint(timesteps, (1,), generator=one) for one in generators]).to(a.device)
        share = torch.stack([torch.rand(1, 1, 1, generator=one) for one in generators]).to(a.device)
        noise = draw_noise(a, generators)
        state = add_noise(_centred(share * a + (1 - share) * b), noise, self.schedule.alpha_bar[t][:, None, None, None])
        predicted, weight = self._predict(state, a, b, t.float())
        clean_a, clean_b = (rgb_to_luma(target) for target in clean(batch))
        parts = {
            "noise": F.mse_loss(predicted, noise),
            **fusion_losses(self.reference, weight * a + (1 - weight) * b, clean_a, clean_b),
        }
        return self.log_losses({"loss": weighted_sum(parts, self.loss_weights), **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion, in colour when one source is, and the weight map it was made with.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        color_a, color_b = sources(batch)
        a, b = rgb_to_luma(color_a), rgb_to_luma(color_b)
        weights = []

        def predict(state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
            noise, weight = self._predict(state, a, b, level.time(a))
            weights.append(weight)
            return _centred(weight * a + (1 - weight) * b), noise

        start = draw_noise(a, generators_for(batch["name"], self.seed))
        *_, last = denoise(predict, start, self.schedule.levels(self.times))
        return FusionOutput(fused=with_chroma((last.clean + 1) / 2, cbcr_of(color_a, color_b)), weight=weights[-1])

    def _predict(self, state: Tensor, a: Tensor, b: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """ε (B, 1, H, W) and w (B, 1, H, W) in (0, 1) from the state, which spans about [−1, 1], and the sources."""
        noise, weight = self.network(torch.cat((state, _centred(a), _centred(b)), dim=1), time)
        assert weight is not None
        return noise, weight


def _centred(image: Tensor) -> Tensor:
    """An image in [0, 1] on [−1, 1], where noise of deviation 1 belongs."""
    return image * 2 - 1
