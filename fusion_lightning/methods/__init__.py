"""Fusion methods: one LightningModule per method and stage."""

from fusion_lightning.methods.base import (
    Controls,
    FusionMethod,
    FusionOutput,
    ScoreRow,
    StepOutput,
    load_method,
    read_checkpoint,
)
from fusion_lightning.methods.cled import CLEDStage1, CLEDStage2
from fusion_lightning.methods.drfusion import DRFusion
from fusion_lightning.methods.ifcnn import IFCNN
from fusion_lightning.methods.simple import Average, Maximum
from fusion_lightning.methods.u2fusion import U2Fusion

__all__ = [
    "IFCNN",
    "Average",
    "CLEDStage1",
    "CLEDStage2",
    "Controls",
    "DRFusion",
    "FusionMethod",
    "FusionOutput",
    "Maximum",
    "ScoreRow",
    "StepOutput",
    "U2Fusion",
    "load_method",
    "read_checkpoint",
]
