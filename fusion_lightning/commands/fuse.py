"""The `fuse` command: fuses images on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from rich.progress import track

from fusion_lightning.batch import Controls, FusionBatch, SampleDegradation, require_finite, to_device
from fusion_lightning.commands.declared import declared_degradation
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.commands.manifest import Item, Journal, digest
from fusion_lightning.commands.tiling import find_tile, fuse_in_tiles
from fusion_lightning.datamodules.check import check_pairs
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.datamodules.pairs import Side, read_sources
from fusion_lightning.errors import UserError, check_choice, notice
from fusion_lightning.files import alone_in, output_folder
from fusion_lightning.imaging.color import ColorRule
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import COLORMAPS, colorize, to_image, to_tensor
from fusion_lightning.imaging.io import write_image
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods import FusionMethod, Specification, build_method, load_method
from fusion_lightning.methods.vocabulary import DEFAULT, SHORT_NAMES, spelled_out

_RESTORED = ("restored_a", "restored_b", "weight")
_PARTS = ("", *_RESTORED, "trajectory")
"""Folders of results under the output folder; the fusion itself lies at its top."""


def fuse(
    source_a: str,
    source_b: str,
    output: str,
    method: str | None = None,
    checkpoint: str | None = None,
    strength_a: float = 1.0,
    strength_b: float = 1.0,
    balance: float = 0.5,
    color: ColorRule | None = None,
    degradation_a: str | None = None,
    degradation_b: str | None = None,
    noise: float = 0.0,
    window_a: str | None = None,
    window_b: str | None = None,
    resize: Side | None = None,
    colormap_a: str | None = None,
    bits: Literal[8, 16] = 8,
    restored: bool = False,
    trajectory: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    tile: int | None = None,
) -> None:
    """Fuse two images, or two folders of images paired by name, at their own size.

    Writes ``OUTPUT/<name>.png``, in colour when one source is in colour, and a line for each into
    ``OUTPUT/fuse.jsonl``: what was fused, and how. The same command typed again goes on where it was interrupted.

    Args:
        source_a: The image, folder of images or pattern (``"DIR/*_IR.jpg"``) that carries intensity (infrared, PET,
            SPECT, CT).
        source_b: The same for what carries detail (visible, MRI).
        output: Folder for the results; no source may lie in it.
        method: What fuses: ``average``, ``maximum``, ``laplacian``, ``guided``, ``wavelet``, ``overlay:ALPHA`` (source
            a over b), ``ifcnn=FILE`` or ``gifnet=FILE`` (published weights), a ``.ckpt`` file written by ``fit``, or a
            class that needs no training. By default ``laplacian``.
        checkpoint: The same as ``--method`` for a ``.ckpt`` file.
        strength_a: Removal strength for source a: 0 keeps its degradation, 1 removes it.
        strength_b: Removal strength for source b.
        balance: Cross-modal balance: 0 leans to source a, 1 to source b, 0.5 is as trained.
        color: What stays of a colour where the fusion is brighter or darker than the source in colour: its
            ``saturation``, or the ``chroma`` as the method merges it. By default as the method was trained.
        degradation_a: What happened to source a, for methods that undo known degradations, e.g.
            ``"blur(sigma=2)+downsample(4)"``; the image then has its sensor's own size.
        degradation_b: What happened to source b.
        noise: Standard deviation of the noise on both sources, in [0, 1] units: 0.03 is 8 grey levels of 255.
        window_a: Which values of source a become black and white: ``percentile:LO,HI``, ``raw:LO,HI``, ``suv:LO,HI``,
            ``minmax``, ``agc`` or ``none``. It has to be named for files of more than 8 bits that use less than a tenth
            of their range, and for values that have none.
        window_b: The same for source b.
        resize: Bring both sources to the size of this one, stretching the other if need be; without it, sides of
            different ratios are refused, and the source of lower resolution is enlarged.
        colormap_a: Draw a grey source a in a palette before it is fused, as radiologists know PET: ``hot``, ``jet``,
            ``inferno``, ``magma``, ``viridis`` or ``turbo``. Source b has to be grey then.
        bits: 8 or 16 per channel of the fusion and the restored sources.
        restored: Also write the restored sources, into ``OUTPUT/restored_a`` and ``OUTPUT/restored_b``, and the weight
            map of methods that have one.
        trajectory: Also draw what the diffusion removed, step by step, into ``OUTPUT/trajectory``.
        overwrite: Replace results that already exist.
        device: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU when there is one.
        precision: Number type of the networks: ``fp32``, ``bf16``, or ``auto``, bf16 where the device multiplies it.
        tile: Fuse in tiles of so many pixels a side, a multiple of 64, with overlaps that are blended: bounded memory.
            0 fuses the whole image at once; by default so does what fits into half of the free memory.

    Raises:
        UserError: If something is missing, unreadable, unpaired, or already there; nothing is written then.
    """
    controls = Controls(strength_a, strength_b, balance)
    degradation = declared_degradation(degradation_a, degradation_b, noise)
    check_choice("bits", bits, (8, 16))
    pairs = pair_images({"--source-a": source_a, "--source-b": source_b})
    windows = (Window(window_a, "--window-a"), Window(window_b, "--window-b"))
    inputs = SourcePairs(pairs, windows, resize, degradation, colormap_a)
    folder = output_folder(output, (path for files in pairs.values() for path in files.values()), _PARTS)
    chosen = _method_name(method, checkpoint)
    fuser = _open(chosen).to(find_device(device)).to(memory_format=torch.channels_last)
    if (degradation["a"] or degradation["b"]) and not fuser.uses_degradation:
        raise UserError(f"{type(fuser).__name__} makes no use of --degradation-a, --degradation-b and --noise")
    if trajectory and type(fuser).trajectory_sheet is FusionMethod.trajectory_sheet:
        raise UserError(f"{type(fuser).__name__} has no trajectory: leave --trajectory false")
    if trajectory and tile:
        raise UserError("--trajectory draws the whole image at once: leave --tile out")
    fuser.color_rule = color or fuser.color_rule
    bf16 = runs_in_bf16(precision, fuser.device)
    recipe = {
        "method": chosen,
        "weights": {text: digest(Path(text)) for text in (chosen.partition("=")[2] or chosen,) if Path(text).is_file()},
        "controls": [strength_a, strength_b, balance],
        "color": fuser.color_rule,
        "degradation": [degradation_a, degradation_b, noise],
        "windows": [window_a, window_b],
        "resize": resize,
        "colormap_a": colormap_a,
        "bits": bits,
        "parts": [restored, trajectory],
        "bf16": bf16,
        "tile": tile,
    }
    journal = Journal(folder / "fuse.jsonl")
    items = [_planned(name, files, recipe) for name, files in pairs.items()]
    left = items if overwrite else _left(items, journal, folder)
    again = {item["name"] for item in left}
    check_pairs(inputs)
    with alone_in(folder):
        journal.keep({name: item for name, item in journal.items.items() if name not in again})
        for item in track(left, description="fusing"):
            batch = inputs[inputs.names.index(item["name"])]
            side = None if trajectory else find_tile(tile, fuser, batch)
            if side is not None and fuser.sees_whole_image:
                print(
                    f"{item['name']}: fused in tiles of {side} pixels. {type(fuser).__name__} looks at the whole "
                    "image, so the result differs from that of --tile 0"
                )
            images = fuse_batch(fuser, batch, controls, bf16, side, bits)
            parts = [part for part in _RESTORED if part in images and (restored or "fused" not in images)]
            results = {Path(part) / f"{item['name']}.png": images[part] for part in parts}
            if trajectory and (steps := fuser.trajectory_sheet(to_device(batch, fuser.device))) is not None:
                results[Path("trajectory") / f"{item['name']}.png"] = contact_sheet(*steps, 256)
            if "fused" in images:
                results[Path(f"{item['name']}.png")] = images["fused"]
            for path in results:
                (folder / path).unlink(missing_ok=True)
            # the line comes first: a file that is there then was written as it says
            journal.add({**item, "files": [path.as_posix() for path in results]})
            for path, image in results.items():
                write_image(folder / path, image)
    there = f" ({len(items) - len(left)} were there already)" if len(left) < len(items) else ""
    print(f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} fused into {folder}{there}")


@torch.inference_mode()
def fuse_batch(
    method: FusionMethod,
    batch: FusionBatch,
    controls: Controls | None = None,
    bf16: bool = False,
    tile: int | None = None,
    bits: Literal[8, 16] = 8,
) -> dict[str, np.ndarray]:
    """Fuse one pair (a batch of one), whole or in tiles; images of 8 or 16 bits, grey without a source in colour.

    Raises:
        UserError: If the result holds NaN or Inf.
    """
    colored = batch["source_a"].shape[1] == 3 or batch["source_b"].shape[1] == 3
    with torch.autocast(method.device.type, dtype=torch.bfloat16, enabled=bf16):
        if tile is None:
            output = method(to_device(batch, method.device), controls)
        else:
            output = fuse_in_tiles(method, batch, controls, tile)
    require_finite(output, batch["name"])
    images = {}
    for part, value in output.items():
        grey = part == "fused" and not colored and value.shape[1] == 3
        images[part] = to_image(value[0].mean(dim=0, keepdim=True) if grey else value[0], bits)
    return images


class SourcePairs:
    """The pairs to fuse, by number, each as a batch of one; read when they are asked for.

    Args:
        pairs: Name -> the files of both sources.
        windows: Their tone windows.
        resize: The source whose size both get.
        degradation: What is known to have happened to them.
        colormap_a: The palette in which source a is drawn.

    Raises:
        UserError: If there is no such palette.
    """

    def __init__(
        self,
        pairs: Mapping[str, Mapping[str, Path]],
        windows: tuple[Window, Window],
        resize: Side | None,
        degradation: SampleDegradation,
        colormap_a: str | None = None,
    ) -> None:
        if colormap_a is not None:
            check_choice("--colormap-a", colormap_a, COLORMAPS)
        self._colormap = colormap_a
        self.names = list(pairs)
        self._files = [dict(zip("ab", map(str, files.values()), strict=True)) for files in pairs.values()]
        self._windows, self._resize, self._degradation = windows, resize, degradation

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FusionBatch:
        """Read one pair.

        Raises:
            UserError: If it cannot be used.
        """
        images = read_sources(self._files[index], self._windows, self._resize)
        if self._colormap is not None:
            colored = [side for side, image in images.items() if image.shape[2] == 3]
            if colored:
                file = self._files[index][colored[0]]
                raise UserError(f"{file} is in colour, but --colormap-a colours a grey source: leave it out")
            images["a"] = colorize(images["a"], self._colormap)
        a, b = (to_tensor(images[side])[None] for side in "ab")
        return FusionBatch(
            source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[self._degradation], name=[self.names[index]]
        )


def _method_name(method: str | None, checkpoint: str | None) -> str:
    if method is not None and checkpoint is not None:
        raise UserError("--method and --checkpoint name two methods: give one of them")
    if method is None and checkpoint is None:
        notice(f"no --method was named, so {DEFAULT} fuses; others are {SHORT_NAMES}, or a .ckpt file")
    return checkpoint or method or DEFAULT


def _open(name: str) -> FusionMethod:
    specification = spelled_out(name)
    if isinstance(specification, str) and (Path(specification).exists() or Path(specification).suffix == ".ckpt"):
        return load_method(specification).eval()
    return build_method(cast(Specification, specification))


def _planned(name: str, files: Mapping[str, Path], recipe: Mapping[str, Any]) -> Item:
    """The line of a pair: its files and how it is fused."""
    sides = zip("ab", files.values(), strict=True)
    sources = {side: {"path": str(path), "sha256": digest(path)} for side, path in sides}
    return {"name": name, "sources": sources, **recipe}


def _left(items: list[Item], journal: Journal, folder: Path) -> list[Item]:
    """What an earlier run of the same command has not finished; a result of anything else is not to be replaced."""
    left = []
    for item in items:
        earlier = journal.items.get(item["name"])
        files = (earlier or {}).get("files", [])
        ours = earlier is not None and {**earlier, "files": None} == {**item, "files": None}
        if ours and files and all((folder / file).exists() for file in files):
            continue
        for part in _PARTS:
            path = folder / part / f"{item['name']}.png"
            if path.exists() and not (ours and path.relative_to(folder).as_posix() in files):
                raise UserError(f"{path} is already there: choose another --output, or add --overwrite")
        left.append(item)
    return left
