"""Networks with published weights: their size, their images, other networks' files, and that they can be trained."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image
from fusion_lightning.losses.functional import sobel
from fusion_lightning.methods import PMGI, DenseFuse, DIDFuse, LRRNet, SDNet, SeAFusion, U2Fusion
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.seafusion import GradientResidualDenseBlock
from tests.published import PUBLISHED, Published, psnr, stretched_and_cut, through_ycbcr

from .conftest import make_batch

METHODS = [U2Fusion, SeAFusion, DenseFuse, SDNet, PMGI, DIDFuse, LRRNet]
IMAGES = [
    pytest.param(one, name, least, id=f"{one.method}-{name}", marks=pytest.mark.slow if number or one.slow else ())
    for one in PUBLISHED.values()
    for number, (name, least) in enumerate(zip(one.names, one.decibels, strict=True))
]


def quiet(method: type[PublishedFusion]) -> tuple[PublishedFusion, list[float]]:
    """An untrained method, and where the losses of its training steps are found."""
    made, losses = method(), []
    made.log_dict = lambda parts, **_: losses.append(float(parts["train/loss"]))
    return made, losses


@pytest.mark.parametrize("one", PUBLISHED.values(), ids=PUBLISHED)
def test_parameters_are_as_many_as_published(one: Published, shared: Path) -> None:
    count = sum(parameter.numel() for parameter in one.build(shared).parameters())
    assert count + one.unused == one.parameters


@pytest.mark.parametrize(("one", "name", "least"), IMAGES)
def test_published_weights_give_the_published_images(one: Published, name: str, least: float, shared: Path) -> None:
    with torch.no_grad():
        fused = one.build(shared).fuse_luma(*one.sources(shared, name))[0, 0].numpy()
    expected = one.published(shared, name)
    assert psnr(one.levels(fused), expected if expected.ndim == 2 else expected[..., 1]) >= least - 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00191D", "00559D", "00690N", "00806N"])
def test_seafusion_gives_the_published_images_in_colour(name: str, shared: Path) -> None:
    method = SeAFusion(weights=str(shared / "weights" / "SeAFusion.pth")).eval()
    visible = read_image(shared / "data" / "MSRS" / "test" / "vi" / f"{name}.png", channels=3).astype(np.float32) / 255
    infrared = read_image(shared / "data" / "MSRS" / "test" / "ir" / f"{name}.png", channels=1) / np.float32(255)
    luma = visible @ np.float32([0.299, 0.587, 0.114])
    grey = [torch.from_numpy(image.reshape(1, 1, *luma.shape)) for image in (infrared, luma)]
    with torch.no_grad():
        fused = method.fuse_luma(*grey)
    # the published inference has constants of its own for chroma
    red, blue = 0.713 * (visible[..., 0] - luma), 0.564 * (visible[..., 2] - luma)
    fused = fused[0, 0].numpy()
    colored = np.stack((fused + 1.403 * red, fused - 0.714 * red - 0.344 * blue, fused + 1.773 * blue), axis=2)
    expected = read_image(shared / "published" / "SeAFusion" / "MSRS" / f"{name}.png", channels=3)
    assert psnr(stretched_and_cut(colored.clip(0, 1)), expected) >= 90


@pytest.mark.parametrize("one", PUBLISHED.values(), ids=PUBLISHED)
def test_published_weights_leave_nothing_to_train(one: Published, shared: Path) -> None:
    method = one.build(shared)
    assert method.hparams["weights"] is None
    with pytest.raises(UserError, match=f"`weights` holds the whole of {one.method}: there is nothing to train"):
        method.configure_optimizers()


@pytest.mark.parametrize("method", METHODS)
def test_another_network_s_file_is_refused_in_one_sentence(method: type[PublishedFusion], shared: Path) -> None:
    other = "SDNet.pth" if method is not SDNet else "PMGI.pth"
    path = shared / "weights" / other
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} does not fit {method.__name__}Network") as caught:
        method(weights=str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_more_or_less_or_of_another_shape_is_refused(method: type[PublishedFusion], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = dict(method().network.state_dict())
    name, value = next(iter(state.items()))
    changes = ({**state, "more.weight": value}, {key: one for key, one in state.items() if key != name})
    for changed in (*changes, {**state, name: value[:-1]}):
        torch.save(changed, path)
        with pytest.raises(UserError, match=r"does not fit .*: .* is .* there and .* here"):
            method(weights=str(path))


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_to_fuse(method: type[PublishedFusion]) -> None:
    trained, losses = quiet(method)
    batch = make_batch(["one", "two"], size=(16, 16))
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3)
    for _ in range(12):
        optimizer.zero_grad()
        trained.training_step(batch, 0).backward()
        assert all(parameter.grad is not None for parameter in trained.parameters())
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept(method: type[PublishedFusion], color: str | None) -> None:
    with torch.no_grad():
        fused = method().eval().fuse(make_batch(["one"], (7, 5), color))["fused"]
    assert fused.shape == (1, 1 if color is None else 3, 7, 5)
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1


def test_an_image_is_fused_alike_alone_and_in_a_batch() -> None:
    batch = make_batch(["one", "two"])
    for method in METHODS:
        made = method().eval()
        with torch.no_grad():
            both = made.fuse(batch)["fused"]
            alone = made.fuse(make_batch(["two"]))["fused"]
        torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_densefuse_adds_or_averages_features() -> None:
    a = torch.rand(1, 1, 9, 9)
    method, added = DenseFuse(), DenseFuse(fusion="sum")
    added.load_state_dict(method.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(method.network(a, a), method.network.decode(method.network.encode(a)))
        torch.testing.assert_close(added.network(a, a), method.network.decode(2 * method.network.encode(a)))
    with pytest.raises(UserError, match="`fusion` must be one of mean, sum"):
        DenseFuse(fusion="max")


def test_lrrnet_sees_what_a_source_shows_not_how_bright_it_is() -> None:
    a, b = torch.rand(2, 1, 1, 9, 9)
    method = LRRNet().eval()
    with torch.no_grad():
        torch.testing.assert_close(method.fuse_luma(0.2 + 0.5 * a, b), method.fuse_luma(a, b), rtol=1e-3, atol=1e-4)


def test_seafusion_begins_with_sobel_s_gradient() -> None:
    block, image = GradientResidualDenseBlock(1, 1), torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        found = block.across(image).abs() + block.down(image).abs()
    expected = sobel(image).abs().sum(dim=1, keepdim=True)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_sdnet_s_published_inputs_lose_a_level_here_and_there() -> None:
    levels = np.arange(256)
    assert set(levels - through_ycbcr(levels)) == {0, 1}
    assert (through_ycbcr(levels) != levels).sum() == 22
