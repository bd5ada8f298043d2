"""One pure function per metric: `name(fused, source_a, source_b, **options)` on [0, 1] images gives (B,) values."""

from .gradients import nabf, qabf
from .information import en, mi
from .structure import ms_ssim, ssim, vif

__all__ = ["en", "mi", "ms_ssim", "nabf", "qabf", "ssim", "vif"]
