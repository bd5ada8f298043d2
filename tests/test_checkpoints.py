"""A checkpoint is whole or not there, whatever happens while it is written."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fusion_lightning.checkpoints import AtomicCheckpointIO
from fusion_lightning.errors import UserError
from fusion_lightning.runs import RunFolder, newest_checkpoint

BEFORE = {"weights": torch.arange(3)}
AFTER = {"weights": torch.rand(100_000)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(BEFORE, path)
    return path


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """Files end at 100 kB: what a full disk looks like to a program, for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def test_a_checkpoint_replaces_the_one_before(checkpoint: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(AFTER, checkpoint)
    assert torch.equal(_load(checkpoint)["weights"], AFTER["weights"])
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


def _die_half_way(path: Path) -> None:
    """Save, and be killed when half of the file is on the disk."""

    def half(content: object, file: object) -> None:
        file.write(b"half of a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    AtomicCheckpointIO().save_checkpoint(AFTER, path)


def test_a_kill_while_writing_leaves_the_one_before(checkpoint: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_half_way, args=(checkpoint,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.equal(_load(checkpoint)["weights"], BEFORE["weights"])
    assert newest_checkpoint(checkpoint.parent) == checkpoint
    AtomicCheckpointIO().save_checkpoint(AFTER, checkpoint)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.usefixtures("no_large_files")
def test_what_does_not_fit_on_the_disk_is_said_and_leaves_the_one_before(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written: .*; the one before it is whole") as refusal:
        AtomicCheckpointIO().save_checkpoint(AFTER, checkpoint)
    assert "\n" not in str(refusal.value)
    assert torch.equal(_load(checkpoint)["weights"], BEFORE["weights"])
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a part of its path is a file"):
        RunFolder(str(tmp_path / "file"), "experiment", "run").make()
    with pytest.raises(UserError, match="cannot be written"):
        AtomicCheckpointIO().save_checkpoint(BEFORE, tmp_path / "file" / "last.ckpt")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", ".hidden"])
def test_a_run_cannot_lie_outside_its_experiment(name: str) -> None:
    with pytest.raises(UserError, match="--run_id must be made of"):
        RunFolder.choose("logs", "experiment", name or " ", None, "experiment")
