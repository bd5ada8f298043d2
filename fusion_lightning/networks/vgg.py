"""Features of a pretrained VGG16."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import UserError

_STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Where the convolutions stand in the published state dict, ``features.<index>``; a pooling follows every stage."""
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16Features(nn.Module):
    """The five feature maps of VGG16 before its poolings.

    The weights are constants: they are neither trained nor part of a checkpoint.

    Args:
        state: State dict of a VGG16 for inputs normalised by ImageNet's mean and spread; its classifier is not needed.

    Raises:
        UserError: If a layer is missing or has another shape.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        inputs = 3
        for stage, width in zip(_STAGES, _WIDTHS, strict=True):
            for index in stage:
                for part, shape in (("weight", (width, inputs, 3, 3)), ("bias", (width,))):
                    name = f"features.{index}.{part}"
                    if name not in state or tuple(state[name].shape) != shape:
                        raise UserError(f"these are not the weights of a VGG16: `{name}` of shape {shape} is missing")
                    self.register_buffer(f"{part}_{index}", state[name].float(), persistent=False)
                inputs = width
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W) in [0, 1]: 64, 128, 256, 512 and 512 maps, each half the size of the last."""
        features = (image - self.mean) / self.spread
        found: list[Tensor] = []
        for stage in _STAGES:
            if found:
                features = F.max_pool2d(features, 2, ceil_mode=True)
            for index in stage:
                weight, bias = self.get_buffer(f"weight_{index}"), self.get_buffer(f"bias_{index}")
                features = F.relu(F.conv2d(features, weight, bias, padding=1))
            found.append(features)
        return found
