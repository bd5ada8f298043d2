"""Where the pairs come from: folders as downloaded, or scenes drawn from a seed."""

from fusion_lightning.datamodules.data import FusionData

__all__ = ["FusionData"]
