"""Make the models that ship: lay out what they are trained on, and pack what training left.

    python benchmarks/zoo.py data --msrs DIR --roadscene DIR --output data/zoo
    python benchmarks/zoo.py data --msrs DIR --roadscene DIR --output data/zoo_days --nights 0 [--halves]
    python benchmarks/zoo.py average A.ckpt B.ckpt --output AVERAGE.ckpt
    python benchmarks/zoo.py pack cled logs/zoo_cled_stage2/RUN/checkpoints/last.ckpt
    python benchmarks/zoo.py curves cled logs/zoo_cled_stage2/RUN

`data` links both sets into one folder of the layout of configs/zoo: MSRS train and RoadScene train to learn from,
RoadScene val to watch, MSRS test to score; with `--nights 2` every second of the nights of MSRS train, whose darkness
is right, with `--nights 0` none; with `--halves` every training pair by day at half its size as well, so that a crop
sees twice as much of the scene.
`average` writes the mean of two trainings' weights, the second of which went on from the first.
`pack` writes fusion_lightning/zoo/NAME.ckpt in half precision, without what only training needs, and the file's sum and
number of parameters into the catalogue, which must have an entry NAME.
`curves` draws a run's loss, and what its task watches on validation, into docs/pictures.
"""

import argparse
import csv
import re
from hashlib import sha256
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch

from fusion_lightning.methods.loading import load_method, read_checkpoint
from fusion_lightning.zoo import models

ZOO = Path(__file__).parent.parent / "fusion_lightning" / "zoo"
KEPT = ("pytorch-lightning_version", "method", "hyper_parameters", "epoch", "global_step")
"""What a checkpoint needs beside its weights to be a Lightning checkpoint of a known method."""
_RESTORED = {"val/PSNR_a": "infrared", "val/PSNR_b": "visible"}
WATCHED = {
    "fuse": ("PSNR on val in dB (dotted: as delivered)", _RESTORED),
    "restore": ("PSNR on val in dB (dotted: as delivered)", _RESTORED),
    "estimate": ("on val: all kinds named exactly", {"val/kinds_right": "share of images"}),
    "register": ("on val: pixels off the known warp", {"val/EPE": "mean"}),
}
"""What is drawn of a validation, by the task of a model: its title, and columns with their names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="link the sets into one folder")
    data.add_argument("--msrs", type=Path, required=True)
    data.add_argument("--roadscene", type=Path, required=True)
    data.add_argument("--output", type=Path, required=True)
    data.add_argument("--nights", type=int, default=1, metavar="N", help="one in N nights of MSRS train; 0: none")
    data.add_argument("--halves", action="store_true", help="add the training pairs by day at half their size")
    averaged = commands.add_parser("average", help="the mean of two trainings' weights")
    averaged.add_argument("checkpoints", type=Path, nargs=2)
    averaged.add_argument("--output", type=Path, required=True)
    packed = commands.add_parser("pack", help="make a model of a checkpoint")
    packed.add_argument("name", choices=[*models()])
    packed.add_argument("checkpoint", type=Path)
    drawn = commands.add_parser("curves", help="draw how a training went")
    drawn.add_argument("name", choices=[*models()])
    drawn.add_argument("run", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "data":
        link_data(arguments.msrs, arguments.roadscene, arguments.output, arguments.nights, arguments.halves)
    elif arguments.command == "average":
        average(*arguments.checkpoints, arguments.output)
    elif arguments.command == "pack":
        pack(arguments.name, arguments.checkpoint)
    else:
        draw_curves(arguments.name, arguments.run)


def link_data(msrs: Path, roadscene: Path, output: Path, nights: int, halves: bool) -> None:
    """Both sets as one folder of links, SPLIT/ir and SPLIT/vi; MSRS has no val here and RoadScene no test."""
    road = {"ir": roadscene / "SPLIT" / "cropinfrared", "vi": roadscene / "SPLIT" / "crop_LR_visible"}
    street = {"ir": msrs / "SPLIT" / "ir", "vi": msrs / "SPLIT" / "vi"}
    held = {"train": {"msrs": street, "road": road}, "val": {"road": road}, "test": {"msrs": street}}
    sources = [
        (split, kind, name, Path(str(pattern).replace("SPLIT", split)))
        for split, sets in held.items()
        for name, folders in sets.items()
        for kind, pattern in folders.items()
    ]
    for *_, source in sources:
        if not source.is_dir():
            raise SystemExit(f"error: there is no folder {source}: give --msrs and --roadscene as downloaded, split")
    for split, kind, name, source in sources:
        folder = output / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(source.iterdir())
        dark = [file for file in files if split == "train" and name == "msrs" and file.stem.endswith("N")]
        left_out = set(dark) - set(dark[::nights] if nights else [])
        for file in files:
            if file in left_out:
                continue
            link = folder / f"{name}_{file.name}"
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())
            if halves and split == "train" and file not in dark:
                _write_half(file, folder / f"{name}_{file.stem}_half.png")


def _write_half(file: Path, output: Path) -> None:
    """An image at half its size, unless less than 140 pixels would be left for a crop of 128."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert image is not None
    if min(image.shape[:2]) >= 280:
        cv2.imwrite(str(output), cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def average(first: Path, second: Path, output: Path) -> None:
    """Write a checkpoint whose weights lie half way between two others'."""
    one, other = read_checkpoint(first), read_checkpoint(second)
    small = {key: one[key] for key in KEPT}
    small["state_dict"] = {
        key: torch.lerp(one["state_dict"][key], other["state_dict"][key], 0.5) for key in one["state_dict"]
    }
    torch.save(small, output)


def pack(name: str, checkpoint: Path) -> None:
    """Write a model's file and its line in the catalogue."""
    saved = read_checkpoint(checkpoint)
    learned = {key: weight.numel() for key, weight in load_method(checkpoint).named_parameters()}
    millions = sum(learned.values()) / 1e6
    small = {key: saved[key] for key in KEPT}
    # fixed tables, such as a colour basis, stay exact
    small["state_dict"] = {
        key: weight.half() if key in learned else weight for key, weight in saved["state_dict"].items()
    }
    file = ZOO / f"{name}.ckpt"
    torch.save(small, file)
    catalogue = ZOO / "catalogue.yaml"
    text = catalogue.read_text(encoding="utf-8")
    start = text.index(f"{name}:\n")
    entry = re.match(rf"{name}:\n(?:[ #].*\n)+", text[start:])
    assert entry is not None
    line = re.sub(r"sha256: .*", f"sha256: {sha256(file.read_bytes()).hexdigest()}", entry[0])
    line = re.sub(r"millions: .*", f"millions: {millions:.2f}", line)
    catalogue.write_text(text[:start] + line + text[start + len(entry[0]) :], encoding="utf-8")
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {millions:.2f} million parameters")


def draw_curves(name: str, run: Path) -> None:
    """The training loss, averaged over a twentieth of the run, and what was watched on val."""
    rows: list[dict[str, str]] = []
    for file in sorted(run.glob("csv/fit*/metrics.csv"), key=lambda path: path.stat().st_mtime):
        with file.open(newline="", encoding="utf-8") as table:
            rows += csv.DictReader(table)

    def column(key: str) -> tuple[list[int], list[float]]:
        found = {int(row["step"]): float(row[key]) for row in rows if row.get(key)}
        return sorted(found), [found[step] for step in sorted(found)]

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    steps, losses = column("train/loss")
    width = max(1, len(losses) // 20)
    left.plot(steps, losses, color="0.85", linewidth=0.8)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    left.plot(steps[width - 1 :], smooth, color="C0")
    left.set(title="training loss", xlabel="step", ylim=np.percentile(losses, [1, 99]))
    title, watched = WATCHED[models()[name].task]
    for key, label in watched.items():
        right.plot(*column(key), marker="o", markersize=3, label=label)
        right.plot(*column(f"{key}_in"), linestyle=":", color="0.5")
    right.set(title=title, xlabel="step")
    right.legend()
    target = ZOO.parent.parent / "docs" / "pictures" / f"model_{name}_curves.png"
    figure.savefig(target, dpi=90)
    print(target)


if __name__ == "__main__":
    main()
