"""Reports of a benchmark: tables, scores per image, contact sheets, quality against time."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch, FusionOutput
from fusion_lightning.commands.benchmark.store import Trial, slug
from fusion_lightning.commands.statistics import Scores, comparison, differences, places, undefined, wins
from fusion_lightning.commands.tables import Cell, Table, latex, markdown
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.metrics import METRICS
from fusion_lightning.text import counted, markdown_text, printable

PICTURES = 2
"""How many pairs of every data set a contact sheet shows."""
_SOURCES = ("source_a", "source_b")
_WIDTH = 224
_MARKERS = "osD^v"

Group = list[Trial]
"""The trials of one data set under one scenario."""


def picture_writer(folder: Path, trial: Trial) -> Callable[[int, FusionBatch, FusionOutput], None]:
    """A function that writes the first pairs and their fusions into ``folder/pictures``."""

    def keep(index: int, batch: FusionBatch, output: FusionOutput) -> None:
        if index < PICTURES:
            images = {side: batch[side] for side in _SOURCES}  # type: ignore[literal-required]
            images |= {trial.place.name: output["fused"]} if "fused" in output else {}
            for part, image in images.items():
                write_image(_picture(folder, trial, part, batch["name"][0]), to_image(image[0]))

    return keep


def report(folder: Path, trials: Sequence[Trial], metrics: Sequence[str], conditions: str) -> list[Table]:
    """Write everything that follows from the trials.

    Args:
        folder: Where to.
        trials: All of them, also those that failed.
        metrics: The fusion metrics that were asked for.
        conditions: What the times depend on, for the heading.

    Returns:
        The tables of scores and costs; the files hold more.
    """
    groups = _grouped(trials, lambda trial: (trial.data, trial.scenario))
    shown: list[Table] = []
    written: list[Table] = []
    remarks: list[str] = []
    for group in groups:
        where = f"{group[0].data}, {group[0].scenario}"
        fusing = [trial for trial in group if trial.failure is None and metrics[0] in trial.images[0]["scores"]]
        failed = [trial for trial in group if trial.failure is not None]
        remarks += [f"{trial.method} failed on {where}: {trial.failure}" for trial in failed]
        if fusing:
            scores = {trial.method: _scores(trial, metrics) for trial in fusing}
            tables = [comparison(scores), differences(scores), wins(scores)]
            # a marked row, so that nobody takes the method for left out
            tables[0] = tables[0]._replace(rows=[*tables[0].rows, *(_failed_row(one, len(metrics)) for one in failed)])
            pairs = len(fusing[0].images)
            tables = [one._replace(title=f"{where} ({counted(pairs, 'pair')}): {one.title}") for one in tables]
            shown.append(tables[0])
            written += tables
            remarks += [f"{where}: {text}" for text in undefined(scores, [i["name"] for i in fusing[0].images])]
        written += _restoration(group, where)
    costs = [_costs(group) for group in _grouped(trials, lambda trial: (trial.data,))]
    tables = [*written, *(table for table in costs if table.rows)]
    heading = f"Measured on {conditions}. Fusions are scored against the clean sources."
    texts = [
        markdown_text(heading),
        *map(markdown, tables),
        *(f"- {markdown_text(text, line=True)}" for text in remarks),
    ]
    write_atomic(folder / "report.md", "\n".join(texts) + "\n")
    write_atomic(folder / "report.tex", "\n".join([f"% {printable(heading)}", *map(latex, tables)]))
    write_atomic(folder / "scores.csv", _csv(trials))
    for group in _grouped(trials, lambda trial: (trial.scenario,)):
        _write_sheet(folder, group)
    _draw_quality_against_time(folder, groups, metrics)
    return [*shown, *(table for table in costs if table.rows)]


def _grouped(trials: Sequence[Trial], key: Callable[[Trial], tuple[str, ...]]) -> list[Group]:
    groups: dict[tuple[str, ...], Group] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return list(groups.values())


def _scores(trial: Trial, metrics: Sequence[str]) -> Scores:
    return {metric: np.array([image["scores"].get(metric, np.nan) for image in trial.images]) for metric in metrics}


def _failed_row(trial: Trial, columns: int) -> list[Cell]:
    return [Cell(trial.method), Cell("failed"), *[Cell("–")] * (columns - 1)]


def _restoration(group: Group, where: str) -> list[Table]:
    """A table of the restored sources, if any method restores and anything was degraded."""
    columns = [f"{score}_{side}" for side in "ab" for score in ("PSNR", "SSIM")]
    rows: dict[str, list[float]] = {}
    for trial in group:
        means = {name: _mean(_scores(trial, (name,))[name]) for name in (*columns, *(f"{one}_in" for one in columns))}
        if trial.failure is None and not all(np.isnan(means[name]) for name in columns):
            rows.setdefault("as delivered", [means[f"{name}_in"] for name in columns])
            rows[trial.method] = [means[name] for name in columns]
    title = f"{where}: restored sources against the clean ones, means"
    return [_ranked(title, ["source", *(f"{name} ↑" for name in columns)], rows, higher=True)] if rows else []


def _costs(trials: Group) -> Table:
    """What methods need on one data set, over all scenarios."""
    rows: dict[str, list[float]] = {}
    size = [0, 0]
    for group in _grouped([one for one in trials if one.cost is not None], lambda trial: (trial.method,)):
        costs = [trial.cost for trial in group if trial.cost is not None]
        seconds = [image["seconds"] for trial in group for image in trial.images]
        size = costs[0]["size"]
        peak = max(cost["memory"] for cost in costs)
        flops = costs[0]["flops"] / 1e9
        rows[group[0].method] = [costs[0]["parameters"] / 1e6, flops, 1e3 * float(np.median(seconds)), peak / 2**20]
    title = f"{trials[0].data}: costs per image: median time, the rest for one of {size[1]}x{size[0]}"
    return _ranked(title, ["method", "M parameters", "GFLOP", "ms", "MiB"], rows, higher=False)


def _ranked(title: str, header: Sequence[str], rows: dict[str, list[float]], higher: bool) -> Table:
    columns = list(zip(*rows.values(), strict=True))
    # of costs, most methods share the smallest, nothing at all: no rank then
    ranks = [places([-value for value in column]) if higher else [0] * len(column) for column in columns]
    cells = [
        [Cell(name), *(Cell(_number(x), ranks[i][row]) for i, x in enumerate(values))]
        for row, (name, values) in enumerate(rows.items())
    ]
    return Table(title, header, cells)


def _number(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _csv(trials: Sequence[Trial]) -> str:
    keys = list(dict.fromkeys(key for trial in trials for image in trial.images for key in image["scores"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "scenario", "method", "name", *keys, "seconds"])
    for trial in trials:
        for image in trial.images:
            values = [image["scores"].get(key, float("nan")) for key in keys]
            writer.writerow([trial.data, trial.scenario, trial.method, image["name"], *values, image["seconds"]])
    return text.getvalue()


def _picture(folder: Path, trial: Trial, part: str, name: str) -> Path:
    return folder / "pictures" / trial.place.parent / part / f"{slug(name)}.png"


def _write_sheet(folder: Path, trials: Group) -> None:
    """The first pairs of every data set under one scenario, and what the methods made of them."""
    methods = list(dict.fromkeys(trial.method for trial in trials))
    rows: list[list[Tensor]] = []
    for group in _grouped(trials, lambda trial: (trial.data,)):
        done = next((trial for trial in group if trial.failure is None), None)
        for image in done.images[:PICTURES] if done is not None else ():
            places = [_picture(folder, group[0], part, image["name"]) for part in (*_SOURCES, *map(slug, methods))]
            took_part = [True, True, *(any(t.method == m and t.failure is None for t in group) for m in methods)]
            pictures = [
                to_tensor(read_image(path, 3)) if there and path.is_file() else None
                for path, there in zip(places, took_part, strict=True)
            ]
            blank = torch.ones_like(next(picture for picture in reversed(pictures) if picture is not None))
            rows.append([blank if picture is None else picture for picture in pictures])
    if rows:
        sheet = contact_sheet(rows, ["source a", "source b", *methods], _WIDTH)
        write_image(folder / "sheets" / f"{slug(trials[0].scenario)}.png", sheet)


def _draw_quality_against_time(folder: Path, groups: Sequence[Group], metrics: Sequence[str]) -> None:
    """A panel per metric: its mean, over what all methods with a time took part in, against the median time."""
    try:
        import matplotlib
    except ImportError:
        print("quality_time.png is left out: it needs matplotlib (pip install 'fusion_lightning[plots]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = [[one for one in group if one.cost and metrics[0] in one.images[0]["scores"]] for group in groups]
    methods = list(dict.fromkeys(trial.method for group in timed for trial in group))
    shared = [group for group in timed if len(group) == len(methods)]
    if not shared or not methods:
        return
    figure, axes = pyplot.subplots(
        1, len(metrics), figsize=(3 * len(metrics) + 2, 3.2), squeeze=False, layout="constrained"
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        for index, method in enumerate(methods):
            trials = [trial for group in shared for trial in group if trial.method == method]
            seconds = float(np.median([image["seconds"] for trial in trials for image in trial.images]))
            quality = _mean(np.concatenate([_scores(trial, (metric,))[metric] for trial in trials]))
            axis.plot(seconds, quality, _MARKERS[index // 10 % len(_MARKERS)])  # ten colours a marker
        better = {True: "higher", False: "lower", None: "nearer to 0"}[METRICS[metric].higher_is_better]
        axis.set(xscale="log", xlabel="seconds per image", title=f"{metric} ({better} is better)")
    # a space first: matplotlib leaves out labels that begin with _
    labels = [f" {printable(method)}" for method in methods]
    legend = figure.legend(axes[0][0].lines, labels, loc="outside right center", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ is a $
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    pyplot.close(figure)
    write_atomic(folder / "quality_time.png", picture.getvalue())
