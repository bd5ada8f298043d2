"""U2Fusion: an unsupervised network that keeps more of the source that holds more information."""

from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.information import InformationPreservation, preservation_losses
from fusion_lightning.methods.pretrained import read_weights
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.u2fusion import U2FusionNetwork
from fusion_lightning.networks.vgg import VGG16Features


class U2Fusion(PublishedFusion):
    """U2Fusion for one kind of pairs.

    Args:
        weights: The published weights under this network's names (docs/published_weights.md), used as they are: nothing
            is left to train. None trains from scratch.
        vgg_weights: State dict of a VGG16 trained on ImageNet, whose features tell how much information a source
            holds; needed in training alone. None compares the images themselves at five scales.
        temperature: c of the softmax over the sources' information, on images of 0..255.
        mse: Weight of the squared error beside the structural similarity.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    sees_whole_image = False

    def __init__(
        self,
        weights: str | None = None,
        vgg_weights: str | None = None,
        temperature: float = 3000.0,
        mse: float = 20.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.vgg_weights, self.mse = vgg_weights, mse
        self.network = U2FusionNetwork()
        self.preservation = InformationPreservation(temperature=temperature)
        self.use_weights(weights, {})

    def setup(self, stage: str) -> None:
        """Load VGG16 before training; fusing does not need it.

        Raises:
            UserError: If `vgg_weights` cannot be read or is no VGG16.
        """
        if stage == "fit" and self.vgg_weights is not None:
            self.preservation.features = VGG16Features(read_weights(self.vgg_weights)).to(self.device)
        super().setup(stage)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Weighted structural similarity, and `mse` times the weighted squared error, to the clean sources."""
        delivered, clean = self.luma_pairs(batch)
        parts = preservation_losses(self.network(*delivered), *clean, self.preservation(*clean))
        return self.log_losses({"loss": parts["ssim"] + self.mse * parts["mse"], **parts}, batch)
