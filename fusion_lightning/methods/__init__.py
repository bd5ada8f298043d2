"""Fusion methods: one LightningModule per method and stage."""

from fusion_lightning.batch import Controls, FusionOutput
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.blind import Blind
from fusion_lightning.methods.ccf import CCF
from fusion_lightning.methods.classical import (
    Average,
    ClassicalRestorer,
    GuidedFilter,
    LaplacianPyramid,
    Maximum,
    Overlay,
    WaveletMaximum,
)
from fusion_lightning.methods.cled import CLEDStage1, CLEDStage2
from fusion_lightning.methods.ddfm import DDFM
from fusion_lightning.methods.degradation_estimator import ClassicalEstimator, DegradationEstimator, Estimator
from fusion_lightning.methods.densefuse import DenseFuse
from fusion_lightning.methods.didfuse import DIDFuse
from fusion_lightning.methods.dif_fusion import DifFusionStage1, DifFusionStage2
from fusion_lightning.methods.diffusion_restorer import DiffusionRestorer
from fusion_lightning.methods.drfusion import DRFusion
from fusion_lightning.methods.drmf import DRMF
from fusion_lightning.methods.gifnet import GIFNet
from fusion_lightning.methods.ifcnn import IFCNN
from fusion_lightning.methods.loading import (
    Specification,
    build_method,
    check_weights,
    find_method,
    load_method,
    look_up,
    method_of,
    read_checkpoint,
    start_from,
)
from fusion_lightning.methods.lrrnet import LRRNet
from fusion_lightning.methods.mask_difuser import MaskDiFuser
from fusion_lightning.methods.murf import MURFusion
from fusion_lightning.methods.pmgi import PMGI
from fusion_lightning.methods.prior import UnconditionalPrior
from fusion_lightning.methods.registration import ClassicalRegistration, Registration, RegistrationNet
from fusion_lightning.methods.restore_then_fuse import RestoreThenFuse
from fusion_lightning.methods.restormer import Restormer
from fusion_lightning.methods.rffusion import RFFusion
from fusion_lightning.methods.sdnet import SDNet
from fusion_lightning.methods.seafusion import SeAFusion
from fusion_lightning.methods.text_difuse import TextDiFuse
from fusion_lightning.methods.u2fusion import U2Fusion
from fusion_lightning.methods.vdmufusion import VDMUFusion

__all__ = [
    "CCF",
    "DDFM",
    "DRMF",
    "IFCNN",
    "PMGI",
    "Average",
    "Blind",
    "CLEDStage1",
    "CLEDStage2",
    "ClassicalEstimator",
    "ClassicalRegistration",
    "ClassicalRestorer",
    "Controls",
    "DIDFuse",
    "DRFusion",
    "DegradationEstimator",
    "DenseFuse",
    "DifFusionStage1",
    "DifFusionStage2",
    "DiffusionRestorer",
    "Estimator",
    "FusionMethod",
    "FusionOutput",
    "GIFNet",
    "GuidedFilter",
    "LRRNet",
    "LaplacianPyramid",
    "MURFusion",
    "MaskDiFuser",
    "Maximum",
    "Overlay",
    "RFFusion",
    "Registration",
    "RegistrationNet",
    "RestoreThenFuse",
    "Restormer",
    "SDNet",
    "SeAFusion",
    "Specification",
    "TextDiFuse",
    "U2Fusion",
    "UnconditionalPrior",
    "VDMUFusion",
    "WaveletMaximum",
    "build_method",
    "check_weights",
    "find_method",
    "load_method",
    "look_up",
    "method_of",
    "read_checkpoint",
    "start_from",
]
