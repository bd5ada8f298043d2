"""GIFNet: fusion across modalities, helped by learning beside it to fuse images of different focus."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.filters import box_mean
from fusion_lightning.imaging.kernels import disk
from fusion_lightning.losses.functional import multi_scale_similarity
from fusion_lightning.losses.information import InformationPreservation, preservation_errors
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.methods.pretrained import load_strict, read_weights
from fusion_lightning.networks.gifnet import GIFNetNetwork, Task

_RADII = (1.5, 4.0)
"""Radius of a defocused point, in pixels."""
_EDGES = (3, 5, 7, 9)
"""Width of the border between what is in focus and what is not, in pixels."""


class GIFNet(LumaFusion):
    """GIFNet, trained on infrared–visible pairs and on pairs of near and far focus made of the visible images.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        temperature: c of the softmax over the sources' information, on images of 0..255.
        scene: Weight of the loss of the scene that the shared features have to show.
        seed: Seed of the near and far pairs.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or belongs to something else.
    """

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
        if weights is not None:
            load_strict(self.network, published_names(read_weights(weights), weights), weights)
            self.network.requires_grad_(False)
            # a checkpoint holds the weights: it is read without the file they came from
            self.hparams.update(weights=None)

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        return self.network(a, b)

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

    def configure_optimizers(self) -> Any:
        """Optimize everything.

        Raises:
            UserError: If `weights` was given.
        """
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise UserError("`weights` holds the whole of GIFNet: there is nothing to train, use `test` or `predict`")
        return super().configure_optimizers()


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


def published_names(published: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The state dict of `GIFNetNetwork` that a published file holds under its own names.

    Args:
        published: The file's tensors by name.
        path: The file, for the message.

    Raises:
        UserError: If they are not GIFNet's.
    """
    streams = "extractor_multask.SwinTransformerSpecific"
    suffixes: dict[Task, str] = {"modality": "", "focus": "_mfif"}
    modules = {f"dense.{layer}": f"getSharedFeatures.conv_{layer + 1}.conv2d" for layer in range(3)}
    modules |= {f"decoder.layers.{layer}": f"cnnDecoder.decoder.{3 * layer + 1}" for layer in range(4)}
    modules |= {f"scene_decoder.layers.{layer}": f"decoder_rec.decoder.{3 * layer + 1}" for layer in range(4)}
    modules |= {f"merge.{layer}": f"cnnDecoder.fuseComplementFeatures.mlp.{layer}" for layer in (0, 2)}
    modules |= {
        "embeddings.modality": f"{streams}.patch_embed_ivif.proj",
        "embeddings.focus": f"{streams}.patch_embed_mfif.proj",
        "unembedding": f"{streams}.patch_unembed.proj.0",
    }
    tensors: dict[str, str] = {}
    for block in range(2):
        theirs = f"{streams}.layer1.blocks.{block}"
        modules |= {f"blocks.{block}.bias.{layer}": f"{theirs}.attn.attn.meta.{layer}" for layer in (0, 2)}
        for task, suffix in suffixes.items():
            ours, norm = f"blocks.{block}.streams.{task}", f"{theirs}.norm1{suffix}"
            tensors |= {f"{ours}.norm.gain": f"{norm}.weight", f"{ours}.norm.offset": f"{norm}.bias"}
            modules |= {f"{ours}.norm.to_gain": f"{norm}.meta1", f"{ours}.norm.to_offset": f"{norm}.meta2"}
            layers = {"query_key": "QK", "value": "V", "local": "conv", "project": "proj"}
            modules |= {f"{ours}.{name}": f"{theirs}.attn.{layer}{suffix}" for name, layer in layers.items()}
            modules |= {f"{ours}.perceptron.{layer}": f"{theirs}.mlp{suffix}.mlp.{layer}" for layer in (0, 2)}
    for ours, theirs in modules.items():
        kinds = ["weight"] if ours.startswith("merge") else ["weight", "bias"]
        tensors |= {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in kinds}
    gains = {
        f"gains.{task}": [f"{streams}.layer1.weights{suffix}.{block}" for block in range(2)]
        for task, suffix in suffixes.items()
    }
    # what a displacement is comes with the network
    fixed = {f"{streams}.layer1.blocks.{block}.attn.attn.relative_positions" for block in range(2)}
    known = {*tensors.values(), *(name for names in gains.values() for name in names)}
    if known != set(published) - fixed:
        raise UserError(f"{path} does not hold GIFNet's weights (other names): give the published file")
    state = {ours: published[theirs] for ours, theirs in tensors.items()}
    return state | {ours: torch.cat([published[name] for name in names]) for ours, names in gains.items()}
