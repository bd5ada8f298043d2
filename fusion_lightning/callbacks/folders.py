"""One run folder for all processes."""

from lightning.pytorch import Trainer


def shared_folder(trainer: Trainer, folder: str) -> str:
    """Rank 0's path, broadcast: ranks launched separately would each pick a run id."""
    return trainer.strategy.broadcast(folder)
