"""The data types that data modules, methods and callbacks exchange: batches, outputs, controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.resize import same_size

Modality = Literal["a", "b"]
MODALITIES: tuple[Modality, Modality] = ("a", "b")
"""``a`` carries intensity (infrared, PET, SPECT, CT), ``b`` detail (visible, MRI)."""


class AppliedDegradation(TypedDict):
    """One effect as it was applied: enough to apply it again or to rebuild a linear operator from it."""

    name: str
    """The effect's name, as in a degradation specification, e.g. ``blur``."""
    params: dict[str, Any]
    """Its sampled parameters: plain numbers, strings and lists."""


class SampleDegradation(TypedDict):
    """The degradations of the two sources of one sample, in the order they were applied."""

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


@dataclass(frozen=True)
class Controls:
    """User controls of a fusion: removal strengths and the balance of modalities; no training is needed.

    Attributes:
        strength_a: How much of the estimated degradation of source a is removed, from 0 (keeps it) to 1 (removes it).
        strength_b: The same for source b.
        balance: Which modality the fusion leans to: 0 is source a, 1 is source b, 0.5 is as trained.
    """

    strength_a: float = 1.0
    strength_b: float = 1.0
    balance: float = 0.5

    def __post_init__(self) -> None:
        for name in ("strength_a", "strength_b"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UserError(
                    f"`{name}` must be between 0 (keeps the degradation) and 1 (removes it), but got {value}"
                )
        if not 0 <= self.balance <= 1:
            raise UserError(f"`balance` must be between 0 (source a) and 1 (source b), but got {self.balance}")


class FusionOutput(TypedDict):
    """Result of a method: tensors (B, C, H, W) in [0, 1]; a method fills in what it produces."""

    fused: NotRequired[Tensor]
    restored_a: NotRequired[Tensor]
    restored_b: NotRequired[Tensor]
    weight: NotRequired[Tensor]
    """How much of source a the fusion takes at each pixel, (B, 1, H, W)."""
    warp_a: NotRequired[Tensor]
    """Where each pixel of b's frame lies in source a, (B, 2, H, W): x and y in pixels."""


def pictures(output: FusionOutput) -> dict[str, Tensor]:
    """What can be looked at in a result: all but the warp."""
    return {part: value for part, value in output.items() if part != "warp_a" and isinstance(value, Tensor)}


def sources(batch: FusionBatch) -> tuple[Tensor, Tensor]:
    """The delivered sources, enlarged to one size: (B, 1 or 3, H, W) in [0, 1] each."""
    return same_size(batch["source_a"], batch["source_b"])


def clean(batch: FusionBatch) -> tuple[Tensor, Tensor]:
    """The clean sources, enlarged to one size: (B, 1 or 3, H, W) in [0, 1] each."""
    return same_size(batch["clean_a"], batch["clean_b"])


def known_clean(batch: FusionBatch, modality: Modality) -> Tensor:
    """For which images the target of a source is a clean version of it, (B,).

    A source as the sensor delivered it has no clean twin if it is its own.
    """
    side = MODALITIES.index(modality)
    differs = (sources(batch)[side] != clean(batch)[side]).flatten(1).any(dim=1)
    made = torch.tensor([one["scenario"] != "delivered" for one in batch["degradation"]], device=differs.device)
    return differs | made


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


def to_device(batch: FusionBatch, device: torch.device) -> FusionBatch:
    """Move a batch's tensors to a device."""
    moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    return FusionBatch(**moved)  # type: ignore[typeddict-item]


def as_precise(batch: FusionBatch, dtype: torch.dtype) -> FusionBatch:
    """A batch with its images in a floating-point type."""
    images = {key: value.to(dtype) for key, value in batch.items() if isinstance(value, Tensor)}
    return FusionBatch(**{**batch, **images})  # type: ignore[typeddict-item]


def require_finite(output: FusionOutput, names: Sequence[str]) -> None:
    """Notice images that hold NaN or Inf.

    Raises:
        UserError: If one does.
    """
    for part, images in output.items():
        assert isinstance(images, Tensor)
        if not torch.isfinite(images).all():
            finite = torch.isfinite(images).flatten(1).all(dim=1).tolist()
            bad = [name for name, fine in zip(names, finite, strict=True) if not fine]
            raise UserError(
                f"`{part}` of {', '.join(bad)} holds NaN or Inf: the weights or the sources are damaged, or the "
                "precision is too low for this method"
            )
