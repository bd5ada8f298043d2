"""`inspect`, and `fuse` with a degradation that is estimated."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_lightning.degradations import degrade, parse
from fusion_lightning.imaging.io import write_image
from fusion_lightning.main import main
from fusion_lightning.methods import DegradationEstimator, DRFusion

from ..conftest import save
from ..imaging.test_estimation import drawn


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Two pairs: infrared noisy, visible in colour and blurred."""
    for name in ("x", "y"):
        for side, text in (("a", "noise(sigma=14)"), ("b", "blur(sigma=2.5)")):
            grey = drawn()[:96, :120]
            image = grey if side == "a" else np.concatenate((grey, grey**2, 1 - grey), axis=2)
            degraded, _ = degrade(image, parse(text), np.random.default_rng(0))
            levels = np.rint(255 * degraded).astype(np.uint8)
            write_image(tmp_path / side / f"{name}.png", levels[..., 0] if side == "a" else levels)
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_what_is_wrong_is_said_and_written(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ["--source-a", folders[0], "--source-b", folders[1]]
    command = ["inspect", *sources, "--estimator", "ClassicalEstimator", "--output", str(tmp_path / "out")]
    assert main([*command, "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert "blur(sigma=" in printed
    assert "noise(sigma=1" in printed
    with (tmp_path / "out" / "inspect.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["name"]) for row in rows] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert float(rows[0]["sigma of noise"]) == pytest.approx(14, abs=1.5)
    assert float(rows[2]["sigma of blur"]) == pytest.approx(2.5, abs=0.6)
    before = (tmp_path / "out" / "inspect.csv").read_bytes()
    assert main(command) == 1
    assert "is already there" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "out" / "inspect.csv").read_bytes() == before


def test_one_source_and_a_network_will_do(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator = save(DegradationEstimator(), tmp_path / "estimator.ckpt")
    assert main(["inspect", "--source-b", folders[1], "--estimator", estimator]) == 0
    assert "0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing is named to inspect"),
        (["--source-a", "nowhere"], "no such file or folder"),
        (["--source-a", "A", "--estimator", "Average"], "is a Average, which does not estimate"),
        (["--source-a", "A", "--output", "A"], "holds the input"),
    ],
)
def test_what_cannot_be_inspected_is_refused(
    options: list[str], words: str, folders: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *(folders[0] if word == "A" else word for word in options)]) == 1
    assert words in capsys.readouterr().err


def test_fuse_estimates_what_it_is_not_told(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = DRFusion(size="tiny")
    torch.nn.init.normal_(method.network.noise_decoder.head.weight, std=0.05)
    checkpoint = save(method, tmp_path / "drfusion.ckpt")
    command = ["fuse", "--checkpoint", checkpoint, "--source-a", folders[0], "--source-b", folders[1]]
    auto = ["--degradation-a", "auto", "--degradation-b", "auto"]
    blind = [*command, "--output", str(tmp_path / "blind"), *auto, "--estimator", "ClassicalEstimator"]
    assert main(blind) == 0
    found = dict(re.findall(r"source ([ab]) (\S+?\))", capsys.readouterr().out))
    assert found["a"].startswith("noise(sigma=1")
    assert found["b"].startswith("blur(sigma=2.")
    told = ["--degradation-a", found["a"], "--degradation-b", found["b"]]
    assert main([*command, "--output", str(tmp_path / "told"), *told]) == 0
    assert (tmp_path / "blind" / "x.png").read_bytes() == (tmp_path / "told" / "x.png").read_bytes()
    capsys.readouterr()
    assert main(blind) == 0
    assert "2 were there already" in capsys.readouterr().out
    assert main([*blind, "--noise", "0.1"]) == 1
    assert main([*command, "--output", str(tmp_path / "x"), "--estimator", checkpoint]) == 1
    assert "add one of them" in capsys.readouterr().err
