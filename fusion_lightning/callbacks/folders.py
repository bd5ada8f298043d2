"""Folders that all processes of a run agree on."""

from lightning.pytorch import Trainer


def shared_folder(trainer: Trainer, folder: str) -> str:
    """The first process's name for a folder: others that were started on their own have named the run otherwise."""
    return trainer.strategy.broadcast(folder)
