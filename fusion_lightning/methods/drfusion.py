"""DRFusion: a few deterministic diffusion steps over both sources and their fusion, corrected by the observations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput
from fusion_lightning.diffusion.denoising import add_noise, remove_noise
from fusion_lightning.diffusion.joint import JointSchedule, correction_strength
from fusion_lightning.errors import check_choice
from fusion_lightning.imaging.color import rgb_to_luma, with_chroma
from fusion_lightning.losses.criteria import JointCriterion, Reference
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.observations import ObservedPair, observe_pair
from fusion_lightning.networks.denoising_unet import DenoisingSize
from fusion_lightning.networks.two_decoder_unet import DecoderKind, TwoDecoderUNet
from fusion_lightning.operators import DEFAULT_RHO, Projection, correct

LambdaRule = Literal["ddnm_plus", "one"]
Targets = Literal["clean", "reconstructed"]


@dataclass(frozen=True)
class JointStep:
    """Estimates of one step; tensors (B, 3, H, W) hold [x_a, x_b, f], luma in about [0, 1], not clamped."""

    t: int
    """T … 1."""
    estimate: Tensor
    """x̂, the network's own estimate (4)."""
    corrected: Tensor
    """x', after the observation correction; the estimate itself where there was none."""
    weight: Tensor | None
    """w, (B, 1, H, W) in (0, 1); None where the step did not need it."""


class DRFusion(FusionMethod):
    """Restores and fuses in T calls of one network; knows the degradation as a linear operator.

    The operators come from the batch's ``degradation``; a source without one is taken as it is (A = I, no noise). A
    source of lower resolution enters at its own size.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base`` (2, 8, 31 M parameters).
        timesteps: T, how often the network is called.
        projection: The observation correction: the ``paper``'s (16)(17), the ``exact`` nearest point, or ``none``.
        lambda_rule: λ_t as in DDNM+ (``ddnm_plus``, (19)), or ``one`` always.
        correct_last_step: Whether the last step is corrected. Null decides per image: not under noise, which the
            correction would bring back, nor where nothing but noise can have gone wrong (A = I).
        rho: ρ of the Wiener inverse (40).
        chroma: Colour of the result: ``restored`` with the pseudo-inverse of the same operator, and under noise by a
            filter guided by the restored luma; or as ``observed``.
        intensity: Weight of the intensity loss (22).
        structure: Weight of the gradient loss (23), or of the structure loss (24).
        reconstruction: Weight of the reconstruction loss (21).
        reference: The fusion is drawn to the ``maximum`` of the sources (22)(23), or to ``both`` (24), as in medicine.
        targets: The fusion loss compares with the ``clean`` sources, or with the ``reconstructed`` ones.
        recompute: Forget a step's features in training and compute them again for its gradient: less memory, more time.
        decoder: Where its decoders compute: after they enlarge (``fine``), or before (``coarse``), which is as
            published and costs less; see `TwoDecoderUNet`.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If an argument is out of its range.
    """

    uses_degradation = True

    def __init__(
        self,
        size: DenoisingSize = "base",
        timesteps: int = 3,
        projection: Literal["paper", "exact", "none"] = "paper",
        lambda_rule: LambdaRule = "ddnm_plus",
        correct_last_step: bool | None = None,
        rho: float = DEFAULT_RHO,
        chroma: Literal["observed", "restored"] = "restored",
        intensity: float = 5.0,
        structure: float = 1.0,
        reconstruction: float = 5.0,
        reference: Reference = "maximum",
        targets: Targets = "clean",
        recompute: bool = False,
        decoder: DecoderKind = "fine",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("projection", projection, (*get_args(Projection), "none"))
        check_choice("lambda_rule", lambda_rule, LambdaRule)
        check_choice("chroma", chroma, ("observed", "restored"))
        check_choice("targets", targets, Targets)
        self.projection = projection
        self.lambda_rule = lambda_rule
        self.correct_last_step = correct_last_step
        self.rho = rho
        self.restores_chroma = chroma == "restored"
        self.targets = targets
        self.recompute = recompute
        self.criterion = JointCriterion(intensity, structure, reconstruction, reference)
        self.schedule = JointSchedule(timesteps, corrected=projection != "none")
        self.network = TwoDecoderUNet(size, decoder=decoder)
        if projection == "none":
            # nothing asks for the weights, so nothing would train them
            self.network.weight_decoder.requires_grad_(False)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The losses (21)–(24) after all T steps, with gradients through them and the α_t."""
        *_, last = self.trajectory(batch)
        x_a, x_b, fused = last.corrected.split(1, dim=1)
        clean = (rgb_to_luma(batch["clean_a"]), rgb_to_luma(batch["clean_b"]))
        targets = clean if self.targets == "clean" else (x_a.detach(), x_b.detach())
        loss, parts = self.criterion(fused, (x_a, x_b), clean, targets)
        return self.log_losses({"loss": loss, **parts}, batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """The fusion, in colour when one source is, both restored sources, and the weight map if a step needed one.

        Raises:
            UserError: If controls are given, or a source's size does not belong to its degradation.
        """
        self.check_no_controls(controls)
        observed = observe_pair(batch, self.rho)
        weight = None
        for step in self.walk(observed):
            weight = weight if step.weight is None else step.weight
        restored_a, restored_b, fused = (part.clamp(0, 1) for part in step.corrected.split(1, dim=1))
        color_a, color_b = observed.chromas((restored_a, restored_b) if self.restores_chroma else None)
        output = FusionOutput(
            fused=with_chroma(fused, color_b if color_a is None else color_a),
            restored_a=with_chroma(restored_a, color_a),
            restored_b=with_chroma(restored_b, color_b),
        )
        if weight is not None:
            output["weight"] = weight
        return output

    def trajectory(self, batch: FusionBatch) -> list[JointStep]:
        """Every step of fusing a batch."""
        return list(self.walk(observe_pair(batch, self.rho)))

    def walk(self, observed: ObservedPair) -> Iterator[JointStep]:
        """Walk from the pseudo-inverses of the observations to the result: T calls of the network, no noise drawn.

        Whatever type the network computes in, state and correction stay in float32: their errors grow by 1 / sqrt(ᾱ).

        Yields:
            Steps T … 1; the last one's `corrected` is the result x_0.
        """
        with torch.autocast(self.device.type, enabled=False):
            alpha_bar = self.schedule.alpha_bar()
            state = alpha_bar[-1].sqrt() * observed.start()
        for t in range(self.schedule.timesteps, 0, -1):
            corrects = self._corrects(t, observed)
            noise, weight = self._predict(state, t, bool(corrects.any()))
            with torch.autocast(self.device.type, enabled=False):
                noise = self.schedule.gain(t, observed.lossy) * noise
                estimate = corrected = remove_noise(state, noise, alpha_bar[t])
                if weight is not None:
                    strength = corrects.to(state)
                    if t > 1 and self.lambda_rule == "ddnm_plus":
                        sigma = observed.sigma.to(state)
                        strength = correction_strength(alpha_bar[t], alpha_bar[t - 1], sigma)
                    projection = cast(Projection, self.projection)
                    corrected = correct(estimate, weight, observed.a, observed.b, strength, projection)
                if t > 1:
                    state = add_noise(corrected, noise, alpha_bar[t - 1])
            yield JointStep(t, estimate, corrected, weight)

    def _corrects(self, t: int, observed: ObservedPair) -> Tensor:
        """Which images are corrected at step t, (B, 1, 1, 1), on the CPU: what it decides needs no device."""
        every = torch.ones_like(observed.sigma, dtype=torch.bool)
        if self.projection == "none":
            return ~every
        if t > 1:
            return every
        if self.correct_last_step is None:
            return (observed.sigma == 0) & observed.lossy
        return every & self.correct_last_step

    def _predict(self, state: Tensor, t: int, weights: bool) -> tuple[Tensor, Tensor | None]:
        time = torch.full((1,), float(t), device=state.device)
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.network, state, time, weights, use_reentrant=False)
        return self.network(state, time, weights)

    @torch.no_grad()
    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]]:
        """The first pair's steps as rows of pictures in [0, 1], from step T to 1, and the columns' labels."""
        rows = []
        for step in self.trajectory(batch):
            weight = torch.full_like(step.estimate[:1, :1], 0.5) if step.weight is None else step.weight[:1]
            pictures = torch.cat((step.estimate[:1], step.corrected[:1], weight), dim=1)[0]
            rows.append([picture[None].float().cpu().clamp(0, 1) for picture in pictures])
        parts = ("a", "b", "fused")
        labels = [f"{what} {part}" for what in ("estimated", "corrected") for part in parts]
        return rows, [*labels, "weight of a"]
