"""Dataset of samples: crops and flips both sources alike, degrades each, makes tensors."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset

from fusion_lightning.batch import AppliedDegradation, FusionSample, SampleDegradation
from fusion_lightning.datamodules.pairs import Pair
from fusion_lightning.datamodules.sampler import SampleKey
from fusion_lightning.degradations import Scenario, degrade
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.convert import to_float, to_tensor
from fusion_lightning.imaging.io import resize_image

_SIDES = ("a", "b")
# every random choice has a stream of its own, named by these numbers
_EVALUATION, _TRAINING = 0, 1
_LAYOUT, _SOURCES = 0, 1


class PairSource(Protocol):
    """Sequence of pairs: read from files or rendered."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


class FusionDataset(Dataset[FusionSample]):
    """Dataset whose samples depend on (seed, epoch, index) in training, (seed, index) in evaluation, nothing else.

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
            reflection where it is smaller; None trains on whole images. About a third of the crops of 96 pixels from an
            image of 480×640 reach its border.
        margin: How many pixels around a training crop are degraded with it and cut off afterwards, as far as the image
            reaches. Otherwise blind networks infer a blur from the crop's border.
        flip: Mirror half of the training samples left to right.

    Raises:
        UserError: If there is a margin and a degradation changes the size of a source.
    """

    def __init__(
        self,
        pairs: PairSource,
        scenarios: Sequence[Scenario] = (),
        seed: int = 0,
        training: bool = False,
        crop_size: int | None = None,
        margin: int = 0,
        flip: bool = False,
    ) -> None:
        self.pairs = pairs
        self.scenarios = {scenario.name: scenario for scenario in scenarios}
        self.seed = seed
        self.training = training
        self.crop_size = crop_size
        self.margin = margin
        self.flip = flip

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey | int) -> FusionSample:
        """Make the sample of a key; a plain index in training means the first epoch."""
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        stream = (_TRAINING, key.epoch, key.index) if self.training else (_EVALUATION, key.index)
        layout = self._generator(*stream, _LAYOUT)
        pair = self.pairs[key.index]
        images = {"a": pair.a, "b": pair.b}
        if pair.clean_a is not None:
            images["clean_a"] = pair.clean_a
        if pair.clean_b is not None:
            images["clean_b"] = pair.clean_b
        crop = None
        if self.training:
            images, crop = self._crop_and_flip(images, layout)
        clean = {role: to_float(image) for role, image in images.items()}
        sources = {side: clean[side] for side in _SIDES}
        applied: dict[str, list[AppliedDegradation]] = {side: [] for side in _SIDES}
        name = pair.scenario
        if self.scenarios and len(images) == len(_SIDES):
            names = list(self.scenarios)
            turn = int(layout.integers(len(names))) if self.training else key.index % len(names)
            name = key.scenario or names[turn]
            scenario = self.scenarios[name]
            for number, (side, degradation) in enumerate(zip(_SIDES, (scenario.a, scenario.b), strict=True), _SOURCES):
                sources[side], applied[side] = degrade(sources[side], degradation, self._generator(*stream, number))
                if self.margin and sources[side].shape[:2] != clean[side].shape[:2]:
                    raise UserError(
                        f"`margin` needs degradations that keep a source's size, but {name} does not: "
                        "set it to 0, or enlarge the source again (up=true)"
                    )
        if crop is not None:
            sources, clean = ({role: crop.of(image, role) for role, image in some.items()} for some in (sources, clean))
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

    def _crop_start(self, side: int, step: int, generator: np.random.Generator) -> int:
        """Where a crop begins, in whole steps; half a crop of places beyond either end is drawn too, and moved inside.

        So the border of an image, which a degradation can treat in its own way, is seen about as often as its middle;
        among the places inside alone a crop would hardly ever meet it.
        """
        assert self.crop_size is not None
        last, beyond = max(side - self.crop_size, 0) // step, self.crop_size // 2 // step
        return step * min(max(int(generator.integers(-beyond, last + beyond + 1)), 0), last)

    def _crop_and_flip(
        self, images: dict[str, np.ndarray], generator: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], "_Crop | None"]:
        """The same part of every image, smaller ones in proportion, and the crop in it if there is a margin to cut."""
        inner, behind = None, 0
        if self.crop_size is not None:
            height, width = (max(image.shape[axis] for image in images.values()) for axis in (0, 1))
            images = {role: _whole_times_smaller(image, height, width) for role, image in images.items()}
            factors = {role: height // image.shape[0] for role, image in images.items()}
            step = int(np.lcm.reduce(list(factors.values())))
            top, left = (self._crop_start(side, step, generator) for side in (height, width))
            margin = -(-self.margin // step) * step
            above, before = min(margin, top), min(margin, left)
            below, behind = (
                max(0, min(margin, side - start - self.crop_size)) for side, start in ((height, top), (width, left))
            )
            rows, columns = above + self.crop_size + below, before + self.crop_size + behind
            outer = _Crop(top - above, left - before, rows, columns, factors)
            images = {role: outer.of(image, role) for role, image in images.items()}
            if margin:
                inner = _Crop(above, before, self.crop_size, self.crop_size, factors)
        if self.flip and generator.random() < 0.5:
            images = {role: image[:, ::-1] for role, image in images.items()}
            if inner is not None:
                inner = inner._replace(left=behind)
        return images, inner


def _whole_times_smaller(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image, enlarged to the largest one's size where a crop of that has no whole pixels in it."""
    factor = height // image.shape[0]
    return image if image.shape[:2] == (height / factor, width / factor) else resize_image(image, (height, width))


class _Crop(NamedTuple):
    """A part of a pair, in pixels of its larger image."""

    top: int
    left: int
    height: int
    width: int
    factors: dict[str, int]
    """Role of an image -> how many times smaller it is."""

    def of(self, image: np.ndarray, role: str) -> np.ndarray:
        """The part of an image, padded by reflection where that ends."""
        factor = self.factors[role]
        height, width = -(-self.height // factor), -(-self.width // factor)
        top, left = self.top // factor, self.left // factor
        part = image[top : top + height, left : left + width]
        if part.shape[:2] == (height, width):
            return part
        return np.pad(part, [(0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)], mode="symmetric")
