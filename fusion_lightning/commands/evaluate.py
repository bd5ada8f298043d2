"""The `evaluate` command: scores folders of fused images, whatever made them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from fusion_lightning.commands.pairing import images_by_stem
from fusion_lightning.commands.statistics import Scores, comparison, differences, summary, undefined
from fusion_lightning.commands.tables import Format, print_table
from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.io import read_image
from fusion_lightning.metrics import METRICS, to_grey_levels
from fusion_lightning.text import printable

Files = dict[str, Path]
"""What a folder was given as (``--source-a``, ``--fused DIR``) -> the image in it."""

_PROGRESS = Console(stderr=True)  # standard output holds the table and nothing else


def evaluate(
    source_a: str,
    source_b: str,
    fused: list[str],
    metrics: str | list[str] = "MI,VIF,Qabf,Nabf,SSIM",
    output: str | None = None,
    format: Format = "table",
    overwrite: bool = False,
) -> None:
    """Score one or several folders of fused images against their sources, paired by file stem.

    Prints a table: mean ± standard deviation over the images. Several folders are compared: the best of every metric
    in bold, the second underlined, and the differences to the best with 95 % confidence intervals (paired bootstrap).
    Colour is scored as grey, 16 bits as 8. An image for which a metric is undefined is named and left out of its mean.

    Args:
        source_a: The image, or folder of images, that carries intensity (infrared, PET, SPECT, CT).
        source_b: The image, or folder of images, that carries detail (visible, MRI).
        fused: The fused image, or folder of images; several to compare methods, called by their folders' names.
        metrics: Names separated by commas, or ``all``.
        output: CSV file to write: one row per image and a final ``mean`` row; ``name``, then a column per metric.
            With several fused folders, one file for each: ``scores.csv`` becomes ``scores-METHOD.csv``.
        format: ``table`` for the terminal, ``markdown`` or ``latex``.
        overwrite: Replace an output file that already exists.

    Raises:
        UserError: If a metric is unknown, the output exists, or images are unpaired, unreadable or of different
            sizes: all of them are named, and nothing is written.
    """
    names = metric_names(metrics)
    folders = _method_folders(fused)
    outputs = _outputs(output, list(folders), overwrite)
    pairs = _find(source_a, source_b, folders)
    _check(pairs)
    scores = _score(pairs, list(folders), names)
    if len(folders) == 1:
        print_table(summary(next(iter(scores.values())), len(pairs)), format)
    else:
        print_table(comparison(scores), format)
        print_table(differences(scores), format)
    for sentence in undefined(scores, list(pairs)):
        print(printable(sentence))
    for method, path in outputs.items():
        _write(path, list(pairs), scores[method])
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
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise UserError(f"--metrics must be `all` or among {', '.join(METRICS)}, but got {', '.join(unknown)}")
    return list(dict.fromkeys(names))


def _method_folders(fused: Sequence[str]) -> dict[str, str]:
    """Name of every method and where its images are: the folder's name, or the whole path where names repeat."""
    if not fused:
        raise UserError("--fused needs at least one folder of fused images")
    short = [Path(path).resolve().name for path in fused]
    folders = dict(zip(short if len(set(short)) == len(short) else fused, fused, strict=True))
    if len(folders) < len(fused):
        raise UserError(f"--fused names the same folder twice: {', '.join(fused)}")
    return folders


def _outputs(output: str | None, methods: Sequence[str], overwrite: bool) -> dict[str, Path]:
    """Which file every method's scores go to; none without `output`."""
    if output is None:
        return {}
    path = Path(output)
    if path.is_dir():
        raise UserError(f"--output {output} is a folder: give a file, for example {path / 'scores.csv'}")
    paths = dict.fromkeys(methods, path)
    if len(methods) > 1:
        paths = {method: path.with_stem(f"{path.stem}-{method.strip('/').replace('/', '_')}") for method in methods}
    taken = [str(path) for path in paths.values() if path.exists()]
    if taken and not overwrite:
        raise UserError(f"{', '.join(taken)} already exists: choose another --output, or add --overwrite true")
    return paths


def _find(source_a: str, source_b: str, folders: dict[str, str]) -> dict[str, Files]:
    """The files of every image, by stem in the order of the names; whatever has no partner is named."""
    places = {"--source-a": source_a, "--source-b": source_b} | {f"--fused {m}": path for m, path in folders.items()}
    found = {place: images_by_stem(path, place.split()[0]) for place, path in places.items()}
    if all(Path(path).is_file() for path in places.values()):
        return {Path(source_a).stem: {place: next(iter(images.values())) for place, images in found.items()}}
    stems = sorted({stem for images in found.values() for stem in images})
    alone = [
        f"{stem} is missing in {place.split()[0]} {places[place]}"
        for stem in stems
        for place, images in found.items()
        if stem not in images
    ]
    # The readable and complete ones are checked all the same, so that one error names everything there is to mend.
    pairs = {stem: {place: images[stem] for place, images in found.items() if stem in images} for stem in stems}
    if alone:
        _check(pairs, alone)
    return pairs


def _check(pairs: dict[str, Files], problems: Sequence[str] = ()) -> None:
    """Read every image once before anything is scored, and name all that cannot be used."""
    found = list(problems)
    for files in track(pairs.values(), "checking", console=_PROGRESS, transient=True):
        sizes: dict[tuple[int, ...], Path] = {}
        for path in files.values():
            try:
                sizes.setdefault(read_image(path, channels=3).shape[:2], path)
            except UserError as error:
                found.append(str(error).rstrip("."))
        if len(sizes) > 1:
            found.append(" but ".join(f"{path} is {width}x{height}" for (height, width), path in sizes.items()))
    if found:
        raise UserError(f"{len(found)} of the images cannot be scored: {'; '.join(found)}")


def _score(pairs: dict[str, Files], methods: Sequence[str], metrics: Sequence[str]) -> dict[str, Scores]:
    """Method -> metric -> one value per pair."""
    definitions = {name: METRICS[name]() for name in metrics}
    scores: dict[str, Scores] = {method: {name: np.full(len(pairs), np.nan) for name in metrics} for method in methods}
    steps = [(row, stem, method) for row, stem in enumerate(pairs) for method in methods]
    for row, stem, method in track(steps, "scoring", console=_PROGRESS, transient=True):
        files = pairs[stem]
        levels = to_grey_levels(*(_read(files[place]) for place in (f"--fused {method}", "--source-a", "--source-b")))
        for name, metric in definitions.items():
            try:
                scores[method][name][row] = metric.score_grey(levels).item()
            except UserError as error:
                raise UserError(f"{stem}: {error}") from error
    return scores


def _read(path: Path) -> Tensor:
    """An image (1, 1 or 3, H, W), float64: its levels divided by 255 exactly enough to be levels again."""
    image = read_image(path, channels=3)
    if (image == image[..., :1]).all():
        image = image[..., :1]
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None].double() / 255


def _write(path: Path, names: Sequence[str], scores: Scores) -> None:
    columns = np.stack(list(scores.values()), axis=1)
    means = [values[~np.isnan(values)].mean() if (~np.isnan(values)).any() else np.nan for values in columns.T]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *scores])
    for name, values in zip((*names, "mean"), (*columns, means), strict=True):
        writer.writerow([name, *(repr(float(value)) for value in values)])
    write_atomic(path, text.getvalue())
