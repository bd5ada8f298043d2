"""Base classes of degradations: strengths, parameters sampled from them, and a deterministic effect."""

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

import numpy as np

from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.errors import UserError

Strength = float | tuple[float, float]
"""A fixed number, or a range ``(low, high)`` from which each image draws its own, uniformly."""

Params = dict[str, Any]

EFFECTS: dict[str, type["Degradation"]] = {}
"""Every effect by the name it has in a specification."""


class Bounds(NamedTuple):
    """Allowed range of a strength, written as ``Annotated[Strength, Bounds(...)]``."""

    low: float = 0.0
    high: float = math.inf
    whole: bool = False
    """Whether only whole numbers make sense."""


@dataclass(frozen=True)
class Degradation(ABC):
    """Base of all degradations of an image.

    The constructor takes strengths (a number, or a range ``(low, high)``); `sample` draws one set of parameters from
    them; `apply` does the same thing to the same image for the same parameters, always. Images are float32 arrays
    (H, W, 1) or (H, W, 3) in [0, 1], and stay so.

    Subclasses are frozen dataclasses whose fields are their parameters; the annotation of a field (`Bounds`, a
    ``Literal`` of words, ``bool``) says what it may be.
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
        """Check the strengths.

        Raises:
            UserError: If a strength is not a number or a range, or lies outside what it may be.
        """
        for name, hint in hints(type(self)).items():
            _check(f"`{name}` of `{self.name}`", hint, getattr(self, name))

    @classmethod
    def at_severity(cls, level: int) -> Self:
        """The effect at a severity from 1 (just visible) to 5 (hardly usable).

        Raises:
            UserError: If ``level`` is not in 1..5.
        """
        if level not in range(1, len(cls.severities) + 1):
            raise UserError(f"severity of `{cls.name}` must be a whole number from 1 to 5, but got {level}")
        return cls(**cls.severities[level - 1])

    def sample(self, generator: np.random.Generator, shape: Sequence[int]) -> Params:
        """Sample the parameters for one image.

        Args:
            generator: Where every random choice comes from.
            shape: Shape of the image to degrade, (H, W, C).

        Returns:
            Plain numbers, words and booleans; random fields are stood for by an integer ``seed``.
        """
        params = {name: _draw(generator, hint, getattr(self, name)) for name, hint in hints(type(self)).items()}
        if self.random:
            params["seed"] = int(generator.integers(2**32))
        return params

    def __str__(self) -> str:
        """The specification as it is typed: `parse` makes the same degradation of it."""
        changed = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        changed = {name: value for name, value in changed.items() if value != getattr(type(self), name)}
        arguments = ", ".join(f"{name}={_typed(value)}" for name, value in changed.items())
        return f"{self.name}({arguments})" if arguments else self.name

    @abstractmethod
    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Degrade ``image`` (H, W, C), float32 in [0, 1], as ``params`` say; the image itself is not changed."""

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """Sample the effects to apply to one image, in their order."""
        return [{"name": self.name, "params": self.sample(generator, shape)}]


@dataclass(frozen=True)
class Identity(Degradation):
    """No degradation; in a specification: ``identity``."""

    name: ClassVar[str] = "identity"

    severities: ClassVar[tuple[Params, ...]] = ({},) * 5

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """The image itself."""
        return image

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """No effect."""
        return []


@dataclass(frozen=True)
class _Composite(Degradation):
    """A degradation made of others; its parameters are the effects that were drawn."""

    def sample(self, generator: np.random.Generator, shape: Sequence[int]) -> Params:
        return {"effects": self.plan(generator, shape)}

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        return reapply(image, params["effects"])


@dataclass(frozen=True)
class Chain(_Composite):
    """One degradation after another; in a specification: ``blur(sigma=2)+noise``.

    Args:
        parts: Degradations in the order in which they are applied.
    """

    parts: tuple[Degradation, ...]

    def __str__(self) -> str:
        return "+".join(f"({part})" if isinstance(part, _Composite) else str(part) for part in self.parts)

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
                f"`weights` must be {len(self.choices)} numbers of at least 0, not all 0, but got {self.weights}"
            )

    def __str__(self) -> str:
        texts = [f"({one})" if isinstance(one, OneOf) else str(one) for one in self.choices]
        weights = self.weights or (1,) * len(texts)
        return "|".join(text if w == 1 else f"{_typed(w)}*{text}" for w, text in zip(weights, texts, strict=True))

    def plan(self, generator: np.random.Generator, shape: Sequence[int]) -> list[AppliedDegradation]:
        """The effects of the choice that was drawn."""
        weights = None if self.weights is None else np.asarray(self.weights) / sum(self.weights)
        return self.choices[int(generator.choice(len(self.choices), p=weights))].plan(generator, shape)


def degrade(
    image: np.ndarray, degradation: Degradation, generator: np.random.Generator
) -> tuple[np.ndarray, list[AppliedDegradation]]:
    """Degrade an image, and record the effects.

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
        UserError: If an effect is unknown.
    """
    for effect in effects:
        if effect["name"] not in EFFECTS:
            raise UserError(f"effect must be one of {', '.join(sorted(EFFECTS))}, but got `{effect['name']}`")
        # OpenCV reads no mirrored views
        image = EFFECTS[effect["name"]]().apply(np.ascontiguousarray(image), effect["params"])
    return image


@functools.cache
def hints(effect: type[Degradation]) -> dict[str, Any]:
    """The parameters of an effect with their annotations, in order."""
    annotations = get_type_hints(effect, include_extras=True)
    return {field.name: annotations[field.name] for field in dataclasses.fields(effect)}


def _draw(generator: np.random.Generator, hint: Any, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if hint.__metadata__[0].whole:
        return int(generator.integers(int(value[0]), int(value[1]) + 1))
    return float(generator.uniform(*value))


def _typed(value: Any) -> str:
    """A parameter as a specification has it."""
    if isinstance(value, tuple):
        return "..".join(map(_typed, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(where: str, hint: Any, value: Any) -> None:
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise UserError(f"{where} must be one of {', '.join(get_args(hint))}, but got `{value}`")
    if hint is bool and not isinstance(value, bool):
        raise UserError(f"{where} must be true or false, but got `{value}`")
    if get_origin(hint) is Annotated:
        _check_strength(where, hint.__metadata__[0], value)


def _check_strength(where: str, bounds: Bounds, value: Any) -> None:
    ends = value if isinstance(value, tuple) else (value, value)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not numbers or not all(map(math.isfinite, ends)):
        raise UserError(f"{where} must be a number or a range of two, but got `{value}`")
    if ends[0] > ends[1]:
        raise UserError(f"{where} must be a range from low to high, but got {ends[0]}..{ends[1]}")
    if ends[0] < bounds.low or ends[1] > bounds.high:
        allowed = f"at least {bounds.low:g}" if bounds.high == math.inf else f"from {bounds.low:g} to {bounds.high:g}"
        raise UserError(f"{where} must be {allowed}, but got {value}")
    if bounds.whole and any(end != int(end) for end in ends):
        raise UserError(f"{where} must be a whole number, but got {value}")
