"""Guided diffusion's U-Net: its published size and names, and its blocks in plain formulas."""

import torch
import torch.nn.functional as F

from fusion_lightning.networks.guided_unet import Attention, GuidedUNet, ResidualBlock


def test_the_published_network_has_the_published_tensors() -> None:
    with torch.device("meta"):
        network = GuidedUNet(256, (1, 1, 2, 2, 4, 4), (False, False, False, True, True, True))
    state = network.state_dict()
    assert len(state) == 566
    assert round(sum(value.numel() for value in state.values()) / 1e4) == 55_281
    shapes = {
        "time_embed.2.weight": (1024, 1024),
        "input_blocks.0.0.weight": (256, 3, 3, 3),
        "input_blocks.3.0.in_layers.2.weight": (256, 256, 3, 3),  # halves the map
        "input_blocks.7.0.skip_connection.weight": (512, 256, 1, 1),
        "input_blocks.10.1.qkv.weight": (1536, 512, 1),
        "input_blocks.17.1.proj_out.weight": (1024, 1024, 1),
        "middle_block.1.norm.weight": (1024,),
        "middle_block.2.emb_layers.1.weight": (2048, 1024),
        "output_blocks.0.0.in_layers.2.weight": (1024, 2048, 3, 3),
        "output_blocks.2.2.out_layers.3.weight": (1024, 1024, 3, 3),  # doubles the map
        "output_blocks.17.0.skip_connection.weight": (256, 512, 1, 1),
        "out.2.weight": (6, 256, 3, 3),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "output_blocks.17.1.in_layers.0.weight" not in state


def test_sizes_are_read_from_a_file_s_shapes() -> None:
    network = GuidedUNet(32, (1, 2, 3), (False, True, True))
    again = GuidedUNet.like(network.state_dict())
    again.load_state_dict(network.state_dict(), strict=True)
    state, time = torch.randn(2, 3, 13, 18), torch.tensor([3, 700])
    with torch.no_grad():
        noise = network(state, time)
        assert noise.shape == (2, 3, 13, 18)
        assert torch.equal(again(state, time), noise)
        torch.testing.assert_close(network(state[1:], time[1:]), noise[1:], atol=1e-5, rtol=0)
        assert not torch.allclose(network(state, time + 100), noise)


def test_a_residual_block_is_its_formula() -> None:
    block, features, time = ResidualBlock(32, 64, 8, "down"), torch.randn(1, 32, 6, 4), torch.randn(1, 8)
    with torch.no_grad():
        hidden = block.in_layers[2](F.avg_pool2d(F.silu(block.in_layers[0](features)), 2))
        scale, shift = block.emb_layers[1](F.silu(time)).view(1, 2, 64, 1, 1).unbind(dim=1)
        hidden = block.out_layers[3](F.silu(block.out_layers[0](hidden) * (1 + scale) + shift))
        expected = hidden + block.skip_connection(F.avg_pool2d(features, 2))
        torch.testing.assert_close(block(features, time), expected)
        up = ResidualBlock(32, 32, 8, "up")
        assert up(features, time).shape == (1, 32, 12, 8)


def test_attention_takes_heads_first_then_queries_keys_and_values() -> None:
    attention, features = Attention(128), torch.randn(1, 128, 3, 5)
    with torch.no_grad():
        pixels = features.flatten(2)
        parts = attention.qkv(attention.norm(pixels))[0]
        found = []
        for head in range(2):
            query, key, value = parts[192 * head : 192 * head + 192].split(64)
            found.append(value @ (query.T @ key / 8).softmax(dim=1).T)
        expected = pixels + attention.proj_out(torch.cat(found)[None])
        torch.testing.assert_close(attention(features).flatten(2), expected, atol=1e-5, rtol=0)


def test_the_time_is_told_by_cosines_then_sines() -> None:
    waves = GuidedUNet(32, (1,), (False,))._waves(torch.tensor([7]))[0]
    frequencies = 10_000.0 ** -(torch.arange(16) / 16)
    torch.testing.assert_close(waves, torch.cat(((7 * frequencies).cos(), (7 * frequencies).sin())))
