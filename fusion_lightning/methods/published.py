"""Base class of methods with published weights."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from fusion_lightning.errors import UserError
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.methods.pretrained import load_published


class PublishedFusion(LumaFusion):
    """Base of networks that are used with their published weights, or trained here from scratch.

    A subclass takes `weights`, makes its `network`, and calls `use_weights`.
    """

    network: nn.Module

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        return self.network(a, b)

    def use_weights(self, path: str | None, names: Mapping[str, str], unused: Collection[str] = ()) -> None:
        """Load the whole network from a published file, as it is: nothing is left to train. None leaves it untrained.

        Args:
            path: The file.
            names: As in `load_published`.
            unused: As in `load_published`.

        Raises:
            UserError: If the file cannot be read, or is another network's.
        """
        if path is not None:
            load_published(self.network, path, names, unused)
            self.network.requires_grad_(False)
        # a checkpoint holds the weights: it is read without the file they came from
        self.hparams.update(weights=None)

    def configure_optimizers(self) -> Any:
        """Optimize what is not fixed.

        Raises:
            UserError: If the published weights are used.
        """
        if not any(parameter.requires_grad for parameter in self.parameters()):
            name = type(self).__name__
            raise UserError(f"`weights` holds the whole of {name}: there is nothing to train, use `test` or `predict`")
        return super().configure_optimizers()
