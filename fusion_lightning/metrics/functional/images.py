"""Preparation of images for metrics: checks, grey levels 0..255, groups of a few images."""

import functools
from collections.abc import Callable
from typing import Concatenate, NamedTuple, ParamSpec, Protocol, cast

import torch
from torch import Tensor

from fusion_lightning.errors import UserError

Options = ParamSpec("Options")
Definition = Callable[Concatenate[Tensor, Tensor, Tensor, Options], Tensor]


_CHUNK = 2**18  # pixels taken at a time
# MATLAB's rgb2gray to full precision, as both toolboxes' drivers apply it before rounding
_GREY = (0.298936021293775, 0.587043074451121, 0.114020904255103)


class GreyImages(NamedTuple):
    """Checked images of a batch as grey levels 0..255, for several metrics to share."""

    groups: list[tuple[Tensor, Tensor, Tensor]]
    """Fused, source a and source b, (B, H, W) each, of a few images at a time: small ones together, large ones one by
    one, so that the memory needed is that of one image and its maps stay in the cache."""
    dtype: torch.dtype
    """The type of the values to give."""
    originals: tuple[Tensor, Tensor, Tensor]
    """The images as they were given, (B, 1 or 3, H, W) in [0, 1], for scores of colour."""


class Score(Protocol[Options]):
    """A public metric: its three images by place or by name, then its options."""

    __name__: str
    smallest: int
    """The smallest height and width of an image: below it no window fits."""

    def __call__(
        self, fused: Tensor, source_a: Tensor, source_b: Tensor, *args: Options.args, **kwargs: Options.kwargs
    ) -> Tensor:
        """Values (B,) of images (B, 1 or 3, H, W) in [0, 1]."""
        ...

    def score_grey(self, levels: GreyImages, *args: Options.args, **kwargs: Options.kwargs) -> Tensor:
        """Values (B,) of images whose grey levels are there already."""
        ...


def fusion_score(smallest: int = 1) -> Callable[[Definition[Options]], Score[Options]]:
    """Make a public metric out of a definition on grey levels.

    The definition gets three tensors (B, H, W) of grey levels 0..255 and returns (B,). The public function takes
    [0, 1] tensors (B, 1 or 3, H, W); its attribute `score_grey` takes what `to_grey_levels` made of them, so that
    several metrics of the same images share that work. Autocast is off inside.

    Args:
        smallest: The smallest height and width of an image: below it no window fits.
    """

    def decorate(definition: Definition[Options]) -> Score[Options]:
        def score_grey(levels: GreyImages, *args: Options.args, **kwargs: Options.kwargs) -> Tensor:
            check_size(definition.__name__, smallest, levels)
            with torch.autocast(levels.groups[0][0].device.type, enabled=False):
                values = torch.cat([definition(*group, *args, **kwargs) for group in levels.groups])
            return values.to(levels.dtype)

        @functools.wraps(definition)
        def score(
            fused: Tensor, source_a: Tensor, source_b: Tensor, *args: Options.args, **kwargs: Options.kwargs
        ) -> Tensor:
            return score_grey(to_grey_levels(fused, source_a, source_b), *args, **kwargs)

        score.score_grey = score_grey  # type: ignore[attr-defined]
        score.smallest = smallest  # type: ignore[attr-defined]
        return cast(Score[Options], score)

    return decorate


def check_size(metric: str, smallest: int, levels: GreyImages) -> None:
    """Refuse images in which a metric finds no window.

    Args:
        metric: Its name.
        smallest: Its smallest height and width of an image.
        levels: The images.

    Raises:
        UserError: If they are smaller.
    """
    height, width = levels.groups[0][0].shape[1:]
    if min(height, width) < smallest:
        raise UserError(f"{metric} needs images of at least {smallest}x{smallest} pixels, but got {height}x{width}")


def to_grey_levels(fused: Tensor, source_a: Tensor, source_b: Tensor) -> GreyImages:
    """Check the images (B, 1 or 3, H, W) in [0, 1] of a batch and bring them to grey levels 0..255.

    Raises:
        ValueError: If they are not such images, or not of one size.
    """
    images = {"fused": fused, "source_a": source_a, "source_b": source_b}
    _check(images)
    step = max(_CHUNK // (fused.shape[-2] * fused.shape[-1]), 1)
    groups = [
        (grey_levels(f), grey_levels(a), grey_levels(b))
        for f, a, b in zip(fused.split(step), source_a.split(step), source_b.split(step), strict=True)
    ]
    return GreyImages(groups, torch.promote_types(fused.dtype, torch.float32), (fused, source_a, source_b))


def grey_levels(image: Tensor) -> Tensor:
    """Grey levels 0..255 of images in [0, 1]: (B, 1 or 3, H, W) to (B, H, W).

    Colour becomes grey by round(0.2989 R + 0.5870 G + 0.1140 B), the rule of the original toolboxes' drivers. Grey
    images are scaled as given but for the last bits, because x / 255 · 255 misses x and the gradient metrics are
    decided by exact ties.
    """
    if image.dtype in (torch.float16, torch.bfloat16):
        image = image.float()
    if image.shape[1] == 3:
        weights = torch.tensor(_GREY, dtype=torch.float64, device=image.device).view(3, 1, 1)
        colours = _scale(image.double())
        grey = (colours * weights).sum(1)
        return (grey + (grey.round() - grey).detach()).to(image.dtype)
    return _scale(image[:, 0])


def stretch(levels: Tensor) -> Tensor:
    """Stretch images (B, H, W) to the integers 0..255; a black one stays black, another constant one is NaN."""
    levels = levels.detach()
    lowest, highest = levels.amin((1, 2), keepdim=True), levels.amax((1, 2), keepdim=True)
    stretched = (levels - lowest).mul_(255).div_(highest - lowest).add_(0.5).floor_()
    return stretched.masked_fill_(highest == 0, 0)


def _scale(image: Tensor) -> Tensor:
    """255 · image, rounded to a grid that holds the integers: 2^-13 in float32, 2^-32 in float64."""
    steps = 2.0**13 if image.dtype == torch.float32 else 2.0**32
    levels = (image.detach() * (255 * steps)).round_().mul_(1 / steps)
    # the detour keeps the gradient of images that require one
    return image * 255 + (levels - image.detach() * 255) if image.requires_grad else levels


def _check(images: dict[str, Tensor]) -> None:
    shapes = {name: tuple(image.shape) for name, image in images.items()}
    for name, image in images.items():
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"`{name}` must have shape (B, 1 or 3, H, W), but got {shapes[name]}")
        if not image.is_floating_point():
            raise ValueError(f"`{name}` must be floating point in [0, 1], but got {image.dtype}")
    if len({(shape[0], *shape[2:]) for shape in shapes.values()}) > 1:
        raise ValueError(f"`fused`, `source_a` and `source_b` must be of one size, but got {list(shapes.values())}")
    for name, image in images.items():
        lowest, highest = (value.item() for value in image.detach().aminmax()) if image.numel() else (0.0, 1.0)
        if not (lowest > -0.5 and highest < 1.5):
            raise ValueError(f"`{name}` must be finite and in [0, 1], but its values go from {lowest} to {highest}")
