"""The unconditional prior: what it learns, how good it can be, and that it removes noise of known strength."""

import math

import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import AppliedDegradation, FusionBatch
from fusion_lightning.diffusion.flow import to_line
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.methods import Controls, UnconditionalPrior
from fusion_lightning.methods.prior import MeanSpectrum, VelocityPrior
from tests.reference.gaussian_prior import GaussianPrior

from .conftest import make_batch


def make_method(**options: object) -> UnconditionalPrior:
    """A tiny prior whose network says something."""
    method = UnconditionalPrior(size="tiny", **options).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(method.prior.network.noise_decoder.head.weight, std=0.1)
    return method


def noisy(batch: FusionBatch, sigma: float) -> FusionBatch:
    """The clean sources with noise of so many grey levels, recorded."""
    for side in ("a", "b"):
        image = batch[f"clean_{side}"]  # type: ignore[literal-required]
        batch[f"source_{side}"] = image + sigma / 255 * torch.randn(image.shape)  # type: ignore[literal-required]
        for one in batch["degradation"]:
            one[side] = [AppliedDegradation(name="noise", params={"sigma": sigma})]  # type: ignore[literal-required]
    return batch


def field(size: int, count: int) -> tuple[GaussianPrior, Tensor]:
    """A Gaussian prior with the falling spectrum of pictures, and draws of it."""
    frequency = torch.fft.fftfreq(size)
    spectrum = 0.02 / (0.01 + frequency[:, None].square() + frequency.square())
    spectrum = 0.1 * spectrum / spectrum.mean()
    spectrum[0, 0] = 0
    draws = torch.fft.ifft2(spectrum.sqrt() * torch.fft.fft2(torch.randn(count, 1, size, size))).real
    return GaussianPrior(torch.zeros(size, size), spectrum), draws


def test_the_exact_gaussian_predictor_has_the_linear_loss() -> None:
    """∫ S / ((1 − s)² S + s²) ds over [0, 1] is (π/2) sqrt(S): the level that is logged beside the loss."""
    prior, draws = field(16, 4000)
    s, noise = torch.rand(len(draws), 1, 1, 1), torch.randn(draws.shape)
    alpha_bar = (1 - s).square() / ((1 - s).square() + s.square())
    state = alpha_bar.sqrt() * draws + (1 - alpha_bar).sqrt() * noise
    line, point = to_line(state, alpha_bar)
    torch.testing.assert_close(point, s, atol=1e-5, rtol=0)
    # the predictor's velocity, from its transform, without the clamp
    power = torch.fft.fft2(line) / ((1 - s).square() * prior.spectrum + s.square())
    velocity = torch.fft.ifft2((s - (1 - s) * prior.spectrum) * power).real
    loss = float((velocity - (noise - draws)).square().mean())
    expected = math.pi / 2 * float(prior.spectrum.sqrt().mean())
    assert loss == pytest.approx(expected, rel=0.03)
    seen = MeanSpectrum()
    for part in draws.split(500):
        found = seen(part)
    assert float(found) == pytest.approx(expected, rel=0.02)


def test_an_untrained_prior_has_the_loss_of_a_zero_velocity() -> None:
    method, losses = UnconditionalPrior(size="tiny"), []
    method.log_dict = lambda parts, **kwargs: losses.append(float(parts["train/loss"]))  # type: ignore[method-assign]
    batch = make_batch([str(number) for number in range(16)], (32, 32))
    method.training_step(batch, 0)
    power = sum(float((2 * rgb_to_luma(batch[key]) - 1).square().mean()) / 2 for key in ("clean_a", "clean_b"))  # type: ignore[literal-required]
    assert losses[0] == pytest.approx(1 + power, rel=0.03)


def test_it_learns_and_every_parameter_does() -> None:
    torch.manual_seed(0)
    method, losses = UnconditionalPrior(size="tiny"), []
    method.log_dict = lambda parts, **kwargs: losses.append(float(parts["train/loss"]))  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(method.parameters(), lr=4e-3)
    batch = make_batch(["one", "two", "three", "four"], (8, 8))
    for _ in range(12):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())
    assert losses[-1] < 0.75 * losses[0]


def test_mixed_images_are_averages_of_the_sources() -> None:
    method, batch = make_method(mixed=1.0), make_batch(["one", "two"], (16, 16), color=None)
    seen: list[Tensor] = []
    method.spectrum.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.training_step(batch, 0)
    a, b = (2 * batch[key] - 1 for key in ("clean_a", "clean_b"))  # type: ignore[literal-required]
    for image in seen[0].chunk(2):
        share = ((image - b) * (a - b)).sum((1, 2, 3)) / (a - b).square().sum((1, 2, 3))
        assert ((share > 0) & (share < 1)).all()
        torch.testing.assert_close(image, share[:, None, None, None] * (a - b) + b, atol=1e-5, rtol=0)


def test_known_noise_is_removed_as_the_gaussian_posterior_does() -> None:
    """One call on a source with noise is the Wiener filter of the prior's spectrum."""
    prior, draws = field(32, 8)
    method = UnconditionalPrior(size="tiny").eval()
    method.prior = prior
    clean = (draws.clamp(-1, 1) + 1) / 2
    batch = make_batch([str(number) for number in range(8)], (32, 32), color=None)
    batch["clean_a"], batch["clean_b"] = clean, clean.flip(0)
    batch = noisy(batch, 20.0)
    restored = method.fuse(batch)["restored_a"]
    gain = prior.spectrum / (prior.spectrum + (40 / 255) ** 2)
    wiener = torch.fft.ifft2(gain * torch.fft.fft2(2 * batch["source_a"] - 1)).real
    torch.testing.assert_close(restored, ((wiener + 1) / 2).clamp(0, 1), atol=1e-5, rtol=0)
    before, after = (float((image - clean).square().mean()) for image in (batch["source_a"], restored))
    assert after < 0.8 * before


def test_a_source_without_noise_stays_as_it_is_and_colours_always_do() -> None:
    method, batch = make_method(), noisy(make_batch(["one", "two"], (9, 14), "b"), 10.0)
    batch["degradation"][0]["a"] = []
    batch["degradation"][1]["a"] = [AppliedDegradation(name="blur", params={"sigma": 2.0, "padding": "reflect"})]
    with torch.no_grad():
        output = method.fuse(batch)
    torch.testing.assert_close(output["restored_a"], batch["source_a"].clamp(0, 1))
    assert not torch.allclose(output["restored_b"], batch["source_b"], atol=0.01)
    inside = output["restored_b"].flatten(1).amax(1) < 1
    chroma = [rgb_to_cbcr(image)[inside] for image in (output["restored_b"], batch["source_b"])]
    torch.testing.assert_close(chroma[0], chroma[1], atol=0.02, rtol=0)


def test_an_image_does_not_depend_on_its_batch_and_grey_stays_grey() -> None:
    method, batch = make_method(), noisy(make_batch(["one", "two"], (16, 16), None), 15.0)
    with torch.no_grad():
        together = method.fuse(batch)["restored_b"]
        batch["degradation"] = batch["degradation"][1:]
        for key in ("source_a", "source_b"):
            batch[key] = batch[key][1:]  # type: ignore[literal-required]
        alone = method.fuse(batch)["restored_b"]
    assert together.shape == (2, 1, 16, 16)
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)


def test_a_crop_is_denoised_about_as_the_whole_is() -> None:
    """Only the gates' statistics over the image depend on its area."""
    torch.manual_seed(0)
    prior = VelocityPrior("tiny").eval()
    torch.nn.init.normal_(prior.network.noise_decoder.head.weight, std=0.1)
    image = torch.nn.functional.interpolate(torch.randn(1, 1, 12, 12), (96, 96), mode="bicubic")
    with torch.no_grad():
        whole = prior.velocity(image, torch.tensor(0.2))[..., 24:72, 24:72]
        crop = prior.velocity(image[..., 8:88, 8:88], torch.tensor(0.2))[..., 16:64, 16:64]
    assert float((whole - crop).square().mean()) < 0.02 * float(whole.square().mean())


def test_it_has_no_knobs_and_refuses_a_share_out_of_range() -> None:
    with pytest.raises(UserError, match="UnconditionalPrior has no strength or balance controls"):
        make_method().fuse(make_batch(["one"]), Controls(balance=0.1))
    with pytest.raises(UserError, match=r"`mixed` must lie in \[0, 1\], but got 2"):
        UnconditionalPrior(size="tiny", mixed=2)
