"""Text-DiFuse: a restoring diffusion, cut between encoder and decoder, where a control weighs two sources' maps."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, clean, known_clean, sources
from fusion_lightning.diffusion.denoising import DenoisingStep, NoiseLevel, denoise
from fusion_lightning.diffusion.sampling import draw_noise, generators_for
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.losses.criteria import Reference, fusion_losses, weighted_sum
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.denoiser import lean
from fusion_lightning.methods.diffusion_restorer import DiffusionRestorer
from fusion_lightning.methods.loading import Arguments, first_stage
from fusion_lightning.networks.fusion_control import FusionControl


class TextDiFuse(FusionMethod):
    """Restores and fuses luma in one walk of one diffusion; stage 2 of two. It has no text: the paper's basic version.

    Both sources are encoded with the same noisy state, the control weighs their maps, and one decoder goes on (2)–(4).

    Args:
        stage1_checkpoint: Checkpoint of a `DiffusionRestorer` with one network for luma, used frozen. A checkpoint of
            this stage contains it, so it is needed only to begin training.
        intensity: Weight of the intensity loss.
        structure: Weight of the gradient or structure loss.
        reference: The fusion is drawn to the ``maximum`` of the sources, or to ``both``, as in medicine.
        stage1: Arguments of stage 1; taken from the checkpoint when one is given. The control's widths follow from it.
        seed: Seed of the noise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If stage 1 is missing or does not fit.
    """

    controls = ("balance",)

    def __init__(
        self,
        stage1_checkpoint: str | None = None,
        intensity: float = 1.0,
        structure: float = 0.2,
        reference: Reference = "maximum",
        stage1: Arguments | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("reference", reference, Reference)
        self.loss_weights = {"intensity": intensity, "structure": structure}
        self.reference: Reference = reference
        self.seed = seed
        restorer = first_stage(self, DiffusionRestorer, stage1_checkpoint, stage1).restorer
        if restorer.colors is not None or "shared" not in restorer.networks:
            raise UserError(
                "TextDiFuse mixes the maps of one network for luma: "
                "train its stage 1 with `luma: true` and `shared_network: true`"
            )
        self.restorer = restorer.requires_grad_(False)
        self.control = FusionControl(restorer.network("a").widths)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Losses (9)–(11) of the clean image at one of the visited times, drawn for the batch."""
        denoiser = self.restorer.denoiser
        (die,) = generators_for(["time"], self.seed, self.global_step)
        chosen = denoiser.times[int(torch.randint(len(denoiser.times), (1,), generator=die))]
        generators = generators_for(batch["name"], self.seed, self.global_step)
        step = next(one for one in self.steps(*sources(batch), generators, learn_at=chosen) if one.level.t == chosen)
        parts = fusion_losses(self.reference, (step.clean + 1) / 2, *self._targets(batch))
        return self.log_losses({"loss": weighted_sum(parts, self.loss_weights), **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion, in the delivered colours.

        Raises:
            UserError: If a strength is given: there is only a balance.
        """
        balance = self.balance_alone(controls)
        a, b = sources(batch)
        *_, last = self.steps(a, b, generators_for(batch["name"], self.seed), balance)
        return FusionOutput(fused=with_chroma((last.clean + 1) / 2, cbcr_of(a, b)))

    def steps(
        self,
        a: Tensor,
        b: Tensor,
        generators: Sequence[torch.Generator],
        balance: float = 0.5,
        learn_at: int | None = None,
    ) -> Iterator[DenoisingStep]:
        """Walk over the S times of stage 1.

        Args:
            a: Source a, (B, 1 or 3, H, W) in [0, 1].
            b: Source b.
            generators: Where each image's noise comes from; both sources share it.
            balance: Below 0.5 leans to a, above to b: the paper's re-modulation (12)(13), on the whole image.
            learn_at: The only time at which gradients reach the control; None for none.
        """
        network, denoiser = self.restorer.network("a"), self.restorer.denoiser
        y_a, y_b = self.restorer.condition(a), self.restorer.condition(b)
        height, width = y_a.shape[-2:]

        def predict(state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
            state, time = state.detach(), level.time(state)
            with torch.no_grad():
                maps_a, maps_b = (network.encode(torch.cat((state, y), dim=1), time) for y in (y_a, y_b))
            with torch.set_grad_enabled(level.t == learn_at):
                weights = [(lean(w_a, balance), lean(w_b, 1 - balance)) for w_a, w_b in self.control(maps_a, maps_b)]
                mixed = [w_a * m_a + w_b * m_b for (w_a, w_b), m_a, m_b in zip(weights, maps_a, maps_b, strict=True)]
                output = network.output(network.decode(mixed, time)[-1], state)
                # the image itself is the finest of the skip connections
                share_a, share_b = (w.float().mean(dim=1, keepdim=True)[..., :height, :width] for w in weights[0])
                return denoiser.interpret(output, state, level.alpha_bar, share_a * y_a + share_b * y_b)

        return denoise(predict, draw_noise(y_a, generators), denoiser.schedule.levels(denoiser.times))

    @torch.no_grad()
    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]]:
        """The first pair's steps as rows of pictures in [0, 1], and the columns' labels; states at half their range."""
        rows = [
            [(step.state[0] / 4 + 0.5).clamp(0, 1).cpu(), ((step.clean[0] + 1) / 2).cpu()]
            for step in self.steps(*sources(batch), generators_for(batch["name"], self.seed))
        ]
        return rows, ["state", "estimated"]

    @torch.no_grad()
    def _targets(self, batch: FusionBatch) -> list[Tensor]:
        """Lumas to be drawn to: clean where they are known, else as stage 1 restores them."""
        targets = []
        for modality, source, target in zip(MODALITIES, sources(batch), clean(batch), strict=True):
            known, luma = known_clean(batch, modality), rgb_to_luma(target)
            if not known.all():
                *_, last = self.restorer.walk(
                    modality, self.restorer.condition(source), generators_for(batch["name"], self.seed)
                )
                luma = torch.where(known[:, None, None, None], luma, (last.clean + 1) / 2)
            targets.append(luma)
        return targets
