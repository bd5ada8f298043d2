"""What every test may use: shared data, a tiny run on the command line, a checkpoint."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from fusion_lightning.main import main

SHARED = Path(__file__).resolve().parents[2] / "shared"
TINY = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--checkpoint.every_n_train_steps=2"]
TINY += ["--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--trainer.limit_predict_batches=1"]
TINY += ["--model.size=tiny", "--data.crop_size=32", "--data.scene_size=64", "--data.length=16", "--data.num_workers=0"]
TINY += ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
"""Options of a run that takes a second or two."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real pairs, published results and golden tables; users do not have it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real pairs in ../shared, which are not distributed")
    return SHARED


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of CLED-Fusion's stage 1, trained for two steps on the command line."""
    folder = tmp_path_factory.mktemp("stage1")
    run("fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY, "--run_id=r", log_dir=folder)
    return str(folder / "cled_stage1" / "r" / "checkpoints" / "last.ckpt")


def run(command: str, *args: str, log_dir: Path) -> None:
    """Run a command that has to succeed."""
    assert main([command, *args, f"--log_dir={log_dir}"]) == 0, f"{command} {args}"


def save(method: LightningModule, path: Path) -> str:
    """Write a method's checkpoint without training it, as the Trainer does."""
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(method)
    trainer.save_checkpoint(path)
    return str(path)


class Code:
    """Pickled, it runs code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))
