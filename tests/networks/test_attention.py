"""Attention against dense computations that spell out every sum."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.attention import (
    SSAB,
    TSAB,
    ChannelAttention,
    CrossAttention,
    GatedFeedForward,
    SpatialAttention,
    WindowAttention,
)
from fusion_lightning.networks.layers import (
    ChannelNorm,
    Dropout,
    GroupNorm,
    OpponentColors,
    PointwiseConv2d,
    pad_to_multiple,
)
from fusion_lightning.networks.residual_unet import FullAttention, LinearAttention, StandardizedConv2d


def _randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("cross", [False, True])
def test_channel_attention(heads: int, cross: bool) -> None:
    attention = ChannelAttention(8, heads)
    _randomise(attention)
    features, context = torch.randn(2, 2, 8, 5, 6)
    context = context if cross else features
    expected = []
    for head in range(heads):
        channels = slice(head * 8 // heads, (head + 1) * 8 // heads)
        query = F.normalize(attention.to_query(features)[:, channels].flatten(2), dim=-1)
        key = F.normalize(attention.to_key(context)[:, channels].flatten(2), dim=-1)
        value = attention.to_value(context)[:, channels].flatten(2)
        weights = (torch.einsum("bin,bjn->bij", query, key) * attention.temperature[head]).softmax(dim=-1)
        expected.append(torch.einsum("bij,bjn->bin", weights, value))
    dense = attention.to_out(torch.cat(expected, dim=1).unflatten(2, (5, 6)))
    torch.testing.assert_close(attention(features, context if cross else None), dense, atol=1e-5, rtol=1e-4)


def test_spatial_attention() -> None:
    attention = SpatialAttention(8, heads=2)
    _randomise(attention)
    features, context = torch.randn(2, 2, 8, 3, 4)
    parts = []
    for channels in (slice(0, 4), slice(4, 8)):
        query, key, value = (
            to(image)[:, channels].flatten(2)
            for to, image in (
                (attention.to_query, features),
                (attention.to_key, context),
                (attention.to_value, context),
            )
        )
        weights = (torch.einsum("bdi,bdj->bij", query, key) / math.sqrt(4)).softmax(dim=-1)
        parts.append(torch.einsum("bij,bdj->bdi", weights, value))
    dense = attention.to_out(torch.cat(parts, dim=1).unflatten(2, (3, 4)))
    torch.testing.assert_close(attention(features, context), dense, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (3, 1)])
def test_window_attention(size: tuple[int, int]) -> None:
    """Pixel by pixel: the keys are the window's pixels and its surroundings, positions clamped to the map."""
    height, width = size
    attention = WindowAttention(4, heads=2, window=4, overlap=1)
    _randomise(attention)
    features = torch.randn(1, 4, height, width)
    query, key, value = (to(features)[0] for to in (attention.to_query, attention.to_key, attention.to_value))
    span = 4 + 6 - 1
    dense = torch.zeros(4, height, width)
    for y in range(height):
        for x in range(width):
            top, left = y - y % 4 - 1, x - x % 4 - 1
            for head in range(2):
                channels = slice(2 * head, 2 * head + 2)
                scores, values = [], []
                for j in range(top, top + 6):
                    for i in range(left, left + 6):
                        at = (channels, min(max(j, 0), height - 1), min(max(i, 0), width - 1))
                        # Displacements run from −(window − 1) − overlap; the table starts there.
                        index = (j - y + 4) * span + (i - x + 4)
                        bias = attention.bias[head, index]
                        scores.append(query[channels, y, x] @ key[at] / math.sqrt(2) + bias)
                        values.append(value[at])
                dense[channels, y, x] = torch.stack(scores).softmax(0) @ torch.stack(values)
    torch.testing.assert_close(attention(features), attention.to_out(dense[None]), atol=1e-5, rtol=1e-4)


def test_linear_attention() -> None:
    attention = LinearAttention(8)
    _randomise(attention)
    features = torch.randn(2, 8, 5, 6)
    normal = attention.norm(features)
    parts = []
    for head in range(4):
        channels = slice(32 * head, 32 * head + 32)
        query, key, value = (
            to(normal)[:, channels].flatten(2) for to in (attention.to_query, attention.to_key, attention.to_value)
        )
        context = torch.einsum("bdn,ben->bde", key.softmax(dim=-1), value)
        parts.append(torch.einsum("bde,bdn->ben", context, query.softmax(dim=1) / math.sqrt(32)))
    dense = attention.norm_out(attention.to_out(torch.cat(parts, dim=1).unflatten(2, (5, 6))))
    torch.testing.assert_close(attention(features), features + dense, atol=1e-4, rtol=1e-4)


def test_linear_attention_does_not_depend_on_the_images_size() -> None:
    attention = LinearAttention(8)
    tile = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(attention(tile.repeat(1, 1, 3, 2))[..., :4, :4], attention(tile), atol=1e-5, rtol=1e-4)


def test_full_attention() -> None:
    attention = FullAttention(8)
    _randomise(attention)
    features = torch.randn(2, 8, 3, 4)
    normal = attention.norm(features)
    parts = []
    for head in range(4):
        channels = slice(32 * head, 32 * head + 32)
        query, key, value = (
            to(normal)[:, channels].flatten(2) for to in (attention.to_query, attention.to_key, attention.to_value)
        )
        weights = (torch.einsum("bdi,bdj->bij", query, key) / math.sqrt(32)).softmax(dim=-1)
        parts.append(torch.einsum("bij,bdj->bdi", weights, value))
    dense = attention.to_out(torch.cat(parts, dim=1).unflatten(2, (3, 4)))
    torch.testing.assert_close(attention(features), features + dense, atol=1e-4, rtol=1e-4)


def test_standardised_filters() -> None:
    convolution = StandardizedConv2d(3, 4, 3, padding=1)
    weight = convolution.weight
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    variance = weight.var(dim=(1, 2, 3), unbiased=False, keepdim=True)
    image = torch.randn(1, 3, 6, 6)
    expected = F.conv2d(image, (weight - mean) / (variance + 1e-5).sqrt(), convolution.bias, padding=1)
    torch.testing.assert_close(convolution(image), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pointwise_convolution_is_pytorchs(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer, x = PointwiseConv2d(6, 4), torch.randn(2, 6, 40, 50, requires_grad=True)
        expected = torch.einsum("oc,bchw->bohw", layer.weight[..., 0, 0], x) + layer.bias[:, None, None]
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
        gradients = [torch.autograd.grad(result.sum(), (x, layer.weight)) for result in (layer(x), expected)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_a_share_and_passes_the_rest_as_pytorchs_does(precision: torch.dtype) -> None:
    features = torch.randn(3, 7, 101, 103, dtype=precision).to(memory_format=torch.channels_last).requires_grad_()
    layer = Dropout(0.3)
    found = layer(features)
    kept = found != 0
    scaled = features * torch.full((), 1 / 0.7, dtype=precision)
    torch.testing.assert_close(found, scaled * kept, rtol=0, atol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(found.sum(), features)
    torch.testing.assert_close(slope, kept * torch.full((), 1 / 0.7, dtype=precision), rtol=0, atol=0)
    # in the order of memory: four features have their bits from one random number
    mask = kept.permute(0, 2, 3, 1).flatten().double()
    assert float(mask.mean()) == pytest.approx(0.7, abs=0.005)
    for lag in (1, 2, 3, 4):
        assert float((mask[lag:] * mask[:-lag]).mean()) == pytest.approx(0.49, abs=0.005)
    assert not torch.equal(layer(features) != 0, kept)


def test_dropout_does_nothing_outside_training_and_drops_all_if_asked() -> None:
    features = torch.randn(1, 2, 3, 5)
    assert torch.equal(Dropout(0.3).eval()(features), features)
    assert torch.equal(Dropout(0.0)(features), features)
    assert not Dropout(1.0)(features).any()


def test_channel_norm() -> None:
    norm = ChannelNorm(5)
    _randomise(norm)
    features = torch.randn(2, 5, 3, 4)
    mean = features.mean(dim=1, keepdim=True)
    variance = features.var(dim=1, unbiased=False, keepdim=True)
    gain, offset = norm.norm.weight[:, None, None], norm.norm.bias[:, None, None]
    torch.testing.assert_close(norm(features), (features - mean) / (variance + 1e-5).sqrt() * gain + offset)


def test_opponent_colours_are_an_orthonormal_turn() -> None:
    colors, image = OpponentColors(), torch.randn(2, 3, 4, 5)
    turned = colors(image)
    torch.testing.assert_close(turned.square().sum(dim=1), image.square().sum(dim=1))
    torch.testing.assert_close(colors.to_rgb(turned), image)
    assert "basis" in colors.state_dict()  # weights that were learned in RGB lack it, and are refused


def test_grey_has_no_opponent_colours_whatever_the_precision() -> None:
    colors = OpponentColors()
    grey = torch.rand(1, 1, 4, 5).expand(-1, 3, -1, -1)
    with torch.autocast("cpu", torch.bfloat16):
        turned = colors(grey)
        back = colors.to_rgb(turned)
    torch.testing.assert_close(turned[:, :1], 3**0.5 * grey[:, :1])
    assert turned[:, 1:].abs().max() < 1e-6
    torch.testing.assert_close(back, grey)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_has_the_gradient_of_its_formula(groups: int) -> None:
    norm = GroupNorm(groups, 4).double()
    _randomise(norm)
    features = torch.randn(2, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    split = features.unflatten(1, (groups, -1))
    mean = split.mean(dim=(2, 3, 4), keepdim=True)
    variance = split.var(dim=(2, 3, 4), unbiased=False, keepdim=True)
    spelled = ((split - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    spelled = spelled * norm.weight[:, None, None] + norm.bias[:, None, None]
    found = norm(features)
    torch.testing.assert_close(found, spelled)
    weigh = torch.randn_like(found)
    into = (features, norm.weight, norm.bias)
    torch.testing.assert_close(
        torch.autograd.grad((found * weigh).sum(), into), torch.autograd.grad((spelled * weigh).sum(), into)
    )


def test_group_norm_in_mixed_precision_is_pytorchs() -> None:
    norm = GroupNorm(4, 8)
    _randomise(norm)
    features = torch.randn(2, 8, 6, 6).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    slopes = []
    for module in (norm, nn.GroupNorm.forward.__get__(norm)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = module(features).float().square().sum()
        slopes.append(torch.autograd.grad(loss, (features, norm.weight)))
    assert slopes[0][0].dtype == torch.bfloat16
    for own, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(own, theirs, atol=0.02 * float(theirs.abs().max()), rtol=0)


def test_gated_feed_forward_is_gelu_of_one_half_times_the_other() -> None:
    feed = GatedFeedForward(16)
    features = torch.randn(1, 16, 5, 5)
    expected = feed.project(F.gelu(feed.gate(features)) * feed.content(features))
    torch.testing.assert_close(feed(features), expected)
    assert feed.project.in_channels == 40


@pytest.mark.parametrize("module", [TSAB(8, 2), SSAB(8, 2)], ids=["TSAB", "SSAB"])
def test_blocks_keep_the_channels_last_layout(module: nn.Module) -> None:
    features = torch.randn(2, 8, 16, 16).contiguous(memory_format=torch.channels_last)
    module.to(memory_format=torch.channels_last)
    assert module(features).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("spatial", [False, True])
def test_cross_attention_uses_both_streams(spatial: bool) -> None:
    join = CrossAttention(8, 2, spatial=spatial)
    a, b = torch.randn(2, 1, 8, 6, 6).requires_grad_()
    joined = join(a, b)
    slopes: tuple[Tensor, ...] = torch.autograd.grad(joined.square().sum(), (a, b))
    assert joined.shape == a.shape
    assert all(slope.abs().sum() > 0 for slope in slopes)


@pytest.mark.parametrize(("size", "padded"), [((8, 16), (8, 16)), ((5, 9), (8, 16)), ((1, 3), (8, 8))])
def test_padding_keeps_the_image_and_reaches_the_multiple(size: tuple[int, int], padded: tuple[int, int]) -> None:
    image = torch.rand(1, 2, *size)
    extended = pad_to_multiple(image, 8)
    assert extended.shape[-2:] == padded
    torch.testing.assert_close(extended[..., : size[0], : size[1]], image)
    if size == (5, 9):
        torch.testing.assert_close(extended[..., 5, :9], image[..., 3, :])
