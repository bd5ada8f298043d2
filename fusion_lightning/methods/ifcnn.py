"""IFCNN: a general fusion network of four layers."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb, rgb_to_luma
from fusion_lightning.losses.functional import gradient_loss, intensity_loss
from fusion_lightning.methods.pretrained import load_strict, read_weights
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.ifcnn import FusionRule, IFCNNNetwork

_FIRST_LAYER = "conv1.weight"


class IFCNN(PublishedFusion):
    """IFCNN on grey images repeated to three channels; the luma of its output is the fusion.

    Args:
        weights: A weight file. A published IFCNN, whole, is used as it is: nothing is left to train. Any other network
            that begins with ResNet's 7×7 convolution (``conv1.weight``) gives the first layer, which then stays as it
            is, as in the paper. None initialises the first layer like the others (He), and trains it.
        fusion: How features are fused: ``max``, ``sum`` or ``mean``.
        intensity: Weight of the intensity loss.
        gradient: Weight of the gradient loss.
        fixed_first_layer: Keep the first layer as it is; None does so when it came from `weights`.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or belongs to something else.
    """

    sees_whole_image = False

    def __init__(
        self,
        weights: str | None = None,
        fusion: FusionRule = "max",
        intensity: float = 1.0,
        gradient: float = 1.0,
        fixed_first_layer: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.intensity, self.gradient = intensity, gradient
        self.network = IFCNNNetwork(fusion)
        if weights is not None:
            whole = load_whole_or_first_layer(self.network, weights)
            self.network.requires_grad_(not whole)
        fixed = weights is not None if fixed_first_layer is None else fixed_first_layer
        if fixed:
            self.network.conv1.requires_grad_(False)
        # a checkpoint holds the weights: it is read without the file they came from
        self.hparams.update(weights=None, fixed_first_layer=fixed)

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        return rgb_to_luma(self.network((as_rgb(a), as_rgb(b))).clamp(0, 1))

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Intensity and gradient losses, (16) and (17) of CLED-Fusion, against the clean sources."""
        delivered, clean = self.luma_pairs(batch)
        fused = rgb_to_luma(self.network([as_rgb(source) for source in delivered]).float())
        parts = {"intensity": intensity_loss(fused, *clean), "gradient": gradient_loss(fused, *clean)}
        loss = self.intensity * parts["intensity"] + self.gradient * parts["gradient"]
        return self.log_losses({"loss": loss, **parts}, batch)


def load_whole_or_first_layer(network: IFCNNNetwork, path: str | Path) -> bool:
    """Load a published IFCNN, or the first layer of a ResNet, into a network.

    Returns:
        Whether the file held the whole network.

    Raises:
        UserError: If the file cannot be read, or holds neither.
    """
    state = read_weights(path)
    if "conv4.weight" in state:
        counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
        load_strict(network, {**counters, **state}, path)
        return True
    if _FIRST_LAYER not in state:
        raise UserError(f"{path} has no `{_FIRST_LAYER}`: give IFCNN's published weights, or those of a ResNet")
    load_strict(network, {**network.state_dict(), _FIRST_LAYER: state[_FIRST_LAYER]}, path)
    return False
