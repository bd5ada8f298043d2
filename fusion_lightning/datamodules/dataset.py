"""From pairs to samples: crop and flip both sources alike, let something go wrong with each, make tensors."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from fusion_lightning.batch import AppliedDegradation, FusionSample, SampleDegradation, to_tensor
from fusion_lightning.datamodules.pairs import Pair
from fusion_lightning.datamodules.sampler import Draw
from fusion_lightning.degradations import Scenario, degrade

_SIDES = ("a", "b")
# every random choice has a stream of its own, named by these numbers
_EVALUATION, _TRAINING = 0, 1
_LAYOUT, _SOURCES = 0, 1


class Pairs(Protocol):
    """Pairs by number: read from files or drawn."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


class FusionDataset(Dataset[FusionSample]):
    """Samples that depend on (seed, epoch, index) in training and on (seed, index) in evaluation, on nothing else.

    A training sample is cropped and flipped, alike in all images of the pair; then a scenario is drawn, and each source
    is degraded on its own. An evaluation sample is the whole pair, and the scenarios take turns, so that each is
    evaluated equally often.

    Args:
        pairs: Where the images come from.
        scenarios: What can go wrong. Nothing more than was delivered when there are none; pairs with clean twins were
            delivered degraded and are left as they are.
        seed: Of every random choice.
        training: Make training samples; evaluation samples otherwise.
        crop_size: Side of the square training crop in pixels of the larger image, whose surroundings are padded by
            reflection where it is smaller; None trains on whole images.
        flip: Mirror half of the training samples left to right.
    """

    def __init__(
        self,
        pairs: Pairs,
        scenarios: Sequence[Scenario] = (),
        seed: int = 0,
        training: bool = False,
        crop_size: int | None = None,
        flip: bool = False,
    ) -> None:
        self.pairs = pairs
        self.scenarios = {scenario.name: scenario for scenario in scenarios}
        self.seed = seed
        self.training = training
        self.crop_size = crop_size
        self.flip = flip

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Draw | int) -> FusionSample:
        """Make the sample of a draw; a plain index in training means the first epoch."""
        draw = key if isinstance(key, Draw) else Draw(0, key)
        stream = (_TRAINING, draw.epoch, draw.index) if self.training else (_EVALUATION, draw.index)
        layout = self._generator(*stream, _LAYOUT)
        pair = self.pairs[draw.index]
        images = {"a": pair.a, "b": pair.b}
        if pair.clean_a is not None:
            images["clean_a"] = pair.clean_a
        if pair.clean_b is not None:
            images["clean_b"] = pair.clean_b
        if self.training:
            images = self._crop_and_flip(images, layout)
        clean = {role: _to_float(image) for role, image in images.items()}
        sources = {side: clean[side] for side in _SIDES}
        applied: dict[str, list[AppliedDegradation]] = {side: [] for side in _SIDES}
        name = pair.scenario
        if self.scenarios and len(images) == len(_SIDES):
            names = list(self.scenarios)
            turn = int(layout.integers(len(names))) if self.training else draw.index % len(names)
            name = draw.scenario or names[turn]
            scenario = self.scenarios[name]
            for number, (side, degradation) in enumerate(zip(_SIDES, (scenario.a, scenario.b), strict=True), _SOURCES):
                sources[side], applied[side] = degrade(sources[side], degradation, self._generator(*stream, number))
        return FusionSample(
            source_a=to_tensor(sources["a"]),
            source_b=to_tensor(sources["b"]),
            clean_a=to_tensor(clean.get("clean_a", clean["a"])),
            clean_b=to_tensor(clean.get("clean_b", clean["b"])),
            degradation=SampleDegradation(scenario=name, a=applied["a"], b=applied["b"]),
            name=pair.name,
        )

    def _generator(self, *path: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=path))

    def _crop_and_flip(self, images: dict[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
        """The same part of every image; smaller ones are cut in proportion, at whole pixels."""
        if self.crop_size is not None:
            height, width = (max(image.shape[axis] for image in images.values()) for axis in (0, 1))
            factors = {role: height // image.shape[0] for role, image in images.items()}
            step = int(np.lcm.reduce(list(factors.values())))
            top, left = (
                int(generator.integers(max(side - self.crop_size, 0) // step + 1)) * step for side in (height, width)
            )
            images = {role: _cut(image, top, left, self.crop_size, factors[role]) for role, image in images.items()}
        if self.flip and generator.random() < 0.5:
            images = {role: image[:, ::-1] for role, image in images.items()}
        return images


def _cut(image: np.ndarray, top: int, left: int, size: int, factor: int) -> np.ndarray:
    top, left, size = top // factor, left // factor, -(-size // factor)
    crop = image[top : top + size, left : left + size]
    short = [(0, size - side) for side in crop.shape[:2]]
    return np.pad(crop, [*short, (0, 0)], mode="symmetric") if crop.shape[:2] != (size, size) else crop


def _to_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / np.float32(255)
