import numpy as np
import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image
from fusion_lightning.methods.classical import laplacian_pyramid
from fusion_lightning.metrics import METRICS
from fusion_lightning.metrics import functional as fn
from tests.reference import cled_metrics

from .conftest import scene, scene_for

DIFFERENTIABLE = [name for name, metric in METRICS.items() if metric.is_differentiable]


@pytest.mark.parametrize("name", cled_metrics.METRICS)
def test_equals_the_plain_formulas(name):
    images = [(image * 255).round() / 255 for image in scene(64)]
    plain = cled_metrics.METRICS[name](*(np.round(image[0, 0].numpy() * 255) for image in images))
    assert getattr(fn, name.lower())(*images).item() == pytest.approx(plain, rel=1e-9)


def test_ms_ssim_equals_torchmetrics():
    fused, a, b = scene(192)
    expected = sum(
        multiscale_structural_similarity_index_measure(fused * 255, x * 255, data_range=255.0, kernel_size=11).item()
        for x in (a, b)
    )
    assert fn.ms_ssim(fused, a, b).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_a_batch_gives_what_single_images_give(name, dtype):
    score = METRICS[name].definition
    samples = [scene_for(METRICS[name], 48, seed, dtype) for seed in range(3)]
    together = score(*(torch.cat(images) for images in zip(*samples, strict=True)))
    alone = torch.cat([score(*sample) for sample in samples])
    assert together.shape == (3,)
    assert together.dtype == dtype
    torch.testing.assert_close(together, alone, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_large_images_are_taken_in_strips_without_a_seam(name, monkeypatch):
    from fusion_lightning.metrics.functional import features, filters, gradients, phase

    score = METRICS[name].definition
    images = scene_for(METRICS[name], 70)
    whole = score(*images)
    size = images[0].shape[-1]
    strip = 16 * size * torch.float64.itemsize
    monkeypatch.setattr(filters.strips, "__defaults__", (strip,))
    monkeypatch.setattr(gradients, "_STRIP", strip)
    monkeypatch.setattr(features, "_STRIP", strip)
    monkeypatch.setattr(features, "_CHUNK", 100)
    monkeypatch.setattr(phase, "_STRIP", 16 * size)
    torch.testing.assert_close(score(*images), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_right(name):
    fused, a, b = scene_for(METRICS[name], 14)
    fused.requires_grad_()
    score = METRICS[name]().per_image
    assert torch.autograd.gradcheck(lambda f: score(f, a, b), fused, fast_mode=True, eps=1e-7, atol=1e-5, rtol=2e-3)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_finite_in_flat_areas(name):
    fused, a, b = scene_for(METRICS[name], 48)
    for image in (fused, a, b):
        image[..., : image.shape[-2] // 2, :] = 0.5
    fused.requires_grad_()
    METRICS[name]().per_image(fused, a, b).sum().backward()
    assert fused.grad is not None
    assert fused.grad.isfinite().all()
    assert (fused.grad != 0).any()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_value_does_not_depend_on_gradients_being_on(name):
    fused, a, b = scene_for(METRICS[name], 48)
    score = METRICS[name]().per_image
    torch.testing.assert_close(score(fused.clone().requires_grad_(), a, b).detach(), score(fused, a, b))


def test_colour_is_rounded_to_grey_levels():
    colour = torch.tensor([10.0, 20.0, 31.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255
    grey = torch.full((1, 1, 8, 8), 18 / 255)  # 0.2989 · 10 + 0.5870 · 20 + 0.1140 · 31 = 18.27
    assert fn.mse(colour, grey, grey).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    value = fn.ssim(*(image.to(dtype) for image in scene(32)))
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.isfinite().all()


def test_autocast_does_not_reach_the_moments():
    images = scene(48, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fn.vif(*images)
    torch.testing.assert_close(inside, fn.vif(*images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("vif", 41), ("ms_ssim", 176), ("mef_ssim", 41), ("q_s", 11), ("q_p", 11), ("q_c", 7), ("q_y", 7), ("fmi", 3)],
)
def test_images_below_the_window_are_refused(name, smallest):
    getattr(fn, name)(*scene(smallest))
    with pytest.raises(UserError, match=f"at least {smallest}x{smallest} pixels"):
        getattr(fn, name)(*(image[..., :-1] for image in scene(smallest)))


def test_what_is_not_a_batch_of_images_is_refused():
    image = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"`source_a` must have shape \(B, 1 or 3, H, W\)"):
        fn.mi(image, image[:, 0], image)
    with pytest.raises(ValueError, match="of one size"):
        fn.mi(image, image[..., :4], image)
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch.uint8"):
        fn.mi((image * 255).byte(), image, image)
    with pytest.raises(ValueError, match="values go from"):
        fn.mi(image * 255, image, image)
    with pytest.raises(ValueError, match="values go from nan"):
        fn.mi(image * float("nan"), image, image)


def test_options_are_checked():
    images = scene(64)
    for call in (
        lambda: fn.vif(*images, reduction="max"),
        lambda: fn.fmi(*images, features="edge"),
        lambda: fn.ms_ssim(*scene(176), border="zero"),
        lambda: fn.q_te(*images, marginals="none"),
    ):
        with pytest.raises(ValueError, match=r"must be .* but got"):
            call()


def test_textbook_marginals_give_the_smaller_tsallis_value(shared):
    from .conftest import read

    # the two examples of the definitions: 0.605 against 0.155, 0.350 against 0.203
    for folder, image, published, textbook in (("IFCNN", "37", 0.605, 0.155), ("U2Fusion", "05", 0.350, 0.203)):
        images = [read(shared / f / f"{image}.png") for f in (f"published/TNO/{folder}", "data/TNO/ir", "data/TNO/vi")]
        assert fn.q_te(*images).item() == pytest.approx(published, abs=2e-3)
        assert fn.q_te(*images, marginals="textbook").item() == pytest.approx(textbook, abs=2e-3)


def test_restoration_scores_against_the_clean_image():
    clean = scene(32)[0]
    assert fn.psnr_to(clean + 0.1, clean).item() == pytest.approx(20)
    assert fn.psnr_to(clean, clean).item() == float("inf")
    assert fn.ssim_to(clean, clean).item() == pytest.approx(1)
    noisy = clean + 0.05 * torch.randn_like(clean)
    assert fn.ssim_to(noisy, clean).item() == pytest.approx(fn.ssim(noisy, clean, clean).item() / 2, rel=1e-6)
    with pytest.raises(ValueError, match="must have one shape"):
        fn.ssim_to(clean, clean[..., :8])


def test_vif_of_nearly_flat_windows_is_a_number(shared):
    files = (shared / "data" / "TNO" / side / "41.png" for side in ("ir", "vi"))
    a, b = (torch.from_numpy(read_image(path, 1)).permute(2, 0, 1)[None] / 255 for path in files)
    fused = laplacian_pyramid(a, b).clamp(0, 1)
    expected = fn.vif(fused.double(), a.double(), b.double())
    torch.testing.assert_close(fn.vif(fused, a, b).double(), expected, rtol=5e-5, atol=0)


@pytest.mark.parametrize("name", ["vif", "ssim", "ms_ssim", "q_p"])
def test_scoring_in_inference_mode_leaves_gradients_possible_afterwards(name: str) -> None:
    score = getattr(fn, name)
    # a size that no other test has, so that its filters are made here
    images = [torch.rand(1, 1, 181, 187, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with torch.inference_mode():
        expected = score(*images)
    value = score(images[0].requires_grad_(), *images[1:])
    torch.testing.assert_close(value.detach(), expected)
    if value.requires_grad:
        value.sum().backward()
        assert images[0].grad is not None
