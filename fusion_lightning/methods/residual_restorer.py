"""CLED-Fusion's restoration: the residual diffusion with its networks, on images in [0, 1]."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.batch import MODALITIES, Modality
from fusion_lightning.diffusion.residual import ResidualSchedule, diffuse, start_state
from fusion_lightning.diffusion.sampling import Sampler, SamplingStep, draw_noise, sample
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import as_rgb
from fusion_lightning.losses.functional import ResidualNorm, residual_loss
from fusion_lightning.networks.residual_unet import ResidualUNet, UNetSize

Objective = Literal["residual", "residual_and_noise"]
Times = Literal["all", "sampled"]

_TOGETHER = 1 << 17
"""Pixels up to which both sources are restored in one batch: beyond, it takes twice the memory and gains nothing."""


class _Drawn(NamedTuple):
    """A modality's images on [−1, 1] and what was drawn for them, (B, 3, H, W), and their times (B,)."""

    degraded: Tensor
    clean: Tensor
    noise: Tensor
    state: Tensor
    t: Tensor


class Restorer(nn.Module):
    """Residual diffusion with its networks: estimates what a degradation added to an image.

    Outside, images span [0, 1] and a residual I_res = I_in − I_0 spans [−1, 1]; inside, the diffusion works on
    [−1, 1] as the paper does. Grey images are repeated to three channels and averaged back.

    Args:
        size: Size of the U-Net.
        timesteps: T, the diffusion's times.
        sampling_steps: S, how many of them are visited when restoring.
        sampler: ``implicit`` (14), ``consistent`` (14 with the noise reduced as well) or ``stochastic`` (13).
        start_noise: n of the start state (1 − δ̄_T) I_in + n ε; None is the paper's β̄_T.
        objective: ``residual`` (15), or ``residual_and_noise`` (8)(9), which adds a second network.
        shared_prior: Whether every degradation ends near the same distribution (the δ̄ term).
        shared_network: One network for both modalities, or one each.
        times: Train at ``all`` T times, as the paper does, or only at the S ``sampled`` ones, which a short training
            cannot afford to miss.
        loss: ``l1`` (15), or ``balanced``, which weighs faint degradations beside strong ones; see `residual_loss`.
            With two networks the loss is L2, (8)(9).
        noise_scale: Factor on every β̄_t, in (0, 1]: how strong the diffusion's noise ends.
        branch_init: How strong the networks' branches begin; see `ResidualUNet`.

    Raises:
        UserError: If an argument is out of its range.
    """

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
    ) -> None:
        super().__init__()
        check_choice("objective", objective, Objective)
        check_choice("times", times, Times)
        check_choice("loss", loss, ("l1", "balanced"))
        self.loss: ResidualNorm = loss
        if start_noise is not None and start_noise < 0:
            raise UserError(f"`start_noise` must be at least 0, but got {start_noise}")
        self.schedule = ResidualSchedule(timesteps, shared_prior, noise_scale)
        visited = self.schedule.sampling_times(sampling_steps)
        self.training_times = torch.tensor(visited if times == "sampled" else range(timesteps))
        self.sampling_steps = sampling_steps
        self.sampler: Sampler = sampler
        self.start_noise = start_noise
        modalities = ("shared",) if shared_network else MODALITIES
        self.residual_networks = nn.ModuleDict({name: ResidualUNet(size, branch_init) for name in modalities})
        self.noise_networks = (
            nn.ModuleDict({name: ResidualUNet(size, branch_init) for name in modalities})
            if objective == "residual_and_noise"
            else None
        )

    def predict_residual(self, modality: Modality, state: Tensor, degraded: Tensor, t: Tensor) -> Tensor:
        """I_res^θ(I_t, I_in, t) on [−1, 1] images (B, 3, H, W)."""
        network = self._of(self.residual_networks, modality)
        return network(state, degraded, self.schedule.residual_time(t))

    def predict_noise(self, modality: Modality, state: Tensor, degraded: Tensor, t: Tensor) -> Tensor:
        """ε^θ(I_t, I_in, t) of the second network (9)."""
        assert self.noise_networks is not None
        return self._of(self.noise_networks, modality)(state, degraded, self.schedule.noise_time(t))

    def losses(
        self, modality: Modality, degraded: Tensor, clean: Tensor, generators: Sequence[torch.Generator]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The training loss at a random time per image, and the residual predicted there.

        Args:
            modality: Which of the two sources this is.
            degraded: I_in, (B, 1 or 3, H, W) in [0, 1].
            clean: I_0, of the same shape.
            generators: Where each image's time and noise come from.

        Returns:
            ``residual``: the `loss` (15), or mean squared with two networks (8), and then ``noise`` (9) too; and the
            residual (B, 1 or 3, H, W) in [−1, 1] with its gradient.
        """
        return self.losses_of_all({modality: (degraded, clean, generators)})[modality]

    def losses_of_all(
        self, examples: Mapping[Modality, tuple[Tensor, Tensor, Sequence[torch.Generator]]]
    ) -> dict[Modality, tuple[dict[str, Tensor], Tensor]]:
        """`losses` of several modalities (degraded, clean, generators) of one size; a shared network runs once."""
        drawn = {modality: self._draw(*example) for modality, example in examples.items()}
        residuals = self._predict(self.predict_residual, drawn)
        noises = None if self.noise_networks is None else self._predict(self.predict_noise, drawn)
        found = {}
        for modality, one in drawn.items():
            residual, target = residuals[modality], one.degraded - one.clean
            if noises is None:
                losses = {"residual": residual_loss(residual, target, self.loss)}
            else:
                noise = residual_loss(noises[modality], one.noise, "l2")
                losses = {"residual": residual_loss(residual, target, "l2"), "noise": noise}
            found[modality] = losses, _from_diffusion(residual, examples[modality][0])
        return found

    def _draw(self, degraded: Tensor, clean: Tensor, generators: Sequence[torch.Generator]) -> _Drawn:
        degraded_rgb, clean_rgb = _to_diffusion(degraded), _to_diffusion(clean)
        drawn = torch.cat([torch.randint(len(self.training_times), (1,), generator=one) for one in generators])
        t = self.training_times[drawn].to(degraded.device)
        noise = draw_noise(degraded_rgb, generators)
        state = diffuse(self.schedule, clean_rgb, degraded_rgb, noise, t)
        # where sampling begins nothing is known of the clean image, of which the true I_T holds 1 − ᾱ_T, 0.6 %:
        # enough for a network to read the brightness of I_0 from it, and to find none when it restores
        last = (t == self.schedule.timesteps - 1)[:, None, None, None]
        state = torch.where(last, start_state(self.schedule, degraded_rgb, noise, self.start_noise), state)
        return _Drawn(degraded_rgb, clean_rgb, noise, state, t)

    def _predict(
        self, predict: Callable[[Modality, Tensor, Tensor, Tensor], Tensor], drawn: Mapping[Modality, _Drawn]
    ) -> dict[Modality, Tensor]:
        """What a network says of every modality, in one batch where it is one network, float32."""
        if not self.is_shared:
            return {key: predict(key, one.state, one.degraded, one.t).float() for key, one in drawn.items()}
        state, degraded, t = (
            torch.cat([getattr(one, name) for one in drawn.values()]) for name in ("state", "degraded", "t")
        )
        first, *_ = drawn
        parts = predict(first, state, degraded, t).float().split([len(one.t) for one in drawn.values()])
        return dict(zip(drawn, parts, strict=True))

    @property
    def is_shared(self) -> bool:
        """Whether one network serves both modalities."""
        return "shared" in self.residual_networks

    def estimate(self, modality: Modality, degraded: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The residual after S reverse steps: (B, 1 or 3, H, W) in [0, 1] to the same shape in about [−1, 1]."""
        *_, last = self.trajectory(modality, degraded, generators)
        return _from_diffusion(_to_diffusion(degraded) - last.restored, degraded)

    def estimate_all(
        self, sources: Mapping[Modality, tuple[Tensor, Sequence[torch.Generator]]]
    ) -> dict[Modality, Tensor]:
        """`estimate` of several modalities (degraded, generators) of one size; small maps share one batch."""
        if not self.is_shared or sum(image[:, 0].numel() for image, _ in sources.values()) > _TOGETHER:
            return {modality: self.estimate(modality, *source) for modality, source in sources.items()}
        images = torch.cat([as_rgb(image) for image, _ in sources.values()])
        generators = [one for _, group in sources.values() for one in group]
        first, *_ = sources
        residuals = self.estimate(first, images, generators).split([len(image) for image, _ in sources.values()])
        return {
            modality: residual if image.shape[1] == 3 else residual.mean(dim=1, keepdim=True)
            for (modality, (image, _)), residual in zip(sources.items(), residuals, strict=True)
        }

    def trajectory(
        self, modality: Modality, degraded: Tensor, generators: Sequence[torch.Generator]
    ) -> list[SamplingStep]:
        """Every reverse step of restoring images (B, 1 or 3, H, W) in [0, 1]; the steps' tensors span [−1, 1]."""
        two = self.noise_networks is not None
        with ExitStack() as stack:
            for group in (self.residual_networks, self.noise_networks):
                if group is not None:
                    stack.enter_context(self._of(group, modality).fixed_weights())
            steps = sample(
                self.schedule,
                lambda state, image, t: self.predict_residual(modality, state, image, t),
                _to_diffusion(degraded),
                self.sampling_steps,
                predict_noise=(lambda state, image, t: self.predict_noise(modality, state, image, t)) if two else None,
                sampler=self.sampler,
                start_noise=self.start_noise,
                generator=generators,
            )
            return list(steps)

    @staticmethod
    def _of(networks: nn.ModuleDict, modality: Modality) -> ResidualUNet:
        network = networks[modality if modality in networks else "shared"]
        assert isinstance(network, ResidualUNet)
        return network


def _to_diffusion(image: Tensor) -> Tensor:
    return as_rgb(image) * 2 - 1


def _from_diffusion(residual: Tensor, like: Tensor) -> Tensor:
    """A residual on [−1, 1] images as one on [0, 1] images, with as many channels as the source has."""
    residual = residual / 2
    return residual if like.shape[1] == 3 else residual.mean(dim=1, keepdim=True)
