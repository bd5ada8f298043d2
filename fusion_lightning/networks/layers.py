"""Small layers that the networks share."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.jit import is_tracing  # type: ignore[attr-defined]


class OpponentColors(nn.Module):
    """RGB in an orthonormal basis: grey, red against blue, both against green.

    Used at a network's input and output. Grey gets a channel of its own, so that Adam's per-weight steps do not let it
    drown the chroma. The basis is kept in checkpoints, so that weights learned in RGB are refused instead of misread.
    """

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        rows = [[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]
        basis = torch.tensor([[entry / math.hypot(*row) for entry in row] for row in rows])
        self.register_buffer("basis", basis[..., None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W), or differences of such, in opponent colours; float32."""
        return self._turn(image, self.basis)

    def to_rgb(self, image: Tensor) -> Tensor:
        """The inverse."""
        return self._turn(image, self.basis.transpose(0, 1))

    @staticmethod
    def _turn(image: Tensor, basis: Tensor) -> Tensor:
        # half precision would round grey to colour
        with torch.autocast(image.device.type, enabled=False):
            return F.conv2d(image.float(), basis.float())


class GroupNorm(nn.GroupNorm):
    """Group normalisation with a gradient that is fast in the channels-last layout.

    PyTorch's own gradient walks such maps on the CPU channel by channel, which takes longer than the convolution
    beside it: two to eight times as long as this one.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, C, H, W) over groups of channels and all pixels."""
        slow = features.requires_grad and features.device.type == "cpu"
        if slow and features.is_contiguous(memory_format=torch.channels_last):
            return _ChannelsLastGroupNorm.apply(features, self.num_groups, self.weight, self.bias, self.eps)
        return super().forward(features)


class _ChannelsLastGroupNorm(torch.autograd.Function):
    """PyTorch's group normalisation, and its gradient as a few passes over (B, pixels, C).

    With x̂ = (x − μ) r per group, y = γ x̂ + β and g the gradient of y, the gradient of x is
    r (γ g − mean(γ g) − x̂ mean(γ g x̂)), written as p g + q x + s with three numbers per image and channel.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        batch, channels, height, width = features.shape
        normal, mean, rstd = torch.native_group_norm(
            features, weight, bias, batch, channels, height * width, groups, eps
        )
        ctx.save_for_backward(features, weight, mean, rstd)
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        features, weight, mean, rstd = ctx.saved_tensors
        grouped = (*mean.shape, -1)  # (B, groups, channels of a group)
        mean, rstd = mean.to(weight.dtype)[..., None], rstd.to(weight.dtype)[..., None]
        pixels, gradients = as_tokens(features), as_tokens(gradient)
        size = pixels.shape[1] * (pixels.shape[2] // grouped[1])
        of_bias = gradients.sum(dim=1, dtype=weight.dtype).view(grouped)
        of_product = (gradients * pixels).sum(dim=1, dtype=weight.dtype).view(grouped)
        gain = weight.view(grouped[1:])
        average = (of_bias * gain).sum(dim=2, keepdim=True) / size
        slope = rstd**3 * (average * mean - (of_product * gain).sum(dim=2, keepdim=True) / size)
        of_gradient, of_pixel, offset = (
            number.expand(of_bias.shape).flatten(1)[:, None]
            for number in (rstd * gain, slope, -slope * mean - rstd * average)
        )
        of_features = (gradients * of_gradient).add_(pixels * of_pixel).add_(offset).to(features.dtype)
        of_weight = (rstd * (of_product - mean * of_bias)).sum(dim=0).flatten()
        return as_map(of_features, *features.shape[-2:]), None, of_weight, of_bias.sum(dim=0).flatten(), None


class Dropout(nn.Dropout):
    """Dropout whose mask is drawn fast on the CPU.

    PyTorch draws a number of 64 bits for every feature there, one after the other; here such a number serves four
    features with 16 bits each. The share that is dropped is p to within 2⁻¹⁷.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Drop features (of any shape) while training, and scale the others so that the mean is kept."""
        if not (self.training and 0 < self.p < 1 and features.device.type == "cpu"):
            return super().forward(features)
        mask = torch.empty_like(features)  # of their layout
        count = mask.numel()
        random = torch.empty((count + 3) // 4, dtype=torch.int64, device=features.device).random_(-(2**63), None)
        lowest_kept = round(self.p * 2**16) - 2**15
        torch.ge(random.view(torch.int16)[:count], lowest_kept, out=mask.as_strided((count,), (1,)))
        return features * mask.mul_(1 / (1 - self.p))


class PointwiseConv2d(nn.Conv2d):
    """1×1 convolution that is fast on one thread too.

    With one thread PyTorch computes it by a matrix product, which takes up to twice as long as oneDNN's convolution on
    maps that lie channels-last. A dilated one goes to oneDNN always, and a single tap has nothing to dilate.

    Args:
        channels: Number of channels that come in.
        out_channels: Number of channels that go out.
        bias: Whether an offset is learned.
    """

    def __init__(self, channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(channels, out_channels, 1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels of features (B, C, H, W)."""
        alone = features.device.type == "cpu" and torch.get_num_threads() == 1
        return F.conv2d(features, self.weight, self.bias, dilation=2 if alone else 1)


class ChannelNorm(nn.Module):
    """Layer normalisation across the channels of every pixel.

    Written over the transposed view: in the channels-last layout that view is contiguous and PyTorch's fused kernel
    does the whole normalisation in one pass. The ε is the same for every number type, so that mixed precision
    computes the same function.

    Args:
        channels: Number of channels C.
        bias: Whether an offset is learned beside the gain.
    """

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, C, H, W)."""
        return self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def works_in_place() -> bool:
    """Whether features that nobody else needs are overwritten, which spares touching fresh memory.

    Not where a gradient needs them, nor where an export writes the operations down.
    """
    return not (torch.is_grad_enabled() or is_tracing() or torch.compiler.is_exporting())


def silu(features: Tensor) -> Tensor:
    """SiLU of features that nobody else needs."""
    return F.silu(features, inplace=works_in_place())


def add(branch: Tensor, features: Tensor) -> Tensor:
    """The sum of features and of a branch that nobody else needs: in place if that has the sum's type."""
    same = branch.dtype == torch.result_type(branch, features)
    return branch.add_(features) if same and works_in_place() else branch + features


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend an image (B, C, H, W) to the right and below until H and W are multiples of `multiple`.

    Mirrors the image; repeats its last row or column instead where the image is too small to mirror.
    """
    height, width = image.shape[-2:]
    # without negative numbers, which ONNX divides otherwise
    below, right = ((multiple - side % multiple) % multiple for side in (height, width))
    if not (below or right or is_tracing()):  # written down, it has to pad other sizes
        return image
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, below), mode=mode)


def extend_border(features: Tensor, width: int, mode: Literal["replicate", "reflect"]) -> Tensor:
    """Repeat or mirror the border of features (B, C, H, W) by `width` pixels on every side.

    Outside mixed precision, which would copy half-precision features to float32 for this, and back.
    """
    with torch.autocast(features.device.type, enabled=False):
        return F.pad(features, (width,) * 4, mode=mode)


def as_tokens(features: Tensor) -> Tensor:
    """View features (B, C, H, W) as tokens (B, H·W, C)."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn tokens (B, H·W, C) into features (B, C, H, W), a view that is channels-last in memory."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """View tokens (B, N, heads·D) per head, as (B, heads, N, D)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """Put tokens (B, heads, N, D) together again, to (B, N, heads·D)."""
    return tokens.transpose(1, 2).flatten(2)


def token_products(left: Tensor, right: Tensor) -> Tensor:
    """Products of channels summed over tokens, leftᵀ·right; (B, N, C) and (B, N, D) to (B, C, D).

    Image by image, because the batched product in bfloat16 copies its transposed argument (5× slower).
    """
    return torch.stack([x.t() @ y for x, y in zip(left, right, strict=True)])


def channel_products(left: Tensor, right: Tensor, heads: int) -> Tensor:
    """Products of channels summed over tokens, leftᵀ·right per head; twice (B, N, heads·D) to (B, heads, D, D).

    Forms the products across heads too and picks the heads' blocks: one large product costs less than copying the
    tokens apart.
    """
    products = token_products(left, right)
    return products.unflatten(2, (heads, -1)).unflatten(1, (heads, -1)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def mix_channels(tokens: Tensor, mixing: Tensor, project: nn.Conv2d) -> Tensor:
    """Mix the channels of tokens (B, N, heads·D) by `mixing` (B, heads, D, D), then apply a 1×1 convolution.

    The two small matrices are multiplied first, so that the tokens are read and written once: (B, N, C).
    """
    projection = project.weight.flatten(1).unflatten(1, (mixing.shape[1], -1))
    weight = torch.einsum("ohe,bhde->bhdo", projection, mixing.to(projection.dtype)).flatten(1, 2)
    mixed = tokens @ weight
    return mixed if project.bias is None else mixed + project.bias.to(mixed.dtype)
