"""The `inspect` command: says what is wrong with images."""

import csv
import io
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from fusion_lightning.commands.devices import find_device
from fusion_lightning.commands.estimators import estimator_name, open_estimator
from fusion_lightning.commands.tables import Cell, Format, Table, print_table
from fusion_lightning.datamodules.pairing import find_images
from fusion_lightning.degradations.labels import KINDS
from fusion_lightning.errors import UserError
from fusion_lightning.files import alone_in, output_folder, write_atomic
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.imaging.io import read_image, shows_color, to_grey
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods.degradation_estimator import Estimate, Estimator
from fusion_lightning.text import printable

_FILES = ("inspect.csv", "inspect.png")
_PROGRESS = Console(stderr=True)  # standard output holds the table and nothing else


class Finding(NamedTuple):
    """What was found in one image."""

    source: str
    """a or b."""
    name: str
    size: str
    estimate: Estimate


def inspect(
    source_a: str | None = None,
    source_b: str | None = None,
    estimator: str | None = None,
    output: str | None = None,
    format: Format = "table",
    window_a: str | None = None,
    window_b: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> None:
    """Say what is wrong with images: effects, their strengths, and how sure that is.

    Prints a table with a row per image; a degradation is written as ``--degradation-a`` of ``fuse`` reads it. Images
    are looked at each by itself, so one source will do, and names need not agree.

    Args:
        source_a: The image, folder of images or pattern (``"DIR/*_IR.jpg"``) that carries intensity (infrared, PET,
            SPECT, CT).
        source_b: The same for what carries detail (visible, MRI).
        estimator: What looks at them: a model that ships (`list models`), the ``.ckpt`` file of a
            `DegradationEstimator`, or ``ClassicalEstimator``, textbook rules for noise and Gaussian blur.
        output: Folder for ``inspect.csv``, a row per image with the probability and the parameter of every kind, and
            ``inspect.png``, how often each kind was found (with matplotlib).
        format: ``table`` for the terminal, ``markdown`` or ``latex``.
        window_a: Which values of source a become black and white, see ``fuse``.
        window_b: The same for source b.
        overwrite: Replace files that already exist.
        device: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU when there is one.

    Raises:
        UserError: If there is nothing to inspect, a file cannot be read, or a result is already there.
    """
    given = {"a": (source_a, window_a), "b": (source_b, window_b)}
    files = [
        (side, name, path, Window(window, f"--window-{side}"))
        for side, (place, window) in given.items()
        if place is not None
        for name, path in find_images(place, f"--source-{side}").items()
    ]
    if not files:
        raise UserError("nothing is named to inspect: give --source-a, --source-b or both")
    folder = None if output is None else _result_folder(output, [path for _, _, path, _ in files], overwrite)
    looking = open_estimator(estimator_name(estimator, [path for _, _, path, _ in files])).to(find_device(device))
    findings = [
        _inspected(looking, side, name, path, window)
        for side, name, path, window in track(files, "inspecting", console=_PROGRESS, transient=True)
    ]
    print_table(_table(findings), format)
    if folder is not None:
        with alone_in(folder):
            write_atomic(folder / _FILES[0], _csv(findings, looking))
            _draw(folder / _FILES[1], findings, looking)
        print(f"written to {folder}")


def _result_folder(output: str, inputs: list[Path], overwrite: bool) -> Path:
    folder = output_folder(output, inputs)
    there = [str(folder / file) for file in _FILES if (folder / file).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]} is already there: choose another --output, or add --overwrite")
    return folder


def _inspected(estimator: Estimator, side: str, name: str, path: Path, window: Window) -> Finding:
    image = read_image(path, None, window)
    image = image if shows_color(image) else to_grey(image)
    (estimate,) = estimator.estimate(to_tensor(image)[None].to(estimator.device))
    return Finding(side, name, f"{image.shape[1]}×{image.shape[0]}", estimate)


def _table(findings: list[Finding]) -> Table:
    rows = [
        [Cell(one.name), Cell(one.source), Cell(one.size), Cell(one.estimate.text()), Cell(_sure(one.estimate))]
        for one in findings
    ]
    return Table("what is wrong with each image", ("name", "source", "size", "degradation", "confidence"), rows)


def _sure(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.confidence) else f"{estimate.confidence:.2f}"


def _csv(findings: list[Finding], estimator: Estimator) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = [
        f"{what} {kind}" for kind in estimator.knows for what in ("probability of", KINDS[kind].parameter + " of")
    ]
    writer.writerow(["name", "source", "size", "degradation", "confidence", *columns])
    for one in findings:
        found = one.estimate
        values = [part.get(kind, "") for kind in estimator.knows for part in (found.probabilities, found.kinds)]
        numbers = [f"{value:.4g}" if isinstance(value, float) else value for value in (found.confidence, *values)]
        writer.writerow([one.name, one.source, one.size, found.text(), *numbers])
    return text.getvalue()


def _draw(path: Path, findings: list[Finding], estimator: Estimator) -> None:
    """How often each kind was found in each source, as bars."""
    try:
        import matplotlib
    except ImportError:
        print(f"{printable(path.name)} is left out: it needs matplotlib (pip install 'fusion_lightning[plots]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = [*estimator.knows, "nothing"]
    sides = sorted({one.source for one in findings})
    figure, axis = pyplot.subplots(figsize=(7, 1 + 0.3 * len(labels)), layout="constrained")
    for number, side in enumerate(sides):
        counts = Counter(kind for one in findings if one.source == side for kind in one.estimate.kinds or ["nothing"])
        places = [row + (number - (len(sides) - 1) / 2) * 0.4 for row in range(len(labels))]
        axis.barh(places, [counts[label] for label in labels], height=0.38, label=f"source {side}")
    axis.set(yticks=range(len(labels)), yticklabels=labels, xlabel="images", title="found in so many images")
    axis.invert_yaxis()
    axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    pyplot.close(figure)
    write_atomic(path, picture.getvalue())
