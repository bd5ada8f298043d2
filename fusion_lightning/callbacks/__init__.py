"""What happens around the steps of a method: averages, pictures, tables, records, and what to do in trouble."""

from fusion_lightning.callbacks.averaging import MovingAverage
from fusion_lightning.callbacks.faults import NumericalFaults
from fusion_lightning.callbacks.interruption import Interruption
from fusion_lightning.callbacks.predictions import PredictionWriter
from fusion_lightning.callbacks.previews import Previews
from fusion_lightning.callbacks.record import RunRecord
from fusion_lightning.callbacks.scores import ScoreTable

__all__ = [
    "Interruption",
    "MovingAverage",
    "NumericalFaults",
    "PredictionWriter",
    "Previews",
    "RunRecord",
    "ScoreTable",
]
