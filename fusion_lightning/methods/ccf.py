"""CCF: fusing by an unconditional diffusion, whose estimates take gradient steps on chosen conditions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion_lightning.diffusion.denoising import Guide, NoiseLevel
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.losses.conditions import BOUNDED, UNBOUNDED, Condition
from fusion_lightning.methods.prior_fusion import PriorFusion

CONDITIONS = ("ssim", "mse", "edge", "low", "high", "sf", "ei", "sd")
"""The paper's bank."""

_BASIC = 3
"""How much the basic condition counts: the released code adds it to a vector of three that is then summed."""
_RESTORING = 1.5
"""The exponent of the relative training rate."""


class CCF(PriorFusion):
    """Samples from the prior; each clean estimate takes one step of Adam on conditions chosen per image and step.

    Args:
        conditions: The bank, of `losses/conditions.py`.
        basic: The condition that always counts.
        select: How many of the bank count beside it, those that weigh most.
        rate: Rate of Adam, on [−1, 1].
        bounded: Ask for the stronger source's spatial frequency, edge intensity and deviation. False lets them grow
            without end, as the released code does: under a weak prior the result is noise.
        sampling_steps: How often the prior is asked; at least 50, as the rate bounds what a step can repair.
        **options: Those of `PriorFusion`.

    Raises:
        UserError: If an argument is out of its range, or a condition unknown.
    """

    def __init__(
        self,
        conditions: Sequence[str] = CONDITIONS,
        basic: str = "mse",
        select: int = 3,
        rate: float = 0.03,
        bounded: bool = True,
        sampling_steps: int = 200,
        **options: Any,
    ) -> None:
        super().__init__(sampling_steps=sampling_steps, **options)
        known = BOUNDED if bounded else UNBOUNDED
        for name in (*conditions, basic):
            check_choice("condition", name, tuple(known))
        if not 1 <= select <= len(conditions):
            raise UserError(f"`select` must lie between 1 and the {len(conditions)} conditions, but got {select}")
        if rate <= 0:
            raise UserError(f"`rate` must be positive, but got {rate}")
        self.bank = [known[name] for name in conditions]
        self.basic, self.select, self.rate = known[basic], select, rate

    def guide(self, a: Tensor, b: Tensor) -> Guide:
        """One step of Adam per estimate; weights and moments are carried along."""
        return ConditionBank(a, b, self.bank, self.basic, self.select, self.rate)


class ConditionBank:
    """Moves an estimate by the gradients of conditions, and learns how much each of them should weigh (GradNorm).

    Images are (B, 1, H, W); everything is per image.

    Args:
        a: First source.
        b: Second source.
        bank: The conditions to choose from.
        basic: The condition that always counts.
        select: How many of the bank count beside it.
        rate: Rate of Adam.
    """

    def __init__(
        self, a: Tensor, b: Tensor, bank: Sequence[Condition], basic: Condition, select: int, rate: float
    ) -> None:
        self.a, self.b = a, b
        self.bank, self.basic, self.select, self.rate = bank, basic, select, rate
        self.weights = a.new_ones(len(a), len(bank))
        self.chosen = torch.zeros_like(self.weights, dtype=torch.bool)
        """Which conditions counted in the last step."""
        self.first: Tensor | None = None
        self.mean, self.square, self.steps = torch.zeros_like(a), torch.zeros_like(a), 0

    def __call__(self, fused: Tensor, level: NoiseLevel) -> Tensor:
        """The estimate after one step; how noisy the state was does not matter."""
        losses, gradients, basic = self._gradients(fused)
        order = self.weights.argsort(dim=1, descending=True, stable=True)
        self.chosen = torch.zeros_like(self.chosen).scatter(1, order[:, : self.select], True)
        total = ((self.weights * self.chosen)[..., None, None, None] * gradients).sum(dim=1) + _BASIC * basic
        self.first = losses if self.first is None else self.first
        self.weights = balanced_weights(self.weights, losses, self.first, gradients.flatten(2).norm(dim=2))
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * total
        self.square = 0.999 * self.square + 0.001 * total.square()
        spread = (self.square / (1 - 0.999**self.steps)).sqrt() + 1e-8
        return fused - self.rate * self.mean / (1 - 0.9**self.steps) / spread

    def _gradients(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The bank's values (B, N) and gradients (B, N, 1, H, W), and the basic condition's gradient (B, 1, H, W)."""
        # methods fuse under inference mode, where gradients have to be asked for, on copies
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(fused.device.type, enabled=False):
            image, a, b = (one.float().clone() for one in (fused, self.a, self.b))
            image.requires_grad_()
            # images do not mix: the gradient of the sum holds each image's own
            values = [condition(image, a, b) for condition in (*self.bank, self.basic)]
            slopes = [torch.autograd.grad(value.sum(), image, retain_graph=True)[0] for value in values]
            return torch.stack(values[:-1], dim=1).detach(), torch.stack(slopes[:-1], dim=1), slopes[-1]


def balanced_weights(weights: Tensor, losses: Tensor, first: Tensor, norms: Tensor) -> Tensor:
    """One step of GradNorm in closed form: weights w_i so that w_i |g_i| approaches mean(w |g|) r_i^1.5.

    r_i is how much of condition i is left, relative to the mean of all. All are (B, N).

    Args:
        weights: w, which add up to N.
        losses: The conditions now.
        first: The conditions at the first step.
        norms: |g_i|.
    """
    # a similarity may change its sign on the way: no power is taken of that
    left = (losses / torch.where(first.abs() < 1e-8, torch.full_like(first, 1e-8), first)).clamp_min(1e-3)
    relative = left / left.mean(dim=1, keepdim=True)
    target = (weights * norms).mean(dim=1, keepdim=True) * relative**_RESTORING
    moved = weights - (weights * norms - target).sign() * norms / weights.shape[1]
    return weights.shape[1] * moved / moved.sum(dim=1, keepdim=True)
