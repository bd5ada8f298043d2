"""What the page does, without the page: two files and what was chosen become a fusion, its parts and its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal, cast

import numpy as np
from torch import Tensor

from fusion_lightning.batch import MODALITIES, Controls, FusionBatch, FusionOutput, SampleDegradation, sources
from fusion_lightning.commands.aligning import open_registration
from fusion_lightning.commands.devices import find_device
from fusion_lightning.commands.estimators import Estimating, open_estimator
from fusion_lightning.commands.fuse.images import SourcePairs
from fusion_lightning.commands.fuse.work import Job, Reading
from fusion_lightning.commands.tiling import find_tile
from fusion_lightning.datamodules.pairs import Side
from fusion_lightning.datamodules.synthetic import Kind, SyntheticPairs
from fusion_lightning.degradations import degrade, parse
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.convert import to_image, to_tensor
from fusion_lightning.imaging.io import write_image
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods import Estimator, FusionMethod, Registration, build_method
from fusion_lightning.methods.vocabulary import ready_names
from fusion_lightning.metrics import FusionMetric, fusion_metrics
from fusion_lightning.scoring import score_images

LARGEST = 3840 * 2160
"""Pixels of the largest image that the page takes."""
EXAMPLES: tuple[Kind, ...] = ("street", "medical")
"""What can be drawn."""
EFFECTS: dict[Side, tuple[str, ...]] = {
    "a": ("low_contrast", "blur", "noise", "stripes"),
    "b": ("low_light", "haze", "blur", "noise"),
}
"""The degradations of each source that have a slider, in the order in which they happen in a camera."""
SCORES = ("MI", "VIF", "Qabf", "Nabf", "SSIM")

_CAPTIONS = {"restored_a": "a, restored", "restored_b": "b, restored", "weight": "weight of a"}
_SIZE = 320
"""Side of a drawn example in pixels."""


@dataclass(frozen=True)
class Choices:
    """What a person has chosen.

    Attributes:
        a: The file of source a; None as long as there is none.
        b: The file of source b.
        method: What fuses, as the menu calls it.
        align: Whether source a is brought into the frame of b first.
        auto: The sources whose degradation is found out, for methods that undo a known one.
        windows: The tone windows of a and b, as `Window` takes them; empty is none.
        resize: The source whose size both get.
        colormap_a: The palette in which a grey source a is drawn.
        severities: Source -> degradation -> severity from 0 (none) to 5, applied before the pair is fused.
        controls: Strengths and balance; those that the method does not have are left as they are.
        steps: Whether the steps of a diffusion are drawn.
        bits: 8 or 16 per channel of the file.
    """

    a: str | None
    b: str | None
    method: str
    align: bool = False
    auto: Sequence[Side] = ()
    windows: tuple[str, str] = ("", "")
    resize: Side | None = None
    colormap_a: str | None = None
    severities: Mapping[Side, Mapping[str, int]] = field(default_factory=dict)
    controls: Mapping[str, float] = field(default_factory=dict)
    steps: bool = False
    bits: Literal[8, 16] = 8


@dataclass(frozen=True)
class Result:
    """What the page shows; all images are (H, W) or (H, W, 3), uint8.

    Attributes:
        fused: The fusion.
        file: The same as a PNG file, of as many bits as were asked for.
        sources: The sources as the method saw them.
        parts: Captions and images of what else the method made.
        steps: The trajectory as one sheet, if it was asked for.
        scores: Those of the fusion, and those of restored sources that were degraded.
        against: What the fusion was scored against.
        remarks: How far source a was moved, and what degradation was found.
        seconds: How long fusing took.
    """

    fused: np.ndarray
    file: Path
    sources: dict[Side, np.ndarray]
    parts: list[tuple[str, np.ndarray]]
    steps: np.ndarray | None
    scores: dict[str, float]
    against: str
    remarks: list[str]
    seconds: float


@dataclass(frozen=True)
class Tools:
    """What the page works with.

    Attributes:
        methods: What fuses, by the names that `fuse` has for it.
        estimator: What finds out degradations.
        registration: What brings source a into the frame of b.
    """

    methods: Mapping[str, FusionMethod]
    estimator: Estimator
    registration: Registration


def open_tools(names: Sequence[str], estimator: str, align: str, device: str) -> Tools:
    """The methods that need no file and those of `names`, and what `fuse` would open for the other two.

    Raises:
        UserError: If one cannot be opened, or there is no such device.
    """
    place = find_device(device)
    methods = {name: build_method(name).to(place) for name in dict.fromkeys([*ready_names(), *names])}
    return Tools(methods, open_estimator(estimator).to(place), open_registration(align).to(place))


def draw_example(kind: Kind, number: int, folder: Path) -> tuple[Path, Path]:
    """Draw a pair and write both of its images into a folder."""
    pair = SyntheticPairs(kind, "test", number + 1, _SIZE)[number]
    paths = folder / f"{pair.name}_a.png", folder / f"{pair.name}_b.png"
    for path, image in zip(paths, (pair.a, pair.b), strict=True):
        write_image(path, image)
    return paths


def fuse_files(choices: Choices, tools: Tools, folder: Path) -> Result:
    """Read, degrade, align, fuse and score a pair, and write the fusion into a folder.

    Raises:
        UserError: If a file cannot be used, the method does not fuse it, or it is too large.
    """
    if choices.a is None or choices.b is None:
        missing = "two images" if choices.a is choices.b else f"source {'a' if choices.a is None else 'b'}"
        raise UserError(f"choose {missing} first, or draw an example")
    check_choice("method", choices.method, tools.methods)
    method = tools.methods[choices.method]
    auto = choices.auto if method.uses_degradation else ()
    if choices.align and "a" in auto:
        raise UserError(
            "moving the pixels of source a leaves nothing that could be undone: align it, or find out what went wrong"
        )
    files = {"a": Path(choices.a), "b": Path(choices.b)}
    try:
        batch = _degraded(_read(files, choices), choices)
    except UserError as error:
        # files lie where the page has put them, which is nobody's business
        text = str(error)
        for path in files.values():
            text = text.replace(str(path), path.name)
        raise UserError(text) from error
    if choices.steps and find_tile(None, method, batch) is not None:
        raise UserError("the steps are drawn of the whole image at once, which needs more memory than is free")
    controls = Controls(**{name: choices.controls[name] for name in method.controls if name in choices.controls})
    draws_steps = choices.steps and type(method).trajectory_sheet is not FusionMethod.trajectory_sheet
    start = perf_counter()
    estimating = Estimating(tools.estimator, auto) if auto else None
    registration = tools.registration if choices.align else None
    job = Job(
        method, controls, False, None, choices.bits, True, draws_steps, False, folder, {}, estimating, registration
    )
    is_clean = batch["degradation"][0]["scenario"] == "delivered"
    batch, remarks = job.prepared(batch)
    images = job.fuse_prepared(batch)
    seconds = perf_counter() - start
    if "" not in images:
        raise UserError(f"{choices.method} restores, but does not fuse: choose another method")
    write_image(file := folder / f"{files['a'].stem}_fused.png", images[""])
    return Result(
        fused=_shown(images[""]),
        file=file,
        sources={side: to_image(image[0]) for side, image in zip(MODALITIES, sources(batch), strict=True)},
        parts=[(caption, _shown(images[part])) for part, caption in _CAPTIONS.items() if part in images],
        steps=images.get("trajectory"),
        scores=_scores(batch, images),
        against="the sources" if is_clean else "the clean sources",
        remarks=remarks,
        seconds=seconds,
    )


def _read(files: Mapping[str, Path], choices: Choices) -> FusionBatch:
    """The pair as a batch, read as `fuse` reads it."""
    for path in files.values():
        _check_header(path)
    windows = [Window(text or None, f"window {side}") for side, text in zip(MODALITIES, choices.windows, strict=True)]
    delivered = SampleDegradation(scenario="delivered", a=[], b=[])
    reading = Reading((windows[0], windows[1]), choices.resize, delivered, choices.colormap_a)
    batch = SourcePairs({files["a"].stem: files}, reading)[0]
    for side, image in zip(MODALITIES, (batch["source_a"], batch["source_b"]), strict=True):
        _check_size(files[side], image.shape[-1], image.shape[-2])
    return batch


def _degraded(batch: FusionBatch, choices: Choices) -> FusionBatch:
    """The batch after the chosen degradations of its sources; what was read are their clean versions then."""
    images, effects = {}, SampleDegradation(scenario="chosen", a=[], b=[])
    for side, clean in zip(MODALITIES, (batch["source_a"], batch["source_b"]), strict=True):
        chosen = choices.severities.get(side, {})
        names = [f"{name}@{chosen[name]}" for name in EFFECTS[side] if chosen.get(name)]
        degradation = parse("+".join(names) or "identity")
        image = clean[0].permute(1, 2, 0).numpy()
        degraded, effects[side] = degrade(image, degradation, np.random.default_rng(MODALITIES.index(side)))
        images[side] = to_tensor(degraded)[None]
    if not (effects["a"] or effects["b"]):
        return batch
    return FusionBatch(**{**batch, "source_a": images["a"], "source_b": images["b"], "degradation": [effects]})


def _scores(batch: FusionBatch, images: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What `evaluate` would say of the images as they are written."""
    named = {part or "fused": _tensor(image) for part, image in images.items() if part != "trajectory"}
    collection = fusion_metrics(SCORES, prefix="")
    metrics = {name: cast(FusionMetric, collection[name]) for name in SCORES}
    try:
        (row,) = score_images(batch, cast(FusionOutput, named), metrics)
    except UserError:  # an image too small for one of them
        (row,) = score_images(batch, cast(FusionOutput, named), {})
    return row["scores"]


def _tensor(image: np.ndarray) -> Tensor:
    """An image of 8 or 16 bits as a batch of one in [0, 1]."""
    return to_tensor(image if image.dtype == np.uint8 else image / np.float32(65535))[None]


def _shown(image: np.ndarray) -> np.ndarray:
    """An image of 8 or 16 bits as one of 8."""
    return to_image(_tensor(image)[0])


def _check_header(path: Path) -> None:
    """Refuse a file whose header says that its image is too large, before it is decoded.

    Raises:
        UserError: If it is.
    """
    from PIL.Image import DecompressionBombError  # comes with Gradio
    from PIL.Image import open as open_image

    try:
        with open_image(path) as image:
            size = image.size
    except DecompressionBombError:
        size = (LARGEST, 2)
    except OSError:
        return  # a format that only our own reader knows, or no image, which it says better
    _check_size(path, *size)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > LARGEST:
        raise UserError(
            f"`{path}` has more than {LARGEST / 1e6:.1f} million pixels: fuse it by `python -m fusion_lightning fuse`"
        )
