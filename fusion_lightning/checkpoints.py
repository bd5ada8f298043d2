"""Atomic checkpoint writes: a crash or a full disk can lose the checkpoint being written, never the previous one."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from fusion_lightning.errors import UserError, plain_reason


class AtomicCheckpointIO(TorchCheckpointIO):
    """CheckpointIO that writes beside the target, syncs to disk, and only then renames.

    Lightning's own writer collects the file in the system's temporary folder: from another file system, moving it is
    copying it, and a kill meanwhile leaves half a checkpoint in the place of a whole one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; a checkpoint of that name is replaced at once or left as it is.

        Raises:
            UserError: If it cannot be written.
        """
        path = Path(path)
        unfinished = _unfinished(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # through a file of our own: torch names no reason when its own writer fails
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:
            # torch's writer fails over the end of a file that could not be written, and hides why
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            with contextlib.suppress(OSError):
                unfinished.unlink()
            kept = "; the one before it is whole" if path.exists() else ""
            raise UserError(f"the checkpoint {path} cannot be written: {plain_reason(cause)}{kept}") from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, and nothing else that a checkpoint's list of earlier ones may name."""
        path = Path(path)
        if path.suffix == ".ckpt" and ".." not in path.parts and path.is_file():
            path.unlink()


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint whose paths follow the run's folder when that was moved or renamed.

    A run that goes on knows its best checkpoints from the files themselves: neither another spelling of the folder, nor
    a folder that was moved, nor a checkpoint from before the best one makes it forget them.
    """

    def format_checkpoint_name(self, *arguments: Any, **more: Any) -> str:
        """The path of a checkpoint; a score's name, such as ``val/Qabf``, makes no folder."""
        name = super().format_checkpoint_name(*arguments, **more)
        if self.dirpath is None:
            return name
        return str(Path(self.dirpath, os.path.relpath(name, self.dirpath).replace(os.sep, "_")))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, whose paths are brought home."""
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved: dict[str, Any] = {key: self._at_home(state_dict.get(key, "")) for key in paths}
        best = {self._at_home(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the best checkpoints so far."""
        super().on_train_start(trainer, pl_module)
        if self.monitor is None or self.save_top_k == 0 or trainer.ckpt_path is None:
            return
        if trainer.is_global_zero:
            self._fetch(Path(trainer.ckpt_path).resolve().parent)
        best: dict[str, Tensor] = trainer.strategy.broadcast(self._best_at_home() if trainer.is_global_zero else {})
        order = sorted(best, key=lambda path: float(best[path]), reverse=self.mode == "max")
        order = order if self.save_top_k < 0 else order[: self.save_top_k]
        self.best_k_models = {path: best[path] for path in order}
        self.best_model_path = order[0] if order else ""
        self.best_model_score = best[order[0]] if order else None
        if order and len(order) == self.save_top_k:
            self.kth_best_model_path = order[-1]
            self.kth_value = best[order[-1]]

    def _at_home(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath, Path(path).name)) if path else ""

    def _fetch(self, folder: Path) -> None:
        """Bring the best checkpoints along, where a run goes on in another folder."""
        for path in map(Path, self.best_k_models):
            if not path.exists() and (folder / path.name).is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / path.name, _unfinished(path))
                os.replace(_unfinished(path), path)

    def _best_at_home(self) -> dict[str, Tensor]:
        """The checkpoints that say of themselves that they were among the best when they were written."""
        assert self.dirpath is not None
        return {
            str(path): score
            for path in Path(self.dirpath).glob("*.ckpt")
            for monitor, score in _own_scores(path)
            if monitor == self.monitor
        }


class BestCheckpoint(RunCheckpoint):
    """The best checkpoint of a run.

    A class of its own: Lightning tells the states of callbacks apart by class and settings, and refuses two of one
    class whose settings a configuration leaves alike.
    """


def best_checkpoint(folder: str | Path) -> Path | None:
    """The best checkpoint of a run; None if there is none."""
    folder = Path(folder)
    if (folder / "best.ckpt").is_file():
        return folder / "best.ckpt"
    for path in sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        for state in _states(path):
            best = folder / Path(str(state.get("best_model_path") or "none")).name
            if state.get("monitor") is not None and best.is_file():
                return best
    return None


def _own_scores(path: Path) -> Iterator[tuple[str, Tensor]]:
    """What a checkpoint was saved for, and its score."""
    for state in _states(path):
        for name, score in state.get("best_k_models", {}).items():
            if Path(name).name == path.name and state.get("monitor") is not None:
                yield state["monitor"], score


def _states(path: Path) -> Iterator[Mapping[str, Any]]:
    """The states of the callbacks in a checkpoint; none of one that cannot be read."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        yield from (state for state in checkpoint["callbacks"].values() if isinstance(state, Mapping))
    except Exception:
        return


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _sync_folder(folder: Path) -> None:
    """Have the new name itself on the disk, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
