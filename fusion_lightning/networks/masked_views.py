"""Mask-DiFuser: two masked views of one image, and the network that draws the image from them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.denoising_unet import DenoisingSize, DenoisingUNet, base_width, group_norm
from fusion_lightning.networks.layers import OpponentColors, as_map, as_tokens, merge_heads, split_heads

CLEAN, BLANK, DEGRADED = 0, 1, 2
"""What a block of a view shows: the image, one grey, or the degraded image."""

_HEADS = 4
_LAYERS = 2


def dual_masks(grid: int, generator: torch.Generator) -> Tensor:
    """Which blocks of two views show what: labels (2, grid, grid), `CLEAN`, `BLANK` or `DEGRADED`.

    A random half of the blocks is hidden from the first view, the other half from the second. Of the hidden ones nine
    in ten are blank and the rest degraded; where the other view is blank, one in ten is degraded as well. So no block
    is blank twice, and on a grid of 8 each view has 30 clean blocks, 28 blank and 6 degraded ones.
    """
    order = torch.randperm(grid * grid, generator=generator)
    labels = torch.full((2, grid * grid), CLEAN)
    for view, hidden in enumerate(order.tensor_split(2)):
        blank = len(hidden) * 9 // 10
        labels[view, hidden] = DEGRADED
        labels[view, hidden[:blank]] = BLANK
        labels[1 - view, hidden[: blank // 10]] = DEGRADED
    return labels.view(2, grid, grid)


def masked_view(labels: Tensor, clean: Tensor, degraded: Tensor, grey: Tensor) -> Tensor:
    """A view x_A = M1 x_0 + M3 c + (M2 + M4) D(x_0).

    Args:
        labels: What each block shows, (B, g, g).
        clean: x_0, (B, C, H, W).
        degraded: D(x_0).
        grey: c, (B, 1, 1, 1).
    """
    shown = F.interpolate(labels[:, None].float(), clean.shape[-2:], mode="nearest")
    return torch.where(shown == CLEAN, clean, torch.where(shown == BLANK, grey, degraded))


class Seen(NamedTuple):
    """What the network makes of two views, once per image."""

    content: Tensor
    """(B, w, H, W)."""
    tokens: Tensor
    """Those of both views, (B, N, 2w)."""


class MaskedViewsUNet(nn.Module):
    """Denoising U-Net that sees two views of the image: their mixed content at the entrance, their tokens in the depth.

    Images enter and leave in opponent colours.

    Args:
        size: Size of the U-Net: ``tiny``, ``small`` or ``base``.
    """

    def __init__(self, size: DenoisingSize = "base") -> None:
        super().__init__()
        self.colors = OpponentColors()
        width = base_width(size)
        self.unet = DenoisingUNet(size, 2 * width, 3)
        self.content = ViewMixer(width)
        self.semantics = SemanticEncoder(2 * width)
        self.attention = CrossAttention(self.unet.widths[-1], 2 * width)
        self.state = nn.Sequential(*_convolve(3, width))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def see(self, a: Tensor, b: Tensor) -> Seen:
        """Look at two views (B, 3, H, W) on [−1, 1]."""
        a, b = self.colors(a), self.colors(b)
        return Seen(self.content(a, b), torch.cat((self.semantics(a), self.semantics(b)), dim=1))

    def forward(self, state: Tensor, seen: Seen, time: Tensor) -> Tensor:
        """The output (B, 3, H, W), float32, for a state x_t (B, 3, H, W) at times (B,) or (1,)."""
        entrance = torch.cat((seen.content, self.state(self.colors(state))), dim=1)
        *maps, deepest = self.unet.encode(entrance, time)
        maps = [*maps, self.attention(deepest, seen.tokens)]
        return self.colors.to_rgb(self.unet.output(self.unet.decode(maps, time)[-1], state))


class ViewMixer(nn.Module):
    """Takes from each of two views what it shows: F = g F_A + (1 − g) F_B, channel by channel and pixel by pixel.

    Args:
        width: w; features have 2w channels, the result w.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = 2 * width
        self.extract = nn.Sequential(
            *_convolve(3, channels // 4), *_convolve(channels // 4, channels // 2), *_convolve(channels // 2, channels)
        )
        self.channels = nn.Sequential(nn.Conv2d(4 * channels, width, 1), nn.SiLU(), nn.Conv2d(width, channels, 1))
        self.space = nn.Sequential(
            nn.Conv2d(2 * channels, width, 1), group_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 1)
        )
        self.reinforce = nn.Sequential(*_convolve(channels, width), *_convolve(width, width))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Views (B, 3, H, W) to (B, w, H, W)."""
        return self.reinforce(self.mix(self.extract(a), self.extract(b)))

    def mix(self, a: Tensor, b: Tensor) -> Tensor:
        """Mix features (B, 2w, H, W) of two views."""
        both = torch.cat((a, b), dim=1)
        pooled = torch.cat((both.mean(dim=(2, 3), keepdim=True), both.amax(dim=(2, 3), keepdim=True)), dim=1)
        gate = (self.channels(pooled) + self.space(both)).sigmoid()
        return gate * a + (1 - gate) * b


class SemanticEncoder(nn.Module):
    """Tokens of a view: five convolutions, four of them halving, then a small transformer.

    Args:
        channels: Channels of a token.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = nn.Sequential(
            *_convolve(3, channels // 4),
            *_convolve(channels // 4, channels // 2, stride=2),
            *_convolve(channels // 2, channels, stride=2),
            *_convolve(channels, channels, stride=2),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )
        self.transformer = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, _HEADS, 2 * channels, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(_LAYERS)
        )

    def forward(self, view: Tensor) -> Tensor:
        """A view (B, 3, H, W) to tokens (B, ⌈H/16⌉ ⌈W/16⌉, C)."""
        # float32: PyTorch's fused layer is not mixed by autocast where operations are counted
        tokens = as_tokens(self.shrink(view)).float()
        for layer in self.transformer:
            tokens = layer(tokens)
        return tokens


class CrossAttention(nn.Module):
    """Adds to every place of a map what it finds in tokens; nothing at first.

    Args:
        channels: Channels of the map.
        token_channels: Channels of the tokens.
    """

    def __init__(self, channels: int, token_channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.ask = nn.Linear(channels, token_channels)
        self.answer = nn.Linear(token_channels, 2 * token_channels)
        self.out = nn.Linear(token_channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Features (B, C, h, w) and tokens (B, N, D), in any order, to features."""
        keys, values = self.answer(tokens).chunk(2, dim=2)
        queries = self.ask(as_tokens(self.norm(features)))
        q, k, v = (split_heads(one, _HEADS) for one in (queries, keys, values))
        found = self.out(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        return features + as_map(found, *features.shape[-2:])


def _convolve(channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(channels, out_channels, 3, stride, padding=1), group_norm(out_channels), nn.SiLU()
