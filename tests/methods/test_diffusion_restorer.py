"""Restoring by conditional diffusion: what an untrained one, and one that knows the truth, must return."""

import pytest
import torch

from fusion_lightning.batch import clean, sources
from fusion_lightning.diffusion.denoising import implied_noise
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.methods import Controls, DiffusionRestorer

from .conftest import check_that_images_are_independent, make_batch


def make_restorer(**options: object) -> DiffusionRestorer:
    """A tiny one whose networks say something."""
    method = DiffusionRestorer(size="tiny", **{"sampling_steps": 2, **options}).eval()  # type: ignore[arg-type]
    for network in method.restorer.networks.values():
        torch.nn.init.normal_(network.noise_decoder.head.weight, std=0.1)
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


@pytest.mark.parametrize(("luma", "shared"), [(False, False), (True, True)])
@pytest.mark.parametrize(("size", "color"), [((16, 16), "b"), ((9, 14), "a"), ((7, 5), None)])
def test_an_untrained_correction_returns_what_was_delivered(
    luma: bool, shared: bool, size: tuple[int, int], color: str | None
) -> None:
    batch = make_batch(["one", "two"], size, color)
    method = DiffusionRestorer("tiny", shared_network=shared, luma=luma, sampling_steps=3, prediction="clean")
    with torch.no_grad():
        output = method.eval().fuse(batch)
    for restored, delivered in zip((output["restored_a"], output["restored_b"]), sources(batch), strict=True):
        torch.testing.assert_close(restored, delivered, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_who_knows_the_noise_knows_the_image(steps: int) -> None:
    batch = make_batch(["one", "two"], (16, 16))
    method = DiffusionRestorer("tiny", sampling_steps=steps)
    targets = dict(zip("ab", clean(batch), strict=True))
    alpha_bar = method.restorer.denoiser.schedule.alpha_bar

    def oracle(modality: str, state: torch.Tensor, y: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return implied_noise(state, method.restorer.condition(targets[modality]), alpha_bar[int(time)])

    method.restorer.output = oracle  # type: ignore[method-assign, assignment]
    output = method.fuse(batch)
    torch.testing.assert_close(output["restored_a"], batch["clean_a"], atol=2e-3, rtol=0)
    torch.testing.assert_close(output["restored_b"], batch["clean_b"], atol=2e-3, rtol=0)


def test_grey_stays_grey_and_luma_leaves_the_colours_alone() -> None:
    batch = make_batch(["one"], (16, 16), "a")
    batch["source_a"] = 0.3 * batch["source_a"] + 0.35  # no colour is cut off
    with torch.no_grad():
        output = make_restorer(luma=True, shared_network=True, prediction="clean").fuse(batch)
    assert output["restored_b"].shape[1] == 1
    moved = (rgb_to_luma(output["restored_a"]) - rgb_to_luma(batch["source_a"])).abs()
    inside = (output["restored_a"] > 0).all(dim=1, keepdim=True) & (output["restored_a"] < 1).all(dim=1, keepdim=True)
    colours = (rgb_to_cbcr(output["restored_a"]) - rgb_to_cbcr(batch["source_a"])).abs()
    assert float(moved.mean()) > 0.05
    assert float(inside.float().mean()) > 0.1
    assert float(colours[inside.expand_as(colours)].max()) < 1e-4


def test_an_image_does_not_depend_on_its_batch() -> None:
    check_that_images_are_independent(make_restorer(), "restored_b")


def test_both_modalities_share_their_noise() -> None:
    """One network for both: where the sources are the same, so is what becomes of them."""
    batch = make_batch(["one"], (16, 16), None)
    batch["source_b"] = batch["source_a"]
    output = make_restorer(shared_network=True).fuse(batch)
    assert torch.equal(output["restored_a"], output["restored_b"])


@pytest.mark.parametrize(("luma", "shared"), [(False, False), (True, True)])
@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_every_parameter_learns(luma: bool, shared: bool, prediction: str) -> None:
    method = make_restorer(luma=luma, shared_network=shared, prediction=prediction)
    method.training_step(make_batch(["one", "two"], (16, 16)), 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_it_learns_to_restore() -> None:
    batch = make_batch(["one", "two"], (16, 16))
    method = make_restorer(luma=True, shared_network=True, prediction="clean", times="sampled")
    for network in method.restorer.networks.values():
        torch.nn.init.zeros_(network.noise_decoder.head.weight)

    def error() -> float:
        with torch.no_grad():
            output = method.eval().fuse(batch)
        return float((rgb_to_luma(output["restored_b"]) - rgb_to_luma(batch["clean_b"])).square().mean())

    before = error()
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    for _ in range(15):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert error() < 0.85 * before


def test_it_has_no_knobs() -> None:
    with pytest.raises(UserError, match="DiffusionRestorer has no strength or balance controls"):
        make_restorer().fuse(make_batch(["one"]), Controls(balance=0.1))
