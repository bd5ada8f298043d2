"""The short names of methods that need no training, as they are typed."""

from typing import Any

from fusion_lightning.errors import UserError

_RULES = {
    "average": "Average",
    "maximum": "Maximum",
    "laplacian": "LaplacianPyramid",
    "guided": "GuidedFilter",
    "wavelet": "WaveletMaximum",
}
_PUBLISHED = {"ifcnn": "IFCNN", "gifnet": "GIFNet"}
"""Networks whose published weights are used as they are."""

DEFAULT = "laplacian"
"""What fuses when nothing is named."""

SHORT_NAMES = ", ".join([*_RULES, "overlay:ALPHA", *(f"{name}=FILE" for name in _PUBLISHED)])
"""All of them, for messages."""


def ready_names() -> list[str]:
    """What fuses without any file, for menus; the default comes first."""
    return [DEFAULT, *(name for name in _RULES if name != DEFAULT), "overlay:0.5"]


def spelled_out(name: str) -> str | dict[str, Any]:
    """What `build_method` takes, from a short name; anything else is returned as it is.

    - a rule: ``average``, ``maximum``, ``laplacian``, ``guided``, ``wavelet``;
    - ``overlay:ALPHA``: source a over source b, ALPHA of it;
    - ``ifcnn=FILE``, ``gifnet=FILE``: a network with its published weights.

    Raises:
        UserError: If the number or the file after a name is missing.
    """
    if name in _RULES:
        return _RULES[name]
    short, _, value = name.partition("=")
    if short in _PUBLISHED and not name.endswith(".ckpt"):
        if not value:
            raise UserError(f"{short} needs its published weights: write {short}=FILE")
        return {"class_path": _PUBLISHED[short], "init_args": {"weights": value}}
    short, _, value = name.partition(":")
    if short == "overlay":
        try:
            return {"class_path": "Overlay", "init_args": {"alpha": float(value)}}
        except ValueError as error:
            raise UserError(f"overlay needs a number from 0 to 1: write overlay:0.5, not {name}") from error
    return name
