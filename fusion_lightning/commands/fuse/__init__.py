"""The `fuse` command: fuses images on disk."""

from typing import Literal

import torch

from fusion_lightning.batch import Controls
from fusion_lightning.commands.declared import AUTO, declared_degradation
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.commands.manifest import digest
from fusion_lightning.datamodules.pairs import Side
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.files import output_folder
from fusion_lightning.imaging.color import ColorRule
from fusion_lightning.imaging.convert import COLORMAPS
from fusion_lightning.imaging.video import Form, Sync
from fusion_lightning.imaging.volumes import Axis
from fusion_lightning.imaging.windows import Window
from fusion_lightning.zoo import checkpoint_of


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
    estimator: str | None = None,
    align: bool | str = False,
    window_a: str | None = None,
    window_b: str | None = None,
    resize: Side | None = None,
    colormap_a: str | None = None,
    axis: Axis | None = None,
    frames: str | None = None,
    sync: Sync | None = None,
    video: Form | None = None,
    bits: Literal[8, 16] = 8,
    restored: bool = False,
    trajectory: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    tile: int | None = None,
) -> None:
    """Fuse two images, or two folders of images paired by name, at their own size; or two volumes, or two videos.

    Writes ``OUTPUT/<name>.png``, in colour when one source is in colour, and a line for each into
    ``OUTPUT/fuse.jsonl``: what was fused, and how. The same command typed again goes on where it was interrupted.
    Volumes become ``<name>.nii.gz`` with the spacing and the affine of their sources, videos ``<name>.mp4``; all their
    slices and frames are seen through one tone window.

    Args:
        source_a: The image, folder of images or pattern (``"DIR/*_IR.jpg"``) that carries intensity (infrared, PET,
            SPECT, CT); or a NIfTI file, or a video.
        source_b: The same for what carries detail (visible, MRI).
        output: Folder for the results. It may hold the folders of the sources, but no source where results go: neither
            at its top, nor in ``restored_a``, ``restored_b``, ``weight`` or ``trajectory`` below it.
        method: What fuses: a model that ships (`list models`), ``average``, ``maximum``, ``laplacian``, ``guided``,
            ``wavelet``, ``overlay:ALPHA`` (source a over b), ``ifcnn=FILE`` or ``gifnet=FILE`` (published weights), a
            ``.ckpt`` file written by ``fit``, or a class that needs no training. By default the best model that ships;
            for scans ``laplacian``: NIfTI, DICOM, or a first pair that both lie on a black ground.
        checkpoint: The same as ``--method`` for a ``.ckpt`` file.
        strength_a: Removal strength for source a, from 0 (keeps its degradation) to 1 (removes it).
        strength_b: Removal strength for source b.
        balance: Cross-modal balance: 0 leans to source a, 1 to source b, 0.5 is as trained.
        color: What stays of a colour where the fusion is brighter or darker than the source in colour: its
            ``saturation``, or the ``chroma`` as the method merges it. By default as the method was trained.
        degradation_a: What happened to source a, for methods that undo known degradations, e.g.
            ``"blur(sigma=2)+downsample(4)"``; the image then has its sensor's own size. ``auto`` has it
            estimated, for each image.
        degradation_b: What happened to source b.
        noise: Standard deviation of the noise on both sources, of a range of 1: 0.03 is 8 grey levels of 255.
        estimator: What estimates a degradation that is ``auto``: a model that ships (`list models`), the ``.ckpt`` file
            of a `DegradationEstimator`, or ``ClassicalEstimator``, textbook rules for noise and Gaussian blur.
        align: Bring source a into the frame of b first: by ``classical`` (affine, without training), a model that ships
            (`list models`), or the ``.ckpt`` file of a `RegistrationNet`; bare by the best of them. What cannot be
            trusted is left as it is. With ``--restored`` the aligned source is written, too.
        window_a: Which values of source a become black and white: ``percentile:LO,HI``, ``raw:LO,HI``, ``suv:LO,HI``,
            ``minmax``, ``agc`` or ``none``. It has to be named for files of more than 8 bits that use less than a tenth
            of their range, and for values that have none.
        window_b: The same for source b.
        resize: Bring both sources to the size of this one, stretching the other if need be; without it, sides of
            different ratios are refused, and the source of lower resolution is enlarged.
        colormap_a: Draw a grey source a in a palette before it is fused, as radiologists know PET: ``hot``, ``jet``,
            ``inferno``, ``magma``, ``viridis`` or ``turbo``. Source b has to be grey then.
        axis: Fuse volumes slice by slice, ``axial``, ``coronal`` or ``sagittal``: NIfTI files, which are fused in axial
            slices otherwise, and with it also folders of DICOM slices.
        frames: Which frames of two videos, ``FIRST:END`` counted from 0, without END. With two folders, says that their
            images are the frames of one scene; ``all`` takes all of them.
        sync: Pair the frames of videos of different rates or lengths by their ``index``, or by the ``time`` at which
            they are shown.
        video: What two videos become: ``mp4`` (the default), ``lossless`` (FFV1 in Matroska), or ``frames``, PNG files.
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
    # methods stand on Lightning, which takes seconds to load and which `--help` does without
    from fusion_lightning.commands.aligning import open_registration, registration_name
    from fusion_lightning.commands.estimators import Estimating, estimator_name, open_estimator
    from fusion_lightning.commands.fuse.images import SourcePairs
    from fusion_lightning.commands.fuse.kinds import find_sources
    from fusion_lightning.commands.fuse.opening import check_controls, method_name, open_method
    from fusion_lightning.commands.fuse.work import PARTS, Job, Reading
    from fusion_lightning.commands.tiling import check_tile
    from fusion_lightning.methods import FusionMethod

    controls = Controls(strength_a, strength_b, balance)
    estimated = [side for side, text in (("a", degradation_a), ("b", degradation_b)) if text == AUTO]
    degradation = declared_degradation(degradation_a, degradation_b, noise)
    if estimator and not estimated:
        raise UserError(f"--estimator is asked where --degradation-a or --degradation-b is `{AUTO}`: add one of them")
    check_choice("bits", bits, (8, 16))
    check_tile(tile)
    if colormap_a is not None:
        check_choice("--colormap-a", colormap_a, COLORMAPS)
    windows = (Window(window_a, "--window-a"), Window(window_b, "--window-b"))
    reading = Reading(windows, resize, degradation, colormap_a)
    sources = find_sources({"--source-a": source_a, "--source-b": source_b}, reading, axis, frames, sync, video)
    if estimated and not isinstance(sources, SourcePairs):
        raise UserError(
            f"`{AUTO}` is for images: estimated from frame to frame or slice to slice, a degradation flickers"
        )
    if align and not isinstance(sources, SourcePairs):
        raise UserError("--align is for images: from frame to frame or slice to slice, a registration trembles")
    if align and (degradation_a or noise):
        raise UserError(
            "--align moves pixels, after which no declared degradation of source a can be undone: leave one"
        )
    folder = output_folder(output, sources.files, PARTS)
    chosen = method_name(method, checkpoint, sources.files)
    fuser = open_method(chosen).to(find_device(device)).to(memory_format=torch.channels_last)
    check_controls(fuser, controls)
    if (estimated or degradation["a"] or degradation["b"]) and not fuser.uses_degradation:
        raise UserError(f"{type(fuser).__name__} makes no use of --degradation-a, --degradation-b and --noise")
    aligning = registration_name(align)
    registration = open_registration(aligning).to(fuser.device) if aligning else None
    looking = estimator_name(estimator, sources.files) if estimated else None
    estimating = Estimating(open_estimator(looking).to(fuser.device), estimated) if looking else None
    if trajectory and type(fuser).trajectory_sheet is FusionMethod.trajectory_sheet:
        raise UserError(f"{type(fuser).__name__} has no trajectory: leave --trajectory false")
    if trajectory and tile:
        raise UserError("--trajectory draws the whole image at once: leave --tile out")
    fuser.color_rule = color or fuser.color_rule
    bf16 = runs_in_bf16(precision, fuser.device)
    weights = [chosen.partition("=")[2] or chosen, *filter(None, (looking, aligning))]
    recipe = {
        "method": chosen,
        "weights": {text: digest(checkpoint_of(text)) for text in weights if checkpoint_of(text).is_file()},
        "controls": [strength_a, strength_b, balance],
        "color": fuser.color_rule,
        "degradation": [degradation_a, degradation_b, noise],
        "estimator": looking,
        "align": aligning,
        "windows": [window_a, window_b],
        "resize": resize,
        "colormap_a": colormap_a,
        "bits": bits,
        "parts": [restored, trajectory],
        "bf16": bf16,
        "tile": tile,
    }
    sources.fuse(
        Job(
            fuser, controls, bf16, tile, bits, restored, trajectory, overwrite, folder, recipe, estimating, registration
        )
    )
