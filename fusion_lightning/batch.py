"""What flows from the data modules into the methods."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor


class AppliedDegradation(TypedDict):
    """One effect as it was applied: enough to apply it again or to rebuild a linear operator from it."""

    name: str
    """The effect's name, as in a degradation specification, e.g. ``blur``."""
    params: dict[str, Any]
    """Its sampled parameters: plain numbers, strings and lists."""


class SampleDegradation(TypedDict):
    """What went wrong with the two sources of one sample, in the order it was applied."""

    scenario: str
    """Name of the scenario the effects were drawn from; ``clean`` or ``delivered`` when nothing was applied here."""
    a: list[AppliedDegradation]
    b: list[AppliedDegradation]


class FusionSample(TypedDict):
    """One pair as a data set returns it: tensors (C, H, W), float32 in [0, 1]."""

    source_a: Tensor
    source_b: Tensor
    clean_a: Tensor
    clean_b: Tensor
    degradation: SampleDegradation
    name: str


class FusionBatch(TypedDict):
    """A batch of pairs: tensors (B, C, H, W), float32 in [0, 1].

    ``a`` is the modality that carries intensity (infrared, PET, SPECT, CT), ``b`` the one that carries detail
    (visible, MRI). A source has three channels when its data set says that it carries colour, else one.
    """

    source_a: Tensor
    """What sensor a delivered; may be smaller than ``clean_a`` under low resolution."""
    source_b: Tensor
    """What sensor b delivered."""
    clean_a: Tensor
    """The target for a; equal to ``source_a`` when no clean version is known."""
    clean_b: Tensor
    """The target for b; equal to ``source_b`` when no clean version is known."""
    degradation: list[SampleDegradation]
    """What was applied, per sample."""
    name: list[str]
    """File stem, per sample."""


def collate(samples: Sequence[FusionSample]) -> FusionBatch:
    """Stack samples of equal size into a batch; names and degradations stay lists."""
    return FusionBatch(
        source_a=torch.stack([sample["source_a"] for sample in samples]),
        source_b=torch.stack([sample["source_b"] for sample in samples]),
        clean_a=torch.stack([sample["clean_a"] for sample in samples]),
        clean_b=torch.stack([sample["clean_b"] for sample in samples]),
        degradation=[sample["degradation"] for sample in samples],
        name=[sample["name"] for sample in samples],
    )


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn an image (H, W) or (H, W, C), float in [0, 1] or uint8, into a tensor (C, H, W), float32 in [0, 1]."""
    if image.ndim == 2:
        image = image[..., None]
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.float().div_(255) if image.dtype == np.uint8 else tensor.float()


def to_image(tensor: Tensor) -> np.ndarray:
    """Turn a tensor (C, H, W) in [0, 1] into an 8-bit image (H, W) or (H, W, 3), rounded and clipped."""
    image = tensor.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[-1] == 1 else image
