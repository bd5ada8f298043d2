"""Every effect on every kind of image; what each of them does, checked against its definition."""

import cv2
import numpy as np
import pytest
from scipy import ndimage, stats

from fusion_lightning import degradations
from fusion_lightning.degradations import EFFECTS, Identity, OneOf, degrade, parse, reapply
from fusion_lightning.errors import UserError

NAMES = sorted(EFFECTS)
SHAPES = [(1, 1, 1), (1, 1, 3), (7, 5, 3), (3, 64, 1), (65, 33, 3), (64, 64, 1)]
GREY = np.full((256, 256, 1), 0.5, np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_severity_leaves_an_image_an_image(name: str, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = image.copy()
    for level in range(1, 6):
        degraded, effects = degrade(image, EFFECTS[name].at_severity(level), np.random.default_rng(level))
        assert degraded.dtype == np.float32
        assert degraded.shape == shape
        assert degraded.min() >= 0
        assert degraded.max() <= 1
        assert [effect["name"] for effect in effects] == ([] if name == "identity" else [name])
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images_survive(name: str, value: float) -> None:
    image = np.full((16, 16, 3), value, np.float32)
    degraded, _ = degrade(image, EFFECTS[name](), np.random.default_rng(0))
    assert np.isfinite(degraded).all()


@pytest.mark.parametrize("name", NAMES)
def test_effects_repeat_to_the_bit(name: str) -> None:
    image = np.random.default_rng(0).random((61, 47, 3), dtype=np.float32)
    effect = EFFECTS[name]()
    first, effects = degrade(image, effect, np.random.default_rng(7))
    second, _ = degrade(image, effect, np.random.default_rng(7))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    third = reapply(image, effects)
    cv2.setNumThreads(threads)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    mirrored = reapply(image[:, ::-1], effects)
    np.testing.assert_array_equal(mirrored, reapply(image[:, ::-1].copy(), effects))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
def test_severity_is_an_order(name: str) -> None:
    rng = np.random.default_rng(0)
    # a natural spectrum: large smooth parts, and some detail
    image = ndimage.gaussian_filter(rng.random((96, 96, 3)), (6, 6, 0)) * 6 - 2.5 + 0.1 * rng.random((96, 96, 3))
    image = np.clip(image, 0, 1).astype(np.float32)
    distances = [
        np.abs(degrade(image, EFFECTS[name].at_severity(level), np.random.default_rng(1))[0] - image).mean()
        for level in range(1, 6)
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_gaussian_noise_is_gaussian() -> None:
    image = np.full((512, 512, 3), 0.5, np.float32)
    degraded, effects = degrade(image, parse("noise(sigma=13)"), np.random.default_rng(0))
    noise = (degraded - image) * 255
    assert noise.std() == pytest.approx(13, rel=0.005)
    assert abs(noise.mean()) < 0.05
    assert stats.kurtosis(noise.ravel()) == pytest.approx(0, abs=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.01
    assert effects[0]["params"]["sigma"] == 13


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("peak", [30, 80])
def test_photon_noise_is_poisson(mean: float, peak: int) -> None:
    image = np.full((400, 400, 1), mean, np.float32)
    counts = np.rint(degrade(image, parse(f"poisson(peak={peak})"), np.random.default_rng(0))[0] * peak).astype(int)
    possible = np.arange(4 * peak)
    expected = stats.poisson(mean * peak).pmf(possible)
    measured = np.bincount(counts.ravel(), minlength=len(possible)) / counts.size
    assert np.abs(expected - measured).sum() / 2 < 0.03
    assert counts.mean() == pytest.approx(mean * peak, rel=0.1 if mean * peak < 1 else 0.03)


def test_stripes_are_one_offset_per_column() -> None:
    degraded, _ = degrade(np.full((8, 4096, 3), 0.5, np.float32), parse("stripes(sigma=6)"), np.random.default_rng(0))
    assert (degraded == degraded[:1, :, :1]).all()
    assert (degraded[0, :, 0] * 255).std() == pytest.approx(6, rel=0.04)


def test_salt_and_pepper_hit_as_often_as_asked() -> None:
    degraded, _ = degrade(GREY.repeat(3, 2), parse("salt_pepper(salt=0.03, pepper=0.01)"), np.random.default_rng(0))
    assert (degraded == 1).all(2).mean() == pytest.approx(0.03, rel=0.1)
    assert (degraded == 0).all(2).mean() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize(("padding", "mode"), [("reflect", "mirror"), ("zero", "constant"), ("circular", "wrap")])
def test_blur_agrees_with_scipy(padding: str, mode: str) -> None:
    image = np.random.default_rng(0).random((40, 57, 3), dtype=np.float32)
    degraded, _ = degrade(image, parse(f"blur(sigma=1.7, padding={padding})"), np.random.default_rng(0))
    expected = ndimage.gaussian_filter(image.astype(np.float64), (1.7, 1.7, 0), mode=mode, radius=(9, 9, 0))
    np.testing.assert_allclose(degraded, expected, atol=2e-6)


def test_motion_blur_and_defocus_spread_a_point_along_a_line_and_over_a_disk() -> None:
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    line = degrade(point, parse("motion_blur(length=15, angle=90)"), np.random.default_rng(0))[0][..., 0]
    assert line.sum() == pytest.approx(1, abs=1e-5)
    assert line[13:28, 20].min() > 0.9 / 15
    assert np.delete(line, 20, axis=1).max() < 1e-6
    disk = degrade(point, parse("defocus(6)"), np.random.default_rng(0))[0][..., 0]
    distance = np.hypot(*(np.mgrid[:41, :41] - 20))
    assert (disk > 1e-5).sum() == pytest.approx(np.pi * 6**2, rel=0.25)
    np.testing.assert_allclose(disk[distance <= 5], disk[20, 20], rtol=1e-4)


def test_haze_follows_the_scattering_model() -> None:
    image = np.random.default_rng(0).random((600, 900, 3), dtype=np.float32)
    specification = "haze(beta=0.12, airlight=0.8, depth=radial)"
    degraded, _ = degrade(image, parse(specification), np.random.default_rng(0))
    down, right = np.mgrid[:600, :900]
    depth = 17 - 0.04 * np.hypot(down - 300, right - 450)
    assert depth.min() < 0  # beyond 425 pixels
    transmission = np.minimum(np.exp(-0.12 * depth), 1)[..., None]
    np.testing.assert_allclose(degraded, image * transmission + 0.8 * (1 - transmission), atol=1e-5)


def test_low_light_darkens_and_its_noise_is_that_of_the_sensor() -> None:
    specification = parse("low_light(gamma=2, gain=0.4, peak=500, read=1)")
    degraded, _ = degrade(np.full((512, 512, 1), 0.8, np.float32), specification, np.random.default_rng(0))
    assert degraded.mean() == pytest.approx(0.4 * 0.64, rel=0.002)
    assert degraded.std() == pytest.approx(np.sqrt(0.256 / 500 + (1 / 255) ** 2), rel=0.01)


def test_low_contrast_and_over_exposure_are_what_they_say() -> None:
    image = np.random.default_rng(0).random((9, 9, 1), dtype=np.float32)
    flat, _ = degrade(image, parse("low_contrast(contrast=0.25, level=0.4)"), np.random.default_rng(0))
    np.testing.assert_allclose(flat, 0.4 + 0.25 * (image - 0.4), atol=1e-6)
    bright, _ = degrade(image, parse("over_exposure(gain=1.5, gamma=1, glare=0)"), np.random.default_rng(0))
    np.testing.assert_allclose(bright, np.minimum(image * 1.5, 1), atol=1e-6)


def test_rain_brightens_streaks_that_lean_as_asked() -> None:
    black = np.zeros((256, 256, 1), np.float32)
    rain = "rain(density=0.5, length=30, width=1, angle=45, opacity=0.8, veil=0)"
    streaks = degrade(black, parse(rain), np.random.default_rng(0))[0][..., 0]
    assert 0.005 < (streaks > 0.1).mean() < 0.2
    across, down = np.gradient(streaks.astype(np.float64))[::-1]
    tensor = np.array([[(across**2).sum(), (across * down).sum()], [(across * down).sum(), (down**2).sum()]])
    direction = np.linalg.eigh(tensor)[1][:, 0]
    assert np.degrees(np.arctan2(*(direction * np.sign(direction[1])))) == pytest.approx(45, abs=3)


def test_area_downsampling_averages_what_is_there() -> None:
    image = np.random.default_rng(0).random((11, 8, 3), dtype=np.float32)
    small, _ = degrade(image, parse("downsample(4)"), np.random.default_rng(0))
    assert small.shape == (3, 2, 3)
    np.testing.assert_allclose(small[0, 1], image[:4, 4:].mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(small[2, 0], image[8:, :4].mean((0, 1)), atol=1e-6)
    assert degrade(image, parse("downsample(4, up=true)"), np.random.default_rng(0))[0].shape == image.shape


def test_stored_levels_stay_themselves() -> None:
    levels = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(16, 16, 1)
    for rounding in ("down", "nearest"):
        stored, _ = degrade(levels, parse(f"quantize(rounding={rounding})"), np.random.default_rng(0))
        np.testing.assert_array_equal(np.rint(stored * 255), np.rint(levels * 255))
    between = levels[:-1, :-1] + np.float32(0.9 / 255)
    down, _ = degrade(between, parse("quantize(rounding=down)"), np.random.default_rng(0))
    np.testing.assert_array_equal(np.rint(down * 255), np.rint(levels[:-1, :-1] * 255))


def test_ranges_are_drawn_evenly_and_recorded() -> None:
    rng = np.random.default_rng(0)
    sigmas = [parse("noise(sigma=5..20)").sample(rng, (4, 4, 1))["sigma"] for _ in range(2000)]
    assert stats.kstest(sigmas, stats.uniform(5, 15).cdf).pvalue > 0.01
    factors = [parse("downsample(2..4)").sample(rng, (4, 4, 1))["factor"] for _ in range(300)]
    assert set(factors) == {2, 3, 4}


def test_choices_follow_their_weights() -> None:
    rng = np.random.default_rng(0)
    choice = OneOf((parse("noise"), parse("stripes"), Identity()), (3.0, 1.0, 0.0))
    drawn = [choice.plan(rng, (4, 4, 1))[0]["name"] for _ in range(2000)]
    assert drawn.count("noise") / 2000 == pytest.approx(0.75, abs=0.04)
    with pytest.raises(UserError, match="`weights` must be 2 numbers"):
        OneOf((Identity(), Identity()), (1.0,))


def test_sample_and_apply_of_a_chain_are_its_effects() -> None:
    chain = parse("blur(sigma=1..3)+(noise|stripes)+quantize")
    params = chain.sample(np.random.default_rng(3), GREY.shape)
    degraded, effects = degrade(GREY, chain, np.random.default_rng(3))
    assert params == {"effects": effects}
    np.testing.assert_array_equal(chain.apply(GREY, params), degraded)


def test_an_unknown_effect_of_a_manifest_is_named() -> None:
    with pytest.raises(UserError, match="but got `snowfall`"):
        reapply(GREY, [{"name": "snowfall", "params": {}}])


def test_everything_public_is_there() -> None:
    assert all(hasattr(degradations, name) for name in degradations.__all__)
