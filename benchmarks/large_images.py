"""What large images cost: `fuse` of a drawn pair in a process of its own, whole and in tiles.

python benchmarks/large_images.py [--methods laplacian guided IFCNN] [--image 1080 1920] [--tiles 0 512] [--output DIR]

Printed are the processor time of reading, fusing and writing, the peak memory of the process, and how far the tiled
result is from the whole one: the largest difference, and the share of pixels that differ by more than a grey level.
`--output` keeps the results and pictures of the differences, 32 times as strong. Models that ship are given by name;
other networks have random weights, and are tiny where they come in sizes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

RULES = ("average", "maximum", "laplacian", "guided", "wavelet")
SIZED = ("CLEDStage2", "Restormer", "DRFusion", "VDMUFusion")


def main() -> None:
    """Print a row per method and tile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=[*RULES, "IFCNN", "U2Fusion"])
    parser.add_argument("--image", type=int, nargs=2, default=(1080, 1920))
    parser.add_argument("--tiles", type=int, nargs="+", default=(0, 512))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fuse_one(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = options.output or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        draw_pair(place, *options.image)
        print(f"{'method':12}{'tile':>6}{'processor':>12}{'peak':>10}   difference")
        for method in options.methods:
            images = {}
            for tile in options.tiles:
                seconds, peak, images[tile] = measure(method, tile, place)
                print(f"{method:12}{tile or 'whole':>6}{seconds:>10.1f} s{peak:>7.0f} MB", end="   ")
                print(
                    difference(images[0], images[tile], place / f"{method}-{tile}.png") if tile and 0 in images else ""
                )


def draw_pair(place: Path, height: int, width: int) -> None:
    """A drawn scene, enlarged where it is larger than can be drawn soon, with the noise of a sensor."""
    from fusion_lightning.datamodules.synthetic.scenes import render_scene

    scene, rng = render_scene(0, 1024), np.random.default_rng(0)
    for name, image in (("ir", scene.infrared), ("vi", scene.visible)):
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        noisy = large + rng.normal(0, 2, large.shape).astype(np.float32)
        levels = np.rint(noisy).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(place / f"{name}.png"), levels if levels.ndim == 2 else levels[..., ::-1])


def measure(method: str, tile: int, place: Path) -> tuple[float, float, np.ndarray]:
    """Seconds of processor, MB, and the result."""
    command = [sys.executable, __file__, "--one", method, str(tile), str(place)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    folder = place / f"{method}-{tile}"
    seconds, peak = (folder / "cost.txt").read_text(encoding="utf-8").split()
    return float(seconds), float(peak), cv2.imread(str(folder / "ir.png"), cv2.IMREAD_UNCHANGED)


def fuse_one(method: str, tile: str, place: str) -> None:
    """Fuse the pair, and leave what it cost beside the result."""
    import torch

    from fusion_lightning import methods
    from fusion_lightning.commands.fuse import fuse
    from fusion_lightning.methods.vocabulary import spelled_out

    folder = Path(place) / f"{method}-{tile}"
    chosen = method
    if spelled_out(method) == method:
        torch.manual_seed(0)
        arguments = {"restorer": {"size": "tiny"}} if method == "CLEDStage2" else {}
        built = getattr(methods, method)(**({"size": "tiny"} if method in SIZED else {}), **arguments)
        chosen = save(built, folder)
    began = time.process_time()
    fuse(f"{place}/ir.png", f"{place}/vi.png", str(folder), chosen, tile=int(tile), device="cpu", overwrite=True)
    seconds, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / "cost.txt").write_text(f"{seconds} {peak}", encoding="utf-8")


def save(method: object, folder: Path) -> str:
    """The method's checkpoint, as the Trainer writes it."""
    from lightning.pytorch import LightningModule, Trainer

    assert isinstance(method, LightningModule)
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(method)
    path = folder / "method.ckpt"
    trainer.save_checkpoint(path)
    return str(path)


def difference(whole: np.ndarray, tiled: np.ndarray, picture: Path) -> str:
    """How far one is from the other, in grey levels; a picture of where."""
    apart = np.abs(whole.astype(int) - tiled)
    cv2.imwrite(str(picture), (32 * apart).clip(0, 255).astype(np.uint8))
    return f"{apart.max()} at most, {(apart > 1).mean():.3%} of pixels by more than 1"


if __name__ == "__main__":
    main()
