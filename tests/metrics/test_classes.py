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
    COLOR,
    DRFUSION,
    FMI,
    METRICS,
    RestorationPSNR,
    RestorationSSIM,
    fusion_metrics,
)
from fusion_lightning.metrics import functional as fn

from .conftest import scene

MODULES = [
    "fusion_lightning.metrics",
    *(module.name for module in pkgutil.walk_packages(fusion_lightning.metrics.__path__, "fusion_lightning.metrics.")),
]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_every_class_shows_an_example():
    assert all(">>>" in (metric.__doc__ or "") for metric in (*METRICS.values(), FMI))


def test_the_families_are_complete():
    published = ["MI", "VIF", "Qabf", "Nabf", "SSIM"]
    relatives = ["EN", "SD", "SF", "AG", "CC", "SCD", "PSNR", "MSE", "MS_SSIM", "MEF_SSIM", "FMI_pixel"]
    second = ["Q_MI", "Q_NCIE", "Q_G", "Q_P", "Q_CB", "Q_Y"]
    second_relatives = ["Q_TE", "Q_M", "Q_SF", "Q_S", "Q_C", "Q_CV"]
    assert list(METRICS) == [*published, *relatives, *second, *second_relatives, "saturation", "hue", "CIEDE2000"]
    assert [metric.__name__ for metric in CLED] == published
    assert [metric.__name__ for metric in DRFUSION] == second


def _images(name, size):
    """A fused image and its sources; source b is in colour for the metrics that need one."""
    fused, a, b = scene(size)
    if METRICS[name] not in COLOR:
        return fused, a, b
    tint = torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
    return fused * tint, a, b * tint


@pytest.mark.parametrize("name", METRICS)
def test_values_lie_in_the_stated_range(name):
    metric = METRICS[name]()
    lowest, highest = metric.value_range
    fused, a, b = _images(name, 176 if name == "MS_SSIM" else 48)
    for images in ((fused, a, b), (a, a, a), (1 - a, a, b)):
        value = metric.per_image(*images)
        assert value.isnan().all() or ((value >= lowest - 1e-9) & (value <= highest + 1e-9)).all()


@pytest.mark.parametrize("name", METRICS)
def test_the_direction_is_right(name):
    metric = METRICS[name]
    # the published Q_TE, with its swapped marginals, does not tell noise from detail
    make = functools.partial(metric, marginals="textbook") if name == "Q_TE" else metric
    fused, a, b = _images(name, 176 if name == "MS_SSIM" else 64)
    # few levels, so that a histogram of a small image is not mostly empty
    fused, a, b = ((image * 17).round() / 17 for image in (fused, a, b))
    # entropy, contrast and detail of the fused image alone call noise an improvement
    if name in ("EN", "SD", "SF", "AG"):
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


def test_an_unknown_metric_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"`metrics` must be among MI, VIF.*, but got SSSIM"):
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
        fusion_metrics([name for name in METRICS if name != "MS_SSIM"], prefix="").update(*_images("hue", 48))
