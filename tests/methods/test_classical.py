"""Fusion by rule, against hand-written arithmetic."""

import cv2
import numpy as np
import pytest
import pywt
import torch
from scipy import ndimage

from fusion_lightning.batch import AppliedDegradation, FusionBatch, SampleDegradation, pictures
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.imaging.filters import guided_filter
from fusion_lightning.methods import (
    Average,
    ClassicalRestorer,
    Controls,
    FusionMethod,
    GuidedFilter,
    LaplacianPyramid,
    Maximum,
    WaveletMaximum,
)
from fusion_lightning.methods.classical import _blur, _enlarge
from fusion_lightning.methods.luma import LumaFusion

from .conftest import make_batch


def test_grey_sources_give_the_plain_rule() -> None:
    batch = make_batch(["one"], color=None)
    a, b = batch["source_a"], batch["source_b"]
    assert torch.equal(Average().fuse(batch)["fused"], (a + b) / 2)
    assert torch.equal(Maximum().fuse(batch)["fused"], torch.maximum(a, b))


@pytest.mark.parametrize("method", [Average(), Maximum()])
def test_colour_is_kept(method: Average, batch: FusionBatch) -> None:
    # mid-grey enough that no colour leaves the cube and is clipped
    batch["source_b"] = 0.4 + 0.2 * batch["source_b"]
    batch["source_a"] = 0.4 + 0.2 * batch["source_a"]
    fused = method.fuse(batch)["fused"]
    torch.testing.assert_close(rgb_to_cbcr(fused), rgb_to_cbcr(batch["source_b"]), atol=2 / 255, rtol=0)
    expected = type(method).rule(batch["source_a"], rgb_to_luma(batch["source_b"]))
    torch.testing.assert_close(rgb_to_luma(fused), expected, atol=2 / 255, rtol=0)


def test_a_rule_has_no_controls(batch: FusionBatch) -> None:
    with pytest.raises(UserError, match="no strength or balance"):
        Average().fuse(batch, Controls(strength_a=0.5))


@pytest.mark.parametrize(
    "method", [Average(), LaplacianPyramid(), GuidedFilter(), WaveletMaximum(), ClassicalRestorer()]
)
def test_half_precision_is_for_networks_alone(method: FusionMethod) -> None:
    batch = make_batch(["one"])
    effects = [AppliedDegradation(name="blur", params={"sigma": 1.0, "padding": "zero"})]
    batch["degradation"] = [SampleDegradation(scenario="blur", a=effects, b=effects)]
    whole = method.fuse(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = method.fuse(batch)
    for part, image in pictures(whole).items():
        assert torch.equal(pictures(half)[part], image)


@pytest.mark.parametrize("method", [LaplacianPyramid(), GuidedFilter(), WaveletMaximum()])
@pytest.mark.parametrize("size", [(64, 48), (37, 51), (7, 5)])
def test_an_image_fused_with_itself_comes_back(method: LumaFusion, size: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *size)
    torch.testing.assert_close(method.fuse_luma(image, image), image, atol=2e-6, rtol=0)


def test_the_pyramids_steps_are_opencvs() -> None:
    image = torch.rand(1, 1, 24, 36)
    small = _blur(image)[..., ::2, ::2]
    np.testing.assert_allclose(small[0, 0], cv2.pyrDown(image[0, 0].numpy()), atol=1e-6)
    # OpenCV treats the last row and column of the enlarged image in its own way
    expected = cv2.pyrUp(small[0, 0].numpy())[:-2, :-2]
    np.testing.assert_allclose(_enlarge(small, image)[0, 0, :-2, :-2], expected, atol=1e-6)


def test_the_pyramid_keeps_all_detail_beside_a_flat_image() -> None:
    image, flat = torch.rand(1, 1, 32, 32), torch.full((1, 1, 32, 32), 0.5)
    top = image
    while min(top.shape[-2:]) >= 8:
        top = _blur(top)[..., ::2, ::2]
    for side in (8, 16, 32):
        top = _enlarge(top, image.new_zeros(1, 1, side, side))
    # all of the image's detail, and the mean of what both have at the top
    torch.testing.assert_close(LaplacianPyramid().fuse_luma(image, flat), image - top / 2 + 0.25, atol=1e-5, rtol=0)


def test_wavelets_keep_all_detail_beside_a_flat_image() -> None:
    image, flat = torch.rand(1, 1, 96, 80), torch.full((1, 1, 96, 80), 0.5)
    levels = min(4, pywt.dwt_max_level(80, "bior4.4"))
    top, *details = pywt.wavedec2(image[0, 0].numpy(), "bior4.4", "symmetric", levels)
    smooth = pywt.waverec2([top, *([None] * 3 for _ in details)], "bior4.4", "symmetric")
    expected = image[0, 0].numpy() - smooth / 2 + 0.25
    np.testing.assert_allclose(WaveletMaximum().fuse_luma(image, flat)[0, 0], expected, atol=1e-5)


def test_the_guided_filter_is_its_formula() -> None:
    image, values = np.random.default_rng(0).random((2, 40, 44))
    mean = {name: ndimage.uniform_filter(x, 5) for name, x in (("i", image), ("p", values))}
    mean |= {name: ndimage.uniform_filter(x, 5) for name, x in (("ip", image * values), ("ii", image * image))}
    slope = (mean["ip"] - mean["i"] * mean["p"]) / (mean["ii"] - mean["i"] ** 2 + 0.01)
    offset = mean["p"] - slope * mean["i"]
    expected = ndimage.uniform_filter(slope, 5) * image + ndimage.uniform_filter(offset, 5)
    found = guided_filter(torch.tensor(image)[None, None], torch.tensor(values)[None, None], 2, 0.01)[0, 0]
    np.testing.assert_allclose(found[4:-4, 4:-4], expected[4:-4, 4:-4], atol=1e-12)


def test_the_guided_filter_takes_the_detail_of_the_source_that_has_it() -> None:
    flat, detailed = torch.full((1, 1, 64, 64), 0.5), 0.5 + 0.1 * (torch.rand(1, 1, 64, 64) - 0.5)
    fused = GuidedFilter().fuse_luma(flat, detailed)
    assert float((fused - detailed).abs().mean()) < 0.1 * float((fused - flat).abs().mean())
