"""Losses against scipy's Sobel filter, hand-computed values, and their own slopes."""

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import ycbcr_to_rgb
from fusion_lightning.losses.criteria import FusionCriterion, JointCriterion
from fusion_lightning.losses.functional import (
    color_loss,
    gradient_loss,
    intensity_loss,
    multi_scale_similarity,
    residual_loss,
    sobel_magnitude,
    structural_similarity,
    structure_loss,
)
from fusion_lightning.metrics.functional import ms_ssim


def _luma(image: np.ndarray) -> np.ndarray:
    return np.tensordot([0.299, 0.587, 0.114], image, axes=(0, -3))


def _sobel(grey: np.ndarray) -> np.ndarray:
    return np.hypot(ndimage.sobel(grey, axis=0, mode="nearest"), ndimage.sobel(grey, axis=1, mode="nearest"))


@pytest.fixture
def infrared() -> Tensor:
    return torch.rand(1, 1, 9, 11)


@pytest.fixture
def visible() -> Tensor:
    return torch.rand(1, 3, 9, 11)


@pytest.fixture
def fused() -> Tensor:
    return torch.rand(1, 3, 9, 11)


def test_sobel_magnitude_is_scipys(infrared: Tensor) -> None:
    expected = _sobel(infrared[0, 0].double().numpy())
    np.testing.assert_allclose(sobel_magnitude(infrared)[0, 0].numpy(), expected, atol=1e-3)


def test_a_step_edge_has_length_four() -> None:
    step = torch.zeros(1, 1, 5, 6)
    step[..., 3:] = 1
    assert sobel_magnitude(step).max().item() == pytest.approx(4)


def test_intensity_loss_by_hand(fused: Tensor, infrared: Tensor, visible: Tensor) -> None:
    larger = np.maximum(infrared[0, 0].numpy(), _luma(visible[0].numpy()))
    expected = np.abs(_luma(fused[0].numpy()) - larger).mean()
    assert intensity_loss(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_loss_by_scipy(fused: Tensor, infrared: Tensor, visible: Tensor) -> None:
    larger = np.maximum(_sobel(infrared[0, 0].numpy()), _sobel(_luma(visible[0].numpy())))
    expected = np.abs(_sobel(_luma(fused[0].numpy())) - larger).mean()
    assert gradient_loss(fused, infrared, visible).item() == pytest.approx(expected, abs=1e-3)


def test_color_loss_takes_the_source_with_colour(fused: Tensor, infrared: Tensor, visible: Tensor) -> None:
    to_chroma = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    difference = np.tensordot(to_chroma, (fused - visible)[0].numpy(), axes=(1, 0))
    expected = np.abs(difference).mean()
    assert color_loss(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-4)
    assert color_loss(fused, visible, infrared).item() == pytest.approx(expected, rel=1e-4)


def test_color_loss_asks_for_grey_where_no_source_has_colour(infrared: Tensor) -> None:
    grey = infrared.expand(-1, 3, -1, -1)
    assert color_loss(grey, infrared, infrared).item() == pytest.approx(0, abs=1e-6)


def test_the_larger_source_costs_nothing(infrared: Tensor, visible: Tensor) -> None:
    """An image that is the larger luma in the visible colours has no intensity and no colour loss."""
    larger = torch.maximum(infrared, torch.from_numpy(_luma(visible[0].numpy())).float()[None, None])
    blue, red = 0.5 + torch.zeros(2, 1, 1, 9, 11)
    assert intensity_loss(ycbcr_to_rgb(larger, torch.cat((blue, red), 1)), infrared, visible).item() < 1e-6


def test_gradients_stay_finite_on_flat_images() -> None:
    flat = torch.full((1, 3, 6, 6), 0.5, requires_grad=True)
    source = torch.full((1, 1, 6, 6), 0.5)
    gradient_loss(flat, source, source).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_gradient_loss_agrees_with_finite_differences(infrared: Tensor, visible: Tensor, fused: Tensor) -> None:
    crop = tuple(image[..., :4, :4].double() for image in (fused, infrared, visible))
    # The losses compute in float32, so a coarse step and tolerance.
    fused, infrared, visible = crop
    fused.requires_grad_()
    total, _ = FusionCriterion()(fused, infrared, visible)
    (slope,) = torch.autograd.grad(total, fused)
    direction = torch.randn_like(fused)
    step = 1e-3
    with torch.no_grad():
        ahead, behind = (FusionCriterion()(fused + sign * step * direction, infrared, visible)[0] for sign in (1, -1))
    numeric = (ahead - behind) / (2 * step)
    assert numeric.item() == pytest.approx((slope * direction).sum().item(), rel=0.05)


def test_criterion_is_the_weighted_sum_of_its_parts(fused: Tensor, infrared: Tensor, visible: Tensor) -> None:
    total, parts = FusionCriterion(intensity=2, gradient=3, color=0)(fused, infrared, visible)
    assert set(parts) == {"intensity", "gradient", "color"}
    assert total.item() == pytest.approx(2 * parts["intensity"].item() + 3 * parts["gradient"].item())


@pytest.mark.parametrize("weights", [(-1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_impossible_weights_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="weights"):
        FusionCriterion(*weights)


def test_residual_loss() -> None:
    predicted, target = torch.tensor([0.0, 1.0]), torch.tensor([0.0, -2.0])
    assert residual_loss(predicted, target).item() == 1.5
    assert residual_loss(predicted, target, "l2").item() == 4.5
    with pytest.raises(UserError, match="`norm` must be one of l1, l2, balanced, but got 'huber'"):
        residual_loss(predicted, target, "huber")  # type: ignore[arg-type]


def test_half_precision_images_are_compared_in_float32(fused: Tensor, infrared: Tensor, visible: Tensor) -> None:
    total, _ = FusionCriterion()(fused.bfloat16(), infrared, visible)
    assert total.dtype == torch.float32


def test_ssim_is_its_formula_on_the_windows_inside_the_image() -> None:
    x, y = torch.rand(2, 3, 1, 24, 30)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def formula(x: np.ndarray, y: np.ndarray) -> float:
        mx, my, xx, yy, xy = (signal.correlate2d(z, window, mode="valid") for z in (x, y, x * x, y * y, x * y))
        contrast = (2 * (xy - mx * my) + 9e-4) / (xx - mx**2 + yy - my**2 + 9e-4)
        return float(((2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) * contrast).mean())

    expected = [formula(*pair) for pair in zip(x[:, 0].double().numpy(), y[:, 0].double().numpy(), strict=True)]
    np.testing.assert_allclose(structural_similarity(x, y), expected, atol=1e-5)
    torch.testing.assert_close(structural_similarity(x, x), torch.ones(3))


def test_the_balanced_residual_loss_adds_a_tenth_of_the_logarithmic_error() -> None:
    predicted, target = torch.rand(2, 2, 3, 5, 4)
    error = (predicted - target).numpy()
    expected = abs(error).mean() + 0.1 * np.log((error**2).mean(axis=(1, 2, 3)) + 1e-3).mean()
    assert residual_loss(predicted, target, "balanced").item() == pytest.approx(expected, rel=1e-5)


def test_the_l1_gradient_is_the_sum_of_both_directions(infrared: Tensor) -> None:
    grey = infrared[0, 0].numpy()
    expected = sum(np.abs(ndimage.sobel(grey, axis=axis, mode="nearest")) for axis in (0, 1))
    np.testing.assert_allclose(sobel_magnitude(infrared, "l1")[0, 0].numpy(), expected, atol=1e-5)


def test_losses_do_not_feel_mixed_precision() -> None:
    x, y, z = torch.rand(3, 2, 1, 16, 16)
    for loss in (gradient_loss, structure_loss):
        full = loss(x, y, z)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(x, y, z), full)


def test_the_joint_loss_is_its_weighted_parts() -> None:
    fused, x_a, x_b, a, b = torch.rand(5, 2, 1, 12, 12)
    for reference in ("maximum", "both"):
        loss, parts = JointCriterion(2.0, 3.0, 5.0, reference)(fused, (x_a, x_b), (a, b), (a, b))
        weighed = 2 * parts["intensity"] + 3 * parts["structure"] + 5 * parts["reconstruction"]
        torch.testing.assert_close(loss, weighed)
        restoration = (x_a - a).abs().mean() + (x_b - b).abs().mean()
        torch.testing.assert_close(parts["reconstruction"], restoration)
    torch.testing.assert_close(parts["intensity"], (fused - a).abs().mean() + (fused - b).abs().mean())


def test_the_joint_loss_is_least_at_what_it_asks_for() -> None:
    a, b = torch.rand(2, 1, 1, 12, 12)
    brighter = a.expand_as(a) + 0.1
    loss, _ = JointCriterion()(brighter, (a, brighter), (a, brighter), (a, brighter))
    assert float(loss) == pytest.approx(0, abs=1e-5)
    both, _ = JointCriterion(reference="both")(a, (a, a), (a, a), (a, a))
    assert float(both) == pytest.approx(0, abs=1e-5)
    assert float(structure_loss(a, a, b)) > 0.1


@pytest.mark.parametrize(("options", "words"), [((0.0, 0.0, 0.0), "not all 0"), ((1.0, 1.0, 1.0, "x"), "`reference`")])
def test_a_joint_loss_that_makes_no_sense_is_refused(options: tuple[object, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        JointCriterion(*options)  # type: ignore[arg-type]


def test_multi_scale_similarity_is_the_metric() -> None:
    x = torch.nn.functional.interpolate(torch.rand(2, 1, 23, 23), scale_factor=8, mode="bicubic").clamp(0, 1)
    levels = [(255 * image).round() / 255 for image in (x, (x + 0.1 * torch.randn(x.shape)).clamp(0, 1))]
    expected = ms_ssim(*levels, levels[1], reduction="mean", border="valid")
    torch.testing.assert_close(multi_scale_similarity(*levels).double(), expected.double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(multi_scale_similarity(x, x), torch.ones(2))


def test_multi_scale_similarity_of_one_scale_is_similarity() -> None:
    x, y = torch.rand(2, 2, 1, 21, 30)
    similar = 0.9 * x + 0.1 * y
    torch.testing.assert_close(multi_scale_similarity(x, similar), structural_similarity(x, similar))
