"""The `evaluate` command: scores folders of fused images, whatever made them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from fusion_lightning.commands.statistics import Scores, comparison, differences, summary, undefined
from fusion_lightning.commands.tables import Format, print_table
from fusion_lightning.datamodules.pairs import Side
from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.io import SUFFIXES
from fusion_lightning.imaging.video import Sync
from fusion_lightning.imaging.volumes import Axis
from fusion_lightning.imaging.windows import Window
from fusion_lightning.metrics import METRICS, check_metrics, to_grey_levels
from fusion_lightning.text import printable

if TYPE_CHECKING:
    from fusion_lightning.commands.evaluate.images import Images

_PROGRESS = Console(stderr=True)  # standard output holds the table and nothing else


def evaluate(
    source_a: str,
    source_b: str,
    fused: list[str],
    metrics: str | list[str] = "MI,VIF,Qabf,Nabf,SSIM",
    output: str | None = None,
    format: Format = "table",
    window_a: str | None = None,
    window_b: str | None = None,
    resize: Side | None = None,
    axis: Axis | None = None,
    frames: str | None = None,
    sync: Sync | None = None,
    overwrite: bool = False,
) -> None:
    """Score one or several folders of fused images against their sources, paired by name; or volumes, or a video.

    Prints a table: mean ± standard deviation over the images. Several folders are compared: the best of every metric
    in bold, the second underlined, and the differences to the best with 95 % confidence intervals (paired bootstrap).
    Colour is scored as grey, and all as levels from 0 to 255. A source of lower resolution is enlarged to the other's
    size, which the fusion must have. An image for which a metric is undefined is named and left out of its mean.
    Volumes are scored slice by slice and videos frame by frame, each source through one tone window, as `fuse` sees it.

    Args:
        source_a: The image, folder of images or pattern (``"DIR/*_IR.jpg"``) that carries intensity (infrared, PET,
            SPECT, CT); or a NIfTI file, a folder of them, or a video.
        source_b: The same for what carries detail (visible, MRI).
        fused: The fused image, folder of images or pattern; several to compare methods, called by their folders' names.
            For a video also the folder of its frames.
        metrics: Names separated by commas (`list metrics`), or ``all``, without those that an image is too small for.
        output: CSV file to write: one row per image and a final ``mean`` row; ``name``, then a column per metric.
            With several fused folders, one file for each: ``scores.csv`` becomes ``scores-METHOD.csv``.
        format: ``table`` for the terminal, ``markdown`` or ``latex``.
        window_a: Which values of source a become black and white, as when it was fused; see ``fuse``.
        window_b: The same for source b.
        resize: Bring both sources to the size of this one; without it, sides of different ratios are refused.
        axis: Slices of volumes as in ``fuse``: ``axial`` (the default for NIfTI files), ``coronal`` or ``sagittal``.
        frames: Which frames of two videos the fusion holds, ``FIRST:END``, as when it was fused.
        sync: What paired the frames of the two videos, ``index`` or ``time``, as when they were fused.
        overwrite: Replace an output file that already exists.

    Raises:
        UserError: If a metric is unknown, the output exists, or images are unpaired, unreadable or of different
            sizes; nothing is written then.
    """
    # it stands on Lightning, which takes seconds to load and which `--help` does without
    from fusion_lightning.commands.evaluate.images import find_images

    names = metric_names(metrics)
    folders = _method_folders(fused)
    outputs = _outputs(output, list(folders), overwrite)
    windows = (Window(window_a, "--window-a"), Window(window_b, "--window-b"))
    fusions = {f"--fused {method}": place for method, place in folders.items()}
    sources = {"--source-a": source_a, "--source-b": source_b}
    images = find_images(sources, fusions, windows, resize, axis, frames, sync)
    scores = _score(images, list(folders), names)
    left_out = [name for name in names if name not in next(iter(scores.values()))]
    if len(folders) == 1:
        print_table(summary(next(iter(scores.values())), len(images)), format)
    else:
        print_table(comparison(scores), format)
        print_table(differences(scores), format)
    for name in left_out:
        side = METRICS[name].smallest()
        print(f"{name} is left out of `all`: it needs images of at least {side}x{side} pixels")
    for sentence in undefined(scores, images.names):
        print(printable(sentence))
    for method, path in outputs.items():
        _write(path, images.names, scores[method])
        print(f"scores written to {path}")


def metric_names(metrics: str | Sequence[str]) -> list[str]:
    """The metrics that ``--metrics`` asks for.

    Raises:
        UserError: If there is one that is not known.
    """
    given = [metrics] if isinstance(metrics, str) else metrics
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(METRICS)
    if not names:
        raise UserError("--metrics names none: give `all`, or some of what `list metrics` shows")
    check_metrics("--metrics", names)
    return list(dict.fromkeys(names))


def _method_folders(fused: Sequence[str]) -> dict[str, str]:
    """Name of every method and where its images are: the folder's name, or the whole path where names repeat."""
    if not fused:
        raise UserError("--fused needs at least one folder of fused images")
    places = [Path(path).expanduser().resolve() for path in fused]
    short = [place.parent.name if "*" in place.name else place.name for place in places]
    folders = dict(zip(short if len(set(short)) == len(short) else fused, fused, strict=True))
    if len(folders) < len(fused):
        raise UserError(f"--fused names the same folder twice: {', '.join(fused)}")
    return folders


def _outputs(output: str | None, methods: Sequence[str], overwrite: bool) -> dict[str, Path]:
    """Which file every method's scores go to; none without `output`."""
    if output is None:
        return {}
    path = Path(output).expanduser()
    if path.is_dir():
        raise UserError(f"--output {output} is a folder: give a file, for example {path / 'scores.csv'}")
    if path.suffix.lower() in SUFFIXES:
        raise UserError(f"--output {output} has the name of an image: give a CSV file, for example scores.csv")
    paths = dict.fromkeys(methods, path)
    if len(methods) > 1:
        paths = {method: path.with_stem(f"{path.stem}-{method.strip('/').replace('/', '_')}") for method in methods}
    if len(set(paths.values())) < len(methods):
        raise UserError(f"--output: {', '.join(methods)} would be written into one file: rename one of the folders")
    taken = [str(path) for path in paths.values() if path.exists()]
    if taken and not overwrite:
        raise UserError(f"{', '.join(taken)} already exists: choose another --output, or add --overwrite")
    return paths


def _score(images: "Images", methods: Sequence[str], metrics: Sequence[str]) -> dict[str, Scores]:
    """Method -> metric -> one value per pair; of all metrics without those that an image is too small for."""
    definitions = {name: METRICS[name]() for name in metrics}
    scores: dict[str, Scores] = {method: {name: np.full(len(images), np.nan) for name in metrics} for method in methods}
    for row in track(range(len(images)), "scoring", console=_PROGRESS, transient=True):
        pair = images[row]
        for method in methods:
            levels = to_grey_levels(pair[f"--fused {method}"], pair["--source-a"], pair["--source-b"])
            if len(metrics) == len(METRICS):
                side = min(pair["--source-a"].shape[-2:])
                for name in [name for name in definitions if METRICS[name].smallest() > side]:
                    del definitions[name]
            for name, metric in definitions.items():
                try:
                    scores[method][name][row] = metric.score_grey(levels).item()
                except UserError as error:
                    raise UserError(f"{images.names[row]}: {error}") from error
    return {method: {name: values[name] for name in definitions} for method, values in scores.items()}


def _write(path: Path, names: Sequence[str], scores: Scores) -> None:
    columns = np.stack(list(scores.values()), axis=1)
    means = [values[~np.isnan(values)].mean() if (~np.isnan(values)).any() else np.nan for values in columns.T]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *scores])
    for name, values in zip((*names, "mean"), (*columns, means), strict=True):
        writer.writerow([name, *(repr(float(value)) for value in values)])
    write_atomic(path, text.getvalue())
