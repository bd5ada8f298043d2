"""Tiny data sets with the layouts people download."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest


def _write_image(
    path: Path, channels: int = 3, size: tuple[int, int] = (40, 48), seed: int | None = None, equal: bool = False
) -> None:
    """Write a smooth random image (height, width), channels equal or not; its name or a seed decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(map(ord, path.stem)) if seed is None else seed)
    small = generator.integers(0, 256, (6, 6, channels), dtype=np.uint8)
    small = np.repeat(small[..., :1], channels, axis=2) if equal else small
    image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture
def write_image() -> Callable[..., None]:
    """Write a smooth random image: path, channels, (height, width), seed."""
    return _write_image


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[[dict[str, int], Iterable[str]], str]:
    """Write the same names into several folders of one data set, and return its root."""

    def make(folders: dict[str, int], names: Iterable[str], size: tuple[int, int] = (40, 48)) -> str:
        names = list(names)
        for folder, channels in folders.items():
            for name in names:
                infrared = re.search("(?i)(^|/)ir|infrared", folder)
                _write_image(tmp_path / "set" / folder / name, channels, size, equal=infrared is not None)
        return str(tmp_path / "set")

    return make
