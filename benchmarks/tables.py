"""The tables of a results page, from what `benchmark` left.

    python benchmarks/tables.py OUTPUT/scores.csv [OUTPUT/scores.csv ...] --ours cled drfusion

Prints, as Markdown: the differences of our methods to the best of the others, score by score, with 95 % intervals of
a paired bootstrap over the pairs, bold where they are ahead beyond doubt; what our methods gain on the sources, PSNR as
delivered and restored, with the interval of the gain; and a table of mean scores for every data set. A method whose
name begins with one of ours (`cled stage 1, then …`) is not among the others. Several files are parts of one benchmark,
whose methods were measured side by side: all have the same pairs.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion_lightning.commands.statistics import Scores, bootstrap_interval, heading, places
from fusion_lightning.metrics import METRICS

LEADS = ("MI", "VIF", "Qabf", "SSIM")
"""The scores in which a method shall lead."""

Groups = dict[tuple[str, str], dict[str, Scores]]
"""Data set and scenario -> method -> its scores, the pairs in the order of their names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="+")
    parser.add_argument("--ours", nargs="+", required=True, metavar="METHOD")
    arguments = parser.parse_args()
    groups = read(arguments.scores)
    print(leads(groups, arguments.ours))
    print(gains(groups, arguments.ours))
    for data in dict.fromkeys(data for data, _ in groups):
        print(f"## {data}\n\n{scores({key[1]: group for key, group in groups.items() if key[0] == data})}")


def read(files: Sequence[Path]) -> Groups:
    """The scores of one or several files, each method's pairs in the same order."""
    rows: dict[tuple[str, str], dict[str, dict[str, dict[str, str]]]] = {}
    for file in files:
        with file.open(newline="", encoding="utf-8") as table:
            for row in csv.DictReader(table):
                group = rows.setdefault((row["data"], row["scenario"]), {})
                group.setdefault(row["method"], {})[row["name"]] = row
    groups: Groups = {}
    for key, methods in rows.items():
        names = sorted(next(iter(methods.values())))
        for method, images in methods.items():
            if sorted(images) != names:
                raise SystemExit(f"error: {method} has other pairs of {', '.join(key)} than the methods before it")
            columns = [column for column in images[names[0]] if column not in ("data", "scenario", "method", "name")]
            values = {one: np.array([float(images[name][one]) for name in names]) for one in columns}
            groups.setdefault(key, {})[method] = values
    return groups


def leads(groups: Groups, ours: Sequence[str]) -> str:
    """Our methods less the best of the others."""
    lines = [f"| less the best of the others | {' | '.join(LEADS)} |", "| --- |" + " --- |" * len(LEADS)]
    for (data, scenario), methods in groups.items():
        others = [method for method in methods if not method.startswith(tuple(ours))]
        for method in (one for one in ours if one in methods):
            cells = []
            for score in LEADS:
                best = max(others, key=lambda other: float(methods[other][score].mean()))
                difference = methods[method][score] - methods[best][score]
                low, high = bootstrap_interval(difference)
                cell = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
                cells.append(f"**{cell}**" if low > 0 else cell)
            lines.append(f"| {data}, {scenario.replace('_', ' ')}: {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def gains(groups: Groups, ours: Sequence[str]) -> str:
    """PSNR of both sources as delivered and restored, where they were degraded."""
    heads = " | ".join(f"`{method}`: infrared | visible" for method in ours)
    lines = [f"| set, scenario | {heads} |", "| --- |" + " ---: |" * 2 * len(ours)]
    for (data, scenario), methods in groups.items():
        cells = [_gain(methods.get(method, {}), side) for method in ours for side in "ab"]
        if any(cell not in ("–", "as it was") for cell in cells):
            lines.append(f"| {data}, {scenario.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gain(values: Scores, side: str) -> str:
    """Over the pairs whose source was degraded, which is those with a finite PSNR as delivered."""
    if f"PSNR_{side}" not in values:
        return "–"
    before, after = values[f"PSNR_{side}_in"], values[f"PSNR_{side}"]
    degraded = np.isfinite(before)
    if not degraded.any():
        return "as it was"
    gain = (after - before)[degraded]
    low, high = bootstrap_interval(gain)
    return f"{before[degraded].mean():.1f} → {after[degraded].mean():.1f} ({gain.mean():+.1f} ± {(high - low) / 2:.1f})"


def scores(scenarios: dict[str, dict[str, Scores]]) -> str:
    """Mean scores of one data set; the best of every scenario in bold."""
    first = next(iter(next(iter(scenarios.values())).values()))
    names = [name for name in first if name in METRICS]
    heads = " | ".join(map(heading, names))
    lines = [f"| scenario | method | {heads} |", "| --- | --- |" + " ---: |" * len(names)]
    for scenario, methods in scenarios.items():
        means = {method: [float(values[name].mean()) for name in names] for method, values in methods.items()}
        shown = {
            name: places([METRICS[name].distance(round(row[i], 3)) for row in means.values()])
            for i, name in enumerate(names)
        }
        for index, (method, row) in enumerate(means.items()):
            cells = [
                f"**{value:.3f}**" if shown[name][index] == 1 else f"{value:.3f}"
                for name, value in zip(names, row, strict=True)
            ]
            head = scenario.replace("_", " ") if index == 0 else ""
            lines.append(f"| {head} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
