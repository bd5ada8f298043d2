"""Trainer callbacks: weight averaging, previews, score table, predictions, configuration, signals, NaN and Inf."""

from fusion_lightning.callbacks.averaging import MovingAverage
from fusion_lightning.callbacks.faults import NonFiniteGuard
from fusion_lightning.callbacks.interruption import SignalCheckpoint, StopOnSignal
from fusion_lightning.callbacks.optimization import ConfiguredOptimization
from fusion_lightning.callbacks.predictions import PredictionWriter
from fusion_lightning.callbacks.previews import Previews
from fusion_lightning.callbacks.progress import RunProgress, best_score
from fusion_lightning.callbacks.record import ConfigRecord
from fusion_lightning.callbacks.scores import ScoreTable

__all__ = [
    "ConfigRecord",
    "ConfiguredOptimization",
    "MovingAverage",
    "NonFiniteGuard",
    "PredictionWriter",
    "Previews",
    "RunProgress",
    "ScoreTable",
    "SignalCheckpoint",
    "StopOnSignal",
    "best_score",
]
