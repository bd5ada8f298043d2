"""The `degrade` command: a degraded copy of a data set, with a manifest of every effect."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import fusion_lightning
from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.commands.manifest import Manifest, digest
from fusion_lightning.datamodules.check import check_pairs
from fusion_lightning.datamodules.pairing import PairFiles, find_images, find_pairs
from fusion_lightning.datamodules.pairs import FolderPairs, Side
from fusion_lightning.degradations import Degradation, Scenario
from fusion_lightning.degradations import degrade as degrade_image
from fusion_lightning.degradations import scenario as find_scenario
from fusion_lightning.errors import UserError
from fusion_lightning.files import alone_in, output_folder
from fusion_lightning.imaging.convert import to_float
from fusion_lightning.imaging.io import encode_png, read_image, shows_color, to_grey
from fusion_lightning.imaging.windows import Window
from fusion_lightning.text import counted

_SIDES: tuple[Side, ...] = ("a", "b")


def degrade(
    input: str,
    output: str,
    scenario: str | dict[str, str],
    folder_a: str = "ir",
    folder_b: str = "vi",
    color: Side | None = "b",
    single: Side = "b",
    window_a: str | None = None,
    window_b: str | None = None,
    seed: int = 0,
) -> None:
    """Write a degraded copy of a folder of image pairs, or of single images.

    Pairs lie in two folders, found as the data modules find them (also ``train/ir`` or ``ir/train``). The copy holds
    the clean images and, beside each folder, one with ``_degraded`` added to its name: the layout that
    ``degraded_clean.yaml`` reads. A folder that holds images but no such folders is taken as single images, and the
    copy holds just their degraded versions.

    Degraded images are 8-bit PNG files, and so are the clean ones of deeper files. ``manifest.jsonl`` tells, a line
    per pair, every parameter of every effect; `fusion_lightning.degradations.reapply` repeats them. What happens to a
    pair depends on its name and the seed alone. A run that was interrupted continues where it stopped; nothing that
    exists is overwritten, and other images under the same names are refused.

    Args:
        input: Folder with the images.
        output: Folder for the copy: new, empty, or that of an earlier run with the same recipe.
        scenario: What goes wrong: the name of a scenario, a specification for both sources
            (``blur(sigma=2)+noise(sigma=14)``), or ``{a: specification, b: specification}``.
        folder_a: Folder, under the input, of the images that carry intensity (infrared, PET, SPECT, CT).
        folder_b: Folder of the images that carry detail (visible, MRI).
        color: Which of the two is in colour; the other one, or both, are read as grey.
        single: Whose degradation single images get; they are in colour when their pixels are.
        window_a: Which values of source a become black and white, see `FusionData`.
        window_b: The same for source b.
        seed: Seed of every random choice.

    Raises:
        UserError: If something is missing, unreadable or unpaired, if the output belongs to something else, or if the
            scenario cannot be read.
    """
    chosen = find_scenario(scenario)
    if seed < 0:
        raise UserError(f"--seed must be at least 0, but got {seed}")
    windows: dict[Side, Window] = {"a": Window(window_a, "--window-a"), "b": Window(window_b, "--window-b")}
    source, target = Path(input).expanduser(), output_folder(output)
    if source.is_file():
        raise UserError(f"--input {input} is a file: give the folder of the images")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--output {output} lies inside --input {input}: choose a folder outside it")
    pairs = dict(_find(source, folder_a, folder_b, single))
    inputs = _Inputs(pairs, color, windows)
    recipe: dict[str, Any] = {
        "version": fusion_lightning.__version__,
        "scenario": {"name": chosen.name, "a": str(chosen.a), "b": str(chosen.b)},
        "folders": {"a": folder_a, "b": folder_b},
        "color": color,
        "single": single,
        "windows": {side: window.text for side, window in windows.items()},
        "seed": seed,
    }
    manifest = Manifest(target, recipe)
    _refuse_other_images(manifest, pairs)
    check_pairs(inputs)
    with alone_in(target):
        manifest.begin()
        left = [index for index, name in enumerate(pairs) if name not in manifest.journal.items]
        for index in track(left, description=f"degrading ({chosen.name})"):
            name, stored = inputs.names[index], inputs[index]
            files = pairs[name]
            images, degraded, effects = _degrade_pair(stored, chosen, name, seed)
            line: dict[str, Any] = {"name": name, "scenario": chosen.name}
            for side, path in files.items():
                relative = path.relative_to(source)
                line[side] = {"effects": effects[side], "sha256": digest(path)}
                if len(files) == 2:
                    place = {"a": folder_a, "b": folder_b}[side]
                    as_it_is = images[side].shape == stored[side].shape and stored[side].dtype == np.uint8
                    clean = path.read_bytes() if as_it_is else encode_png(_to_uint8(images[side]))
                    line[side]["clean"] = manifest.write(relative if as_it_is else relative.with_suffix(".png"), clean)
                    relative = _degraded_folder(relative.parent, place) / relative.name
                content = encode_png(_to_uint8(degraded[side]))
                line[side]["degraded"] = manifest.write(relative.with_suffix(".png"), content)
            manifest.journal.add(line)
    alone = all(len(files) == 1 for files in pairs.values())
    found = f"{counted(len(pairs), 'image')}, as source {single}" if alone else counted(len(pairs), "pair")
    print(f"{found}, degraded by {chosen.name}, in {target} ({len(pairs) - len(left)} were there already)")


def _find(root: Path, folder_a: str, folder_b: str, single: Side) -> Iterator[tuple[str, dict[Side, Path]]]:
    """The pairs of a data set by name, or single images where there are no folders for pairs."""
    folders = {"a": folder_a, "b": folder_b}
    try:
        found = find_pairs(str(root), folders)
    except UserError as error:
        if not root.is_dir() or any(any(root.rglob(folder)) for folder in folders.values()):
            raise
        try:
            images = find_images(str(root), "--input")
        except UserError:
            raise UserError(f"{error}; name the folders with --folder_a and --folder_b") from None
        yield from ((stem, {single: path}) for stem, path in images.items())
        return
    for split, files in found.items():
        for pair in files:
            name = f"{split}/{pair.name.removeprefix(f'{split}/')}" if split else pair.name
            yield name, {side: Path(pair.files[side]) for side in _SIDES}


def _refuse_other_images(manifest: Manifest, pairs: Mapping[str, dict[Side, Path]]) -> None:
    """Refuse images that are others than those an earlier run has degraded under the same names."""
    for name, files in pairs.items():
        earlier = manifest.journal.items.get(name, {})
        for side, path in files.items():
            if side in earlier and earlier[side].get("sha256") != digest(path):
                raise UserError(
                    f"{path} is not the image that {manifest.folder} was made from: choose another --output"
                )


class _Inputs:
    """The images to degrade: of a pair by its role, single ones in colour when they show any."""

    def __init__(
        self, pairs: Mapping[str, dict[Side, Path]], color: Side | None, windows: Mapping[Side, Window]
    ) -> None:
        self.names = list(pairs)
        self._pairs = pairs
        self._windows = windows
        self._color = color

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[Side, np.ndarray]:
        files = self._pairs[self.names[index]]
        if len(files) == 2:
            both = PairFiles(self.names[index], {side: str(path) for side, path in files.items()})
            pair = FolderPairs([both], self._color, (self._windows["a"], self._windows["b"]))[0]
            return {"a": pair.a, "b": pair.b}
        ((side, path),) = files.items()
        image = read_image(path, None, self._windows[side])
        return {side: image if shows_color(image) else to_grey(image)}


def _degrade_pair(
    images: dict[Side, np.ndarray], chosen: Scenario, name: str, seed: int
) -> tuple[dict[Side, np.ndarray], dict[Side, np.ndarray], dict[Side, list[AppliedDegradation]]]:
    """Degrade the sources of one pair.

    Where a source becomes smaller, both are cut first, at the lower and right edge, so that it becomes smaller by a
    whole number: no loader could tell the scale otherwise.
    """
    degradations: dict[Side, Degradation] = {"a": chosen.a, "b": chosen.b}
    degraded, effects = {}, {}
    for side, image in images.items():
        sequence = np.random.SeedSequence((seed, zlib.crc32(name.encode()), _SIDES.index(side)))
        generator = np.random.default_rng(sequence)
        degraded[side], effects[side] = degrade_image(to_float(image), degradations[side], generator)
        factor = -(-image.shape[0] // degraded[side].shape[0])
        height, width = (length - length % factor for length in image.shape[:2])
        if (height, width) != image.shape[:2] and len(images) == 2 and min(height, width) > 0:
            cut = {other: picture[:height, :width] for other, picture in images.items()}
            return _degrade_pair(cut, chosen, name, seed)
    return images, degraded, effects


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
    return image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
