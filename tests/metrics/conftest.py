import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.metrics import FusionMetric


def read(path: Path) -> Tensor:
    """An 8-bit file as it is, (1, 1 or 3, H, W) float64."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    image = image[None] if image.ndim == 2 else image[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(image))[None].double() / 255


def golden_rows(folder: Path, pattern: str, *key: str) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of all golden tables that match, joined on `key`."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for path in sorted(folder.glob(pattern)):
        with path.open() as file:
            for row in csv.DictReader(file):
                rows.setdefault(tuple(row[name] for name in key), {}).update(row)
    return rows


def scene(size: int = 48, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Fused, a and b (1, 1, size, size): smooth structure and noise, in [0.1, 0.9], no two neighbours equal."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    a = 0.5 + 0.25 * torch.sin(x / 5 + seed) * torch.cos(y / 7) + 0.1 * torch.rand(size, size, generator=generator)
    b = 0.5 + 0.25 * torch.cos(x / 4 + y / 6) + 0.1 * torch.rand(size, size, generator=generator)
    fused = 0.6 * a + 0.35 * b + 0.05 * torch.rand(size, size, generator=generator)
    return tuple(image[None, None].to(dtype).clamp(0.02, 0.98) for image in (fused, a, b))  # type: ignore[return-value]


def scene_for(
    metric: type[FusionMetric], size: int = 48, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """A scene as large as the metric asks; source b is in colour for those that look at nothing else."""
    images = fused, a, b = scene(max(size, metric.definition.smallest), seed, dtype)
    if not metric().per_image(*images).isnan():
        return images
    tint = torch.tensor([1.0, 0.8, 0.6], dtype=dtype).view(3, 1, 1)
    return fused * tint, a, b * tint


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
