"""How many pairs per second one core makes ready for training, stage by stage, beside plain albumentations in one run.

python benchmarks/data.py [--pairs 24] [--rounds 5]

Writes PNG pairs of 640×480 into a temporary folder, then times decoding, cropping, the degradations of every everyday
scenario, and the whole pipeline; with albumentations doing the nearest equivalent to the same files; and the drawing of
synthetic scenes. Single effects are in benchmarks/degradations.py.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from fusion_lightning.datamodules import FusionData
from fusion_lightning.datamodules.dataset import FusionDataset
from fusion_lightning.datamodules.pairing import find_pairs
from fusion_lightning.datamodules.pairs import FolderPairs
from fusion_lightning.datamodules.sampler import SampleKey
from fusion_lightning.datamodules.synthetic.phantoms import render_slice
from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.imaging.io import read_image

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

FOLDERS = {"a": "ir", "b": "vi"}


def write_pairs(root: Path, count: int) -> None:
    for index in range(count):
        scene = render_scene(index, 640)
        for folder, image in (("ir", scene.infrared), ("vi", scene.visible[..., ::-1])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / f"{index:05d}.png"), np.ascontiguousarray(image[80:560]))


def albumentations_pipeline(pairs: FolderPairs) -> Callable[[int], object]:
    """Decode with OpenCV, crop and flip both alike, then one of the nearest effects on each source, then tensors."""
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    layout = A.Compose([A.RandomCrop(256, 256), A.HorizontalFlip()], additional_targets={"infrared": "image"})
    noise, blur = A.GaussNoise(std_range=(0.02, 0.08), p=1), A.GaussianBlur(sigma_limit=(1, 3), blur_limit=0, p=1)
    contrast = A.RandomBrightnessContrast(brightness_limit=(-0.1, 0.1), contrast_limit=(-0.8, -0.5), p=1)
    visible = A.Compose(
        [
            A.OneOf(
                [
                    A.RandomGamma(gamma_limit=(150, 250), p=1),
                    A.RandomBrightnessContrast(brightness_limit=(0.2, 0.5), p=1),
                    A.RandomRain(p=1),
                    A.RandomFog(p=1),
                    blur,
                    noise,
                    A.NoOp(p=1),
                    A.NoOp(p=1),
                    A.NoOp(p=1),
                ],
                p=1,
            ),
            A.ToFloat(255),
            ToTensorV2(),
        ]
    )
    infrared = A.Compose([A.OneOf([noise, noise, contrast, blur], p=1), A.ToFloat(255), ToTensorV2()])

    def run(index: int) -> object:
        pair = pairs[index]
        cropped = layout(image=pair.b, infrared=pair.a)
        return visible(image=cropped["image"])["image"], infrared(image=cropped["infrared"])["image"]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5, help="the fastest round counts")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)

    table = Table("stage", "pairs/s per core", "ms", "× albumentations")
    table.title = f"{arguments.pairs} PNG pairs of 640×480, crops of 256×256"

    def measure(stage: str, run: Callable[[int], object], reference: float | None = None) -> float:
        """Add a row; processor time, which other processes disturb least."""
        run(0)
        times = []
        for _ in range(arguments.rounds):
            start = time.thread_time()
            for index in range(arguments.pairs):
                run(index)
            times.append((time.thread_time() - start) / arguments.pairs)
        best = min(times)
        ratio = "" if reference is None else f"{reference / best:.2f}"
        table.add_row(stage, f"{1 / best:.0f}", f"{1e3 * best:.2f}", ratio)
        return best

    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), arguments.pairs)
        pairs = FolderPairs(find_pairs(folder, FOLDERS)[None], "b")
        memory = [pairs[index] for index in range(arguments.pairs)]
        data = FusionData(folder, {"a": "ir", "b": "vi"})

        measure("decode infrared", lambda index: read_image(pairs.pairs[index].files["a"], 1))
        measure("decode visible", lambda index: read_image(pairs.pairs[index].files["b"], 3))
        crop = FusionDataset(memory, training=True, crop_size=256, flip=True)
        measure("crop, flip, tensors", lambda index: crop[SampleKey(0, index)])
        for scenario in data.scenarios:
            degraded = FusionDataset(memory, [scenario], training=True, crop_size=256, flip=True)
            measure(f"  and {scenario.name}", lambda index, degraded=degraded: degraded[SampleKey(0, index)])
        table.add_section()
        reference = measure("albumentations, whole", albumentations_pipeline(pairs))
        whole = FusionDataset(pairs, data.scenarios, training=True, crop_size=256, flip=True)
        measure("whole pipeline", lambda index: whole[SampleKey(0, index)], reference)
        cached = FusionDataset(memory, data.scenarios, training=True, crop_size=256, flip=True)
        measure("whole pipeline, cache: true", lambda index: cached[SampleKey(0, index)], reference)
    table.add_section()
    measure("draw a street scene, 256×256", render_scene)
    measure("draw a head slice, 256×256", render_slice)
    Console().print(table)


if __name__ == "__main__":
    main()
