"""`fuse` with the degradation given on the command line."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.commands.declared import declared_degradation
from fusion_lightning.degradations import degrade, parse
from fusion_lightning.errors import UserError
from fusion_lightning.main import main
from fusion_lightning.methods import Average, DRFusion
from fusion_lightning.operators import Blur, Compose, Downsample, from_degradations

from ..conftest import save

SPECIFICATION = "blur(sigma=2)+downsample(4)"


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, str]:
    """A small infrared image that was blurred and averaged down, and a visible one at full size."""
    rows, columns = np.mgrid[0:45, 0:62].astype(np.float32)
    clean = 0.5 + 0.4 * np.sin(rows / 7) * np.cos(columns / 9)
    small, _ = degrade(clean[..., None], parse(SPECIFICATION), np.random.default_rng(0))
    visible = np.stack((clean, clean**2, 1 - clean), axis=-1)
    paths = (tmp_path / "a.png", tmp_path / "b.png")
    for path, image in zip(paths, (small, visible), strict=True):
        cv2.imwrite(str(path), np.round(255 * image).astype(np.uint8))
    for side, path in zip("ab", paths, strict=True):
        (tmp_path / side).mkdir()
        path.rename(tmp_path / side / "x.png")
    return str(tmp_path / "a"), str(tmp_path / "b")


def _fuse(checkpoint: str, images: tuple[str, str], output: Path, *options: str) -> int:
    command = ["fuse", "--checkpoint", checkpoint, "--source-a", images[0], "--source-b", images[1]]
    return main([*command, "--output", str(output), "--restored", *options])


def test_a_known_degradation_is_undone_at_the_size_of_the_other_source(images: tuple[str, str], tmp_path: Path) -> None:
    method = DRFusion(size="tiny")
    torch.nn.init.normal_(method.network.noise_decoder.head.weight, std=0.05)
    checkpoint = save(method, tmp_path / "drfusion.ckpt")
    options = ("--degradation-a", SPECIFICATION, "--noise", "0.03")
    assert _fuse(checkpoint, images, tmp_path / "out", *options) == 0
    shapes = {
        part: cv2.imread(str(tmp_path / "out" / part / "x.png"), cv2.IMREAD_UNCHANGED).shape
        for part in ("", "restored_a", "restored_b", "weight")
    }
    assert shapes == {"": (45, 62, 3), "restored_a": (45, 62), "restored_b": (45, 62, 3), "weight": (45, 62)}
    assert _fuse(checkpoint, images, tmp_path / "unknown") == 0
    known, unknown = (
        cv2.imread(str(tmp_path / folder / "restored_a" / "x.png"), cv2.IMREAD_UNCHANGED)
        for folder in ("out", "unknown")
    )
    assert (known != unknown).any()


def test_what_does_not_fit_is_refused_in_one_sentence(
    images: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drfusion, average = (save(DRFusion(size="tiny"), tmp_path / "d"), save(Average(), tmp_path / "a.ckpt"))
    for checkpoint, options, words in (
        (drfusion, ("--degradation-a", "downsample(3)"), "averaged by 3 must have 15 × 21 pixels, but got 12 × 16"),
        (drfusion, ("--degradation-b", "blurr"), "did you mean `blur`?"),
        (average, ("--noise", "0.1"), "Average makes no use of --degradation-a, --degradation-b and --noise"),
    ):
        assert _fuse(checkpoint, images, tmp_path / "out", *options) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_lines_degradation_becomes_the_operator() -> None:
    assumed = declared_degradation(SPECIFICATION, None, 0.03)
    operator = from_degradations(assumed["a"], (45, 62))
    assert isinstance(operator, Compose)
    assert [type(part) for part in operator.operators] == [Blur, Downsample]
    assert operator.sigma == pytest.approx(0.03)
    assert from_degradations(assumed["b"]).sigma == pytest.approx(0.03)
    assert declared_degradation(None, None, 0.0)["scenario"] == "delivered"


@pytest.mark.parametrize(
    ("a", "b", "noise", "words"),
    [
        ("blur", None, 0.0, "--degradation-a 'blur' leaves something to chance"),
        (None, "blur(sigma=1)|blur(sigma=2)", 0.0, "--degradation-b .* leaves something to chance"),
        (None, "haze(beta=1)", 0.0, "^--degradation-b 'haze\\(beta=1\\)': `haze` is no linear operator"),
        ("downsample(2, up=true)", None, 0.0, "`downsample` is no linear operator"),
        (None, None, -0.1, "--noise is counted in a range of 1.* but got -0.1$"),
        (None, None, float("nan"), "--noise is counted in a range of 1.* but got nan$"),
        (None, None, 14.0, r"--noise is counted in a range of 1.* 14 of 255 grey levels is 0\.055"),
        (None, None, 1.0, "1 of 255 grey levels is 0.0039"),
    ],
)
def test_degradations_that_cannot_be_undone_are_refused(a: str | None, b: str | None, noise: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        declared_degradation(a, b, noise)
