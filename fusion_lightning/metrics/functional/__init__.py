"""One pure function per metric: `name(fused, source_a, source_b, **options)` on [0, 1] images gives (B,) values."""

from fusion_lightning.metrics.functional.detail import q_m, q_sf
from fusion_lightning.metrics.functional.exposure import mef_ssim
from fusion_lightning.metrics.functional.features import fmi
from fusion_lightning.metrics.functional.gradients import nabf, q_g, qabf
from fusion_lightning.metrics.functional.information import en, mi, q_mi, q_ncie, q_te
from fusion_lightning.metrics.functional.perception import q_cb, q_cv
from fusion_lightning.metrics.functional.phase import q_p
from fusion_lightning.metrics.functional.registration import epe, inverse_consistency, landmark_error, mi_gain
from fusion_lightning.metrics.functional.restoration import psnr_to, ssim_to
from fusion_lightning.metrics.functional.similarity import q_c, q_s, q_y
from fusion_lightning.metrics.functional.statistics import ag, cc, mse, psnr, scd, sd, sf
from fusion_lightning.metrics.functional.structure import ms_ssim, ssim, vif

__all__ = [
    "ag",
    "cc",
    "en",
    "epe",
    "fmi",
    "inverse_consistency",
    "landmark_error",
    "mef_ssim",
    "mi",
    "mi_gain",
    "ms_ssim",
    "mse",
    "nabf",
    "psnr",
    "psnr_to",
    "q_c",
    "q_cb",
    "q_cv",
    "q_g",
    "q_m",
    "q_mi",
    "q_ncie",
    "q_p",
    "q_s",
    "q_sf",
    "q_te",
    "q_y",
    "qabf",
    "scd",
    "sd",
    "sf",
    "ssim",
    "ssim_to",
    "vif",
]
