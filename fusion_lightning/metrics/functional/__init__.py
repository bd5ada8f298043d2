"""One pure function per metric: `name(fused, source_a, source_b, **options)` on [0, 1] images gives (B,) values."""

from .detail import q_m, q_sf
from .exposure import mef_ssim
from .features import fmi
from .gradients import nabf, q_g, qabf
from .information import en, mi, q_mi, q_ncie, q_te
from .perception import q_cb, q_cv
from .phase import q_p
from .restoration import psnr_to, ssim_to
from .similarity import q_c, q_s, q_y
from .statistics import ag, cc, mse, psnr, scd, sd, sf
from .structure import ms_ssim, ssim, vif

__all__ = [
    "ag",
    "cc",
    "en",
    "fmi",
    "mef_ssim",
    "mi",
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
