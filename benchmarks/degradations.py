"""How long every degradation takes on one core, beside albumentations' nearest equivalent, in one run.

python benchmarks/degradations.py [--size 256] [--repeats 30]
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from fusion_lightning.degradations import EFFECTS, SCENARIOS, Identity, degrade

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

EQUIVALENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "blur": ("GaussianBlur", {"sigma_limit": (1, 3), "blur_limit": 0}),
    "defocus": ("Defocus", {"radius": (2, 5)}),
    "downsample": ("Downscale", {"scale_range": (0.25, 0.25)}),
    "haze": ("RandomFog", {}),
    "low_light": ("RandomGamma", {"gamma_limit": (150, 250)}),
    "motion_blur": ("MotionBlur", {"blur_limit": (7, 21)}),
    "noise": ("GaussNoise", {"std_range": (0.02, 0.1)}),
    "over_exposure": ("RandomBrightnessContrast", {"brightness_limit": (0.2, 0.5)}),
    "low_contrast": ("RandomBrightnessContrast", {"contrast_limit": (-0.8, -0.5)}),
    "poisson": ("ShotNoise", {}),
    "quantize": ("Posterize", {"num_bits": 5}),
    "rain": ("RandomRain", {}),
    "salt_pepper": ("SaltAndPepper", {}),
}
"""Low light there has no noise, over-exposure no glare; stripes it has not."""


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median processor time of this thread, which other processes on the machine disturb least."""
    run()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return float(np.median(times) * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the square image (default 256)")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    import albumentations

    rng = np.random.default_rng(0)
    shape = (arguments.size, arguments.size)
    color = cv2.GaussianBlur(rng.random((*shape, 3), dtype=np.float32), (0, 0), 3)
    grey = np.ascontiguousarray(color[..., :1])
    console = Console()
    table = Table("effect", "RGB ms", "grey ms", "RGB images/s", "albumentations ms", "ratio")
    table.title = f"one core, {arguments.size}×{arguments.size}, float32, medians of {arguments.repeats}"
    for name, effect in sorted(EFFECTS.items()):
        if effect is Identity:
            continue
        ours = milliseconds(lambda effect=effect: degrade(color, effect(), rng), arguments.repeats)
        of_grey = milliseconds(lambda effect=effect: degrade(grey, effect(), rng), arguments.repeats)
        row = [name, f"{ours:.2f}", f"{of_grey:.2f}", f"{1000 / ours:.0f}"]
        if name in EQUIVALENTS:
            other, options = EQUIVALENTS[name]
            transform = getattr(albumentations, other)(**options, p=1.0)
            theirs = milliseconds(lambda transform=transform: transform(image=color), arguments.repeats)
            row += [f"{other} {theirs:.2f}", f"{theirs / ours:.1f}×"]
        table.add_row(*row)
    console.print(table)
    table = Table("scenario", "both sources ms", "pairs/s", title="scenarios: grey source a, RGB source b")
    for name, scenario in SCENARIOS.items():
        both = milliseconds(
            lambda scenario=scenario: (degrade(grey, scenario.a, rng), degrade(color, scenario.b, rng)),
            arguments.repeats,
        )
        table.add_row(name, f"{both:.2f}", f"{1000 / both:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
