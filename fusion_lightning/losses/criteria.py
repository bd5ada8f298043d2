"""Weighted sums of losses that keep their parts."""

from dataclasses import dataclass

from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.losses.functional import color_loss, gradient_loss, intensity_loss


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

    intensity: float = 5.0
    gradient: float = 10.0
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
        total = sum((getattr(self, name) * part for name, part in parts.items()), start=fused.new_zeros(()))
        return total, parts
