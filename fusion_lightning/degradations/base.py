"""What every degradation is: strengths, parameters drawn from them, and a deterministic effect."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.errors import UserError

Strength = float | tuple[float, float]
"""A fixed number, or a range ``(low, high)`` from which each image draws its own, uniformly."""

Params = dict[str, Any]

EFFECTS: dict[str, type["Degradation"]] = {}
"""Every effect by the name it has in a specification."""


def strength(default: Strength, low: float = 0.0, high: float = math.inf, whole: bool = False) -> Any:
    """Declare a strength of an effect: its default, the values it may take, and whether they are whole numbers."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "whole": whole})


def choice(default: str, *others: str) -> Any:
    """Declare an argument of an effect that is one of a few words."""
    return dataclasses.field(default=default, metadata={"choices": (default, *others)})


@dataclass(frozen=True)
class Degradation(ABC):
    """Something that goes wrong between the scene and the image.

    The constructor takes strengths (a number, or a range ``(low, high)``); `sample` draws one set of parameters from
    them; `apply` does the same thing to the same image for the same parameters, always. Images are float32 arrays
    (H, W, 1) or (H, W, 3) in [0, 1], and stay so.

    Subclasses are frozen dataclasses: their fields, declared with `strength` and `choice`, are their parameters.
    """

    name: ClassVar[str] = ""
    random: ClassVar[bool] = False
    """Whether `apply` draws a random field, which the parameters hold as an integer ``seed``."""
    severities: ClassVar[tuple[Params, ...]] = ()
    """Constructor arguments of severity 1 (just visible) to 5 (hardly usable)."""

    def __init_subclass__(cls) -> None:
        """List the effect under its name."""
        if cls.name:
            EFFECTS[cls.name] = cls

    def __post_init__(self) -> None:
        """Refuse strengths that make no sense.

        Raises:
            UserError: A strength is not a number or a range, or lies outside what it may be.
        """
        for field in dataclasses.fields(self):
            _check(self.name, field, getattr(self, field.name))

    @classmethod
    def at_severity(cls, level: int) -> Self:
        """The effect at a severity from 1 (just visible) to 5 (hardly usable).

        Raises:
            UserError: ``level`` is not in 1..5.
        """
        if level not in range(1, len(cls.severities) + 1):
            raise UserError(f"severity of `{cls.name}` must be a whole number from 1 to 5, but got {level}")
        return cls(**cls.severities[level - 1])

    def sample(self, generator: np.random.Generator, shape: Sequence[int]) -> Params:
        """Draw the parameters for one image.

        Args:
            generator: Where every random choice comes from.
            shape: Shape of the image to degrade, (H, W, C).

        Returns:
            Plain numbers, words and booleans; random fields are stood for by an integer ``seed``.
        """
        params = {field.name: _draw(generator, field, getattr(self, field.name)) for field in dataclasses.fields(self)}
        if self.random:
            params["seed"] = int(generator.integers(2**32))
        return params

    @abstractmethod
    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Degrade ``image`` (H, W, C), float32 in [0, 1], as ``params`` say; the image itself is not changed."""

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """Draw the effects that will be applied to one image, in their order."""
        return [{"name": self.name, "params": self.sample(generator, shape)}]


@dataclass(frozen=True)
class _Composite(Degradation):
    """A degradation made of others; its parameters are the effects that were drawn."""

    def sample(self, generator: np.random.Generator, shape: Sequence[int]) -> Params:
        return {"effects": self.plan(generator, shape)}

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        return reapply(image, params["effects"])


@dataclass(frozen=True)
class Identity(_Composite):
    """Nothing goes wrong; in a specification: ``identity``."""

    name: ClassVar[str] = "identity"

    @classmethod
    def at_severity(cls, level: int) -> Self:
        """Nothing has no degrees: the same at every level."""
        return cls()

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """No effect."""
        return []


@dataclass(frozen=True)
class Chain(_Composite):
    """One degradation after another; in a specification: ``blur(sigma=2)+noise``.

    Args:
        parts: Degradations in the order in which they are applied.
    """

    parts: tuple[Degradation, ...]

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """The effects of all parts."""
        return [effect for part in self.parts for effect in part.plan(generator, shape)]


@dataclass(frozen=True)
class OneOf(_Composite):
    """One of several degradations, drawn per image; in a specification: ``noise|stripes`` or ``3*noise|stripes``.

    Args:
        choices: What to choose from.
        weights: How often each is chosen relative to the others, at least 0; equally often if None.
    """

    choices: tuple[Degradation, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != len(self.choices) or min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise UserError(
                f"`weights` must be {len(self.choices)} numbers of at least 0 that are not all 0, but got {self.weights}"
            )

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """The effects of the choice that was drawn."""
        weights = None if self.weights is None else np.asarray(self.weights) / sum(self.weights)
        return self.choices[int(generator.choice(len(self.choices), p=weights))].plan(generator, shape)


def degrade(
    image: np.ndarray, degradation: Degradation, generator: np.random.Generator
) -> tuple[np.ndarray, list[AppliedDegradation]]:
    """Degrade an image and tell how.

    Args:
        image: (H, W, 1) or (H, W, 3), float32 in [0, 1]; not changed.
        degradation: What may go wrong.
        generator: Where every random choice comes from.

    Returns:
        The degraded image, float32 in [0, 1], and the effects in the order in which they were applied.
    """
    effects = degradation.plan(generator, image.shape)
    return reapply(image, effects), effects


def reapply(image: np.ndarray, effects: Sequence[AppliedDegradation]) -> np.ndarray:
    """Apply recorded effects to an image: the same bytes as when they were drawn for it.

    Args:
        image: (H, W, 1) or (H, W, 3), float32 in [0, 1]; not changed, and returned itself if there are no effects.
        effects: As `degrade` returned them, or as read from a manifest.

    Raises:
        UserError: An effect is unknown.
    """
    for effect in effects:
        if effect["name"] not in EFFECTS:
            raise UserError(f"effect must be one of {', '.join(sorted(EFFECTS))}, but got `{effect['name']}`")
        image = EFFECTS[effect["name"]]().apply(image, effect["params"])
    return image


def _draw(generator: np.random.Generator, field: "dataclasses.Field[Any]", value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if field.metadata["whole"]:
        return int(generator.integers(int(value[0]), int(value[1]) + 1))
    return float(generator.uniform(*value))


def _check(effect: str, field: "dataclasses.Field[Any]", value: Any) -> None:
    where = f"`{field.name}` of `{effect}`"
    if "choices" in field.metadata:
        if value not in field.metadata["choices"]:
            raise UserError(f"{where} must be one of {', '.join(field.metadata['choices'])}, but got `{value}`")
    elif isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{where} must be true or false, but got `{value}`")
    elif "low" in field.metadata:
        _check_strength(where, field, value)


def _check_strength(where: str, field: "dataclasses.Field[Any]", value: Any) -> None:
    bounds = value if isinstance(value, tuple) else (value, value)
    numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds)
    if len(bounds) != 2 or not numbers or not all(map(math.isfinite, bounds)):
        raise UserError(f"{where} must be a number or a range of two, but got `{value}`")
    if bounds[0] > bounds[1]:
        raise UserError(f"{where} must be a range from low to high, but got {bounds[0]}..{bounds[1]}")
    low, high = field.metadata["low"], field.metadata["high"]
    if bounds[0] < low or bounds[1] > high:
        allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise UserError(f"{where} must be {allowed}, but got {value}")
    if field.metadata["whole"] and any(bound != int(bound) for bound in bounds):
        raise UserError(f"{where} must be a whole number, but got {value}")
