"""Mask-DiFuser's masks, and what its network does with two views."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusion_lightning.networks.masked_views import (
    BLANK,
    CLEAN,
    DEGRADED,
    CrossAttention,
    MaskedViewsUNet,
    ViewMixer,
    dual_masks,
    masked_view,
)


@pytest.mark.parametrize("grid", [2, 4, 7, 8, 16])
def test_hidden_blocks_share_the_grid_out_and_none_is_blank_twice(grid: int) -> None:
    for seed in range(5):
        a, b = dual_masks(grid, torch.Generator().manual_seed(seed))
        assert not ((a == BLANK) & (b == BLANK)).any()
        # hidden from one is shown in the other, where it is clean but for a few beside blank blocks
        assert not ((a == CLEAN) & (b == CLEAN)).any()
        assert ((a == CLEAN) | (b == CLEAN) | (a == DEGRADED) | (b == DEGRADED)).all()


def test_there_are_as_many_of_each_kind_as_published() -> None:
    a, b = dual_masks(8, torch.Generator().manual_seed(3))
    for view in (a, b):
        assert [int((view == kind).sum()) for kind in (CLEAN, BLANK, DEGRADED)] == [30, 28, 6]
    assert int(((a != CLEAN) & (b != CLEAN)).sum()) == 4
    assert not torch.equal(dual_masks(8, torch.Generator().manual_seed(4))[0], a)


def test_blocks_of_views() -> None:
    clean, degraded, other = torch.rand(3, 1, 3, 61, 90)
    grey = torch.full((1, 1, 1, 1), 0.25)
    labels = torch.stack([dual_masks(8, torch.Generator().manual_seed(0))])
    a, b = (masked_view(labels[:, view], clean, degraded, grey) for view in (0, 1))
    assert not ((a == 0.25) & (b == 0.25)).any()
    blank = (a == 0.25).all(dim=1)
    assert 0.3 < float(blank.float().mean()) < 0.6
    assert torch.equal(masked_view(torch.full_like(labels[:, 0], CLEAN), clean, degraded, grey), clean)
    assert torch.equal(masked_view(torch.full_like(labels[:, 0], DEGRADED), clean, degraded, grey), degraded)
    changed = masked_view(labels[:, 0], other, degraded, grey)
    assert torch.equal(changed.movedim(1, -1)[blank], a.movedim(1, -1)[blank])
    assert not torch.equal(changed, a)


@pytest.fixture
def network() -> MaskedViewsUNet:
    """A tiny one that says something."""
    network = MaskedViewsUNet("tiny").eval()
    torch.nn.init.normal_(network.unet.noise_decoder.head.weight, std=0.1)
    return network


def test_the_mixer_passes_what_both_show_and_stays_between() -> None:
    mixer, (a, b) = ViewMixer(16), torch.randn(2, 2, 32, 6, 5)
    torch.testing.assert_close(mixer.mix(a, a), a, atol=1e-6, rtol=0)
    mixed = mixer.mix(a, b)
    assert (mixed >= torch.minimum(a, b) - 1e-6).all()
    assert (mixed <= torch.maximum(a, b) + 1e-6).all()


def test_attention_is_nothing_at_first_and_blind_to_the_order_of_tokens() -> None:
    attention, features, tokens = CrossAttention(32, 16), torch.randn(2, 32, 3, 4), torch.randn(2, 10, 16)
    assert torch.equal(attention(features, tokens), features)
    torch.nn.init.normal_(attention.out.weight)
    found = attention(features, tokens)
    torch.testing.assert_close(attention(features, tokens.flip(1)), found, atol=1e-5, rtol=0)
    assert not torch.allclose(attention(features, 2 * tokens), found)


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (3, 2), (48, 64)])
def test_any_image_size(network: MaskedViewsUNet, size: tuple[int, int]) -> None:
    state, a, b = torch.rand(3, 2, 3, *size)
    with torch.no_grad():
        assert network(state, network.see(a, b), torch.tensor([5.0])).shape == state.shape


def test_what_is_seen_does_not_depend_on_the_state(network: MaskedViewsUNet) -> None:
    """Both encoders run once per image, the U-Net at every step."""
    a, b = torch.rand(2, 1, 3, 32, 32)
    calls: list[int] = []
    network.content.register_forward_hook(lambda *args: calls.append(1))
    with torch.no_grad():
        seen = network.see(a, b)
        for _ in range(3):
            network(torch.rand(1, 3, 32, 32), seen, torch.ones(1))
    assert len(calls) == 1
    assert seen.tokens.shape == (1, 2 * 4, 32)


def test_mixed_precision_changes_the_result_a_little_and_not_its_type(network: MaskedViewsUNet) -> None:
    """Also where no gradient is wanted, and PyTorch runs transformers another way."""
    state, a, b = torch.rand(3, 1, 3, 33, 47)
    with torch.inference_mode():
        exact = network(state, network.see(a, b), torch.ones(1))
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(state, network.see(a, b), torch.ones(1))
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05 * (1 + exact.abs().max())


@torch.no_grad()
def test_operations_are_counted_in_mixed_precision() -> None:
    network = MaskedViewsUNet("tiny").eval()
    a, b, state = (torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    time = torch.tensor([3.0])
    exact = network(state, network.see(a, b), time)
    with torch.autocast("cpu", dtype=torch.bfloat16), FlopCounterMode(display=False) as counter:
        mixed = network(state, network.see(a, b), time)
    assert counter.get_total_flops() > 0
    torch.testing.assert_close(mixed, exact, rtol=0.05, atol=0.05)
