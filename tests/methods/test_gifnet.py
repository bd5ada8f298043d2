"""GIFNet: its parameters, published weights and images, attention by explicit loops, and what each task teaches."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.methods import GIFNet, build_method
from fusion_lightning.methods.gifnet import focus_pair
from fusion_lightning.networks.gifnet import GIFNetNetwork, Stream, log_displacements, mirrored

from .conftest import make_batch


def count(*parts: nn.Module) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def test_parameters_are_the_published_ones_part_by_part() -> None:
    network = GIFNetNetwork()
    assert count(network.dense) == 29_472
    assert count(network.scene_decoder) == 79_745
    assert count(network.embeddings) == 2 * 86_534
    assert [count(block) for block in network.blocks] == [162_590] * 2
    assert count(network.gains) == 4
    assert count(network.unembedding) == 86_534
    assert count(network.merge) == 31_752
    assert count(network.decoder) == 97_025
    assert count(network) == 822_780


def grey(path: Path) -> torch.Tensor:
    """Luma as the published code makes it: whole levels, cut."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
    if image.ndim == 3:
        image = np.floor(image[..., ::-1] @ np.array([0.299, 0.587, 0.114], np.float32))
    return torch.from_numpy(image)[None, None] / 255


def psnr(fused: torch.Tensor, expected: Path, cut: bool) -> float:
    levels = (255 * fused[0, 0]).clamp(0, 255).numpy()
    levels = np.floor(levels) if cut else np.round(levels)
    error = np.square(levels - cv2.imread(str(expected), cv2.IMREAD_GRAYSCALE).astype(float)).mean()
    return 10 * math.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize(
    "name",
    ["PET_25015", pytest.param("TNO_05", marks=pytest.mark.slow), pytest.param("TNO_17", marks=pytest.mark.slow)],
)
def test_published_weights_give_the_published_network_s_images(name: str, shared: Path) -> None:
    method = GIFNet(weights=str(shared / "weights" / "GIFNet.pth")).eval()
    kind, number = name.split("_")
    folder = shared / "data" / ("TNO" if kind == "TNO" else "Harvard/PET-MRI/test")
    names = ("ir", "vi") if kind == "TNO" else ("PET", "MRI")
    with torch.no_grad():
        fused = method.fuse_luma(*(grey(folder / part / f"{number}.png") for part in names))
    assert psnr(fused, shared / "published" / "GIFNet" / "computed" / f"{name}.png", cut=False) >= 75


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("street", 46), ("exposure", 40)])
def test_published_weights_give_the_published_pictures_as_far_as_jpeg_lets_them(
    name: str, least: float, shared: Path
) -> None:
    method = GIFNet(weights=str(shared / "weights" / "GIFNet.pth")).eval()
    folder = shared / "published" / "GIFNet"
    with torch.no_grad():
        fused = method.fuse_luma(*(grey(folder / part / f"{name}.jpg") for part in ("ir", "vi")))
    assert psnr(fused, folder / "fused" / f"{name}.jpg", cut=True) >= least


def test_a_checkpoint_of_published_weights_needs_no_file_and_nothing_is_left_to_train(shared: Path) -> None:
    path = shared / "weights" / "GIFNet.pth"
    method = build_method({"class_path": "GIFNet", "init_args": {"weights": str(path)}})
    again = GIFNet(**method.hparams)
    again.load_state_dict(method.state_dict(), strict=True)
    with pytest.raises(UserError, match="there is nothing to train, use `test` or `predict`"):
        method.configure_optimizers()


def test_other_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"does not fit GIFNetNetwork: conv1.weight is .1,. there and missing here"):
        GIFNet(weights=str(path))


def test_a_published_tensor_of_another_shape_is_refused(shared: Path, tmp_path: Path) -> None:
    state = torch.load(shared / "weights" / "GIFNet.pth", weights_only=True)
    state["cnnDecoder.decoder.10.bias"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"does not fit GIFNetNetwork: .*decoder.layers.3.bias"):
        GIFNet(weights=str(tmp_path / "weights.pth"))


def test_attention_is_that_of_explicit_loops_over_mirrored_windows() -> None:
    """Every pixel, every head: values weighted by softmax(q·k / 7 + bias) over the 64 pixels of its window."""
    torch.manual_seed(1)
    stream, (height, width) = Stream().double(), (13, 11)
    query, key, normal = torch.randn(3, 1, 98, height, width, dtype=torch.float64)
    bias = torch.randn(2, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        value = stream.value(normal)[0]
        for shift in (0, 4):
            expected = torch.zeros(98, height, width, dtype=torch.float64)
            for row in range(height):
                for column in range(width):
                    top, left = (8 * ((place + shift) // 8) - shift for place in (row, column))
                    cells = [(top + down, left + right) for down in range(8) for right in range(8)]
                    inside = [(_bounce(one, height), _bounce(other, width)) for one, other in cells]
                    own = cells.index((row, column))
                    for head in range(2):
                        part = slice(49 * head, 49 * head + 49)
                        scores = torch.stack([query[0, part, row, column] @ key[0, part, r, c] for r, c in inside])
                        weights = (scores / 7 + bias[head, own]).softmax(dim=0)
                        seen = torch.stack([value[part, r, c] for r, c in inside])
                        expected[part, row, column] = weights @ seen
            around = stream.local(nn.functional.pad(value[None], (2,) * 4, mode="reflect"))
            found = stream.attend(query, key, normal, bias, shift)
            torch.testing.assert_close(found, stream.project(around + expected))


def _bounce(place: int, size: int) -> int:
    """Where a place beyond the border is mirrored to."""
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


def test_mirroring_is_numpy_s() -> None:
    for size, before, multiple in (((5, 6), 4, 8), ((1, 2), 4, 8), ((9, 3), 0, 4)):
        image = torch.rand(1, 1, *size)
        after = [-(before + side) % multiple for side in size]
        expected = np.pad(image.numpy(), ((0, 0), (0, 0), (before, after[0]), (before, after[1])), mode="reflect")
        assert np.array_equal(mirrored(image, before, multiple).numpy(), expected)


def test_displacements_are_from_the_query_s_pixel_to_the_key_s() -> None:
    found = log_displacements()
    assert found.shape == (64, 64, 2)
    torch.testing.assert_close(found[8 * 3 + 1, 8 * 1 + 5], torch.tensor([math.log(3), -math.log(5)]))


@pytest.mark.parametrize("task", ["modality", "focus"])
def test_each_task_teaches_its_own_stream(task: str) -> None:
    network, other = GIFNetNetwork(), "focus" if task == "modality" else "modality"
    pair = torch.rand(2, 1, 1, 16, 16)
    network(*pair, task).square().mean().backward()
    learned = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    everything = {name for name, _ in network.named_parameters()}
    assert not {name for name in learned if f".{other}" in name}
    unused = {f"gains.{task}.1"} | {name for name in everything if f".{other}" in name or "scene" in name}
    assert everything - learned == unused


def test_what_is_not_used_in_fusing_changes_nothing() -> None:
    network = GIFNetNetwork().eval()
    pair = torch.rand(2, 1, 1, 12, 20)
    with torch.no_grad():
        before = network(*pair)
        dead = [network.scene_decoder, network.blocks[1].streams["modality"]]
        for part in dead:
            for parameter in part.parameters():
                parameter.zero_()
        network.gains["modality"][0].zero_()
        assert count(*dead) == 160_399
        assert torch.equal(network(*pair), before)


def test_the_other_stream_does_count() -> None:
    network = GIFNetNetwork().eval()
    pair = torch.rand(2, 1, 1, 12, 20)
    with torch.no_grad():
        before, along = network(*pair), network(*pair, "modality")
        assert not torch.allclose(before, along)
        network.embeddings["modality"].weight.add_(0.1)
        assert not torch.allclose(network(*pair), before)


def test_each_pixel_is_in_focus_in_one_picture_but_at_the_border() -> None:
    scene = torch.rand(6, 1, 128, 96)
    near, far = focus_pair(scene, generators_for(["a", "b", "c", "d", "e", "f"], 0))
    off_near, off_far = ((picture - scene).abs() for picture in (near, far))
    assert (torch.maximum(off_near, off_far).flatten(1).amax(dim=1) > 0.1).all()
    both = (torch.minimum(off_near, off_far) > 1e-6).float().mean(dim=(1, 2, 3))
    assert (both < 0.45).all()
    assert (both > 0.01).all()
    for off in (off_near, off_far):
        assert ((off > 1e-6).float().mean(dim=(1, 2, 3)) > 0.2).all()
    # a picture belongs to its name, not to its batch
    alone = focus_pair(scene[2:3], generators_for(["c"], 0))
    assert torch.equal(alone[0], near[2:3])


def test_every_parameter_learns_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    method, batch = GIFNet(), make_batch(["one", "two"], (16, 16), color=None)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert len(trained) == len(list(method.parameters())) - 2
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = method.training_step(batch, 0)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept(color: str | None) -> None:
    method = GIFNet().eval()
    with torch.no_grad():
        fused = method.fuse(make_batch(["one"], (7, 5), color))["fused"]
        assert fused.shape == (1, 1 if color is None else 3, 7, 5)
        assert 0 <= float(fused.min()) <= float(fused.max()) <= 1
        together = method.fuse(make_batch(["one", "two"], (9, 14), color))["fused"]
        alone = method.fuse(make_batch(["two"], (9, 14), color))["fused"]
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)
