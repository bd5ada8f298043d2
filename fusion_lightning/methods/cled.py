"""CLED-Fusion: restore by residual diffusion (stage 1), then fuse with the degradation as a guide (stage 2)."""

from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, Modality, known_clean, sources
from fusion_lightning.diffusion.sampling import Sampler, SamplingStep, generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.losses.criteria import FusionCriterion
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.loading import Arguments, load_method
from fusion_lightning.methods.residual_restorer import Objective, Restorer, Times
from fusion_lightning.networks.degrade_fusion import Base, DegradeFusion, FusionSize
from fusion_lightning.networks.residual_unet import UNetSize


class _CLED(FusionMethod):
    """Base of the two stages: residuals and trajectory of sources of one size."""

    restorer: Restorer

    def residuals(self, batch: FusionBatch, *keys: object) -> tuple[Tensor, Tensor]:
        """I_res^θ of both sources (B, 1 or 3, H, W) in about [−1, 1]; `keys` vary the noise."""
        estimated = self.restorer.estimate_all(
            {
                modality: (source, generators_for(batch["name"], modality, *keys))
                for modality, source in zip(MODALITIES, sources(batch), strict=True)
            }
        )
        return estimated["a"], estimated["b"]

    def trajectory(self, batch: FusionBatch) -> dict[Modality, list[SamplingStep]]:
        """Every sampling step of both sources: state, residual, noise and restored estimate, (B, 3, H, W) on [−1, 1].

        At every step I_t = I_0^θ + ᾱ_t I_res^θ + β̄_t ε^θ − δ̄_t I_in holds.
        """
        return {
            modality: self.restorer.trajectory(modality, source, generators_for(batch["name"], modality))
            for modality, source in zip(MODALITIES, sources(batch), strict=True)
        }

    @torch.no_grad()
    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]]:
        """The first pair's trajectory as rows of pictures in [0, 1], one per sampling step, and the columns' labels.

        Residuals and noise are drawn around mid-grey, at half their range.
        """
        first = FusionBatch(
            source_a=batch["source_a"][:1],
            source_b=batch["source_b"][:1],
            clean_a=batch["clean_a"][:1],
            clean_b=batch["clean_b"][:1],
            degradation=batch["degradation"][:1],
            name=batch["name"][:1],
        )
        steps = self.trajectory(first)
        rows = [
            [
                (picture[0].float().cpu() * scale + 0.5).clamp(0, 1)
                for step in pair
                for picture, scale in (
                    (step.state, 0.5),
                    (step.residual, 0.5),
                    (step.noise, 0.25),
                    (step.restored, 0.5),
                )
            ]
            for pair in zip(steps["a"], steps["b"], strict=True)
        ]
        parts = ("state", "residual", "noise", "restored")
        return rows, [f"{modality}: {part}" for modality in MODALITIES for part in parts]


class CLEDStage1(_CLED):
    """Stage 1: a residual diffusion that restores both sources; it does not fuse.

    Args:
        size: Size of the U-Net: ``tiny``, ``small``, ``base`` or ``large`` (0.9, 3.3, 12.4, 36 M parameters).
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited when restoring.
        sampler: ``implicit`` (14), ``consistent`` or ``stochastic`` (13).
        start_noise: n of the start state (1 − δ̄_T) I_in + n ε; null is the paper's β̄_T, DiffUIR's code uses 0.1.
        objective: ``residual``, the L1 of (15), or ``residual_and_noise``, two networks and L2 as in (8)(9).
        shared_prior: Whether the δ̄ term draws every degradation to one distribution.
        shared_network: One network for both modalities, or one each.
        times: Train at ``all`` T times, or only at the S ``sampled`` ones, for short trainings.
        loss: ``l1`` (15), or ``balanced``, which weighs faint degradations beside strong ones; see `residual_loss`.
        noise_scale: Factor on every β̄_t, in (0, 1]; 1 in the paper, smaller for short trainings.
        branch_init: How strong the U-Net's branches begin; 0.1 for trainings of two minutes.
        seed: Seed of the times and the noise drawn in training.
        **options: Those of `FusionMethod`.
    """

    controls = ("strength_a", "strength_b")

    def __init__(
        self,
        size: UNetSize = "large",
        timesteps: int = 1000,
        sampling_steps: int = 3,
        sampler: Sampler = "implicit",
        start_noise: float | None = None,
        objective: Objective = "residual",
        shared_prior: bool = True,
        shared_network: bool = True,
        times: Times = "all",
        loss: Literal["l1", "balanced"] = "l1",
        noise_scale: float = 1.0,
        branch_init: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.seed = seed
        self.restorer_arguments: dict[str, Any] = {
            "size": size,
            "timesteps": timesteps,
            "sampling_steps": sampling_steps,
            "sampler": sampler,
            "start_noise": start_noise,
            "objective": objective,
            "shared_prior": shared_prior,
            "shared_network": shared_network,
            "times": times,
            "loss": loss,
            "noise_scale": noise_scale,
            "branch_init": branch_init,
        }
        self.restorer = Restorer(**self.restorer_arguments)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Loss (15) on both sources at random times."""
        return self.log_losses(restoration_losses(self.restorer, batch, self.seed, self.global_step)[0], batch)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources, I_in − r I_res^θ; there is no ``fused`` yet.

        Raises:
            UserError: If `controls` ask for a balance, which only a fusion has.
        """
        controls = controls or Controls()
        if controls.balance != Controls.balance:
            raise UserError("CLEDStage1 restores and does not fuse, so it has no balance: leave it at 0.5")
        a, b = sources(batch)
        residual_a, residual_b = self.residuals(batch)
        return FusionOutput(
            restored_a=(a - controls.strength_a * residual_a).clamp(0, 1),
            restored_b=(b - controls.strength_b * residual_b).clamp(0, 1),
        )


class CLEDStage2(_CLED):
    """Stage 2: the degrade-fusion module on top of a frozen stage 1.

    Args:
        stage1_checkpoint: Checkpoint of `CLEDStage1` whose (averaged) weights are used, frozen. A checkpoint of stage 2
            contains them, so it is needed only to begin training.
        size: Size of the fusion network: ``tiny``, ``small``, ``base`` or ``large``.
        base: What the network's prediction is added to: both restored sources fused by ``maximum``, ``guided`` or
            ``thermal`` (a is the infrared), or ``none``.
        intensity: Weight of the intensity loss (16).
        gradient: Weight of the gradient loss (17).
        color: Weight of the colour loss (18).
        one_stage: The ablation: both parts are trained together from scratch, the loss of stage 1 added.
        restorer: Arguments of stage 1's network; taken from the checkpoint when one is given.
        seed: Seed of the noise drawn in training.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If there is neither a checkpoint nor anything else that says what stage 1 is, or it does not fit.
    """

    controls = ("strength_a", "strength_b", "balance")

    def __init__(
        self,
        stage1_checkpoint: str | None = None,
        size: FusionSize = "large",
        base: Base = "maximum",
        intensity: float = 10.0,
        gradient: float = 1.0,
        color: float = 12.0,
        one_stage: bool = False,
        restorer: Arguments | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.seed = seed
        self.one_stage = one_stage
        if stage1_checkpoint is not None:
            stage1 = load_method(stage1_checkpoint, CLEDStage1)
            assert isinstance(stage1, CLEDStage1)
            rank_zero_info(f"CLEDStage2: stage 1 taken from {stage1_checkpoint}")
            self.restorer, restorer = stage1.restorer, stage1.restorer_arguments
        elif restorer is not None or one_stage:
            restorer = {"size": size, **(restorer or {})}
            try:
                self.restorer = Restorer(**restorer)
            except TypeError as error:
                raise UserError(f"`restorer` must hold arguments of CLEDStage1's network: {error}") from error
        else:
            raise UserError("CLEDStage2 needs `stage1_checkpoint`, a checkpoint of CLEDStage1 (or `one_stage: true`)")
        # a checkpoint of this stage holds the weights of stage 1: it is rebuilt without the file they came from
        self.hparams.update(stage1_checkpoint=None, restorer=restorer)
        if not one_stage:
            self.restorer.requires_grad_(False)
        self.network = DegradeFusion(size, base)
        self.criterion = FusionCriterion(intensity, gradient, color)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Losses (16)–(19) against the clean sources where they are known, else against the restored ones."""
        if self.one_stage:
            losses, residuals = restoration_losses(self.restorer, batch, self.seed, self.global_step)
            restoration = losses["loss"]
        else:
            residuals, restoration = self.residuals(batch, self.seed, self.global_step), None
        a, b = sources(batch)
        fused = self.network(a, residuals[0], b, residuals[1]).float()
        references = [
            self._reference(batch, key, source, residual)
            for key, source, residual in zip(MODALITIES, (a, b), residuals, strict=True)
        ]
        loss, parts = self.criterion(fused, *references)
        if restoration is not None:
            loss, parts["restoration"] = loss + restoration, restoration
        return self.log_losses({"loss": loss, **parts}, batch)

    @staticmethod
    def _reference(batch: FusionBatch, key: Modality, source: Tensor, residual: Tensor) -> Tensor:
        clean = batch["clean_a"] if key == "a" else batch["clean_b"]
        restored = (source - residual).detach().clamp(0, 1)
        known = known_clean(batch, key)
        if known.all():
            return clean
        return torch.where(known[:, None, None, None], clean, restored) if known.any() else restored

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore and fuse: the fusion (B, 3, H, W), and the sources with their degradation removed by strength."""
        controls = controls or Controls()
        a, b = sources(batch)
        residual_a, residual_b = self.residuals(batch)
        fused = self.network(a, residual_a, b, residual_b, controls.strength_a, controls.strength_b, controls.balance)
        return FusionOutput(
            fused=fused.float().clamp(0, 1),
            restored_a=(a - controls.strength_a * residual_a).clamp(0, 1),
            restored_b=(b - controls.strength_b * residual_b).clamp(0, 1),
        )


def restoration_losses(
    restorer: Restorer, batch: FusionBatch, seed: int, step: int
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Loss of stage 1 on both sources, averaged, its parts by name, and the residuals it was computed from."""
    totals: dict[str, Tensor] = {}
    examples = {
        modality: (source, clean, generators_for(batch["name"], modality, seed, step))
        for modality, source, clean in zip(
            MODALITIES, sources(batch), (batch["clean_a"], batch["clean_b"]), strict=True
        )
    }
    found = restorer.losses_of_all(examples)
    for modality, (losses, _) in found.items():
        for name, value in losses.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value / 2
            totals[f"{name}_{modality}"] = value
    totals["loss"] = sum((totals[name] for name in losses), torch.zeros_like(value))
    return totals, (found["a"][1], found["b"][1])
