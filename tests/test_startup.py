"""Commands import what they need: judged by the modules that are there afterwards, not by time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.imaging.io import write_image
from fusion_lightning.methods import IFCNN

from .conftest import save

_SCRIPT = """
import contextlib, io, sys
from fusion_lightning.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
print(code, *(name for name in sys.modules if "." not in name))
"""

_RARE = {"wandb", "albumentations", "optuna", "pywt", "pandas", "tensorboard", "IPython", "onnx"}
_TRAINING = {"lightning", "torchmetrics", "scipy", "matplotlib", "sympy"}


def _imported(*command: str) -> set[str]:
    shown = subprocess.run([sys.executable, "-c", _SCRIPT, *command], capture_output=True, text=True, check=True).stdout
    code, *names = shown.splitlines()[-1].split()
    assert code == "0", command
    return set(names)


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("--help", _RARE | _TRAINING | {"torch", "numpy", "cv2", "jsonargparse", "yaml"}),
        ("sweep --help", _RARE | _TRAINING | {"torch", "cv2"}),
        ("app --help", _RARE | _TRAINING | {"torch", "cv2", "gradio"}),
        ("fuse --help", _RARE | _TRAINING),
        ("gallery --help", _RARE | _TRAINING),
        ("degrade --help", _RARE | _TRAINING),
        ("evaluate --help", _RARE | {"lightning"}),
        pytest.param("fit --help", _RARE, marks=pytest.mark.slow),
    ],
)
def test_help_imports_what_the_command_needs(command: str, unneeded: set[str]) -> None:
    assert not _imported(*command.split()) & unneeded


@pytest.mark.slow
def test_fusing_imports_neither_data_nor_loggers(tmp_path: Path) -> None:
    for side in "ab":
        write_image(tmp_path / f"{side}.png", np.full((24, 32), 99, np.uint8))
    checkpoint = save(IFCNN(), tmp_path / "ifcnn.ckpt")
    command = ["fuse", "--checkpoint", checkpoint, "--output", str(tmp_path / "out")]
    command += ["--source-a", str(tmp_path / "a.png"), "--source-b", str(tmp_path / "b.png")]
    names = _imported(*command)
    assert (tmp_path / "out" / "a.png").exists()
    assert "lightning" in names
    assert not names & _RARE
