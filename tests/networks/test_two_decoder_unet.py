"""The two-decoder U-Net: sizes, what it starts from, and that its decoders are apart."""

import pytest
import torch

from fusion_lightning.errors import UserError
from fusion_lightning.networks.two_decoder_unet import TwoDecoderUNet


@pytest.fixture
def network() -> TwoDecoderUNet:
    """A small one whose heads are not zero."""
    network = TwoDecoderUNet("tiny").eval()
    for decoder in (network.noise_decoder, network.weight_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    return network


@pytest.mark.parametrize(("size", "millions"), [("tiny", 2.0), ("small", 7.8), ("base", 31.1)])
def test_sizes(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = TwoDecoderUNet(size)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base, but got 'huge'"):
        TwoDecoderUNet("huge")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(16, 24), (17, 9), (3, 2)])
def test_any_image_size(network: TwoDecoderUNet, size: tuple[int, int]) -> None:
    noise, weight = network(torch.rand(2, 3, *size), torch.tensor([1.0]))
    assert noise.shape == (2, 3, *size)
    assert weight.shape == (2, 1, *size)
    assert ((weight > 0) & (weight < 1)).all()


def test_an_untrained_network_predicts_no_noise_and_equal_weights() -> None:
    noise, weight = TwoDecoderUNet("tiny")(torch.rand(1, 3, 16, 16), torch.ones(1))
    assert not noise.any()
    assert (weight == 0.5).all()


def test_the_weight_decoder_does_not_run_where_it_is_not_asked_for(network: TwoDecoderUNet) -> None:
    state, time = torch.rand(1, 3, 16, 16), torch.ones(1)
    noise, _ = network(state, time)
    calls: list[int] = []
    network.weight_decoder.register_forward_hook(lambda *args: calls.append(1))
    alone, weight = network(state, time, with_weights=False)
    assert weight is None
    assert not calls
    assert torch.equal(alone, noise)


def test_gradient_or_none_the_result_is_the_same(network: TwoDecoderUNet) -> None:
    """Without gradients activations are computed in place."""
    state, time = torch.rand(1, 3, 16, 16), torch.ones(1)
    with_gradient = network(state, time)
    with torch.no_grad():
        without = network(state, time)
    torch.testing.assert_close(with_gradient, without)


def test_steps_differ(network: TwoDecoderUNet) -> None:
    state = torch.rand(2, 3, 16, 16)
    first, third = (network(state, torch.tensor([time]))[0] for time in (1.0, 3.0))
    mixed = network(state, torch.tensor([1.0, 3.0]))[0]
    assert not torch.allclose(first, third)
    torch.testing.assert_close(mixed, torch.stack((first[0], third[1])))


def test_mixed_precision_changes_the_result_a_little_and_not_its_type(network: TwoDecoderUNet) -> None:
    state, time = torch.rand(1, 3, 32, 32), torch.ones(1)
    with torch.no_grad():
        full = network(state, time)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(state, time)
    for exact, rough in zip(full, mixed, strict=True):
        assert rough.dtype == torch.float32
        assert (exact - rough).abs().max() < 0.05 * (1 + exact.abs().max())
