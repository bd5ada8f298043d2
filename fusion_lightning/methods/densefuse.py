"""DenseFuse: an autoencoder that fuses between its halves."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import structural_similarity
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.densefuse import LEVELS, PUBLISHED_NAMES, AdditionRule, DenseFuseNetwork


class DenseFuse(PublishedFusion):
    """DenseFuse with its addition rule; trained as an autoencoder, so that training knows no rule.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        fusion: What becomes of the sources' features: their ``mean`` or, as published, their ``sum``, which makes the
            fusion twice as bright: published images are stretched afterwards, ours are clipped.
        similarity: Weight of the structural similarity beside the squared error on 0..255.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's, or there is no such rule.
    """

    network: DenseFuseNetwork

    def __init__(
        self, weights: str | None = None, fusion: AdditionRule = "mean", similarity: float = 100.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.similarity = similarity
        self.network = DenseFuseNetwork(fusion)
        self.use_weights(weights, PUBLISHED_NAMES)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Squared error and structural similarity of every source, decoded from its own features, to its clean one."""
        delivered, clean = (torch.cat(pair) for pair in self.luma_pairs(batch))
        decoded = self.network.decode(self.network.encode(delivered)).float()
        parts = {
            "pixel": LEVELS**2 * F.mse_loss(decoded, clean),
            "similarity": 1 - structural_similarity(decoded, clean).mean(),
        }
        return self.log_losses({"loss": parts["pixel"] + self.similarity * parts["similarity"], **parts}, batch)
