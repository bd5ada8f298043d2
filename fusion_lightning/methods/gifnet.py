"""GIFNet: fusion across modalities, helped by learning beside it to fuse images of different focus."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.imaging.filters import box_mean
from fusion_lightning.imaging.kernels import disk
from fusion_lightning.losses.functional import multi_scale_similarity
from fusion_lightning.losses.information import InformationPreservation, preservation_errors
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.gifnet import PUBLISHED_NAMES, UNUSED, GIFNetNetwork, Task

_RADII = (1.5, 4.0)
"""Radius of a defocused point, in pixels."""
_EDGES = (3, 5, 7, 9)
"""Width of the border between what is in focus and what is not, in pixels."""


class GIFNet(PublishedFusion):
    """GIFNet, trained on infrared–visible pairs and on pairs of near and far focus made of the visible images.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        temperature: c of the softmax over the sources' information, on images of 0..255.
        scene: Weight of the loss of the scene that the shared features have to show.
        seed: Seed of the near and far pairs.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: GIFNetNetwork

    def __init__(
        self,
        weights: str | None = None,
        temperature: float = 3000.0,
        scene: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.scene, self.seed = scene, seed
        self.network = GIFNetNetwork()
        self.preservation = InformationPreservation(temperature=temperature)
        self.use_weights(weights, PUBLISHED_NAMES, UNUSED)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Both tasks' losses, to the clean sources, and for each how well its shared features show the scene."""
        delivered, clean = self.luma_pairs(batch)
        scene = clean[1]
        pairs = {
            "modality": delivered,
            "focus": focus_pair(scene, generators_for(batch["name"], self.seed, self.global_step)),
        }
        parts: dict[str, Tensor] = {}
        scenes = []
        for task in get_args(Task):
            features = self.network.features(*pairs[task])
            fused = self.network.fuse(features, task).float()
            if task == "modality":
                parts[task] = preservation_errors(fused, *clean, self.preservation(*clean)).mean()
            else:
                parts[task] = F.mse_loss(fused, scene)
            shown = self.network.scene(features).float()
            scenes.append(1 - multi_scale_similarity(shown, scene).mean() + F.mse_loss(shown, scene))
        parts["scene"] = torch.stack(scenes).sum()
        return self.log_losses(
            {"loss": parts["modality"] + parts["focus"] + self.scene * parts["scene"], **parts}, batch
        )


def focus_pair(scene: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Two pictures of grey images (B, 1, H, W): in each, another part of the scene is out of focus.

    The parts are smooth random regions that meet in a border of 3 to 9 pixels; a point out of focus is a disk of
    radius 1.5 to 4 pixels.

    Args:
        scene: The images.
        generators: Where each image's regions and radius come from.
    """
    near, far = [], []
    for image, generator in zip(scene.float(), generators, strict=True):
        field = F.interpolate(torch.randn(1, 1, 4, 4, generator=generator), image.shape[-2:], mode="bicubic")
        radius = _RADII[0] + (_RADII[1] - _RADII[0]) * float(torch.rand((), generator=generator))
        edge = _EDGES[int(torch.randint(len(_EDGES), (), generator=generator))]
        region = box_mean((field > field.median()).float(), edge // 2).to(scene.device)[0]
        kernel = torch.from_numpy(disk(radius)).to(scene.device)
        reach = kernel.shape[0] // 2
        with torch.autocast(scene.device.type, enabled=False):
            blurred = F.conv2d(F.pad(image[None], (reach,) * 4, mode="replicate"), kernel[None, None])[0]
        near.append(region * image + (1 - region) * blurred)
        far.append((1 - region) * image + region * blurred)
    return torch.stack(near), torch.stack(far)
