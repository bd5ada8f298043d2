"""Registration network: an affine warp by two rounds of matching, and a smooth bend on top of it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.filters import box_mean
from fusion_lightning.networks.layers import GroupNorm, pad_to_multiple

RegistrationSize = Literal["tiny", "small", "base"]
_WIDTHS = {"tiny": (8, 16, 24), "small": (16, 32, 48), "base": (24, 48, 72)}
COARSE, FINE = 4, 3
"""How many cells of 8 and of 4 pixels the two rounds look around: ±32 and ±12 pixels."""
_RIDGE = 1e-4
_AROUND = 24
"""Pixels on every side that an edge is compared with."""


class Registration(NamedTuple):
    """What the network says of a pair; warps (B, 2, H, W) bring a into the frame of b."""

    affine: Tensor
    """The affine warp."""
    warp: Tensor
    """The affine warp and the bend."""
    bend: Tensor
    """The bend in pixels, at a quarter of the size."""
    matches: Tensor
    """How well each cell of b, (H/8, W/8), agrees with the 81 cells of a around it, row by row: logits."""


class RegistrationNetwork(nn.Module):
    """Encoders of two modalities, and two rounds of matching at an eighth and a quarter of the size.

    A round compares each cell of b with the cells of a around it by cosines of their features; convolutions turn these
    into a displacement and a weight, and the weighted least-squares fit to all cells is the affine warp. The second
    round looks through the warp of the first, and adds a bend. The last layers begin at zero: untrained, it moves
    nothing.

    Args:
        size: ``tiny``, ``small`` or ``base``: 0.11, 0.38 and 0.80 million parameters.

    Raises:
        UserError: If there is no such size.
    """

    def __init__(self, size: RegistrationSize = "small") -> None:
        super().__init__()
        check_choice("size", size, RegistrationSize)
        widths = _WIDTHS[size]
        self.encode_a, self.encode_b = _Encoder(widths), _Encoder(widths)
        self.coarse = _head((2 * COARSE + 1) ** 2, widths[2], 1)
        self.fine = _head((2 * FINE + 1) ** 2, widths[1], 3)
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def forward(self, a: Tensor, b: Tensor) -> Registration:
        """Register the luma of two sources of one size, (B, 1, H, W) in [0, 1]."""
        height, width = a.shape[-2:]
        a, b = (pad_to_multiple(torch.cat((luma, edges(luma)), dim=1), 8) for luma in (a, b))
        size = (a.shape[-2], a.shape[-1])
        (fine_a, coarse_a), (fine_b, coarse_b) = self.encode_a(a), self.encode_b(b)
        matches, cells = self._match(self.coarse, coarse_a, coarse_b, COARSE)
        first = fit_affine(8 * expected_shift(matches, COARSE), cells, 8)
        # cell i of the finer maps has its centre at pixel 4 i + 1.5
        through = (warps.from_affine(first, size)[..., 1::4, 1::4] + _half_a_pixel(first) - 1.5) / 4
        near, cells = self._match(self.fine, warps.sample(fine_a.float(), through), fine_b, FINE)
        shift = 4 * expected_shift(near, FINE)
        second = _composed(first, fit_affine(shift, cells[:, :1], 4))
        affine = warps.from_affine(second, size)
        bend = 4 * cells[:, 1:]
        enlarged = F.interpolate(bend, scale_factor=4.0, mode="bilinear", align_corners=False)
        warp = affine + enlarged
        return Registration(affine[..., :height, :width], warp[..., :height, :width], bend, matches)

    def _match(self, head: nn.Module, a: Tensor, b: Tensor, reach: int) -> tuple[Tensor, Tensor]:
        """Logits of the shifts of each cell of b, and what else a head says of it."""
        matches = self.sharpness * correlate(a, b, reach)
        said = head(torch.cat((matches, b.float()), dim=1)).float()
        return matches + said[:, : matches.shape[1]], said[:, matches.shape[1] :]


def edges(luma: Tensor) -> Tensor:
    """How strong edges are, compared with those around: 0 on average, spread about 1; (B, 1, H, W) in [0, 1].

    A gradient's size, on a logarithmic scale that sees dim and noisy images alike.
    """
    kernel = luma.new_tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 8
    smooth = luma.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = F.conv2d(F.pad(luma, (2,) * 4, mode="replicate"), (smooth[:, None] * smooth)[None, None])
    slopes = F.conv2d(F.pad(blurred, (1,) * 4, mode="replicate"), torch.stack((kernel, kernel.T))[:, None])
    size = slopes.square().sum(dim=1, keepdim=True).add(1e-10).sqrt()
    relative = (size / size.mean(dim=(-2, -1), keepdim=True)).log1p()
    mean = box_mean(relative, _AROUND)
    spread = (box_mean(relative.square(), _AROUND) - mean.square()).clamp(min=1e-4).sqrt()
    return (relative - mean) / spread


def correlate(a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Cosines between each cell of b and the cells of a around it; (B, C, H, W) twice to (B, (2 reach + 1)², H, W).

    Row by row, from `reach` cells above and left on; 0 beyond the border.
    """
    height, width = b.shape[-2:]
    a, b = F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)
    padded = F.pad(a, (reach,) * 4)
    shifts = range(2 * reach + 1)
    parts = [
        (padded[..., down : down + height, right : right + width] * b).sum(dim=1) for down in shifts for right in shifts
    ]
    return torch.stack(parts, dim=1)


def expected_shift(matches: Tensor, reach: int) -> Tensor:
    """The mean shift in cells, x and y, under the softmax of logits (B, (2 reach + 1)², H, W): (B, 2, H, W)."""
    shares = matches.float().softmax(dim=1).unflatten(1, (2 * reach + 1, 2 * reach + 1))
    steps = torch.arange(-reach, reach + 1, dtype=shares.dtype, device=shares.device).view(-1, 1, 1)
    return torch.stack(((shares.sum(dim=1) * steps).sum(dim=1), (shares.sum(dim=2) * steps).sum(dim=1)), dim=1)


def fit_affine(displacement: Tensor, weight: Tensor, cell: int) -> Tensor:
    """The affine map p ↦ p + d(p) closest to displacements of cells: matrices (B, 2, 3) in pixels.

    Weighted least squares, with a penalty of 1e-4 on the motion.

    Args:
        displacement: Of every cell, x and y in pixels, (B, 2, h, w).
        weight: Logits of their weights, (B, 1, h, w).
        cell: Pixels from cell to cell.
    """
    # mixed precision would solve in half precision
    with torch.autocast(displacement.device.type, enabled=False):
        height, width = displacement.shape[-2:]
        centre = displacement.new_tensor([(width - 1) / 2, (height - 1) / 2])
        reach = max(height, width) / 2
        places = (warps.identity((height, width), displacement) - centre.view(2, 1, 1)) / reach
        design = torch.cat((places, torch.ones_like(places[:, :1])), dim=1).flatten(2).transpose(1, 2)  # (1, N, 3)
        shares = weight.flatten(2).softmax(dim=2).transpose(1, 2)
        normal = (design * shares).transpose(1, 2) @ design
        right = (design * shares).transpose(1, 2) @ displacement.flatten(2).transpose(1, 2)
        ridge = _RIDGE * torch.eye(3, dtype=normal.dtype, device=normal.device)
        solved = torch.linalg.solve(normal + ridge, right).transpose(1, 2)  # (B, 2, 3)
        linear = solved[..., :2] / (cell * reach)
        # cell i has its centre at pixel cell · i + (cell − 1) / 2
        offset = solved[..., 2:] - linear @ (cell * centre + (cell - 1) / 2)[:, None]
        still = torch.eye(2, 3, dtype=linear.dtype, device=linear.device)
        return torch.cat((linear, offset), dim=2) + still


def bending_energy(bend: Tensor) -> Tensor:
    """Mean squared second differences of a bend (B, 2, h, w), along, across and mixed."""
    x, y = bend.diff(dim=-1), bend.diff(dim=-2)
    parts = (x.diff(dim=-1), y.diff(dim=-2), 2**0.5 * x.diff(dim=-2))
    return torch.stack([part.square().mean() for part in parts]).sum()


class _Encoder(nn.Module):
    """Maps of a view (B, 2, H, W), luma and edges, at a quarter and an eighth of its size."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.to_half, self.to_quarter = _level(2, half), _level(half, quarter)
        self.to_eighth = _level(quarter, eighth)
        self.fine, self.coarse = nn.Conv2d(quarter, quarter, 1), nn.Conv2d(eighth, eighth, 1)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        quarter = self.to_quarter(self.to_half(view))
        return self.fine(quarter), self.coarse(self.to_eighth(quarter))


def _level(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
    return nn.Sequential(first, GroupNorm(8, outputs), nn.SiLU(), second, GroupNorm(8, outputs), nn.SiLU())


def _head(shifts: int, features: int, more: int) -> nn.Sequential:
    """Convolutions over logits of shifts and features, which correct the logits and say more; they begin at zero."""
    layers: list[nn.Module] = []
    for inputs, dilation in ((shifts + features, 1), (64, 2), (64, 4)):
        convolution = nn.Conv2d(inputs, 64, 3, 1, dilation, dilation, padding_mode="replicate")
        layers += [convolution, GroupNorm(8, 64), nn.SiLU()]
    last = nn.Conv2d(64, shifts + more, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers, last)


def _composed(outer: Tensor, inner: Tensor) -> Tensor:
    """The matrix (B, 2, 3) of p ↦ outer(inner(p))."""
    return torch.cat((outer[..., :2] @ inner[..., :2], outer[..., :2] @ inner[..., 2:] + outer[..., 2:]), dim=2)


def _half_a_pixel(matrix: Tensor) -> Tensor:
    """How far a map moves a point from a pixel towards the next by half of one both ways, (B, 2, 1, 1)."""
    return matrix[..., :2].sum(dim=2)[..., None, None] / 2
