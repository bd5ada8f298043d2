"""Methods as files that run without the package."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.diffusion.sampling import given_noise
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.imaging.io import read_image
from fusion_lightning.main import main
from fusion_lightning.methods import (
    IFCNN,
    CLEDStage2,
    DRFusion,
    FusionMethod,
    Restormer,
    U2Fusion,
    VDMUFusion,
    load_method,
)
from tests.conftest import save


def _export(checkpoint: str, output: Path, *options: str) -> int:
    return main(["export", f"--checkpoint={checkpoint}", f"--output={output}", *options])


@pytest.mark.parametrize(("kind", "suffix"), [("onnx", ".onnx"), ("torchscript", ".pt"), ("pt2", ".pt2")])
def test_a_rule_is_written_and_described(kind: str, suffix: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    assert _export("GuidedFilter", tmp_path / "guided", f"--format={kind}") == 0
    file, record = tmp_path / f"guided{suffix}", json.loads((tmp_path / f"guided{suffix}.json").read_text())
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["method"] == "GuidedFilter"
    assert record["largest_difference"] <= 1e-4
    assert [one["shape"] for one in record["inputs"]] == [[1, 1, "height", "width"], [1, 3, "height", "width"]]
    assert sorted(one.name for one in tmp_path.iterdir()) == [f"guided{suffix}", f"guided{suffix}.json"]


def _random(method: FusionMethod) -> FusionMethod:
    """A method whose layers that begin at zero do something."""
    for parameter in method.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return method


NETWORKS = [IFCNN(), U2Fusion(), Restormer(size="tiny"), VDMUFusion(size="tiny"), DRFusion(size="tiny")]
NETWORKS += [CLEDStage2(size="tiny", restorer={"size": "tiny", "sampling_steps": 1})]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", NETWORKS, ids=lambda method: type(method).__name__)
def test_networks_run_in_onnx_runtime_on_real_pairs(method: FusionMethod, tmp_path: Path, shared: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    checkpoint = save(_random(method), tmp_path / "method.ckpt")
    assert _export(checkpoint, tmp_path / "method.onnx") == 0
    record = json.loads((tmp_path / "method.onnx.json").read_text())
    session = runtime.InferenceSession((tmp_path / "method.onnx").read_bytes())
    # PyTorch's group normalisation of channels-last maps is what would be a hundred times further from float64
    loaded = load_method(checkpoint).eval().to(memory_format=torch.contiguous_format)
    for height, width in ((208, 256), (176, 272)):
        a = to_tensor(read_image(shared / "data/MSRS/test/ir/00081D.png", 1))[None, :, :height, :width]
        b = to_tensor(read_image(shared / "data/MSRS/test/vi/00081D.png", 3))[None, :, :height, :width]
        asked = [one["shape"][:2] for one in record["inputs"][2:]]
        torch.manual_seed(0)
        noise = [torch.randn(*shape, height, width) for shape in asked]
        given = {one["name"]: x.numpy() for one, x in zip(record["inputs"], [a, b, *noise], strict=True)}
        found = session.run(None, {one.name: given[one.name] for one in session.get_inputs()})
        degradation = [SampleDegradation(scenario="delivered", a=[], b=[])]
        batch = FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=degradation, name=["one"])
        with torch.no_grad(), given_noise(noise):
            expected = loaded(batch)
        for name, image in zip(record["outputs"], found, strict=True):
            np.testing.assert_allclose(image, expected[name].numpy(), atol=1e-5)
    assert record["sizes"] == "any"


def test_noise_is_an_input(tmp_path: Path) -> None:
    method = VDMUFusion(size="tiny", sampling_steps=1)
    for parameter in method.parameters():  # layers that begin at zero would not see the noise
        torch.nn.init.normal_(parameter, std=0.05)
    checkpoint = save(method, tmp_path / "method.ckpt")
    assert _export(checkpoint, tmp_path / "method", "--format=torchscript", "--size=64x64") == 0
    record = json.loads((tmp_path / "method.pt.json").read_text())
    assert [one["name"] for one in record["inputs"]] == ["source_a", "source_b", "noise_0"]
    program = torch.jit.load(str(tmp_path / "method.pt"))
    a, b = torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 64)
    first, same, other = (program(a, b, torch.full((1, 1, 64, 64), level))[0] for level in (0.0, 0.0, 1.0))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_method_that_depends_on_the_size_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export("LaplacianPyramid", tmp_path / "pyramid", "--format=torchscript") == 1
    assert "--size HEIGHTxWIDTH" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert _export("LaplacianPyramid", tmp_path / "pyramid", "--format=torchscript", "--size=48x64") == 0


def test_nothing_is_overwritten_and_sizes_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pt").write_text("mine")
    assert _export("Average", tmp_path / "a", "--format=torchscript") == 1
    assert "already there" in capsys.readouterr().err
    assert (tmp_path / "a.pt").read_text() == "mine"
    # another format beside it has a description of its own
    assert _export("Average", tmp_path / "a", "--format=pt2") == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.pt", "a.pt2", "a.pt2.json"]
    assert _export("Average", tmp_path / "b", "--size=big") == 1
    assert "--size must be HEIGHTxWIDTH" in capsys.readouterr().err


def test_it_takes_the_names_that_fuse_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export("overlay:0.25", tmp_path / "overlay", "--format=torchscript") == 0
    record = json.loads((tmp_path / "overlay.pt.json").read_text())
    assert record["method"] == "Overlay"
    assert record["sizes"] == "any"
    assert record["licence"] == "MIT"
    assert _export("ifcnn=", tmp_path / "ifcnn") == 1
    assert "write ifcnn=FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("estimator", "--checkpoint estimator is a DegradationEstimator, which makes no image"),
        (
            "ClassicalRegistration",
            "--checkpoint ClassicalRegistration is a ClassicalRegistration, which makes no image",
        ),
    ],
)
def test_what_makes_no_image_is_refused(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(name, tmp_path / "it", "--format=torchscript") == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
