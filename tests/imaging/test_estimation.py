"""Classical estimates of noise and blur, on drawn and on real images degraded by known amounts."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.degradations import degrade, parse
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.imaging.estimation import blur_sigma, darkens_to_the_border, noise_sigma


def drawn() -> np.ndarray:
    """Discs and boxes of many greys with sharp edges, (200, 240, 1)."""
    generator = np.random.default_rng(1)
    image = np.full((200, 240), 0.3, np.float32)
    for _ in range(12):
        x, y, size = (int(value) for value in generator.integers(20, 180, 3))
        grey = float(generator.uniform(0.15, 0.85))
        cv2.circle(image, (x, y), size // 6, grey, -1)
        cv2.rectangle(image, (y, x), (y + size // 4, x + size // 3), 1 - grey, -1)
    return image[..., None]


def real(shared: Path) -> list[np.ndarray]:
    files = [shared / f"data/TNO/{side}/0{number}.png" for side in ("ir", "vi") for number in (1, 2)]
    return [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[..., None].astype(np.float32) / 255 for file in files]


def degraded(image: np.ndarray, specification: str) -> Tensor:
    return to_tensor(degrade(image, parse(specification), np.random.default_rng(3))[0])[None]


@pytest.mark.parametrize("sigma", [3, 14, 30])
def test_noise_of_known_strength_is_found(sigma: float, shared: Path) -> None:
    assert float(noise_sigma(degraded(drawn(), f"noise(sigma={sigma})"))) == pytest.approx(sigma, rel=0.05)
    for image in real(shared):
        # the camera's own noise is there already; white and black clip some of what is added
        own = float(noise_sigma(degraded(image, "identity")))
        found = float(noise_sigma(degraded(image, f"noise(sigma={sigma})")))
        assert found == pytest.approx(np.hypot(own, sigma), rel=0.1)


def test_a_clean_image_has_nearly_no_noise() -> None:
    assert float(noise_sigma(degraded(drawn(), "identity"))) == 0
    assert float(noise_sigma(degraded(drawn(), "blur(sigma=2)"))) < 0.1


@pytest.mark.parametrize("noise", ["", "+noise(sigma=5)"])
@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.0, 3.0])
def test_a_gaussian_blur_of_sharp_edges_is_found(sigma: float, noise: str) -> None:
    assert float(blur_sigma(degraded(drawn(), f"blur(sigma={sigma}){noise}"))) == pytest.approx(sigma, abs=0.25)


def test_a_stronger_blur_of_a_real_image_is_found_to_be_stronger(shared: Path) -> None:
    for image in real(shared):
        values = [float(blur_sigma(degraded(image, f"blur(sigma={sigma})"))) for sigma in (0, 1, 2, 3, 4)]
        assert values == sorted(values)
        assert values[3] == pytest.approx(3, abs=0.8)


def test_images_of_a_batch_are_told_apart() -> None:
    batch = torch.cat([degraded(drawn(), text) for text in ("identity", "blur(sigma=2)", "noise(sigma=20)")])
    noise, blur = noise_sigma(batch), blur_sigma(batch)
    assert noise.shape == blur.shape == (3,)
    assert int(noise.argmax()) == 2
    assert float(blur[1]) > float(blur[0]) + 1


def test_flat_images_have_an_answer() -> None:
    for size in ((2, 2), (16, 17), (64, 64)):
        flat = torch.full((1, 1, *size), 0.5)
        assert float(noise_sigma(flat)) == 0
        assert size == (2, 2) or bool(blur_sigma(flat).isfinite().all())


def test_a_black_border_is_seen() -> None:
    for sigma in (1.5, 3.0):
        assert darkens_to_the_border(degraded(drawn(), f"blur(sigma={sigma}, padding=zero)"), sigma)
        assert not darkens_to_the_border(degraded(drawn(), f"blur(sigma={sigma})"), sigma)
    assert not darkens_to_the_border(torch.rand(1, 1, 8, 8), 3.0)
