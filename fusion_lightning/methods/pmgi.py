"""PMGI: intensity and gradient of both sources kept in proportion."""

from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.proportional import intensity_errors, texture_errors
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.pmgi import PUBLISHED_NAMES, UNUSED, PMGINetwork


class PMGI(PublishedFusion):
    """PMGI: a path for gradients and one for intensity, each of which sees what the other found.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        intensity_a: Weight of the intensity of source a.
        intensity_b: Weight of the intensity of source b.
        gradient_a: Weight of the gradient of source a.
        gradient_b: Weight of the gradient of source b.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: PMGINetwork

    def __init__(
        self,
        weights: str | None = None,
        intensity_a: float = 1.0,
        intensity_b: float = 0.5,
        gradient_a: float = 2.0,
        gradient_b: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.intensities, self.gradients = (intensity_a, intensity_b), (gradient_a, gradient_b)
        self.network = PMGINetwork()
        self.use_weights(weights, PUBLISHED_NAMES, UNUSED)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Squared distances from both clean sources and from their gradients, each with its weight."""
        delivered, clean = self.luma_pairs(batch)
        fused = self.network(*delivered)
        terms = {
            "intensity": (self.intensities, intensity_errors(fused, *clean)),
            "gradient": (self.gradients, texture_errors(fused, *clean)),
        }
        parts = {name: of_a * error_a + of_b * error_b for name, ((of_a, of_b), (error_a, error_b)) in terms.items()}
        return self.log_losses({"loss": parts["intensity"] + parts["gradient"], **parts}, batch)
