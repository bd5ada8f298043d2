"""Fusion methods: one LightningModule per method and stage."""

from fusion_lightning.methods.base import (
    Controls,
    FusionMethod,
    FusionOutput,
    ScoreRow,
    StepOutput,
    score_images,
)
from fusion_lightning.methods.build import build_method, check_weights, load_method, read_checkpoint
from fusion_lightning.methods.cascade import RestoreThenFuse
from fusion_lightning.methods.cled import CLEDStage1, CLEDStage2
from fusion_lightning.methods.drfusion import DRFusion
from fusion_lightning.methods.ifcnn import IFCNN
from fusion_lightning.methods.restoration import ClassicalRestorer, Restormer
from fusion_lightning.methods.simple import Average, GuidedFilter, LaplacianPyramid, Maximum, WaveletMaximum
from fusion_lightning.methods.u2fusion import U2Fusion
from fusion_lightning.methods.vdmufusion import VDMUFusion

__all__ = [
    "IFCNN",
    "Average",
    "CLEDStage1",
    "CLEDStage2",
    "ClassicalRestorer",
    "Controls",
    "DRFusion",
    "FusionMethod",
    "FusionOutput",
    "GuidedFilter",
    "LaplacianPyramid",
    "Maximum",
    "RestoreThenFuse",
    "Restormer",
    "ScoreRow",
    "StepOutput",
    "U2Fusion",
    "VDMUFusion",
    "WaveletMaximum",
    "build_method",
    "check_weights",
    "load_method",
    "read_checkpoint",
    "score_images",
]
