"""Parity with the original MATLAB toolboxes, on every row of the golden tables."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion_lightning.metrics import functional as fn

from .conftest import golden_rows, read

Score = Callable[[Tensor, Tensor, Tensor], Tensor]

SCORES: dict[str, Score] = {
    "EN": fn.en,
    "MI_matlab": lambda f, a, b: fn.mi(f, a, b, merge_top_levels=True),
    "PSNR_plus_48dB": lambda f, a, b: fn.psnr(f, a, b) + 20 * math.log10(255),
    "MSE": fn.mse,
    "SF": fn.sf,
    "SD": fn.sd,
    "VIF": fn.vif,
    "AG": fn.ag,
    "CC": fn.cc,
    "SCD": fn.scd,
    "Qabf": fn.qabf,
    "Nabf_swapped": lambda f, a, b: fn.nabf(a, b, f),
    "Nabf": fn.nabf,
    "SSIM_L1_mean": lambda f, a, b: fn.ssim(f, a, b, reduction="mean", data_range=1),
    "SSIM_mean": lambda f, a, b: fn.ssim(f, a, b) / 2,
    "MEF_SSIM": fn.mef_ssim,
    "FMI_none": fn.fmi,
    "FMI_gradient": lambda f, a, b: fn.fmi(f, a, b, features="gradient"),
    "FMI_dct": lambda f, a, b: fn.fmi(f, a, b, features="dct"),
    "Q_MI": fn.q_mi,
    "Q_TE": fn.q_te,
    "Q_NCIE": fn.q_ncie,
    "Q_G": fn.q_g,
    "Q_M": fn.q_m,
    "Q_SF": fn.q_sf,
    "Q_P": fn.q_p,
    "Q_S": fn.q_s,
    "Q_C": fn.q_c,
    "Q_Y": fn.q_y,
    "Q_CB": fn.q_cb,
    "Q_CV": fn.q_cv,
}
SLOW = {"FMI_none", "FMI_gradient", "FMI_dct", "Q_P"}
FLOAT32 = {"PSNR_plus_48dB", "EN", "MI_matlab", "Qabf", "Nabf", "SF", "AG", "VIF", "SSIM_mean", "Q_G", "Q_SF", "Q_P"}
FLOAT32_TOLERANCE = {"VIF": 5e-5, "SSIM_mean": 1e-5, "MEF_SSIM": 1e-5, "Q_S": 1e-5, "Q_P": 5e-5}
"""What float32 may cost where local moments are computed in it; 2e-6 elsewhere."""
SAMPLE = {"13", "41"}
"""Images of the quick test: an easy one, and the one with saturated areas in both sources."""


def tolerance(column: str, image: str) -> float:
    """What a value may differ from the toolbox's, relative to it; docs/metrics.md says why some may differ more."""
    if column == "Q_C":
        return 2e-2  # the toolbox's rounding decides in windows where one source is flat
    if column == "Q_Y" and image == "41":
        return 0.1  # the same, where both are
    if column == "Q_S" and image == "41":
        return 1e-5
    return 1e-8


def check_rows(shared, column: str, images: set[str] | None, dtype: torch.dtype, at_least: float = 0.0) -> int:
    rows = golden_rows(shared / "golden", "tno_*.csv", "method", "image")
    checked = 0
    for (method, image), row in rows.items():
        if not row[column] or (images and image not in images):
            continue
        folders = (f"published/TNO/{method}", "data/TNO/ir", "data/TNO/vi")
        fused, a, b = (read(shared / folder / f"{image}.png").to(dtype) for folder in folders)
        value, golden = SCORES[column](fused, a, b).item(), float(row[column])
        limit = max(tolerance(column, image), at_least)
        assert value == pytest.approx(golden, rel=limit, abs=0, nan_ok=True), (method, image)
        checked += 1
    return checked


@pytest.mark.parametrize("column", [column for column in SCORES if column not in SLOW])
def test_equals_the_toolbox_on_two_images(shared, column):
    assert check_rows(shared, column, SAMPLE, torch.float64) > 0


@pytest.mark.slow
@pytest.mark.parametrize("column", SCORES)
def test_equals_the_toolbox_on_every_row(shared, column):
    assert check_rows(shared, column, None, torch.float64) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("column", SCORES)
def test_float32_equals_the_toolbox_on_every_row(shared, column):
    check_rows(shared, column, None, torch.float32, at_least=FLOAT32_TOLERANCE.get(column, 2e-6))


@pytest.mark.parametrize("column", sorted(FLOAT32))
def test_float32_stays_close(shared, column):
    check_rows(shared, column, {"13"}, torch.float32, at_least=FLOAT32_TOLERANCE.get(column, 2e-6))


@pytest.fixture(scope="module")
def degenerate(shared):
    """Case -> fused, a and b; the golden rows of the two toolboxes."""
    a, b, fused = (read(shared / "golden/degenerate" / f"{name}.png") for name in ("A", "B", "U2Fusion"))

    def constant(level: int) -> Tensor:
        return torch.full_like(a, level / 255)

    cases = {
        "normal_U2Fusion": (fused, a, b),
        "F=A": (a, a, b),
        "F=B": (b, a, b),
        "F=const128": (constant(128), a, b),
        "F=const255": (constant(255), a, b),
        "F=const0": (constant(0), a, b),
        "A=B=F": (a, a, a),
        "A=B,F=U2Fusion": (fused, a, a),
        "B=const128,F=A": (a, a, constant(128)),
    }
    return cases, golden_rows(shared / "golden", "degenerate_*.csv", "case")


@pytest.mark.parametrize("column", [column for column in SCORES if not column.startswith("FMI")])
def test_equals_the_toolbox_on_degenerate_images(degenerate, column):
    cases, rows = degenerate
    assert {case for (case,) in rows} == set(cases)
    for (case,), row in rows.items():
        value, golden = SCORES[column](*cases[case]).item(), float(row[column])
        assert value == pytest.approx(golden, rel=1e-8, abs=1e-9, nan_ok=True), case
