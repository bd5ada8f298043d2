"""The trained models that ship, by name: what `catalogue.yaml` says of them, and their weights."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import yaml

from fusion_lightning.errors import UserError

_FOLDER = Path(__file__).parent

BEST = "cled"
"""What fuses when nothing is named."""
ESTIMATOR = "estimator"
"""What estimates degradations when nothing is named."""
FOR_SCANS = "registration-medical"
"""What registers PET, SPECT and CT onto MRI."""


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        name: What it is called wherever a checkpoint is named.
        method: Class of the method.
        task: What it does with a pair: ``fuse`` or ``restore`` it, ``estimate`` its degradations, or ``register`` it.
        use: What it is for, in a few words.
        millions: Number of parameters in millions.
        data: What it was trained on.
        licence: Under what terms the weights may be used.
        scores: A few scores on held-out pairs, by name.
        sha256: Sum of the file.
    """

    name: str
    method: str
    task: Literal["fuse", "restore", "estimate", "register"]
    use: str
    millions: float
    data: str
    licence: str
    scores: dict[str, str]
    sha256: str

    @property
    def file(self) -> Path:
        """The checkpoint, in half precision."""
        return _FOLDER / f"{self.name}.ckpt"


@cache
def models() -> dict[str, Model]:
    """Every model by its name."""
    entries = yaml.safe_load((_FOLDER / "catalogue.yaml").read_text(encoding="utf-8"))
    return {name: Model(name=name, **entry) for name, entry in entries.items()}


def checkpoint_of(name: str | Path) -> Path:
    """The checkpoint that a model's name stands for; anything else is a path, and returned as it is.

    Raises:
        UserError: If a model's file is missing or is not the one that was published.
    """
    model = models().get(str(name))
    return Path(name) if model is None else _checked(model.name)


@cache
def _checked(model_name: str) -> Path:
    model = models()[model_name]
    if not model.file.is_file():
        raise UserError(f"{model.file}, the weights of {model_name}, is missing: install the package again")
    if sha256(model.file.read_bytes()).hexdigest() != model.sha256:
        raise UserError(f"{model.file} is not the {model_name} that ships (its sum differs): install the package again")
    return model.file
