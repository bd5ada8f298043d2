"""The denoising U-Net: sizes, its maps, and that the two-decoder one is what it was before they were split."""

import zlib

import pytest
import torch

from fusion_lightning.errors import UserError
from fusion_lightning.networks.denoising_unet import DenoisingUNet
from fusion_lightning.networks.two_decoder_unet import TwoDecoderUNet


@pytest.fixture
def network() -> DenoisingUNet:
    """A small one that says something."""
    network = DenoisingUNet("tiny", 6, 3).eval()
    torch.nn.init.normal_(network.noise_decoder.head.weight, std=0.1)
    return network


@pytest.mark.parametrize(("size", "millions"), [("tiny", 1.67), ("small", 6.68), ("base", 26.67), (8, 0.42)])
def test_sizes(size: str | int, millions: float) -> None:
    with torch.device("meta"):
        network = DenoisingUNet(size, 6, 3)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base, but got 'huge'"):
        DenoisingUNet("huge")  # type: ignore[arg-type]


def test_maps_double_their_channels_and_halve_their_size(network: DenoisingUNet) -> None:
    state, time = torch.rand(2, 6, 13, 18), torch.tensor([5.0])
    maps = network.encode(state, time)
    sizes = [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert [tuple(one.shape) for one in maps] == sizes
    risen = network.decode(maps, time)
    assert [tuple(one.shape) for one in risen] == sizes[::-1]
    assert risen[0] is maps[-1]
    noise = network.output(risen[-1], state)
    assert noise.shape == (2, 3, 13, 18)
    assert torch.equal(noise, network(state, time))


def test_half_precision_ends_in_float32(network: DenoisingUNet) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 6, 8, 8), torch.ones(1)).dtype == torch.float32


def test_the_two_decoder_network_keeps_its_names_and_seeded_weights() -> None:
    """Names, shapes, seeded initial weights and results, written down when it was one class."""
    torch.manual_seed(0)
    network = TwoDecoderUNet("tiny").eval()
    state = network.state_dict()
    names = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert (len(state), zlib.crc32(names.encode())) == (234, 163034623)
    assert float(sum(value.double().abs().sum() for value in state.values())) == pytest.approx(22954.991197, rel=1e-9)
    assert float(torch.rand(1)) == pytest.approx(0.09138453)  # as much randomness was used
    for decoder in (network.noise_decoder, network.weight_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    with torch.no_grad():
        noise, weight = network(torch.linspace(-1, 1, 3 * 13 * 17).view(1, 3, 13, 17).sin(), torch.tensor([3.0]))
    assert float(noise.sum()) == pytest.approx(-120.6128, abs=1e-3)
    assert float(weight.sum()) == pytest.approx(118.3623, abs=1e-3)
