"""The `degrade` command: a degraded copy of a data set, with a manifest of every effect."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import track

import fusion_lightning
from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.commands.manifest import Manifest
from fusion_lightning.commands.pairing import images_by_stem
from fusion_lightning.datamodules.pairs import find_pairs
from fusion_lightning.degradations import Degradation, Scenario
from fusion_lightning.degradations import degrade as degrade_image
from fusion_lightning.degradations import scenario as find_scenario
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import encode_png, read_image

_SIDES: tuple[Literal["a", "b"], ...] = ("a", "b")


def degrade(
    input: str,
    output: str,
    scenario: str | dict[str, str],
    folder_a: str = "ir",
    folder_b: str = "vi",
    color: Literal["a", "b"] | None = "b",
    single: Literal["a", "b"] = "b",
    seed: int = 0,
) -> None:
    """Write a degraded copy of a folder of image pairs, or of single images.

    Pairs lie in two folders, found as the data modules find them (also ``train/ir`` or ``ir/train``). The copy holds
    the clean images and, beside each folder, one with ``_degraded`` added to its name: the layout that
    ``degraded_clean.yaml`` reads. A folder that holds images but no such folders is taken as single images, and the
    copy holds just their degraded versions.

    Degraded images are 8-bit PNG files. ``manifest.jsonl`` tells, a line per pair, every parameter of every effect;
    `fusion_lightning.degradations.reapply` repeats them. What happens to a pair depends on its name and the seed
    alone. A run that was interrupted continues where it stopped; nothing that exists is overwritten.

    Args:
        input: Folder with the images.
        output: Folder for the copy: new, empty, or that of an earlier run with the same recipe.
        scenario: What goes wrong: the name of a scenario, a specification for both sources
            (``blur(sigma=2)+noise(sigma=14)``), or ``{a: specification, b: specification}``.
        folder_a: Folder, under the input, of the images that carry intensity (infrared, PET, SPECT, CT).
        folder_b: Folder of the images that carry detail (visible, MRI).
        color: Which of the two is in colour; the other one, or both, are read as grey.
        single: Whose degradation single images get; they are in colour when their pixels are.
        seed: Seed of every random choice.

    Raises:
        UserError: If something is missing, unreadable or unpaired, if the output belongs to something else, or if the
            scenario cannot be read.
    """
    chosen = find_scenario(scenario)
    if seed < 0:
        raise UserError(f"--seed must be at least 0, but got {seed}")
    source, target = Path(input), Path(output)
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--output {output} lies inside --input {input}: choose a folder outside it")
    pairs = list(_find(source, folder_a, folder_b, single))
    recipe: dict[str, Any] = {
        "version": fusion_lightning.__version__,
        "scenario": {"name": chosen.name, "a": repr(chosen.a), "b": repr(chosen.b)},
        "folders": {"a": folder_a, "b": folder_b},
        "color": color,
        "single": single,
        "seed": seed,
    }
    manifest = Manifest(target, recipe)
    left = [(name, files) for name, files in pairs if name not in manifest]
    for name, files in track(left, description=f"degrading ({chosen.name})"):
        images = {side: _read(path, side, color, len(files) == 1) for side, path in files.items()}
        images, degraded, effects = _degrade_pair(images, chosen, name, seed)
        line: dict[str, Any] = {"name": name, "scenario": chosen.name}
        for side, path in files.items():
            relative = path.relative_to(source)
            line[side] = {"effects": effects[side]}
            if len(files) == 2:
                place = {"a": folder_a, "b": folder_b}[side]
                line[side]["clean"] = _write_clean(manifest, path, relative, images[side])
                relative = _degraded_folder(relative.parent, place) / relative.name
            line[side]["degraded"] = manifest.write(relative.with_suffix(".png"), encode_png(_to_uint8(degraded[side])))
        manifest.add(line)
    kind = "images, as source " + single if pairs and len(pairs[0][1]) == 1 else "pairs"
    print(f"{len(pairs)} {kind}, degraded by {chosen.name}, in {target} ({len(pairs) - len(left)} were there already)")


def _find(root: Path, folder_a: str, folder_b: str, single: str) -> Iterator[tuple[str, dict[str, Path]]]:
    """The pairs of a data set by name, or single images where there are no folders for pairs."""
    folders = {"a": folder_a, "b": folder_b}
    try:
        found = find_pairs(str(root), folders)
    except UserError as error:
        if not root.is_dir() or any(any(root.rglob(folder)) for folder in folders.values()):
            raise
        try:
            images = images_by_stem(str(root), "--input")
        except UserError:
            raise UserError(f"{error} Name the folders with --folder_a and --folder_b.") from None
        yield from ((stem, {single: path}) for stem, path in images.items())
        return
    for split, files in found.items():
        for pair in files:
            name = f"{split}/{pair.name}" if split else pair.name
            yield name, {side: Path(pair.files[side]) for side in _SIDES}


def _read(path: Path, side: str, color: str | None, alone: bool) -> np.ndarray:
    image = read_image(path, 3 if alone or side == color else 1)
    if alone and (image == image[..., :1]).all():
        image = image[..., :1]
    return image


def _degrade_pair(
    images: dict[str, np.ndarray], chosen: Scenario, name: str, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[AppliedDegradation]]]:
    """Degrade the sources of one pair.

    Where a source becomes smaller, both are cut first, at the lower and right edge, so that it becomes smaller by a
    whole number: no loader could tell the scale otherwise.
    """
    degradations: dict[str, Degradation] = {"a": chosen.a, "b": chosen.b}
    degraded, effects = {}, {}
    for side, image in images.items():
        sequence = np.random.SeedSequence((seed, zlib.crc32(name.encode()), _SIDES.index(side)))
        generator = np.random.default_rng(sequence)
        scaled = image.astype(np.float32) / np.float32(255)
        degraded[side], effects[side] = degrade_image(scaled, degradations[side], generator)
        factor = -(-image.shape[0] // degraded[side].shape[0])
        height, width = (length - length % factor for length in image.shape[:2])
        if (height, width) != image.shape[:2] and len(images) == 2 and min(height, width) > 0:
            cut = {other: picture[:height, :width] for other, picture in images.items()}
            return _degrade_pair(cut, chosen, name, seed)
    return images, degraded, effects


def _write_clean(manifest: Manifest, path: Path, relative: Path, image: np.ndarray) -> str:
    """Copy the clean file as it is, or what is left of it where it was cut."""
    if read_image(path, 1).shape[:2] == image.shape[:2]:
        return manifest.write(relative, path.read_bytes())
    return manifest.write(relative.with_suffix(".png"), encode_png(image))


def _degraded_folder(parent: Path, pattern: str) -> Path:
    """The folder beside: the part of ``parent`` that the pattern names last, with ``_degraded`` added."""
    named = [part for part in Path(pattern).parts if "*" not in part and part != "{split}"]
    parts = list(parent.parts)
    if not named or named[-1] not in parts:
        raise UserError(f"`folder_a` and `folder_b` must name a folder, but got `{pattern}`")
    at = len(parts) - 1 - parts[::-1].index(named[-1])
    parts[at] += "_degraded"
    return Path(*parts)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(image * 255).astype(np.uint8)
