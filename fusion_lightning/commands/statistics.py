"""Comparison of methods: means, ranks and paired bootstrap intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from fusion_lightning.commands.tables import Cell, Table
from fusion_lightning.metrics import METRICS
from fusion_lightning.text import counted

Scores = Mapping[str, np.ndarray]
"""Metric -> one value per image; NaN where it is undefined."""

_RESAMPLES = 10_000


def summary(scores: Scores, images: int) -> Table:
    """One method: mean ± standard deviation over the images where a metric is defined."""
    rows = []
    for metric, values in scores.items():
        defined = values[~np.isnan(values)]
        rows.append([Cell(heading(metric)), Cell(_mean_and_spread(defined)), Cell(str(len(defined)))])
    return Table(f"{counted(images, 'image')}, mean ± standard deviation", ["metric", "value", "images"], rows)


def comparison(scores: Mapping[str, Scores]) -> Table:
    """Several methods: means ± standard deviations, the best and the second of every metric marked.

    An image for which a metric is undefined with one method is left out with all, so that all are judged alike.
    """
    metrics, columns = _columns(scores)
    ranks = {metric: _ranks(metric, columns[metric]) for metric in metrics}
    rows = []
    for i, method in enumerate(scores):
        cells = [Cell(_mean_and_spread(columns[metric][i]), ranks[metric][i]) for metric in metrics]
        rows.append([Cell(method), *cells])
    return Table("mean ± standard deviation", ["method", *map(heading, metrics)], rows)


def differences(scores: Mapping[str, Scores]) -> Table:
    """The difference of every method to the best one with its 95 % confidence interval.

    Paired bootstrap: the images are drawn with replacement 10 000 times, the same ones for all methods. An interval
    without 0 means that the best is better on more than these images. A single image has no interval.
    """
    metrics, columns = _columns(scores)
    rows = [[Cell(method)] for method in scores]
    for metric in metrics:
        values = columns[metric]
        best = _ranks(metric, values).index(1) if values.shape[1] else None
        for i, row in enumerate(rows):
            if best is None or not np.isfinite(values[[i, best]]).all():
                row.append(Cell("–"))
            elif i == best:
                row.append(Cell("best", 1))
            else:
                difference = values[i] - values[best]
                row.append(Cell(f"{difference.mean():+.4g} [{_interval(difference)}]"))
    return Table("difference to the best [95 % confidence interval]", ["method", *map(heading, metrics)], rows)


def wins(scores: Mapping[str, Scores]) -> Table:
    """On how many images every method is the best; a tie counts for all that share it."""
    metrics, columns = _columns(scores)
    rows = [[Cell(method)] for method in scores]
    for metric in metrics:
        distances = np.vectorize(METRICS[metric].distance, otypes=[float])(columns[metric])
        counts = (distances == distances.min(axis=0)).sum(axis=1).tolist() if distances.size else [0] * len(rows)
        for row, count, place in zip(rows, counts, places([-count for count in counts]), strict=True):
            row.append(Cell(str(count), place if count else 0))
    return Table("images on which a method is the best", ["method", *map(heading, metrics)], rows)


def bootstrap_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of values (N,); the same for the same values."""
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def undefined(scores: Mapping[str, Scores], names: Sequence[str]) -> list[str]:
    """One sentence per metric that is undefined for some image."""
    sentences = []
    for metric in next(iter(scores.values())):
        missing = np.isnan(np.stack([values[metric] for values in scores.values()])).any(axis=0)
        if missing.any():
            images = ", ".join(name for name, absent in zip(names, missing.tolist(), strict=True) if absent)
            sentences.append(f"{metric} is undefined (NaN) for {images}: left out of the mean")
    return sentences


def _columns(scores: Mapping[str, Scores]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Metrics, and their values (methods, images) for the images where all methods have one."""
    metrics = list(next(iter(scores.values())))
    columns = {}
    for metric in metrics:
        values = np.stack([of_method[metric] for of_method in scores.values()])
        columns[metric] = values[:, ~np.isnan(values).any(axis=0)]
    return metrics, columns


def _ranks(metric: str, values: np.ndarray) -> list[int]:
    """1 for the best mean, 2 for the second, else 0; equal means share a rank."""
    if not values.shape[1]:
        return [0] * len(values)
    # rounded, so that equal means stay equal
    return places([round(METRICS[metric].distance(float(mean)), 12) for mean in values.mean(axis=1)])


def places(distances: Sequence[float]) -> list[int]:
    """1 for the smallest, 2 for the second, else 0, also for NaN; equal values share a place."""
    best = sorted({distance for distance in distances if not np.isnan(distance)})[:2]
    return [best.index(distance) + 1 if distance in best else 0 for distance in distances]


def _mean_and_spread(values: np.ndarray) -> str:
    if not len(values):
        return "–"
    if len(values) == 1:  # one image has no spread
        return f"{values[0]:.4f} ± –"
    with np.errstate(invalid="ignore"):  # the spread of infinite values is undefined
        return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


def _interval(values: np.ndarray) -> str:
    """The 95 % interval of a mean as text; one image has none."""
    return "–" if len(values) == 1 else "{:+.4g}, {:+.4g}".format(*bootstrap_interval(values))


def heading(metric: str) -> str:
    """The metric and its direction: ↑ higher is better, ↓ lower, → 0 closer to 0."""
    return f"{metric} " + {True: "↑", False: "↓", None: "→ 0"}[METRICS[metric].higher_is_better]
