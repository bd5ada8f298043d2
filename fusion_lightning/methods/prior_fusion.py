"""Base class of methods that sample a fusion from an image prior, guided by the sources."""

from typing import Any

import torch
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, sources
from fusion_lightning.diffusion.denoising import DenoisingStep, Guide, NoiseLevel, NoiseSchedule, denoise
from fusion_lightning.diffusion.flow import even_times
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.methods.loading import load_method
from fusion_lightning.methods.prior import GuidedPrior, Prior, UnconditionalPrior, VelocityPrior
from fusion_lightning.networks.denoising_unet import DenoisingSize


class PriorFusion(UnconditionalPrior):
    """Base of the methods that sample the fusion from a prior, from noise, guided by the sources at every step.

    Trained, it learns its prior; with `prior` it takes a trained one, and nothing is left to train. A subclass
    implements `guide`.

    Args:
        prior: A checkpoint of `UnconditionalPrior` or of any method that learns one, or a weight file of guided
            diffusion, named as published.
        size: Size of the prior's U-Net, if it is trained here.
        mixed: As in `UnconditionalPrior`.
        sampling_steps: How often the prior is asked, of 1000 times.
        stretch: Stretch every result to its own darkest and brightest pixel, as the public code does. It alone moves
            most metrics by a fifth: compare with nothing that is not stretched.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range, or `prior` cannot be read or is something else.
    """

    knows_degradation = False
    implied = False
    """Whether sampling goes on with the noise that fits the guided image, or with the prior's own."""

    def __init__(
        self,
        prior: str | None = None,
        size: DenoisingSize = "base",
        mixed: float = 0.0,
        sampling_steps: int = 100,
        stretch: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(size=size, mixed=mixed, seed=seed, **options)
        self.levels = NoiseSchedule().levels(even_times(sampling_steps))
        self.stretch = stretch
        if prior is not None:
            self.prior = load_prior(prior)
            if isinstance(self.prior, VelocityPrior):
                # a checkpoint holds the prior: it is read without the file that came from
                self.hparams.update(prior=None, size=self.prior.size)

    def guide(self, a: Tensor, b: Tensor) -> Guide:
        """What draws an estimate to the sources (B, 1, H, W) on [−1, 1]; it may change from step to step."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its sources guide it")

    def walk(self, batch: FusionBatch) -> list[DenoisingStep]:
        """Every step of sampling the fusions of a batch, on [−1, 1]."""
        a, b = (rgb_to_luma(source).float() * 2 - 1 for source in sources(batch))
        start = draw_noise(a.expand(-1, self.prior.channels, -1, -1), generators_for(batch["name"], self.seed))
        return list(denoise(self.prior.predict, start, self.levels, on_luma(self.guide(a, b)), self.implied))

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion, in colour when one source is.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        fused = (rgb_to_luma(self.walk(batch)[-1].clean) + 1) / 2
        fused = stretched(fused) if self.stretch else fused
        return FusionOutput(fused=with_chroma(fused, cbcr_of(*sources(batch))))

    @torch.no_grad()
    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]]:
        """Eight of the first pair's steps as rows of pictures in [0, 1], and the columns' labels.

        States are drawn at half their range.
        """
        steps = self.walk(batch)
        shown = torch.linspace(0, len(steps) - 1, min(len(steps), 8)).round().int().tolist()
        rows = []
        for step in (steps[place] for place in shown):
            images = (step.state / 2, step.estimate, step.clean)
            rows.append([(image[0] / 2 + 0.5).clamp(0, 1).cpu() for image in images])
        return rows, ["state", "estimated", "guided"]

    def configure_optimizers(self) -> Any:
        """Optimize the prior.

        Raises:
            UserError: If `prior` was given.
        """
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise UserError("`prior` is trained already: there is nothing to train, use `test` or `predict`")
        return super().configure_optimizers()


def load_prior(path: str) -> Prior:
    """The prior in a checkpoint, or in a weight file of guided diffusion, frozen.

    Raises:
        UserError: If the file cannot be read, or has no prior.
    """
    if not path.endswith(".ckpt"):
        return GuidedPrior(path).requires_grad_(False)
    method = load_method(path, UnconditionalPrior)
    assert isinstance(method, UnconditionalPrior)
    return method.prior.requires_grad_(False)


def on_luma(guide: Guide) -> Guide:
    """Guide the brightness of grey or RGB images (B, 1 or 3, H, W) alone; colours stay."""

    def guided(clean: Tensor, level: NoiseLevel) -> Tensor:
        luma = rgb_to_luma(clean)
        return clean + (guide(luma, level) - luma)

    return guided


def stretched(image: Tensor) -> Tensor:
    """Images (B, C, H, W) stretched to [0, 1], each from its own minimum and maximum."""
    least, most = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return (image - least) / (most - least).clamp_min(1e-6)
