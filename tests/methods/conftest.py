"""Tiny batches for the methods' tests."""

import pytest
import torch

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.methods import FusionMethod


def make_batch(
    names: list[str], size: tuple[int, int] = (32, 32), color: str | None = "b", known: bool = True
) -> FusionBatch:
    """Smooth scenes with noise on them; every image depends on its own name only."""
    clean: dict[str, list[torch.Tensor]] = {"a": [], "b": []}
    source: dict[str, list[torch.Tensor]] = {"a": [], "b": []}
    for name in names:
        generator = torch.Generator().manual_seed(sum(name.encode()))
        for side in "ab":
            channels = 3 if side == color else 1
            coarse = torch.rand(1, channels, 4, 4, generator=generator)
            image = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
            noisy = (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
            clean[side].append(image if known else noisy)
            source[side].append(noisy)
    scenario = "noise" if known else "delivered"
    return FusionBatch(
        source_a=torch.stack(source["a"]),
        source_b=torch.stack(source["b"]),
        clean_a=torch.stack(clean["a"]),
        clean_b=torch.stack(clean["b"]),
        degradation=[SampleDegradation(scenario=scenario, a=[], b=[]) for _ in names],
        name=names,
    )


def check_that_images_are_independent(method: FusionMethod, part: str = "fused") -> None:
    """An image does not depend on the others of its batch."""
    with torch.no_grad():
        together = method.fuse(make_batch(["one", "two"], (16, 16)))[part]  # type: ignore[literal-required]
        alone = method.fuse(make_batch(["two"], (16, 16)))[part]  # type: ignore[literal-required]
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=0)


@pytest.fixture
def batch() -> FusionBatch:
    """Two pairs, the second source in colour."""
    return make_batch(["one", "two"])
