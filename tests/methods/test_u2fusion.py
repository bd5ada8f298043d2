"""U2Fusion: its size, its weights of the sources against scipy, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from fusion_lightning.errors import UserError
from fusion_lightning.losses.information import InformationPreservation, preservation_losses
from fusion_lightning.methods import U2Fusion
from fusion_lightning.networks.vgg import VGG16Features

from .conftest import make_batch

PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)


@pytest.fixture(scope="module")
def vgg() -> nn.Sequential:
    """An untrained VGG16 up to its last pooling, numbered as published."""
    layers: list[nn.Module] = []
    channels = 3
    for width in PLAN:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def test_parameters_are_as_many_as_published() -> None:
    assert sum(parameter.numel() for parameter in U2Fusion().parameters()) == 659_217


def test_features_are_those_before_the_poolings(vgg: nn.Sequential) -> None:
    image = torch.rand(1, 3, 32, 32)
    normalised = (image - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    features = VGG16Features({f"features.{name}": value for name, value in vgg.state_dict().items()})
    with torch.no_grad():
        expected = [vgg[:end](normalised) for end in (4, 9, 16, 23, 30)]
        for found, wanted in zip(features(image), expected, strict=True):
            torch.testing.assert_close(found, wanted)
    assert not features.state_dict()
    assert not list(features.parameters())


def test_information_is_the_mean_square_of_the_laplacian_over_scales() -> None:
    image = np.random.default_rng(0).random((32, 48))
    expected = []
    for side in (1, 2, 4, 8, 16):
        scale = 255 * image.reshape(32 // side, side, 48 // side, side).mean(axis=(1, 3))
        expected.append(np.square(ndimage.laplace(scale, mode="nearest")).mean())
    found = InformationPreservation().information(torch.tensor(image)[None, None])
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_source_with_more_detail_weighs_more() -> None:
    flat, detailed = torch.full((2, 1, 32, 32), 0.5), torch.rand(2, 1, 32, 32)
    weights = InformationPreservation()(flat, detailed)
    assert (weights[1] > weights[0]).all()
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(2))
    torch.testing.assert_close(InformationPreservation()(detailed, detailed), torch.full((2, 2), 0.5))


def test_the_loss_is_zero_for_the_source_that_has_all_the_weight() -> None:
    a, b = torch.rand(2, 3, 1, 32, 32)
    losses = preservation_losses(a, a, b, torch.tensor([[1.0] * 3, [0.0] * 3]))
    assert float(losses["ssim"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["mse"]) == 0
    half = preservation_losses(a, a, b, torch.full((2, 3), 0.5))
    assert float(half["mse"]) == pytest.approx(float((a - b).square().mean() / 2), rel=1e-5)


def test_vgg_is_read_for_training_and_stays_out_of_checkpoints(vgg: nn.Sequential, tmp_path: Path) -> None:
    torch.save({f"features.{name}": value for name, value in vgg.state_dict().items()}, tmp_path / "vgg.pth")
    method = U2Fusion(vgg_weights=str(tmp_path / "vgg.pth"))
    before = set(method.state_dict())
    method.setup("fit")
    assert method.preservation.features is not None
    assert set(method.state_dict()) == before
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not the weights of a VGG16"):
        U2Fusion(vgg_weights=str(tmp_path / "other.pth")).setup("fit")


def test_it_learns_to_fuse() -> None:
    batch = make_batch(["one", "two"], size=(16, 16))
    method = U2Fusion()
    seen = []
    method.log_dict = lambda losses, **kwargs: seen.append(float(losses["train/loss"]))
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        assert all(parameter.grad is not None for parameter in method.parameters())
        optimizer.step()
    assert seen[-1] < 0.7 * seen[0]


def test_colour_and_size_are_kept() -> None:
    with torch.no_grad():
        fused = U2Fusion().fuse(make_batch(["one"], (7, 5), "a"))["fused"]
    assert fused.shape == (1, 3, 7, 5)
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1
