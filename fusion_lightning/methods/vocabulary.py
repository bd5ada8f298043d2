"""The short names of methods that need no training any more, as they are typed."""

from typing import Any

from fusion_lightning.errors import UserError
from fusion_lightning.zoo import BEST, checkpoint_of, models

_RULES = {
    "average": "Average",
    "maximum": "Maximum",
    "laplacian": "LaplacianPyramid",
    "guided": "GuidedFilter",
    "wavelet": "WaveletMaximum",
}
_PUBLISHED = {"ifcnn": "IFCNN", "gifnet": "GIFNet"}
"""Networks whose published weights are used as they are."""


def short_names() -> list[str]:
    """All of them, for messages."""
    return [*models(), *short_classes()]


def short_classes() -> dict[str, str]:
    """The class of every one that is no model's, by the name as it is typed."""
    return {**_RULES, "overlay:ALPHA": "Overlay", **{f"{name}=FILE": method for name, method in _PUBLISHED.items()}}


def ready_names() -> list[str]:
    """What fuses without any file, for menus; the default comes first."""
    trained = [name for name, model in models().items() if model.task == "fuse" and name != BEST]
    return [BEST, *trained, *_RULES, "overlay:0.5"]


def spelled_out(name: str) -> str | dict[str, Any]:
    """What a short name stands for; anything else is returned as it is.

    - the name of a model that ships: its checkpoint;
    - a rule: ``average``, ``maximum``, ``laplacian``, ``guided``, ``wavelet``;
    - ``overlay:ALPHA``: source a over source b, ALPHA of it;
    - ``ifcnn=FILE``, ``gifnet=FILE``: a network with its published weights.

    Raises:
        UserError: If the number or the file after a name is missing, or a model's weights are damaged.
    """
    if name in models():
        return str(checkpoint_of(name))
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
