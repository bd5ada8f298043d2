"""The `fuse` command: fuses images on disk with a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from fusion_lightning.batch import Controls, FusionBatch, SampleDegradation, require_finite, to_device
from fusion_lightning.commands.assumed import assumed_degradation
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.commands.pairing import pair_by_stem
from fusion_lightning.commands.tiling import find_tile, fuse_in_tiles
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import ColorRule
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import grey_if_equal, to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.methods import FusionMethod, load_method

_RESTORED = ("restored_a", "restored_b", "weight")
_PARTS = ("", *_RESTORED, "trajectory")
"""Folders of results under the output folder; the fusion itself lies at its top."""


def fuse(
    checkpoint: str,
    source_a: str,
    source_b: str,
    output: str,
    strength_a: float = 1.0,
    strength_b: float = 1.0,
    balance: float = 0.5,
    color: ColorRule | None = None,
    degradation_a: str | None = None,
    degradation_b: str | None = None,
    noise: float = 0.0,
    restored: bool = False,
    trajectory: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    tile: int | None = None,
) -> None:
    """Fuse two images, or two folders of images paired by file stem, at their own size.

    Writes ``OUTPUT/<stem>.png``, in colour when one source is in colour.

    Args:
        checkpoint: A ``.ckpt`` file written by ``fit``.
        source_a: The image, or folder of images, that carries intensity (infrared, PET, SPECT, CT).
        source_b: The image, or folder of images, that carries detail (visible, MRI).
        output: Folder for the results.
        strength_a: Removal strength for source a: 0 keeps its degradation, 1 removes it.
        strength_b: Removal strength for source b.
        balance: Cross-modal balance: 0 leans to source a, 1 to source b, 0.5 is as trained.
        color: What stays of a colour where the fusion is brighter or darker than the source in colour: its
            ``saturation``, or the ``chroma`` as the method merges it. By default as the method was trained.
        degradation_a: What happened to source a, for methods that undo known degradations, e.g.
            ``"blur(sigma=2)+downsample(4)"``; the image then has its sensor's own size.
        degradation_b: What happened to source b.
        noise: Standard deviation of the noise on both sources, in [0, 1] units: 0.03 is 8 grey levels of 255.
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
    degradation = assumed_degradation(degradation_a, degradation_b, noise)
    pairs = pair_by_stem({"--source-a": source_a, "--source-b": source_b})
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {output} is a file: give a folder")
    taken = [path for part in _PARTS for name in pairs if (path := folder / part / f"{name}.png").exists()]
    if taken and not overwrite:
        raise UserError(f"{taken[0]} is already there: choose another --output, or add --overwrite")
    method = load_method(checkpoint).eval().to(find_device(device)).to(memory_format=torch.channels_last)
    if (degradation["a"] or degradation["b"]) and not method.uses_degradation:
        raise UserError(f"{type(method).__name__} makes no use of --degradation-a, --degradation-b and --noise")
    if trajectory and type(method).trajectory_sheet is FusionMethod.trajectory_sheet:
        raise UserError(f"{type(method).__name__} has no trajectory: leave --trajectory false")
    if trajectory and tile:
        raise UserError("--trajectory draws the whole image at once: leave --tile out")
    method.color_rule = color or method.color_rule
    bf16 = runs_in_bf16(precision, method.device)
    for name, files in track(pairs.items(), description="fusing"):
        batch = _read_pair(name, files, degradation)
        side = None if trajectory else find_tile(tile, method, batch)
        if side is not None and method.sees_whole_image:
            print(
                f"{name}: fused in tiles of {side} pixels. {type(method).__name__} looks at the whole image, so the "
                "result differs from that of --tile 0"
            )
        result = fuse_batch(method, batch, controls, bf16, side)
        if "fused" in result:
            write_image(folder / f"{name}.png", result["fused"])
        for part in _RESTORED:
            if part in result and (restored or "fused" not in result):
                write_image(folder / part / f"{name}.png", result[part])
        if trajectory and (steps := method.trajectory_sheet(to_device(batch, method.device))) is not None:
            rows, labels = steps
            write_image(folder / "trajectory" / f"{name}.png", contact_sheet(rows, labels, 256))
    print(f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} fused into {folder}")


@torch.inference_mode()
def fuse_batch(
    method: FusionMethod,
    batch: FusionBatch,
    controls: Controls | None = None,
    bf16: bool = False,
    tile: int | None = None,
) -> dict[str, np.ndarray]:
    """Fuse one pair (a batch of one), whole or in tiles, and return 8-bit images, grey without a source in colour."""
    colored = batch["source_a"].shape[1] == 3 or batch["source_b"].shape[1] == 3
    with torch.autocast(method.device.type, dtype=torch.bfloat16, enabled=bf16):
        if tile is None:
            output = method(to_device(batch, method.device), controls)
        else:
            output = fuse_in_tiles(method, batch, controls, tile)
    require_finite(output, batch["name"])
    images = {part: to_image(value[0]) for part, value in output.items()}
    if "fused" in images and not colored and images["fused"].ndim == 3:
        images["fused"] = np.round(images["fused"].mean(axis=2)).astype(np.uint8)
    return images


def _read_pair(name: str, files: Mapping[str, Path], degradation: SampleDegradation) -> FusionBatch:
    """One pair as a batch of one; a source whose three channels are equal is grey."""
    path_a, path_b = files.values()
    a, b = (to_tensor(grey_if_equal(read_image(path, channels=3))) for path in (path_a, path_b))
    if a.shape[0] == b.shape[0] == 3:
        raise UserError(f"{path_a} and {path_b} are both in colour, but only one source may be: convert one to grey")
    return FusionBatch(
        source_a=a[None], source_b=b[None], clean_a=a[None], clean_b=b[None], degradation=[degradation], name=[name]
    )
