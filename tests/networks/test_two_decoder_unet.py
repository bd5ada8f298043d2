"""The two-decoder U-Net: sizes, what it starts from, and that its decoders are apart."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusion_lightning.errors import UserError
from fusion_lightning.networks.two_decoder_unet import TwoDecoderUNet


@pytest.fixture(params=["fine", "coarse"])
def network(request: pytest.FixtureRequest) -> TwoDecoderUNet:
    """A small one whose heads are not zero."""
    network = TwoDecoderUNet("tiny", decoder=request.param).eval()
    for decoder in (network.noise_decoder, network.weight_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    return network


@pytest.mark.parametrize(
    ("size", "decoder", "millions"),
    [("tiny", "fine", 1.95), ("small", "fine", 7.79), ("base", "fine", 31.11), ("base", "coarse", 31.77)],
)
def test_sizes(size: str, decoder: str, millions: float) -> None:
    """With coarse decoders as many parameters as published."""
    with torch.device("meta"):
        network = TwoDecoderUNet(size, decoder=decoder)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base, but got 'huge'"):
        TwoDecoderUNet("huge")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="`decoder` must be one of fine, coarse, but got 'rough'"):
        TwoDecoderUNet("tiny", decoder="rough")  # type: ignore[arg-type]


def test_coarse_decoders_cost_a_quarter_less() -> None:
    operations = {}
    for decoder in ("fine", "coarse"):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            TwoDecoderUNet("small", decoder=decoder)(torch.empty(1, 3, 64, 64), torch.ones(1))  # type: ignore[arg-type]
        operations[decoder] = counter.get_total_flops()
    assert operations["coarse"] < 0.75 * operations["fine"]


def test_every_parameter_learns(network: TwoDecoderUNet) -> None:
    """Every parameter of the noise's way gets a gradient, also where blocks and deeper levels begin small."""
    noise, _ = network(torch.rand(1, 3, 16, 16), torch.ones(1))
    noise.square().sum().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert all(name.startswith("weight_decoder") for name in silent), silent


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
