"""GIFNet: one network that learns to fuse two kinds of pairs, each task helped by the other's features."""

from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import extend_border, merge_heads, split_heads

Task = Literal["modality", "focus"]
"""What is fused: infrared and visible images, or images in focus at different depths."""

_GROWTH, _CHANNELS = 32, 98
_WINDOW, _HEADS = 8, 2


class GIFNetNetwork(nn.Module):
    """Shared features, two streams of window attention, a decoder for the fusion and one for the scene.

    822,780 parameters.

    The task's own stream is the main one. The other task's runs beside it through the first block, where its features
    are added to the main ones; no gradient flows into it, so that each task teaches its own stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Conv2d(channels, _GROWTH, 3) for channels in (2, 34, 66))
        self.embeddings = nn.ModuleDict({task: nn.Conv2d(_CHANNELS, _CHANNELS, 3) for task in get_args(Task)})
        self.blocks = nn.ModuleList(TwoStreamBlock(shift) for shift in (0, _WINDOW // 2))
        # the published files hold one per block; the last block's is of no use, as nothing is added there
        self.gains = nn.ModuleDict(
            {
                task: nn.ParameterList(nn.Parameter(torch.rand(1), requires_grad=block == 0) for block in range(2))
                for task in get_args(Task)
            }
        )
        self.unembedding = nn.Conv2d(_CHANNELS, _CHANNELS, 3)
        self.merge = nn.Sequential(
            nn.Conv2d(2 * _CHANNELS, _CHANNELS, 1, bias=False), nn.ReLU(), nn.Conv2d(_CHANNELS, 128, 1, bias=False)
        )
        self.decoder = Decoder(128)
        self.scene_decoder = Decoder(_CHANNELS)

    def forward(self, a: Tensor, b: Tensor, task: Task = "focus") -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], at least 2 × 2 pixels, to one in [0, 1].

        The paper fuses along the path of `focus` whatever the images are.
        """
        return self.fuse(self.features(a, b), task)

    def features(self, a: Tensor, b: Tensor) -> Tensor:
        """The shared features (B, 98, H, W): both images, and three layers that each see all before them."""
        features = torch.cat((a, b), dim=1)
        for layer in self.dense:
            features = torch.cat((features, F.relu(layer(extend_border(features, 1, "reflect")))), dim=1)
        return features

    def scene(self, features: Tensor) -> Tensor:
        """The scene (B, 1, H, W) that shared features show, in (−1, 1)."""
        return self.scene_decoder(features).tanh()

    def fuse(self, features: Tensor, task: Task) -> Tensor:
        """The fusion (B, 1, H, W) in [0, 1] from shared features (B, 98, H, W)."""
        height, width = features.shape[-2:]
        padded = extend_border(mirrored(features, 0, 4), 1, "reflect")
        main, other = self.embeddings[task](padded), self.embeddings[other_task(task)](padded)
        main, other = self.blocks[0](main, other, task)
        gains = self.gains[task]
        assert isinstance(gains, nn.ParameterList)
        # detached, not computed without gradient: mixed precision would keep the weights it rounds there for later
        main, _ = self.blocks[1](main + gains[0] * other.detach(), None, task)
        specific = self.unembedding(extend_border(main, 1, "reflect"))[..., :height, :width]
        return self.decoder(self.merge(torch.cat((features, specific), dim=1))).tanh() / 2 + 0.5


class TwoStreamBlock(nn.Module):
    """Window attention and a perceptron for each task's stream; the streams share what a displacement counts.

    Args:
        shift: How many pixels left of and above the map the first window begins.
    """

    displacement: Tensor

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.streams = nn.ModuleDict({task: Stream() for task in get_args(Task)})
        self.bias = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, _HEADS))
        self.register_buffer("displacement", log_displacements(), persistent=False)

    def forward(self, main: Tensor, other: Tensor | None, task: Task) -> tuple[Tensor, Tensor | None]:
        """Transform the main stream (B, 98, H, W) and, where there is one, the other.

        The other attends by the main stream's queries: with its own keys when the task is `focus`, the main ones else.
        """
        bias = self.bias(self.displacement).permute(2, 0, 1)
        own, beside = self.stream(task), self.stream(other_task(task))
        normal, gain, offset = own.norm(main)
        query, key = own.query_key(normal).chunk(2, dim=1)
        result = own.transform(main, own.attend(query, key, normal, bias, self.shift), gain, offset)
        if other is None:
            return result, None
        normal, gain, offset = beside.norm(other)
        if task == "focus":
            key = beside.query_key(normal).chunk(2, dim=1)[1]
        return result, beside.transform(other, beside.attend(query, key, normal, bias, self.shift), gain, offset)

    def stream(self, task: Task) -> "Stream":
        """The stream of a task."""
        stream = self.streams[task]
        assert isinstance(stream, Stream)
        return stream


class Stream(nn.Module):
    """One task's half of a block: x ← x + r·out + o, then x ← x + perceptron(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = ImageNorm(_CHANNELS)
        self.query_key = nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 1)
        self.value = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.local = nn.Conv2d(_CHANNELS, _CHANNELS, 5, groups=_CHANNELS)
        self.project = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.perceptron = nn.Sequential(
            nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 1), nn.ReLU(), nn.Conv2d(2 * _CHANNELS, _CHANNELS, 1)
        )

    def attend(self, query: Tensor, key: Tensor, normal: Tensor, bias: Tensor, shift: int) -> Tensor:
        """Out of the normalised map (B, 98, H, W): its values within windows, and around every pixel, projected.

        Args:
            query: (B, 98, H, W).
            key: (B, 98, H, W).
            normal: The map the values come from.
            bias: What displacements count, (heads, 64, 64).
            shift: How many pixels left of and above the map the first window begins.
        """
        value = self.value(normal)
        queries, keys, values = (split_heads(_windows(part, shift), _HEADS) for part in (query, key, value))
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(values.dtype))
        around = self.local(extend_border(value, 2, "reflect"))
        return self.project(around + _from_windows(merge_heads(attended), value, shift))

    def transform(self, features: Tensor, attended: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
        """Add what was attended to, scaled and shifted back by `gain` and `offset`, then the perceptron's answer."""
        features = features + gain * attended + offset
        return features + self.perceptron(features)


class ImageNorm(nn.Module):
    """Normalises an image over channels and pixels together, and says how to undo it after what comes between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.to_gain, self.to_offset = nn.Conv2d(1, channels, 1), nn.Conv2d(1, channels, 1)
        for layer, start in ((self.to_gain, 1.0), (self.to_offset, 0.0)):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.constant_(layer.bias, start)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The normal features (B, C, H, W), and r of their deviation and o of their mean (B, C, 1, 1)."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            mean = features.mean(dim=(1, 2, 3), keepdim=True)
            centred = features - mean
            deviation = (centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
            return centred / deviation * self.gain + self.offset, self.to_gain(deviation), self.to_offset(mean)


class Decoder(nn.Module):
    """3×3 convolutions to 64, 32, 16 and one channel, borders mirrored, ReLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 64, 32, 16, 1)
        self.layers = nn.ModuleList(nn.Conv2d(*pair, 3) for pair in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        """Decode features (B, C, H, W) to (B, 1, H, W)."""
        *layers, last = self.layers
        for layer in layers:
            features = F.relu(layer(extend_border(features, 1, "reflect")))
        return last(extend_border(features, 1, "reflect"))


def other_task(task: Task) -> Task:
    """The task that is not this one."""
    return "modality" if task == "focus" else "focus"


def log_displacements() -> Tensor:
    """sign(Δ) log(1 + |Δ|) for the rows and columns between any two pixels of a window: (64, 64, 2)."""
    places = torch.cartesian_prod(torch.arange(_WINDOW), torch.arange(_WINDOW)).float()
    displacement = places[:, None] - places[None]
    return displacement.sign() * displacement.abs().log1p()


def mirrored(features: Tensor, before: int, multiple: int) -> Tensor:
    """Extend a map (B, C, H, W) by its mirror image.

    Args:
        features: The map, of any size; a small one is mirrored again and again.
        before: Pixels added to the left and above.
        multiple: To the right and below, until height and width are multiples of it.
    """
    for dim in (2, 3):
        size = features.shape[dim]
        extended = before + size
        if before or extended % multiple:
            places = torch.arange(-before, size + -extended % multiple, device=features.device)
            places = places.remainder(max(2 * (size - 1), 1))
            features = features.index_select(dim, torch.minimum(places, 2 * (size - 1) - places))
    return features


def _windows(features: Tensor, shift: int) -> Tensor:
    """Cut a map (B, C, H, W) into windows (B·windows, 64, C)."""
    pixels = mirrored(features, shift, _WINDOW).permute(0, 2, 3, 1)
    windows = pixels.unflatten(2, (-1, _WINDOW)).unflatten(1, (-1, _WINDOW)).transpose(2, 3)
    return windows.reshape(-1, _WINDOW**2, features.shape[1])


def _from_windows(windows: Tensor, like: Tensor, shift: int) -> Tensor:
    """Put windows (B·windows, 64, C) together to a map of the shape of another (B, C, H, W)."""
    height, width = like.shape[-2:]
    rows, columns = ((shift + side + _WINDOW - 1) // _WINDOW for side in (height, width))
    tiles = windows.unflatten(1, (_WINDOW, _WINDOW)).unflatten(0, (len(like), rows, columns)).transpose(2, 3)
    pixels = tiles.flatten(3, 4).flatten(1, 2)
    return pixels[:, shift : shift + height, shift : shift + width].permute(0, 3, 1, 2)


def _published_names() -> dict[str, str]:
    streams = "extractor_multask.SwinTransformerSpecific"
    names = {
        f"{streams}.patch_embed_ivif.proj": "embeddings.modality",
        f"{streams}.patch_embed_mfif.proj": "embeddings.focus",
        f"{streams}.patch_unembed.proj.0": "unembedding",
        **{f"getSharedFeatures.conv_{layer + 1}.conv2d": f"dense.{layer}" for layer in range(3)},
        **{f"cnnDecoder.decoder.{3 * layer + 1}": f"decoder.layers.{layer}" for layer in range(4)},
        **{f"decoder_rec.decoder.{3 * layer + 1}": f"scene_decoder.layers.{layer}" for layer in range(4)},
        **{f"cnnDecoder.fuseComplementFeatures.mlp.{layer}": f"merge.{layer}" for layer in (0, 2)},
    }
    for task, suffix in (("modality", ""), ("focus", "_mfif")):
        names[f"{streams}.layer1.weights{suffix}"] = f"gains.{task}"
        for block in range(2):
            there, here = f"{streams}.layer1.blocks.{block}", f"blocks.{block}.streams.{task}"
            norm = f"{there}.norm1{suffix}"
            names |= {f"{norm}.weight": f"{here}.norm.gain", f"{norm}.bias": f"{here}.norm.offset"}
            names |= {f"{norm}.meta1": f"{here}.norm.to_gain", f"{norm}.meta2": f"{here}.norm.to_offset"}
            for part, own in (("QK", "query_key"), ("V", "value"), ("conv", "local"), ("proj", "project")):
                names[f"{there}.attn.{part}{suffix}"] = f"{here}.{own}"
            for layer in (0, 2):
                names[f"{there}.mlp{suffix}.mlp.{layer}"] = f"{here}.perceptron.{layer}"
                names[f"{there}.attn.attn.meta.{layer}"] = f"blocks.{block}.bias.{layer}"
    return names


PUBLISHED_NAMES = _published_names()
"""Layers and single tensors of the published file, and what they are called here."""
UNUSED = [f"extractor_multask.SwinTransformerSpecific.layer1.blocks.{block}.attn.attn" for block in range(2)]
"""Where the published file keeps the displacements within a window, which come with the network."""
