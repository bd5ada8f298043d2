"""Scenarios: named pairs of degradations, of source a (infrared, PET, …) and of source b (visible, MRI)."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusion_lightning.degradations.base import EFFECTS, Degradation, Identity
from fusion_lightning.degradations.specification import parse
from fusion_lightning.errors import UserError, suggestion


@dataclass(frozen=True)
class Scenario:
    """Degradations of the two sources of a pair.

    Args:
        name: How tables and batches call it.
        a: Degradation of the source that carries intensity.
        b: Degradation of the source that carries detail.
    """

    name: str
    a: Degradation
    b: Degradation


# ordinary infrared cameras, whatever happens to the visible one
_INFRARED = "noise(sigma=5..20)|stripes(sigma=3..8)+noise(sigma=3..5)|low_contrast"

# Measured on the published M3FD pair: noise variance 0.003 and 0.001 (√0.003 · 255 = 13.967), blur σ = 2 over a black
# border, everything cut to 8 bits after every step.
_STORED = "quantize(rounding=down)"
_DRFUSION_NOISE = f"noise(sigma=13.967)+{_STORED}"
_DRFUSION_BLUR = f"blur(sigma=2, padding=zero)+{_STORED}"
_DRFUSION_BOTH = f"{_DRFUSION_BLUR}+noise(sigma=8.0638)+{_STORED}"

# the published recipes of the EMS set, in 8-bit units
_EMS_LOW_RESOLUTION = "blur(sigma=1)+(downsample(2, method=cubic, up=true)|downsample(4, method=cubic, up=true))"

_PRESETS: dict[str, tuple[str, str]] = {
    "clean": ("identity", "identity"),
    # one cause, the visible camera suffers, the infrared one is as bad as infrared cameras are
    "low_light": (_INFRARED, "low_light"),
    "over_exposure": (_INFRARED, "over_exposure"),
    "haze": ("identity|low_contrast", "haze"),
    "rain": ("identity|noise(sigma=5..20)", "rain"),
    # both sources alike
    "blur": ("blur|defocus", "2*blur|motion_blur|defocus"),
    "noise": ("noise", "noise|noise(sigma=5..15)+poisson"),
    # the infrared camera suffers
    "stripes": ("stripes(sigma=3..12)+noise(sigma=3..5)", "identity"),
    "low_contrast": ("low_contrast", "identity"),
    "low_resolution": ("blur(sigma=1)+downsample(2..4, up=true)", "identity"),
    # EMS; its low light, over-exposure and low contrast are real captures, which no recipe repeats
    "ems_noise": (
        "noise(sigma=20)+poisson(peak=80)+salt_pepper(salt=3e-6, pepper=1e-6)",
        "noise(sigma=10)+poisson(peak=70..90)",
    ),
    "ems_stripes": ("stripes(sigma=3..8)+noise(sigma=3..5)", "identity"),
    "ems_low_resolution": (_EMS_LOW_RESOLUTION, _EMS_LOW_RESOLUTION),
    "ems_rain": ("identity", "rain(length=50, width=3, angle=-45..45, opacity=0.1, veil=0.1)"),
    "ems_haze": ("identity", "haze(beta=0.12, airlight=0.8, depth=radial)"),
    # DRFusion
    "drfusion_noise": (_DRFUSION_NOISE, _DRFUSION_NOISE),
    "drfusion_blur": (_DRFUSION_BLUR, _DRFUSION_BLUR),
    "drfusion_composite": (f"{_DRFUSION_BOTH}+downsample(4)+{_STORED}", _DRFUSION_BOTH),
    "drfusion_medical_noise": (_DRFUSION_NOISE, _DRFUSION_NOISE),
    "drfusion_medical_blur": (_DRFUSION_BLUR, _DRFUSION_BLUR),
    "drfusion_medical_composite": (f"{_DRFUSION_BOTH}+downsample(2)+{_STORED}", _DRFUSION_BOTH),
    # the same for methods that want sources of one size: the averaged source is enlarged again
    "drfusion_composite_enlarged": (f"{_DRFUSION_BOTH}+downsample(4, up=true)", _DRFUSION_BOTH),
    "drfusion_medical_composite_enlarged": (f"{_DRFUSION_BOTH}+downsample(2, up=true)", _DRFUSION_BOTH),
    # functional and anatomical images
    "medical_noise": ("noise(sigma=5..20)", "noise(sigma=5..20)"),
    "medical_blur": ("blur(sigma=1..2.5)", "blur(sigma=1..2.5)"),
    "medical_low_resolution": ("blur(sigma=1)+downsample(2..4, up=true)", "identity"),
}

SCENARIOS: dict[str, Scenario] = {name: Scenario(name, parse(a), parse(b)) for name, (a, b) in _PRESETS.items()}
"""Every named scenario."""


def scenario(name_or_specification: str | Mapping[str, str]) -> Scenario:
    """Find or build a scenario.

    Args:
        name_or_specification: The name of one in `SCENARIOS`; or a specification (see `parse`) that both sources
            suffer; or a mapping with the specifications ``a`` and ``b``, of which one may be missing, and optionally a
            ``name``.

    Raises:
        UserError: If it is neither; the message says what is wrong.
    """
    if isinstance(name_or_specification, Mapping):
        return _from_mapping(name_or_specification)
    text = name_or_specification.strip()
    if text in SCENARIOS:
        return SCENARIOS[text]
    if text.isidentifier() and text not in EFFECTS:
        hint = suggestion(text, [*SCENARIOS, *EFFECTS], "scenarios")
        raise UserError(f"`{text}` is neither a scenario nor a degradation; {hint}")
    degradation = parse(text)
    return Scenario(text, degradation, degradation)


def _from_mapping(parts: Mapping[str, str]) -> Scenario:
    unknown = set(parts) - {"name", "a", "b"}
    if unknown or not {"a", "b"} & set(parts):
        raise UserError(f"a scenario must have the keys `a` and `b` (and may have a `name`), but got {dict(parts)}")
    a, b = parts.get("a", Identity.name), parts.get("b", Identity.name)
    return Scenario(parts.get("name", f"a: {a}, b: {b}"), parse(a), parse(b))
