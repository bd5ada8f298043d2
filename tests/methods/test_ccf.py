"""CCF: its gate against autograd, its steps, and that it finds what is asked for."""

import pytest
import torch

from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.errors import UserError
from fusion_lightning.losses.conditions import BOUNDED
from fusion_lightning.methods import CCF, Controls
from fusion_lightning.methods.ccf import CONDITIONS, ConditionBank, balanced_weights

from .conftest import make_batch
from .test_ddfm import clean_batch, distance, gaussian_prior

LEVEL = NoiseLevel(0, torch.tensor(0.5))


def make_method(**options: object) -> CCF:
    method = CCF(size="tiny", **{"sampling_steps": 4, **options}).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(method.prior.network.noise_decoder.head.weight, std=0.1)
    return method


def make_bank(a: torch.Tensor, b: torch.Tensor, select: int = 3) -> ConditionBank:
    return ConditionBank(a, b, [BOUNDED[name] for name in CONDITIONS], BOUNDED["mse"], select, 0.03)


def test_the_gate_is_a_step_of_gradnorm_by_autograd() -> None:
    weights = torch.rand(3, 8) + 0.5
    weights = 8 * weights / weights.sum(dim=1, keepdim=True)
    losses, first, norms = torch.rand(3, 3, 8) + 0.1
    learned = weights.clone().requires_grad_()
    left = losses / first
    relative = left / left.mean(dim=1, keepdim=True)
    target = ((learned * norms).mean(dim=1, keepdim=True) * relative**1.5).detach()
    (learned * norms - target).abs().mean(dim=1).sum().backward()
    moved = weights - learned.grad
    expected = 8 * moved / moved.sum(dim=1, keepdim=True)
    torch.testing.assert_close(balanced_weights(weights, losses, first, norms), expected, atol=1e-6, rtol=0)


def test_a_condition_that_changes_its_sign_or_is_met_from_the_start_does_no_harm() -> None:
    first = torch.tensor([[-0.5, 0.0, 1.0]])
    weights = balanced_weights(torch.ones(1, 3), torch.tensor([[0.2, 0.0, 0.5]]), first, torch.full((1, 3), 0.1))
    assert weights.isfinite().all()
    assert float(weights.sum()) == pytest.approx(3)


def test_the_first_move_is_the_rate_along_the_sign_of_the_chosen_gradients() -> None:
    a, b, fused = torch.rand(3, 2, 1, 12, 12) * 2 - 1
    moved = make_bank(a, b)(fused, LEVEL)
    image = fused.clone().requires_grad_()
    # all weights are 1 at first: the first three of the bank, and three times the basic one
    total = sum(BOUNDED[name](image, a, b).sum() for name in CONDITIONS[:3]) + 3 * BOUNDED["mse"](image, a, b).sum()
    (slope,) = torch.autograd.grad(total, image)
    clear = slope.abs() > 1e-4
    torch.testing.assert_close((moved - fused)[clear], -0.03 * slope.sign()[clear], atol=1e-5, rtol=0)


def test_exactly_as_many_conditions_count_as_are_to_be_selected() -> None:
    a, b, fused = torch.rand(3, 2, 1, 16, 16) * 2 - 1
    bank, seen = make_bank(a, b), set()
    for _ in range(12):
        fused = bank(fused, LEVEL)
        assert bank.chosen.sum(dim=1).tolist() == [3, 3]
        seen |= {tuple(row) for row in bank.chosen.tolist()}
        torch.testing.assert_close(bank.weights.sum(dim=1), torch.full((2,), 8.0))
    assert len(seen) > 1


def test_weights_hardly_adapt_on_large_images() -> None:
    moved = []
    for size in (16, 128):
        coarse = torch.rand(3, 1, 1, 8, 8) * 2 - 1
        a, b, fused = (torch.nn.functional.interpolate(image, (size, size), mode="nearest") for image in coarse)
        bank = make_bank(a, b)
        bank(fused, LEVEL)
        moved.append(float((bank.weights - 1).abs().max()))
    assert moved[1] < 0.3 * moved[0]


def test_mse_alone_nears_the_average_with_more_steps() -> None:
    batch = clean_batch(["one"])
    average, found = (batch["source_a"] + batch["source_b"]) / 2, []
    for steps in (25, 100):
        method = CCF(size="tiny", conditions=["mse"], select=1, sampling_steps=steps).eval()
        method.prior = gaussian_prior()
        found.append(distance(method.fuse(batch)["fused"], average, batch))
    assert found[1] < 0.7 * found[0]
    assert found[1] < 0.3


def test_unbounded_statistics_end_in_noise_under_a_weak_prior() -> None:
    """The size of the differences between neighbours, in those of the sources."""
    batch, rough = clean_batch(["one"]), []
    for bounded in (True, False):
        method = CCF(size="tiny", bounded=bounded, sampling_steps=50).eval()
        method.prior = gaussian_prior()
        fused = method.fuse(batch)["fused"]
        sources = torch.cat((batch["source_a"], batch["source_b"]))
        rough.append(float(fused.diff(dim=3).abs().mean() / sources.diff(dim=3).abs().mean()))
    assert rough[1] > 1.5 * rough[0]


def test_it_runs_under_inference_mode_and_an_image_does_not_depend_on_its_batch() -> None:
    method = make_method()
    with torch.inference_mode():
        together = method.fuse(make_batch(["one", "two"], (13, 14)))["fused"]
        alone = method.fuse(make_batch(["two"], (13, 14)))["fused"]
    assert not together.requires_grad
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(method.fuse(make_batch(["two"], (13, 14)))["fused"], alone)


@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept(color: str | None) -> None:
    with torch.no_grad():
        fused = make_method().fuse(make_batch(["one"], (7, 13), color))["fused"]
    assert fused.shape == (1, 1 if color is None else 3, 7, 13)
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conditions": ["mse", "beauty"]}, "`condition` must be one of ssim, mse, .*, but got 'beauty'"),
        ({"basic": "beauty"}, "`condition` must be one of ssim, mse, .*, but got 'beauty'"),
        ({"select": 9}, "`select` must lie between 1 and the 8 conditions, but got 9"),
        ({"rate": 0.0}, "`rate` must be positive, but got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_method(**options)


def test_it_has_no_knobs() -> None:
    with pytest.raises(UserError, match="CCF has no strength or balance controls"):
        make_method().fuse(make_batch(["one"]), Controls(balance=0.1))
