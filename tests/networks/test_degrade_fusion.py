"""The degrade-fusion network: its controls, any image size, grey and colour, and that it learns."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma, ycbcr_to_rgb
from fusion_lightning.imaging.filters import thermal_fusion
from fusion_lightning.losses.criteria import FusionCriterion
from fusion_lightning.methods import GuidedFilter
from fusion_lightning.networks.degrade_fusion import Base, DegradeFusion, base_image, remove_degradation


def _woken(**options: Any) -> DegradeFusion:
    """A network whose last convolution no longer is zero."""
    network = DegradeFusion("tiny", **options)
    nn.init.normal_(network.head.weight, std=0.03)
    return network


def _correlation(x: Tensor, y: Tensor) -> float:
    return torch.corrcoef(torch.stack((rgb_to_luma(x).flatten(), rgb_to_luma(y).flatten())))[0, 1].item()


@pytest.fixture
def sources() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Infrared, its residual, visible, its residual."""
    infrared, visible = torch.rand(2, 1, 16, 24), torch.rand(2, 3, 16, 24)
    return infrared, 0.2 * torch.randn_like(infrared), visible, 0.2 * torch.randn_like(visible)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base, large, but got 'huge'"):
        DegradeFusion("huge")


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (9, 40), (5, 3), (1, 1)])
@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (1, 1)])
def test_any_image_size_and_colour(size: tuple[int, int], channels: tuple[int, int]) -> None:
    a, b = (torch.rand(1, count, *size) for count in channels)
    fused = _woken()(a, torch.zeros_like(a), b, torch.zeros_like(b))
    assert fused.shape == (1, 3, *size)
    assert 0 <= fused.min() <= fused.max() <= 1


def test_every_parameter_learns(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    network = _woken()
    network(*sources).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


def test_untrained_it_returns_the_base(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    infrared, _, visible, _ = sources
    nothing = torch.zeros(())
    fused = DegradeFusion("tiny")(infrared, nothing, visible, nothing)
    torch.testing.assert_close(fused, base_image(infrared, visible).clamp(0, 1))


@pytest.mark.parametrize("order", [1, -1])
def test_the_base_has_the_larger_luma_and_the_colours_of_the_colour_source(order: int) -> None:
    infrared, visible = torch.rand(1, 1, 6, 6), torch.rand(1, 3, 6, 6)
    base = base_image(*(infrared, visible)[::order])
    torch.testing.assert_close(rgb_to_luma(base), torch.maximum(infrared, rgb_to_luma(visible)), atol=1e-5, rtol=0)
    torch.testing.assert_close(rgb_to_cbcr(base), rgb_to_cbcr(visible), atol=1e-5, rtol=0)


def test_a_guided_base_is_that_rule() -> None:
    infrared, visible = torch.rand(2, 1, 21, 30), torch.rand(2, 3, 21, 30)
    base = base_image(infrared, visible, "guided")
    expected = GuidedFilter().fuse_luma(infrared, rgb_to_luma(visible))
    torch.testing.assert_close(rgb_to_luma(base), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(rgb_to_cbcr(base), rgb_to_cbcr(visible), atol=1e-5, rtol=0)
    nothing = torch.zeros(())
    untrained = DegradeFusion("tiny", base="guided")(infrared, nothing, visible, nothing)
    torch.testing.assert_close(untrained, base.clamp(0, 1))


def test_a_thermal_base_keeps_the_hot_bright_and_the_sky() -> None:
    rows = torch.linspace(0, 20, 96).sin()[:, None].expand(96, 96)
    visible = torch.where(torch.arange(96)[:, None] < 48, torch.ones(96, 96), 0.3 + 0.2 * rows)[None, None]
    infrared = 0.1 + 0.002 * torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    infrared[..., 70:80, 40:46] = 0.9
    thermal = rgb_to_luma(base_image(infrared, visible, "thermal"))
    guided = rgb_to_luma(base_image(infrared, visible, "guided"))
    person, sky = (..., slice(72, 78), slice(41, 45)), (..., slice(8, 24), slice(8, 88))
    assert thermal[person].min() > 0.88
    assert thermal[sky].min() > 0.95
    assert guided[sky].max() < 0.5  # the noise of the infrared is all the contrast there is
    torch.testing.assert_close(thermal_fusion(visible, visible), visible)


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(UserError, match="`base` must be one of maximum, guided, thermal, none, but got 'average'"):
        DegradeFusion("tiny", base="average")  # type: ignore[arg-type]


def test_without_a_base_the_network_predicts_the_image(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    network = _woken(base="none")
    fused = network(*sources)
    nn.init.zeros_(network.head.weight)
    assert fused.any()
    assert not network(*sources).any()


def test_the_first_operation_is_the_removal(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    infrared, residual_a, visible, residual_b = sources
    network, nothing = _woken().eval(), torch.zeros(())
    a = (infrared - 0.3 * residual_a).clamp(0, 1)
    b = (visible - 1.5 * residual_b).clamp(0, 1)
    torch.testing.assert_close(network(*sources, strength_a=0.3, strength_b=1.5), network(a, nothing, b, nothing))


def test_strength_moves_from_the_input_to_the_clean_image() -> None:
    clean = torch.rand(1, 1, 8, 8)
    degraded = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    restored = [remove_degradation(degraded, degraded - clean, strength) for strength in (0, 0.25, 0.5, 0.75, 1)]
    to_clean = [(image - clean).abs().mean().item() for image in restored]
    from_input = [(image - degraded).abs().mean().item() for image in restored]
    assert to_clean == sorted(to_clean, reverse=True)
    assert from_input == sorted(from_input)
    assert to_clean[-1] == pytest.approx(0, abs=1e-6)
    assert from_input[0] == 0


def test_balance_is_neutral_at_one_half_and_monotone(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    network = _woken().eval()
    infrared, residual_a, visible, residual_b = sources
    a, b = remove_degradation(infrared, residual_a), remove_degradation(visible, residual_b)
    steps = torch.linspace(0, 1, 9).tolist()
    with torch.no_grad():
        fused = [network(*sources, balance=balance) for balance in steps]
        assert torch.equal(fused[4], network(*sources))
    with_a, with_b = ([_correlation(image, source) for image in fused] for source in (a, b))
    assert with_a == sorted(with_a, reverse=True)
    assert with_b == sorted(with_b)


def test_balance_keeps_the_colours_of_the_fusion() -> None:
    infrared = torch.full((1, 1, 8, 8), 0.5) + 0.1 * torch.rand(1, 1, 8, 8)
    visible = 0.5 + 0.1 * torch.rand(1, 3, 8, 8)
    nothing, network = torch.zeros(()), DegradeFusion("tiny")
    neutral = network(infrared, nothing, visible, nothing)
    for balance, source in ((0.0, infrared), (1.0, visible)):
        fused = network(infrared, nothing, visible, nothing, balance=balance)
        torch.testing.assert_close(rgb_to_cbcr(fused), rgb_to_cbcr(neutral), atol=1e-5, rtol=0)
        torch.testing.assert_close(rgb_to_luma(fused), rgb_to_luma(source), atol=1e-5, rtol=0)


def test_images_of_a_batch_do_not_influence_each_other(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    network = _woken().eval()
    together = network(*sources)
    alone = network(*(tensor[1:] for tensor in sources))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)


def test_half_precision_stays_close(sources: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    network = _woken().eval()
    with torch.no_grad():
        exact = network(*sources)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(*sources)
    assert rounded.dtype == torch.float32
    assert -10 * torch.log10((rounded - exact).square().mean()) > 40


@pytest.mark.parametrize("rule", ["maximum", "guided", "thermal"])
def test_a_rule_does_not_feel_mixed_precision(rule: Base) -> None:
    a, b = _scene_pairs()
    exact = base_image(a, b, rule)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(base_image(a, b, rule), exact)


def _scene_pairs() -> tuple[Tensor, Tensor]:
    """Infrared with smooth hot shapes on a dark ground, visible with coloured texture."""
    generator = torch.Generator().manual_seed(2)
    heat = F.interpolate(torch.rand(4, 1, 4, 4, generator=generator), size=(32, 32), mode="bicubic").clamp(0, 1)
    infrared = (heat > 0.6).float() * 0.8 + 0.1
    stripes = (torch.arange(32) % 4 < 2).float().expand(4, 1, 32, 32)
    tint = F.interpolate(torch.rand(4, 2, 3, 3, generator=generator), size=(32, 32), mode="bilinear") * 0.2 + 0.4
    return infrared, ycbcr_to_rgb(0.35 + 0.2 * stripes, tint).clamp(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["maximum", "none"])
def test_it_learns_four_pairs(base: Base) -> None:
    infrared, visible = _scene_pairs()
    network, nothing = DegradeFusion("tiny", base=base), torch.zeros(())
    # without a degradation the base has the right intensity and colour: gradients are what is left to learn
    criterion = FusionCriterion(gradient=20) if base == "maximum" else FusionCriterion()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    totals = []
    for _ in range(100):
        total, _ = criterion(network(infrared, nothing, visible, nothing), infrared, visible)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] / (1.5 if base == "maximum" else 3)
