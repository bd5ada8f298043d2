"""`fuse --align`: pairs that do not lie on top of each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.commands.aligning import aligned, open_registration
from fusion_lightning.commands.fuse import fuse
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.methods import Average, RegistrationNet

from ..conftest import save
from ..imaging.test_registration import _scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair whose source a lies 6 pixels to the right and 4 above, and its fusion as it should be."""
    b = _scene(0)
    a = cv2.warpAffine(1 - b, np.array([[1.0, 0, 6], [0, 1, -4]]), (200, 160), borderMode=cv2.BORDER_REPLICATE)
    for name, image in (("a", a), ("b", b), ("ideal", np.full_like(b, 0.5))):
        write_image(tmp_path / f"{name}.png", np.rint(255 * image).astype(np.uint8))
    return tmp_path


def _fuse(folder: Path, output: str, **options: object) -> float:
    """The mean distance in grey levels of the fusion from what it should be."""
    fuse(str(folder / "a.png"), str(folder / "b.png"), str(folder / output), "average", **options)  # type: ignore[arg-type]
    (fused,) = (read_image(path, 1).astype(float) for path in (folder / output).glob("*.png"))
    return float(np.abs(fused - 127.5)[20:-20, 20:-20].mean())


def test_ghosts_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ghosts = _fuse(folder, "as it is")
    aligned = _fuse(folder, "aligned", align="classical", restored=True)
    assert aligned < 0.25 * ghosts
    assert "source a moved by 7." in capsys.readouterr().out  # √(6² + 4²) = 7.2
    (written,) = (folder / "aligned" / "restored_a").glob("*.png")
    b = read_image(folder / "b.png", 1).astype(float)
    assert np.abs(read_image(written, 1) - (255 - b))[20:-20, 20:-20].mean() < 3


def test_the_clean_version_of_a_moves_with_it() -> None:
    b = torch.from_numpy(_scene(0)).float()[None, None]
    a = torch.roll(1 - b, (-4, 6), dims=(2, 3))
    noisy = (a + 0.02 * torch.randn_like(a)).clamp(0, 1)
    known = SampleDegradation(scenario="chosen", a=[], b=[])
    batch = FusionBatch(source_a=noisy, source_b=b, clean_a=a, clean_b=b, degradation=[known], name=["one"])
    moved, remark = aligned(open_registration("classical"), batch)
    assert remark.startswith("source a moved by 7.")
    inner = (..., slice(20, -20), slice(20, -20))
    assert (moved["clean_a"] - (1 - b))[inner].abs().mean() < 0.01
    assert torch.equal(moved["source_b"], b)


def test_a_trained_registration_is_taken_from_its_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    path = save(RegistrationNet("tiny"), folder / "net.ckpt")
    assert _fuse(folder, "net", align=path) > 0
    with pytest.raises(UserError, match="is a Average, which does not register: give classical, registration, "):
        _fuse(folder, "other", align=save(Average(), folder / "average.ckpt"))


def test_bare_it_says_which_registration_aligns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [f"--source-a={folder / 'a.png'}", f"--source-b={folder / 'b.png'}", "--method=average"]
    notice.cache_clear()  # a note is made once per process
    assert main(["fuse", *sources, f"--output={folder / 'bare'}", "--align"]) == 0
    seen = capsys.readouterr()
    assert "so classical aligns" in seen.err
    assert "source a moved by 7." in seen.out
    assert main(["fuse", *sources, f"--output={folder / 'named'}", "--align", "classical"]) == 0
    bare, named = (read_image(next((folder / output).glob("*.png"))).astype(int) for output in ("bare", "named"))
    assert np.abs(bare - named).max() <= 1  # OpenCV's sums depend on where images lie in memory: 1e-5 pixels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": "affine"}, "--align affine is no registration: it takes classical, registration, "),
        ({"align": "classical", "noise": 0.1}, "--align moves pixels"),
        ({"align": "classical", "degradation_a": "blur(sigma=2)"}, "--align moves pixels"),
        ({"align": "classical", "frames": "all"}, "--align is for images"),
    ],
)
def test_what_cannot_be_aligned_is_refused(folder: Path, options: dict[str, object], message: str) -> None:
    for side in "ab":
        (folder / side).mkdir()
        (folder / f"{side}.png").rename(folder / side / "0.png")
    with pytest.raises(UserError, match=message):
        fuse(str(folder / "a"), str(folder / "b"), str(folder / "out"), "average", **options)  # type: ignore[arg-type]
    assert not (folder / "out").exists()
