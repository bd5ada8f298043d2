"""Data: pairs from folders as downloaded, or scenes rendered from a seed."""

from fusion_lightning.datamodules.data import FusionData
from fusion_lightning.datamodules.sampler import ResumableLoader, why_workers_ended

__all__ = ["FusionData", "ResumableLoader", "why_workers_ended"]
