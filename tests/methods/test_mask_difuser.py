"""Mask-DiFuser: views of one image in training, sources in use."""

import pytest
import torch

from fusion_lightning.diffusion.denoising import implied_noise
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb
from fusion_lightning.methods import Controls, MaskDiFuser

from .conftest import check_that_images_are_independent, make_batch


def make_method(**options: object) -> MaskDiFuser:
    """A tiny one whose network says something."""
    method = MaskDiFuser(size="tiny", **{"sampling_steps": 2, **options}).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(method.network.unet.noise_decoder.head.weight, std=0.1)
    torch.nn.init.normal_(method.network.attention.out.weight, std=0.1)
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


def test_views_show_a_source_its_delivered_self_or_one_grey() -> None:
    names = [f"name{index}" for index in range(12)]
    batch, method = make_batch(names, (32, 32)), make_method()
    x, a, b = method.views(batch, generators_for(names, 0))
    sources = [2 * as_rgb(batch[key]) - 1 for key in ("clean_a", "clean_b")]  # type: ignore[literal-required]
    of = [[index for index, each in enumerate(sources) if torch.equal(each[row], x[row])] for row in range(12)]
    assert {index for (index,) in of} == {0, 1}  # each image is one of its pair's, and not always the same
    for row, (index,) in enumerate(of):
        delivered = 2 * as_rgb(batch["source_b" if index else "source_a"])[row] - 1  # type: ignore[literal-required]
        blank = [((view[row] != x[row]) & (view[row] != delivered)).all(dim=0) for view in (a, b)]
        greys = torch.cat([view[row].movedim(0, -1)[where] for view, where in zip((a, b), blank, strict=True)])
        assert greys.unique().numel() == 1
        assert not (blank[0] & blank[1]).any()
        assert all(0.3 < float(where.float().mean()) < 0.45 for where in blank)


def test_the_same_name_and_step_have_the_same_masks() -> None:
    method, batch = make_method(), make_batch(["one", "two"])
    first, again, later = (method.views(batch, generators_for(batch["name"], 0, step)) for step in (1, 1, 2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[1], later[1])
    alone = method.views(make_batch(["two"]), generators_for(["two"], 0, 1))
    assert all(torch.equal(one[1:], other) for one, other in zip(first, alone, strict=True))


@pytest.mark.parametrize(("size", "color"), [((16, 16), "b"), ((9, 14), "a"), ((7, 5), None)])
def test_an_untrained_correction_is_the_mean_of_the_sources(size: tuple[int, int], color: str | None) -> None:
    batch = make_batch(["one", "two"], size, color)
    with torch.no_grad():
        fused = MaskDiFuser(size="tiny", sampling_steps=3, prediction="clean").eval().fuse(batch)["fused"]
    mean = (batch["source_a"] + batch["source_b"]) / 2
    assert fused.shape == mean.shape
    torch.testing.assert_close(fused, mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 5])
def test_who_knows_the_noise_draws_the_image(steps: int) -> None:
    method, batch = make_method(sampling_steps=steps), make_batch(["one"], (16, 16))
    alpha_bar, image = method.denoiser.schedule.alpha_bar, torch.rand(1, 3, 16, 16) * 2 - 1
    method.network.forward = lambda state, seen, time: implied_noise(state, image, alpha_bar[int(time)])  # type: ignore[method-assign, assignment]
    torch.testing.assert_close(method.fuse(batch)["fused"], (image + 1) / 2, atol=2e-3, rtol=0)


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_every_parameter_learns(prediction: str) -> None:
    method = make_method(prediction=prediction).train()
    method.training_step(make_batch(["one", "two"], (32, 32)), 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_a_perfect_answer_has_no_loss_but_the_diffusion_s_own_floor() -> None:
    method, batch = make_method(prediction="noise"), make_batch(["one"], (16, 16))
    seen: dict[str, float] = {}
    method.log_dict = lambda losses, **kwargs: seen.update(losses)  # type: ignore[method-assign]
    x, *_ = method.views(batch, generators_for(batch["name"], 0, 0))
    alpha_bar = method.denoiser.schedule.alpha_bar
    method.network.forward = lambda state, views, time: implied_noise(state, x, alpha_bar[int(time)])  # type: ignore[method-assign, assignment]
    method.training_step(batch, 0)
    assert set(seen) == {f"train/{name}" for name in ("loss", "noise", "image", "structure", "color")}
    assert all(float(value) < 1e-3 for value in seen.values())


def test_an_image_does_not_depend_on_its_batch() -> None:
    check_that_images_are_independent(make_method())


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="`grid` must be at least 2, but got 1"):
        MaskDiFuser(size="tiny", grid=1)
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base"):
        MaskDiFuser(size="large")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="MaskDiFuser has no strength or balance controls"):
        make_method().fuse(make_batch(["one"]), Controls(balance=0.1))
