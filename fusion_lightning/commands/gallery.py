"""The `gallery` command: every degradation at every severity, and every scenario, on one pair."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.degradations import EFFECTS, SCENARIOS, Degradation, Identity, degrade
from fusion_lightning.errors import UserError
from fusion_lightning.files import output_folder
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import to_float, to_tensor
from fusion_lightning.imaging.io import read_image, resize_image, write_image

_INFRARED = ("stripes", "low_contrast", "salt_pepper")
"""Effects shown on source a; all others are shown on source b."""


def gallery(
    output: str, source_a: str | None = None, source_b: str | None = None, width: int = 256, seed: int = 1
) -> None:
    """Draw what every degradation looks like.

    Writes ``OUTPUT/severities.png``, a row per effect, clean and at severities 1 to 5, and ``OUTPUT/scenarios.png``, a
    row per scenario, both sources clean and degraded.

    Args:
        output: Folder for the two pictures; earlier ones are replaced.
        source_a: Image that carries intensity (infrared, PET, …); without one, a drawn street scene.
        source_b: Image that carries detail (visible, MRI) of the same scene.
        width: Width of one picture in pixels; the images are scaled to it before they are degraded.
        seed: Seed of every random choice, and of the drawn scene.

    Raises:
        UserError: If one of the images is missing or cannot be read.
    """
    if (source_a is None) != (source_b is None):
        raise UserError("`source_a` and `source_b` must be given together, or neither for a drawn scene")
    if source_a is None or source_b is None:
        scene = render_scene(seed, width)
        pair = [scene.infrared, scene.visible]
    else:
        pair = [read_image(source_a, 1), read_image(source_b, 3)]
    output_folder(output, [Path(path) for path in (source_a, source_b) if path is not None])
    a, b = (_scale(to_float(image), width) for image in pair)
    sheets = []
    for name, effect in sorted(EFFECTS.items()):
        if effect is not Identity:
            levels = [Identity(), *(effect.at_severity(level) for level in range(1, 6))]
            labels = [f"{name}: clean", *(f"{name}@{level}" for level in range(1, 6))]
            sheets.append(_row([a if name in _INFRARED else b] * 6, levels, labels, width, seed))
    _write(Path(output) / "severities.png", sheets)
    sheets = [
        _row([a, a, b, b], [Identity(), scenario.a, Identity(), scenario.b], ["a", name, "b", name], width, seed)
        for name, scenario in SCENARIOS.items()
    ]
    _write(Path(output) / "scenarios.png", sheets)


def _row(
    images: Sequence[np.ndarray], degradations: Sequence[Degradation], labels: Sequence[str], width: int, seed: int
) -> np.ndarray:
    # one seed for the row, so that only the strength differs from picture to picture
    pictures = [
        to_tensor(degrade(image, degradation, np.random.default_rng(seed))[0])
        for image, degradation in zip(images, degradations, strict=True)
    ]
    return contact_sheet([pictures], labels, width)


def _scale(image: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return resize_image(image, (height, width))


def _write(path: Path, sheets: Sequence[np.ndarray]) -> None:
    write_image(path, np.concatenate(sheets))
    print(f"wrote {path}")
