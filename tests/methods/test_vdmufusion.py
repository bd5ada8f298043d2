"""VDMUFusion: weighted averages, noise that belongs to its image, and that it learns."""

import pytest
import torch

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.methods import Controls, VDMUFusion

from .conftest import make_batch


def make_method(**options: object) -> VDMUFusion:
    """A tiny method whose network says something."""
    method = VDMUFusion(size="tiny", **options).eval()  # type: ignore[arg-type]
    for decoder in (method.network.noise_decoder, method.network.weight_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    return method


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_the_fusion_is_a_weighted_average_of_the_sources(steps: int) -> None:
    batch = make_batch(["one"], (9, 14), color=None)
    with torch.no_grad():
        output = make_method(sampling_steps=steps).fuse(batch)
    a, b, weight = batch["source_a"], batch["source_b"], output["weight"]
    torch.testing.assert_close(output["fused"], weight * a + (1 - weight) * b)
    assert float(weight.std()) > 0


def test_the_fusion_is_what_it_was_before_the_walk_was_shared() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        output = make_method().fuse(make_batch(["one"], (13, 17)))
    assert float(output["fused"].double().sum()) == pytest.approx(414.45319, abs=1e-3)
    assert float(output["weight"].double().sum()) == pytest.approx(86.462115, abs=1e-4)


def test_colour_is_kept() -> None:
    batch = make_batch(["one"], (16, 16), "a")
    batch["source_a"], batch["source_b"] = (0.3 * batch[key] + 0.35 for key in ("source_a", "source_b"))  # type: ignore[literal-required]
    with torch.no_grad():
        fused = make_method().fuse(batch)["fused"]
    torch.testing.assert_close(rgb_to_cbcr(fused), rgb_to_cbcr(batch["source_a"]), atol=1e-4, rtol=0)


def test_an_image_does_not_depend_on_its_batch() -> None:
    method = make_method()
    with torch.no_grad():
        together = method.fuse(make_batch(["one", "two"], (16, 16)))["fused"][1:]
        alone = method.fuse(make_batch(["two"], (16, 16)))["fused"]
        other = make_method(seed=1)
        other.load_state_dict(method.state_dict())
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
        assert not torch.allclose(other.fuse(make_batch(["two"], (16, 16)))["fused"], alone)


def test_the_noise_of_an_average_is_that_of_its_parts() -> None:
    """With the true noise predicted everywhere, the noise loss is zero whatever the share of the sources."""
    method, batch = make_method(), make_batch(["one", "two"], (16, 16), color=None)
    seen: dict[str, float] = {}
    method.log_dict = lambda losses, **kwargs: seen.update(losses)  # type: ignore[method-assign]
    a, b = (2 * rgb_to_luma(batch[key]) - 1 for key in ("source_a", "source_b"))  # type: ignore[literal-required]

    def oracle(inputs: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state, first, second = inputs.split(1, dim=1)
        torch.testing.assert_close(first, a)
        torch.testing.assert_close(second, b)
        alpha_bar = method.schedule.alpha_bar[time.long()].view(-1, 1, 1, 1)
        # x_t - sqrt(ᾱ) (u (a - b) + b) is pure noise for one u per image: the u of least squares
        difference = alpha_bar.sqrt() * (a - b)
        rest = state - alpha_bar.sqrt() * b
        share = (rest * difference).sum((1, 2, 3), keepdim=True) / difference.square().sum((1, 2, 3), keepdim=True)
        return (rest - share * difference) / (1 - alpha_bar).sqrt(), torch.full_like(state, 0.5)

    method._predict = lambda state, a, b, t: oracle(torch.cat((state, 2 * a - 1, 2 * b - 1), dim=1), t)  # type: ignore[method-assign]
    method.training_step(batch, 0)
    assert float(seen["train/noise"]) < 0.02  # one degree of freedom of 256 is fitted


@pytest.mark.parametrize("reference", ["maximum", "both"])
def test_every_parameter_learns(reference: str) -> None:
    method = make_method(reference=reference)
    method.training_step(make_batch(["one", "two"], (16, 16)), 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_it_learns_weights() -> None:
    torch.manual_seed(0)
    batch, method = make_batch(["one", "two"], (16, 16), color=None), VDMUFusion(size="tiny")
    seen: list[float] = []
    method.log_dict = lambda losses, **kwargs: seen.append(float(losses["train/intensity"]))  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(15):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert seen[-1] < 0.8 * seen[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reference": "mean"}, "`reference` must be one of maximum, both"),
        ({"sampling_steps": 0}, "`sampling_steps` must lie between 1 and 1000"),
        ({"timesteps": 5}, "`timesteps` must be at least 21"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        VDMUFusion(size="tiny", **options)  # type: ignore[arg-type]


def test_it_has_no_knobs() -> None:
    with pytest.raises(UserError, match="VDMUFusion has no strength or balance controls"):
        make_method().fuse(make_batch(["one"]), Controls(balance=0.1))
