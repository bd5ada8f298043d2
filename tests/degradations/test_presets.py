"""The published degradations: measured again on what the presets make, and on the files that were published."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from fusion_lightning.degradations import SCENARIOS, degrade, parse, scenario

RNG = 20


def _scene(shape: tuple[int, ...] = (384, 512, 3)) -> np.ndarray:
    """Smooth shapes in mid tones, stored in 8 bits: nothing clips, and whatever is rough was added."""
    rng = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(rng.random(shape), (12, 12, 0) if len(shape) == 3 else 12)
    smooth = (smooth - smooth.mean()) / smooth.std() * 20 + 128
    return (np.clip(np.rint(smooth), 60, 195) / 255).astype(np.float32)


def _levels(image: np.ndarray) -> np.ndarray:
    levels = np.rint(image.astype(np.float64) * 255)
    assert np.abs(image * 255 - levels).max() < 1e-3, "not stored in 8 bits"
    return levels


def _published_blur(levels: np.ndarray) -> np.ndarray:
    """σ = 2, 21 taps, zero padding, cut to 8 bits; in double precision by scipy."""
    return np.floor(ndimage.gaussian_filter(levels, (2, 2, 0), mode="constant", radius=(10, 10, 0)) + 1e-9)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("name", ["drfusion_noise", "drfusion_medical_noise"])
def test_noise_has_variance_0_003_and_is_truncated(name: str, side: str) -> None:
    clean = _scene()
    noisy, _ = degrade(clean, getattr(scenario(name), side), np.random.default_rng(RNG))
    noise = _levels(noisy) - _levels(clean)
    assert noise.std() == pytest.approx(np.sqrt(0.003) * 255, rel=0.01)
    assert noise.mean() == pytest.approx(-0.5, abs=0.06)  # truncation
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("name", ["drfusion_blur", "drfusion_medical_blur"])
def test_blur_equals_the_published_one(name: str, side: str) -> None:
    clean = _scene()
    blurred, _ = degrade(clean, getattr(scenario(name), side), np.random.default_rng(RNG))
    assert (_levels(blurred) == _published_blur(_levels(clean))).mean() >= 0.999


@pytest.mark.parametrize(("name", "factor"), [("drfusion_composite", 4), ("drfusion_medical_composite", 2)])
def test_composite_blurs_adds_noise_and_shrinks_source_a(name: str, factor: int) -> None:
    clean = _scene()
    preset = scenario(name)
    blurred = _published_blur(_levels(clean))
    b, _ = degrade(clean, preset.b, np.random.default_rng(RNG))
    noise = (_levels(b) - blurred)[10:-10, 10:-10]
    assert b.shape == clean.shape
    assert noise.std() == pytest.approx(np.sqrt(0.001) * 255, rel=0.01)
    a, _ = degrade(clean, preset.a, np.random.default_rng(RNG))
    assert a.shape == (384 // factor, 512 // factor, 3)
    averaged = blurred.reshape(384 // factor, factor, 512 // factor, factor, 3).mean((1, 3))
    noise = (_levels(a) - averaged)[5:-5, 5:-5]
    assert noise.std() == pytest.approx(np.hypot(np.sqrt(0.001) * 255 / factor, 12**-0.5), rel=0.02)


@pytest.mark.parametrize("side", ["vi", "ir"])
def test_the_published_files_agree(shared: Path, side: str) -> None:
    """Without the clean twin: blurring the published noisy file by the preset gives the published blurred file."""
    noisy, blurred, composite = (
        _published(shared, f"{side}_{what}") for what in ("noisy", "blur", "complex_degradation")
    )
    again, _ = degrade(noisy, parse("blur(sigma=2, padding=zero)"), np.random.default_rng(0))
    # what is left is the noise, less by the norm of the kernel; where the middle is far from black and white
    tone = (blurred > 0.25) & (blurred < 0.75)
    rest = ((again - blurred) * 255)[tone]
    taps = np.exp(-0.5 * (np.arange(-10, 11) / 2) ** 2)
    norm = (taps**2).sum() / taps.sum() ** 2
    assert rest.std() == pytest.approx(np.sqrt(0.003) * 255 * norm, rel=0.02)
    assert abs(rest.mean()) < 0.1
    # and the rim is as dark: the padding is black; any other would be off by tens of levels
    rim = np.zeros(tone.shape, bool)
    rim[:3] = rim[-3:] = rim[:, :3] = rim[:, -3:] = True
    assert abs(((again - blurred) * 255)[rim & (blurred > 0.2)].mean()) < 1
    # the composite: noise of variance 0.001 over the stored blurred file, the infrared averaged and stored again
    factor = blurred.shape[0] // composite.shape[0]
    assert factor == {"ir": 4, "vi": 1}[side]
    small, _ = degrade(blurred, parse(f"downsample({factor})"), np.random.default_rng(0))
    tone = (small > 0.25) & (small < 0.75)
    rest = ((composite - small) * 255)[tone]
    assert rest.std() == pytest.approx(np.sqrt(0.001) * 255 / factor, rel=0.03)
    # one truncation after the noise; one more after the average, of sixteenths of a level
    assert rest.mean() == pytest.approx(-0.5 if factor == 1 else -0.5 - 7.5 / 16, abs=0.05)


@pytest.mark.parametrize("side", ["vi", "ir"])
def test_the_presets_agree_with_the_published_files(shared: Path, side: str) -> None:
    """Noise estimated the same way, from rough detail alone, on published files and on ours."""
    published = _published(shared, f"{side}_noisy")
    # the nearest thing to the clean image that is there, without noise but with its smooth parts
    clean = _published(shared, f"{side}_blur")
    ours, _ = degrade(clean, SCENARIOS["drfusion_noise"].b, np.random.default_rng(0))
    flat = ndimage.gaussian_gradient_magnitude(clean[..., 0], 2) < 0.004
    inside = flat & (clean[..., 0] > 0.25) & (clean[..., 0] < 0.75)
    assert inside.sum() > 10000
    assert _roughness(published, inside) == pytest.approx(_roughness(ours, inside), rel=0.03)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
@pytest.mark.parametrize("shape", [(33, 47, 1), (32, 32, 3)])
def test_every_scenario_degrades_both_sources(name: str, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    changed = False
    for degradation in (SCENARIOS[name].a, SCENARIOS[name].b):
        degraded, _ = degrade(image, degradation, np.random.default_rng(1))
        assert degraded.dtype == np.float32
        assert 0 <= degraded.min() <= degraded.max() <= 1
        changed |= degraded.shape != shape or bool((degraded != image).any())
    assert changed == (name != "clean")


def test_ems_recipes() -> None:
    grey = np.full((512, 512, 1), 0.5, np.float32)
    visible, _ = degrade(grey, SCENARIOS["ems_noise"].b, np.random.default_rng(0))
    assert (visible * 255).std() == pytest.approx(np.hypot(10, 255 * np.sqrt(0.5 / 80)), rel=0.08)
    infrared, _ = degrade(grey, SCENARIOS["ems_noise"].a, np.random.default_rng(0))
    assert (infrared * 255).std() == pytest.approx(np.hypot(20, 255 * np.sqrt(0.5 / 80)), rel=0.02)
    _, effects = degrade(grey, SCENARIOS["ems_stripes"].a, np.random.default_rng(0))
    assert [effect["name"] for effect in effects] == ["stripes", "noise"]
    assert 3 <= effects[0]["params"]["sigma"] <= 8
    assert 3 <= effects[1]["params"]["sigma"] <= 5


def _published(shared: Path, name: str) -> np.ndarray:
    path = shared / "data" / "M3FD_degraded" / "test" / name / "00000.png"
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image.ndim == 2:
        image = image[..., None]
    # the small infrared file has three channels with noise of their own
    if name.startswith("ir"):
        image = image[..., :1]
    return image.astype(np.float32) / np.float32(255)


def _roughness(image: np.ndarray, inside: np.ndarray) -> float:
    """Deviation of white noise, from second differences both ways, which smooth parts leave near 0."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    detail = ndimage.convolve(image[..., 0].astype(np.float64), kernel)[inside]
    return float(np.abs(detail).mean() * np.sqrt(np.pi / 2) * 255)
