"""Weighted sums of losses that keep their parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.losses.functional import (
    both_intensities_loss,
    color_loss,
    gradient_loss,
    intensity_loss,
    structure_loss,
)

Reference = Literal["maximum", "both"]
"""What a fusion is drawn to: the brighter and sharper source at every pixel, or both sources everywhere."""


@dataclass(frozen=True)
class FusionCriterion:
    """CLED-Fusion's fusion loss (19): λ_int L_int + λ_grad L_grad + λ_color L_color.

    A part whose weight is 0 is not part of the sum (the paper's ablations) but still reported.
    The paper does not publish its weights.

    Args:
        intensity: λ_int.
        gradient: λ_grad.
        color: λ_color.

    Raises:
        UserError: If a weight is negative, or all are 0.
    """

    intensity: float = 10.0
    gradient: float = 1.0
    color: float = 12.0

    def __post_init__(self) -> None:
        weights = (self.intensity, self.gradient, self.color)
        if min(weights) < 0 or not any(weights):
            raise UserError(f"loss weights must not be negative and not all 0, but got {weights}")

    def __call__(self, fused: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare a fused image (B, 3, H, W) with its references (B, 1 or 3, H, W), all in [0, 1].

        Returns:
            The weighted sum, and its parts before weighting by name: `intensity`, `gradient`, `color`.
        """
        parts = {
            "intensity": intensity_loss(fused, a, b),
            "gradient": gradient_loss(fused, a, b),
            "color": color_loss(fused, a, b),
        }
        return weighted_sum(parts, vars(self)), parts


@dataclass(frozen=True)
class JointCriterion:
    """DRFusion's loss: λ_int L_int + λ_struct L_struct + λ_rec L_rec, of the fusion and both restored sources.

    ``maximum``, for infrared–visible: L_int = mean|f − max(a, b)| (22), L_struct = mean| |∇f| − max(|∇a|, |∇b|) | (23).
    ``both``, for medicine (24): L_int = mean|f − a| + mean|f − b|, L_struct = 2 − SSIM(f, a) − SSIM(f, b).
    L_rec = mean|x_a − clean_a| + mean|x_b − clean_b| (21).

    Args:
        intensity: λ_int.
        structure: λ_struct.
        reconstruction: λ_rec.
        reference: ``maximum`` or ``both``.

    Raises:
        UserError: If a weight is negative, all are 0, or ``reference`` is neither.
    """

    intensity: float = 5.0
    structure: float = 1.0
    reconstruction: float = 5.0
    reference: Reference = "maximum"

    def __post_init__(self) -> None:
        weights = (self.intensity, self.structure, self.reconstruction)
        if min(weights) < 0 or not any(weights):
            raise UserError(f"loss weights must not be negative and not all 0, but got {weights}")
        check_choice("reference", self.reference, Reference)

    def __call__(
        self,
        fused: Tensor,
        restored: tuple[Tensor, Tensor],
        clean: tuple[Tensor, Tensor],
        targets: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare lumas (B, 1, H, W) in about [0, 1].

        Args:
            fused: f.
            restored: x_a and x_b.
            clean: What they should be.
            targets: a and b, what the fusion is compared with.

        Returns:
            The weighted sum, and its parts before weighting by name: `intensity`, `structure`, `reconstruction`.
        """
        parts = fusion_losses(self.reference, fused, *targets)
        parts["reconstruction"] = sum(
            (F.l1_loss(x.float(), known.float()) for x, known in zip(restored, clean, strict=True)),
            start=fused.new_zeros(()),
        )
        return weighted_sum(parts, vars(self)), parts


def weighted_sum(parts: Mapping[str, Tensor], weights: Mapping[str, Any]) -> Tensor:
    """The parts of a loss, each times the weight of its name, added up."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def fusion_losses(reference: Reference, fused: Tensor, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The two parts of DRFusion's fusion loss on lumas (B, 1, H, W): `intensity` and `structure`, (22)(23) or (24)."""
    if reference == "maximum":
        return {"intensity": intensity_loss(fused, a, b), "structure": gradient_loss(fused, a, b, norm="l1")}
    return {"intensity": both_intensities_loss(fused, a, b), "structure": structure_loss(fused, a, b)}
