import doctest
import functools
import importlib
import pkgutil
import warnings

import pytest
import torch

import fusion_lightning.metrics
from fusion_lightning.errors import UserError
from fusion_lightning.metrics import (
    CLED,
    DRFUSION,
    FMI,
    METRICS,
    RestorationPSNR,
    RestorationSSIM,
    fusion_metrics,
)
from fusion_lightning.metrics import functional as fn

from .conftest import scene, scene_for

MODULES = [
    "fusion_lightning.metrics",
    *(module.name for module in pkgutil.walk_packages(fusion_lightning.metrics.__path__, "fusion_lightning.metrics.")),
]


VALUES = {
    "MI": 7.474, "VIF": 0.192, "Qabf": 0.272, "Nabf": 0.000, "SSIM": 1.303, "EN": 7.657, "SD": 51.491,
    "SF": 102.691, "AG": 34.825, "CC": 0.702, "SCD": 1.424, "PSNR": 13.773, "MSE": 0.042, "MS_SSIM": 1.459,
    "MEF_SSIM": 0.938, "FMI_pixel": 0.373, "Q_MI": 0.958, "Q_NCIE": 0.840, "Q_G": 0.326, "Q_P": 0.245,
    "Q_CB": 0.585, "Q_Y": 0.675, "Q_TE": 0.454, "Q_M": 0.038, "Q_SF": -0.445, "Q_S": 0.657, "Q_C": 0.655,
    "Q_CV": 2290,
}  # fmt: skip
"""Of the mean of two images of random pixels, 64x64, or 256x256 for MS_SSIM; written down from the checked code."""


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", VALUES)
def test_values_stay_as_they_were(name):
    size = 256 if name == "MS_SSIM" else 64
    a, b = torch.rand(2, 1, 1, size, size, generator=torch.Generator().manual_seed(0))
    assert METRICS[name]()((a + b) / 2, a, b).item() == pytest.approx(VALUES[name], rel=5e-4, abs=5e-4)


def test_the_papers_metrics_come_first_in_their_tables_order():
    published = ["MI", "VIF", "Qabf", "Nabf", "SSIM", "Q_MI", "Q_NCIE", "Q_G", "Q_P", "Q_CB", "Q_Y"]
    assert [metric.__name__ for metric in (*CLED, *DRFUSION)] == list(METRICS)[:11] == published


@pytest.mark.parametrize("name", METRICS)
def test_values_lie_in_the_stated_range(name):
    metric = METRICS[name]()
    lowest, highest = metric.value_range
    fused, a, b = scene_for(METRICS[name], 48)
    for images in ((fused, a, b), (a, a, a), (1 - a, a, b)):
        value = metric.per_image(*images)
        assert value.isnan().all() or ((value >= lowest - 1e-9) & (value <= highest + 1e-9)).all()


@pytest.mark.parametrize("name", METRICS)
def test_the_direction_is_right(name):
    metric = METRICS[name]
    # the published Q_TE, with its swapped marginals, does not tell noise from detail
    make = functools.partial(metric, marginals="textbook") if name == "Q_TE" else metric
    fused, a, b = scene_for(metric, 64)
    # few levels, so that a histogram of a small image is not mostly empty
    fused, a, b = ((image * 17).round() / 17 for image in (fused, a, b))
    # entropy, contrast and detail of the fused image alone call noise an improvement
    if torch.equal(make().per_image(fused, a, b), make().per_image(fused, b.flip(2) ** 2, a.flip(2) ** 2)):
        better, worse = make().per_image(fused, a, b), make().per_image((fused * 3).round() / 15 + 0.4, a, b)
    else:
        noisy = ((fused + 0.2 * torch.randn_like(fused)) * 17).round().clamp(0, 17) / 17
        better, worse = make().per_image(fused, a, b), make().per_image(noisy, a, b)
    assert metric.distance(better.item()) < metric.distance(worse.item())


def test_the_mean_runs_over_images_not_over_batches():
    samples = [scene(48, seed) for seed in range(3)]
    metric = METRICS["MI"]()
    metric.update(*(torch.cat(images) for images in zip(*samples[:2], strict=True)))
    metric.update(*samples[2])
    expected = torch.stack([fn.mi(*sample)[0] for sample in samples]).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-12)
    metric.reset()
    assert metric.count == 0


def test_undefined_images_are_named_and_counted():
    fused, a, b = scene(48)
    metric = METRICS["SCD"]()
    with pytest.warns(UserWarning, match=r"SCD is undefined \(NaN\) for street"):
        metric.update(torch.cat((fused, a)), torch.cat((a, a)), torch.cat((b, b)), names=["park", "street"])
    with pytest.warns(UserWarning, match="mean over 1 of 2 images"):
        value = metric.compute()
    assert value.item() == pytest.approx(fn.scd(fused, a, b).item())
    assert metric.undefined == 1


def test_a_metric_without_a_defined_image_is_nan():
    _, a, b = scene(48)
    metric = METRICS["SCD"]()
    with pytest.warns(UserWarning, match="undefined"):
        metric.update(a, a, b)
    with pytest.warns(UserWarning, match="0 of 1"):
        assert metric.compute().isnan()


def test_values_computed_once_can_be_kept_and_added():
    images = scene(48)
    metric = METRICS["Qabf"]()
    values = metric.per_image(*images)
    metric.accumulate(values)
    assert metric.compute().item() == pytest.approx(values.mean().item())


def test_options_reach_the_function():
    images = scene(64)
    assert METRICS["SSIM"](reduction="mean", data_range=1.0).per_image(*images) == fn.ssim(
        *images, reduction="mean", data_range=1.0
    )
    assert FMI(features="dct").per_image(*images) == fn.fmi(*images, features="dct")


def test_the_collection_keeps_equal_metrics_apart():
    collection = fusion_metrics(["MI", "VIF", "Nabf"], prefix="test/")
    assert not collection.compute_groups
    images = scene(64)
    collection.update(*images)
    values = collection.compute()
    assert set(values) == {"test/MI", "test/VIF", "test/Nabf"}
    assert values["test/Nabf"].item() == pytest.approx(fn.nabf(*images).item())


def test_an_unknown_metric_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"`metrics`: there is no metric 'SSSIM'; did you mean `SSIM`"):
        fusion_metrics(["MI", "SSSIM"], prefix="")


def test_restoration_metrics_average_over_images():
    clean = torch.rand(2, 3, 16, 16)
    image = clean + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    psnr, ssim = RestorationPSNR(), RestorationSSIM()
    psnr.update(image, clean)
    ssim.update(image, clean)
    assert psnr.compute().item() == pytest.approx(30, abs=1e-3)
    assert ssim.compute().item() == pytest.approx(fn.ssim_to(image, clean).mean().item())


def test_scoring_warns_about_nothing_else():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitting = [name for name, metric in METRICS.items() if metric.definition.smallest <= 48]
        fusion_metrics(fitting, prefix="").update(*scene_for(METRICS["hue"], 48))
