"""DIDFuse: fuse what two images share and what each has alone."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import sobel, structural_similarity
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.didfuse import PUBLISHED_NAMES, DIDFuseNetwork


class DIDFuse(PublishedFusion):
    """DIDFuse; trained as an autoencoder whose bases are drawn together and whose details apart.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        detail: α1, weight of the details' distance beside that of the bases.
        reconstruction: α2 = α3, weight of the distance of decoded from clean sources.
        gradient: α4, weight of the distance between gradients of source b.
        similarity: λ, weight of the structural similarity within the reconstruction.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: DIDFuseNetwork

    def __init__(
        self,
        weights: str | None = None,
        detail: float = 0.05,
        reconstruction: float = 2.0,
        gradient: float = 10.0,
        similarity: float = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.detail, self.reconstruction = detail, reconstruction
        self.gradient, self.similarity = gradient, similarity
        self.network = DIDFuseNetwork()
        self.use_weights(weights, PUBLISHED_NAMES)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Bases alike, details unlike, and both sources decoded from their own maps like the clean ones."""
        delivered, clean = self.luma_pairs(batch)
        of_a, of_b = (self.network.encode(image) for image in delivered)
        decoded = [self.network.decode(parts).float() for parts in (of_a, of_b)]
        parts = {
            "base": F.mse_loss(of_a.base.float(), of_b.base.float()).tanh(),
            "detail": F.mse_loss(of_a.detail.float(), of_b.detail.float()).tanh(),
            "reconstruction": self._distance(decoded[0], clean[0]) + self._distance(decoded[1], clean[1]),
            "gradient": F.l1_loss(sobel(decoded[1]), sobel(clean[1])),
        }
        apart = parts["base"] - self.detail * parts["detail"]
        alike = self.reconstruction * parts["reconstruction"] + self.gradient * parts["gradient"]
        return self.log_losses({"loss": apart + alike, **parts}, batch)

    def _distance(self, decoded: Tensor, clean: Tensor) -> Tensor:
        return F.mse_loss(decoded, clean) + self.similarity * (1 - structural_similarity(decoded, clean).mean()) / 2
