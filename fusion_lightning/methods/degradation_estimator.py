"""Estimators: they tell from an image alone what went wrong with it."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, Modality, SampleDegradation
from fusion_lightning.degradations.labels import KINDS, SOFTENING, planned, seen_kinds, severity, specify
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.estimation import blur_sigma, darkens_to_the_border, noise_sigma
from fusion_lightning.imaging.resize import at_least
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.classical import ClassicalRestorer
from fusion_lightning.networks.degradation_estimator import EstimatorNetwork
from fusion_lightning.scoring import ScoreRow, StepOutput

_SMALLEST = 32
"""Smaller images are continued by their mirror images to so many pixels a side."""
_COVERS = {"poisson", "iso_noise", "quantize", "jpeg"}
"""Kinds after which the details of an image are no longer those of white noise alone."""
_CLIPPED = 1 / 8
"""Share of black and white values from which on too much of the noise was cut off to be measured."""


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of an image."""

    kinds: dict[str, float]
    """Effects that it finds, each with the value of its parameter; see `KINDS`."""
    confidence: float
    """How sure it is that these are all and no others, in [0, 1]; NaN if it cannot tell."""
    angle: float = 0.0
    """Direction of a motion blur in degrees."""
    padding: str = "reflect"
    """Border of blurs."""
    probabilities: dict[str, float] = field(default_factory=dict)
    """Of every kind that it knows, how likely it is."""

    def text(self, smaller: int = 1) -> str:
        """As a degradation is written: ``blur(sigma=1.9)+noise(sigma=12)``.

        Args:
            smaller: How many times smaller than the other source the image is.
        """
        return specify(self.kinds, self.angle, self.padding, smaller)


class Estimator(FusionMethod):
    """Base of estimators: subclasses implement `estimate`.

    It is scored by what it says of each source: ``right_a`` is 1 where it names exactly the effects that were applied,
    ``error_noise_a`` the distance to the noise's σ, and so on for every kind that was both applied and found; for kinds
    written as severities their distance in levels. Taken for a method, it restores: `ClassicalRestorer` undoes what it
    found.
    """

    knows: tuple[str, ...] = tuple(KINDS)
    """The kinds that it can tell."""

    def estimate(self, images: Tensor) -> list[Estimate]:
        """Say of images (B, 1 or 3, H, W) in [0, 1], of any size, what went wrong with each."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it estimates")

    @torch.no_grad()
    def pair_texts(self, batch: FusionBatch) -> list[dict[Modality, str]]:
        """What is found in the sources of each sample, as text.

        A source that is smaller than the other by a whole number was averaged down, which its size tells.
        """
        images = (batch["source_a"], batch["source_b"])
        smaller = [_times_smaller(image, other) for image, other in (images, images[::-1])]
        texts = ([one.text(by) for one in self.estimate(image)] for image, by in zip(images, smaller, strict=True))
        return [dict(zip(MODALITIES, pair, strict=True)) for pair in zip(*texts, strict=True)]

    def estimated(self, batch: FusionBatch) -> FusionBatch:
        """The batch with the degradation that is found in its sources instead of what it records of them."""
        return with_degradation(batch, self.pair_texts(batch))

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Both sources as textbook filters restore them from what was found; there is no ``fused``.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        return ClassicalRestorer().fuse(self.estimated(batch))

    def _score(self, stage: str, batch: FusionBatch) -> StepOutput:
        rows = [
            ScoreRow(name=name, scenario=one["scenario"], scores={})
            for name, one in zip(batch["name"], batch["degradation"], strict=True)
        ]
        for side in MODALITIES:
            estimates = self.estimate(batch[f"source_{side}"])  # type: ignore[literal-required]
            for row, estimate, applied in zip(rows, estimates, batch["degradation"], strict=True):
                true = seen_kinds(applied[side])
                scores = {f"right_{side}": float(set(true) == set(estimate.kinds))}
                for name in true.keys() & estimate.kinds.keys():
                    scores[f"error_{name}_{side}"] = distance(name, estimate.kinds[name], true[name])
                row["scores"].update(scores)
                self.log(f"{stage}/kinds_right", scores[f"right_{side}"], on_step=False, on_epoch=True, batch_size=1)
        return StepOutput(output=FusionOutput(), rows=rows)


class ClassicalEstimator(Estimator):
    """Textbook estimates of noise and of a Gaussian blur; what else went wrong it cannot tell, nor how sure it is.

    Args:
        least_noise: Standard deviation in grey levels below which details of the image are not told from noise.
        least_blur: Standard deviation in pixels below which a blur is not told from the lens and the scene.
        **options: Those of `FusionMethod`.
    """

    knows = ("blur", "noise")

    def __init__(self, least_noise: float = 3.0, least_blur: float = 1.5, **options: Any) -> None:
        super().__init__(**options)
        self.least_noise, self.least_blur = least_noise, least_blur

    def estimate(self, images: Tensor) -> list[Estimate]:
        """σ of noise and blur, of the luma; of noise in the noisiest channel, as it is added to each."""
        images = at_least(images, _SMALLEST)
        luma = rgb_to_luma(images)
        found = []
        for image, blurred, noisy in zip(luma, blur_sigma(luma).tolist(), _noise(images), strict=True):
            kinds = {"blur": blurred, "noise": noisy}
            least = {"blur": self.least_blur, "noise": self.least_noise}
            seen = {name: value for name, value in kinds.items() if value >= least[name]}
            found.append(Estimate(seen, math.nan, padding=_padding(image[None], seen)))
        return found


class DegradationEstimator(Estimator):
    """Network that tells which effects an image shows and how strong they are; it learns from what was applied.

    The presence of every kind is told by itself, so that any composition can be found; only of those that soften an
    image the likeliest counts, and what has many grey levels was not quantised. Strengths are learned on a logarithmic
    scale; white noise that nothing came after and that black and white did not cut off is measured by the textbook
    rule, which is closer. The confidence is that of the least certain kind.

    Args:
        width: Channels of the network's hidden layers.
        strength: Weight of the strengths' error beside the presence's.
        **options: Those of `FusionMethod`.
    """

    middle: Tensor
    reach: Tensor

    def __init__(self, width: int = 256, strength: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.strength = strength
        self.network = EstimatorNetwork(len(KINDS), width)
        ends = torch.tensor([sorted((kind.weakest, kind.strongest)) for kind in KINDS.values()]).log()
        self.register_buffer("middle", ends.mean(dim=1), persistent=False)
        self.register_buffer("reach", (ends[:, 1] - ends[:, 0]) / 2, persistent=False)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the kinds' presence, and the distance of strengths where they are present, both sources."""
        parts = []
        for side in MODALITIES:
            image = self._some_grey(batch[f"source_{side}"], batch["name"])  # type: ignore[literal-required]
            parts.append(self._losses(image, batch["degradation"], side))
        presence, strengths, angle = (torch.stack(part).mean() for part in zip(*parts, strict=True))
        loss = presence + self.strength * (strengths + angle)
        return self.log_losses({"loss": loss, "presence": presence, "strength": strengths, "angle": angle}, batch)

    @torch.no_grad()
    def estimate(self, images: Tensor) -> list[Estimate]:
        """What is more likely there than not, each with its strength."""
        logits, strengths, turned = (part.float().cpu() for part in self.network(images))
        values = (strengths.clamp(-1, 1) * self.reach.cpu() + self.middle.cpu()).exp()
        found = []
        for index, (shares, noisy) in enumerate(zip(logits.sigmoid().tolist(), _noise(images), strict=True)):
            likely = dict(zip(KINDS, shares, strict=True))
            if not KINDS["quantize"].is_seen(_levels(images[index])):
                likely["quantize"] = 0.0
            present, confidence = _likeliest(likely)
            kinds = {name: float(value) for name, value in zip(KINDS, values[index], strict=True) if name in present}
            clipped = ((images[index] <= 0) | (images[index] >= 1)).float().mean()
            if "noise" in kinds and not _COVERS & kinds.keys() and clipped <= _CLIPPED:
                kinds["noise"] = min(max(noisy, KINDS["noise"].weakest), KINDS["noise"].strongest)
            angle = math.degrees(0.5 * math.atan2(float(turned[index, 1]), float(turned[index, 0]))) % 180
            found.append(
                Estimate(
                    kinds=kinds,
                    confidence=confidence,
                    angle=angle,
                    padding=_padding(rgb_to_luma(images[index : index + 1]), kinds),
                    probabilities=likely,
                )
            )
        return found

    def _some_grey(self, image: Tensor, names: Sequence[str]) -> Tensor:
        """Every third image in colour as its green channel alone, which suffered the same: grey cameras exist, too."""
        turns = [(zlib.crc32(name.encode()) + self.global_step) % 3 == 0 for name in names]
        grey = torch.tensor(turns, device=image.device)[:, None, None, None]
        return torch.where(grey, image[:, 1:2], image) if image.shape[1] == 3 else image

    def _losses(self, images: Tensor, degradations: list[SampleDegradation], side: str) -> tuple[Tensor, ...]:
        logits, strengths, turned = self.network(images)
        seen = [seen_kinds(one[side]) for one in degradations]  # type: ignore[literal-required]
        present = torch.tensor([[float(name in one) for name in KINDS] for one in seen], device=logits.device)
        values = torch.tensor([[one.get(name, 1.0) for name in KINDS] for one in seen], device=logits.device)
        wanted = (values.log() - self.middle) / self.reach
        error = F.smooth_l1_loss(strengths.float(), wanted, reduction="none", beta=0.05)
        strength = (error * present).sum() / present.sum().clamp(min=1)
        presence = F.binary_cross_entropy_with_logits(logits.float(), present, reduction="none").sum(dim=1).mean()
        moved = torch.tensor([_motion(one[side]) for one in degradations], device=logits.device)  # type: ignore[literal-required]
        axis = torch.stack(((2 * moved).cos(), (2 * moved).sin()), dim=1)
        known = ~moved.isnan()
        turns = 1 - F.cosine_similarity(turned.float(), axis.nan_to_num(), dim=1)
        return presence, strength, (turns * known).sum() / known.sum().clamp(min=1)


def _noise(images: Tensor) -> list[float]:
    """The textbook σ of white noise in images (B, C, H, W), in grey levels; that of the noisiest channel."""
    images = at_least(images, _SMALLEST)
    channels = [noise_sigma(images[:, channel : channel + 1]) for channel in range(images.shape[1])]
    return torch.stack(channels).amax(dim=0).tolist()


def _levels(image: Tensor) -> int:
    """How many of 256 grey levels an image (C, H, W) in [0, 1] has, in the channel that has most."""
    stored = (image * 255).round().long().clamp(0, 255)
    return max(int(channel.flatten().bincount(minlength=256).count_nonzero()) for channel in stored)


def _likeliest(likely: Mapping[str, float]) -> tuple[set[str], float]:
    """The kinds that are there, from how likely each is, and how sure the least certain decision is.

    An image shows one softening kind at most, so that none is as likely as all of theirs leave.
    """
    apart = {name: share for name, share in likely.items() if name not in SOFTENING}
    soft = {name: likely[name] for name in SOFTENING}
    none = max(1 - sum(soft.values()), 0.0)
    best = max(soft, key=lambda name: soft[name])
    present = {name for name, share in apart.items() if share > 0.5} | ({best} if soft[best] > none else set())
    decided = max(soft[best], none) / (none + sum(soft.values()))
    return present, min(decided, *(max(share, 1 - share) for share in apart.values()))


def distance(name: str, found: float, true: float) -> float:
    """How far a kind's parameter was missed, in its own unit; of kinds written as severities in levels."""
    return abs(severity(name, found) - severity(name, true)) if KINDS[name].by_level else abs(found - true)


def _motion(effects: Any) -> float:
    """The direction of a motion blur in radians; NaN if nothing moved."""
    angles = [effect["params"]["angle"] for effect in effects if effect["name"] == "motion_blur"]
    return math.radians(angles[-1]) if angles else math.nan


def _padding(luma: Tensor, kinds: dict[str, float]) -> str:
    """Whether a blur met a black border, by how light falls towards the image's rim."""
    sizes = {"blur": 1.0, "defocus": 0.5, "motion_blur": 0.3}
    spread = [kinds[name] * size for name, size in sizes.items() if name in kinds]
    return "zero" if spread and darkens_to_the_border(luma, max(spread)) else "reflect"


def with_degradation(batch: FusionBatch, found: Sequence[Mapping[Modality, str]]) -> FusionBatch:
    """A batch with the degradations that were found, as text; a source of which none was keeps what is recorded."""
    degradation = []
    for recorded, texts in zip(batch["degradation"], found, strict=True):
        a, b = (planned(texts[side]) if side in texts else recorded[side] for side in MODALITIES)
        degradation.append(SampleDegradation(scenario="estimated", a=a, b=b))
    return FusionBatch(**{**batch, "degradation": degradation})


def _times_smaller(image: Tensor, other: Tensor) -> int:
    """How many times the other image is larger, if that is a whole number of times; 1 if it is not larger."""
    height, width = image.shape[-2:]
    factor = -(-other.shape[-2] // height)
    fits = (-(-other.shape[-2] // factor), -(-other.shape[-1] // factor)) == (height, width)
    return factor if fits else 1
