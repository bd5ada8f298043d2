"""A method from outside the package works in every command, and is never imported because a checkpoint says so."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from fusion_lightning.imaging.io import write_image

from .conftest import TINY

MINE = """
import torch
from fusion_lightning.methods import FusionMethod

print("imported", flush=True)

class Mine(FusionMethod):
    def __init__(self, share: float = 0.25, **options):
        super().__init__(**options)
        self.share = torch.nn.Parameter(torch.tensor(share))

    def training_step(self, batch, batch_idx):
        return (self.fuse(batch)["fused"] - batch["clean_b"].mean(1, keepdim=True)).abs().mean()

    def fuse(self, batch, controls=None):
        a, b = (batch[key].mean(1, keepdim=True) for key in ("source_a", "source_b"))
        return {"fused": self.share * a + (1 - self.share) * b}
"""
DATA = {"config": "synthetic.yaml", "length": 8, "scene_size": 32}


def _run(folder: Path, *line: str) -> tuple[int, str]:
    """Through the console script's own way in, which does not have the working directory among the modules' places."""
    script = "import sys; sys.path = [one for one in sys.path if one]; from fusion_lightning.main import main; "
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    environment.pop("FUSION_LIGHTNING_IMPORT", None)
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{script}sys.exit(main(sys.argv[1:]))", *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_method_from_outside_works_in_every_command(tmp_path: Path) -> None:
    (tmp_path / "my_fusion.py").write_text(MINE)
    (tmp_path / "mine.yaml").write_text("model: {class_path: my_fusion.Mine}\ndata: {class_path: FusionData}\n")
    line = ["--config=mine.yaml", "--config=smoke.yaml", *TINY, "--log_dir=logs", "--run_id=r"]
    code, said = _run(tmp_path, "fit", *line)
    assert code == 0, said
    checkpoint = "logs/mine/r/checkpoints/last.ckpt"
    code, said = _run(tmp_path, "predict", *line, f"--ckpt_path={checkpoint}")
    assert code == 0, said
    rng = np.random.default_rng(0)
    for part in ("a", "b"):
        write_image(tmp_path / part / "x.png", rng.integers(0, 256, (24, 24), np.uint8))
    fuse = ["fuse", "--checkpoint", checkpoint, "--source-a", "a", "--source-b", "b", "--output", "out"]
    code, said = _run(tmp_path, *fuse)
    assert code == 1
    assert "holds a my_fusion.Mine, which is not known here: if you trust it, add --import my_fusion" in said
    assert "imported" not in said
    code, said = _run(tmp_path, *fuse, "--import", "my_fusion")
    assert code == 0, said
    assert (tmp_path / "out" / "x.png").is_file()
    methods = {"mine": checkpoint, "cascade": {"class_path": "RestoreThenFuse", "init_args": {"fuser": checkpoint}}}
    content = {"methods": methods, "data": {"s": DATA}, "scenarios": ["clean"], "metrics": "MI"}
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(content))
    code, said = _run(tmp_path, "benchmark", "--import=my_fusion", "--config=benchmark.yaml", "--output=table")
    assert code == 0, said


@pytest.mark.parametrize("name", ["no_such_module", ""])
def test_a_module_that_cannot_be_imported_is_said(name: str, tmp_path: Path) -> None:
    code, said = _run(tmp_path, "fuse", f"--import={name}")
    assert code == 1
    assert said.startswith("error: --import")
