"""CCF's conditions: where they are met, against NumPy, and the Haar transform."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusion_lightning.losses import conditions
from fusion_lightning.losses.conditions import BOUNDED, UNBOUNDED, haar


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.rand(2, 2, 1, 12, 10) * 2 - 1
    return a, b


def inverse_haar(bands: torch.Tensor) -> torch.Tensor:
    """An image whose transform these bands (B, 4, h, w) are."""
    mean, down, across, both = (bands / 2).split(1, dim=1)
    image = torch.zeros(len(bands), 1, 2 * bands.shape[2], 2 * bands.shape[3])
    image[..., ::2, ::2], image[..., ::2, 1::2] = mean + down + across + both, mean + down - across - both
    image[..., 1::2, ::2], image[..., 1::2, 1::2] = mean - down + across - both, mean - down - across + both
    return image


def test_the_haar_transform_keeps_energy_and_can_be_undone(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    bands = haar(pair[0])
    assert bands.shape == (2, 4, 6, 5)
    torch.testing.assert_close(bands.square().sum(), pair[0].square().sum())
    torch.testing.assert_close(inverse_haar(bands), pair[0])
    assert haar(torch.rand(1, 1, 7, 5)).shape == (1, 4, 4, 3)


def test_a_fusion_of_the_bands_asked_for_meets_both_frequency_conditions(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    of_a, of_b = (haar(image) for image in pair)
    details = torch.where(of_a.abs() >= of_b.abs(), of_a, of_b)[:, 1:]
    fused = inverse_haar(torch.cat(((of_a + of_b)[:, :1] / 2, details), dim=1))
    for name in ("low", "high"):
        torch.testing.assert_close(BOUNDED[name](fused, *pair), torch.zeros(2), atol=1e-10, rtol=0)
        assert (BOUNDED[name](pair[0], *pair) > 0.01).all()


@pytest.mark.parametrize("name", sorted(BOUNDED))
def test_a_condition_is_met_by_a_source_that_is_both(name: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, other = pair
    best = -1.0 if name == "ssim" else 0.0
    torch.testing.assert_close(BOUNDED[name](image, image, image), torch.full((2,), best), atol=1e-5, rtol=0)
    assert (BOUNDED[name](0.3 * other, image, image) > best + 1e-4).all()


def test_the_statistics_are_numpy_s(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image = pair[0][:1]
    grid = image[0, 0].double().numpy()
    rows, columns = np.square(np.diff(grid, axis=0)).mean(), np.square(np.diff(grid, axis=1)).mean()
    edges = np.hypot(ndimage.sobel(grid, 0, mode="nearest"), ndimage.sobel(grid, 1, mode="nearest"))
    for name, expected in (("sf", np.sqrt(rows + columns)), ("ei", edges.mean()), ("sd", grid.std())):
        assert float(UNBOUNDED[name](image, image, image)) == pytest.approx(-expected, rel=1e-4)
    flat = torch.zeros(1, 1, 6, 6)
    assert float(BOUNDED["sd"](flat, image[..., :6, :6], flat)) == pytest.approx(grid[:6, :6].std() ** 2, rel=1e-4)


def test_a_flat_image_has_slopes() -> None:
    flat, source = torch.zeros(1, 1, 12, 12, requires_grad=True), torch.rand(1, 1, 12, 12)
    for condition in UNBOUNDED.values():
        (slope,) = torch.autograd.grad(condition(flat, source, source).sum(), flat)
        assert slope.isfinite().all()


def test_unbounded_statistics_grow_without_end(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    for name in ("sf", "ei", "sd"):
        once, twice = (UNBOUNDED[name](gain * pair[0], *pair) for gain in (1.0, 2.0))
        assert (twice < 1.9 * once).all()
    assert conditions.BOUNDED["mse"] is conditions.UNBOUNDED["mse"]
