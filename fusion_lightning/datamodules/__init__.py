"""Data: pairs from folders as downloaded, or scenes rendered from a seed."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion_lightning.datamodules.data import FusionData
    from fusion_lightning.datamodules.loader import ResumableLoader, why_workers_ended

__all__ = ["FusionData", "ResumableLoader", "why_workers_ended"]

_HOMES = {"FusionData": "data", "ResumableLoader": "loader", "why_workers_ended": "loader"}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for: commands that only render or pair need no Lightning."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
