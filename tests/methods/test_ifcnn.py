"""IFCNN against published weights and images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb
from fusion_lightning.methods import IFCNN
from fusion_lightning.networks.ifcnn import IFCNNNetwork
from tests.published import LUMA, psnr

from .conftest import make_batch

GREY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
"""How the toolboxes turn a colour image to grey, R, G, B."""


def test_parameters_are_as_many_as_published() -> None:
    assert sum(parameter.numel() for parameter in IFCNN().parameters()) == 83_587


@pytest.mark.parametrize(
    ("rule", "name", "least"),
    [
        pytest.param(rule, name, least, marks=() if name == "Camp" else pytest.mark.slow)
        for rule, least in (("max", 89), ("sum", 84))
        for name in ("Camp", "Dune", "Gun", "Kayak", "Navi", "Road2")
    ],
)
def test_published_weights_give_the_published_images(rule: str, name: str, least: float, shared: Path) -> None:
    method = IFCNN(weights=str(shared / "weights" / f"IFCNN-{rule.upper()}.pth"), fusion=rule).eval()
    sources = [_grey(shared / "data" / "IFCNN_IV" / f"{name}_{kind}.png") for kind in ("IR", "Vis")]
    with torch.no_grad():
        image = method.network([as_rgb(source) for source in sources])[0].clamp(0, 1)
    levels = (image * 255).permute(1, 2, 0).numpy().astype(np.uint8)  # cut, not rounded, as they were
    expected = cv2.imread(str(shared / "published" / "IFCNN_IV" / f"IFCNN-{rule.upper()}-IV-{name}.png"))
    assert psnr(np.round(levels @ LUMA), expected[..., 0]) >= least


def _grey(path: Path) -> torch.Tensor:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
    return torch.from_numpy(np.round(image @ GREY)).float()[None, None] / 255


@pytest.mark.parametrize(
    ("rule", "reduce"), [("max", torch.amax), ("sum", torch.sum), ("mean", torch.mean)], ids=["max", "sum", "mean"]
)
def test_any_number_of_sources_is_fused_element_by_element(rule: str, reduce: object) -> None:
    network = IFCNNNetwork(rule).eval()
    sources = torch.rand(3, 2, 3, 9, 11)
    seen = {}
    network.conv2.register_forward_hook(lambda _, __, output: seen.update(features=output))
    network.conv3.register_forward_pre_hook(lambda _, inputs: seen.update(fused=inputs[0]))
    assert network(list(sources)).shape == (2, 3, 9, 11)
    torch.testing.assert_close(seen["fused"], reduce(seen["features"].view(3, 2, 64, 9, 11), dim=0))


def test_a_first_layer_is_taken_and_left_alone(tmp_path: Path, batch: FusionBatch) -> None:
    first = torch.rand(64, 3, 7, 7)
    torch.save({"conv1.weight": first, "fc.weight": torch.rand(2, 2)}, tmp_path / "resnet.pth")
    method = IFCNN(weights=str(tmp_path / "resnet.pth"))
    assert torch.equal(method.network.conv1.weight, first)
    method.training_step(batch, 0).backward()
    assert [name for name, one in method.named_parameters() if one.grad is None] == ["network.conv1.weight"]
    # a checkpoint does not need the file, and keeps the layer fixed
    again = IFCNN(**method.hparams)
    assert not again.network.conv1.weight.requires_grad


def test_without_weights_everything_learns(batch: FusionBatch) -> None:
    method = IFCNN()
    method.training_step(batch, 0).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept(color: str | None) -> None:
    with torch.no_grad():
        fused = IFCNN().eval().fuse(make_batch(["one"], (7, 5), color))["fused"]
    assert fused.shape == (1, 1 if color is None else 3, 7, 5)
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="there is no weight file"):
        IFCNN(weights=str(path))
    for content, words in (
        ({"other": torch.zeros(1)}, "has no `conv1.weight`"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "does not fit"),
        ([1, 2], "is not a state dict"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=words):
            IFCNN(weights=str(path))
    path.write_bytes(b"half a file")
    with pytest.raises(UserError, match="cannot be read"):
        IFCNN(weights=str(path))


def test_a_whole_published_network_has_nothing_to_train(tmp_path: Path) -> None:
    torch.save(IFCNNNetwork().state_dict(), tmp_path / "ifcnn.pth")
    with pytest.raises(UserError, match="nothing to train"):
        IFCNN(weights=str(tmp_path / "ifcnn.pth")).configure_optimizers()
