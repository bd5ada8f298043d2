"""Tone windows: which of the values in a file become black and white."""

from dataclasses import dataclass, field, replace

import numpy as np

from fusion_lightning.errors import UserError
from fusion_lightning.text import counted

_ARGUMENTS = {"percentile": "LO,HI", "raw": "LO,HI", "suv": "LO,HI", "minmax": "", "agc": "", "none": ""}
WINDOWS = ", ".join(f"{name}:{arguments}" if arguments else name for name, arguments in _ARGUMENTS.items())
"""Every window as it is typed."""

_BINS = 4096
_GAIN = 4.0
"""How much steeper than a straight line automatic gain control may become."""
_TENTH = 0.1


@dataclass(frozen=True)
class Window:
    """A tone window as the user named it.

    - ``percentile:LO,HI``: those percentiles of the pixels become 0 and 1.
    - ``raw:LO,HI``: those values become 0 and 1: counts, degrees, Hounsfield units.
    - ``suv:LO,HI``: the same in standardised uptake values, which a DICOM PET is converted to; other files hold them.
    - ``minmax``: the smallest and the largest value become 0 and 1.
    - ``agc``: automatic gain control as in thermal cameras, an equalised histogram whose slope is limited.
    - ``none``: the full range of the file's type, whatever is used of it.

    Values outside a window are clipped. Without a name an 8-bit file stays as it is, a deeper one keeps its full range,
    and one that uses less than a tenth of that, or whose type has none, is refused.

    A window follows the image it is applied to, unless it was `measured` once for many: the frames of a video, the
    slices of a volume.

    Args:
        text: The name with its numbers; None when none was given.
        option: What the user calls the setting, for errors.
        curve: Values in rising order and the levels they become, linear between them; None measures every image.

    Raises:
        UserError: If there is no such window.
    """

    text: str | None = None
    option: str = "--window"
    curve: tuple[np.ndarray, np.ndarray] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.text is None:
            return
        if self.name not in _ARGUMENTS or (self.text != self.name) != bool(_ARGUMENTS[self.name]):
            raise UserError(f"{self.option} must be one of {WINDOWS}, but got {self.text!r}")
        if _ARGUMENTS[self.name]:
            low, high = self.numbers
            if not low < high or (self.name == "percentile" and not 0 <= low < high <= 100):
                raise UserError(f"{self.option} {self.text}: needs two numbers, the smaller one first")

    @property
    def name(self) -> str:
        """What stands before the colon; empty when no window was named."""
        return (self.text or "").partition(":")[0]

    @property
    def numbers(self) -> tuple[float, float]:
        """The two numbers after the colon; NaN where there are no two."""
        try:
            low, high = map(float, (self.text or "").partition(":")[2].split(","))
        except ValueError:
            return float("nan"), float("nan")
        return low, high

    def apply(self, pixels: np.ndarray, full: tuple[float, float] | None, path: str) -> np.ndarray:
        """Bring the values of a file to [0, 1].

        Args:
            pixels: Image (H, W, C) of any type, as it is stored.
            full: The range of the file's type; None if it has none.
            path: The file, for errors.

        Returns:
            Image (H, W, C), float32.

        Raises:
            UserError: If the window has to be named, or the pixels hold what is no number.
        """
        window = self if self.curve is not None else self.measured(pixels, full, path)
        assert window.curve is not None
        values, levels = window.curve
        if values[0] == values[-1]:
            return np.zeros(pixels.shape, np.float32)
        return np.interp(pixels, values, levels).astype(np.float32)

    def measured(
        self, pixels: np.ndarray, full: tuple[float, float] | None, path: str, counts: np.ndarray | None = None
    ) -> "Window":
        """The window that is the same for all images that these values come from.

        Args:
            pixels: The values, of any shape and type; with `counts` in rising order.
            full: The range of the file's type; None if it has none.
            path: The file, for errors.
            counts: How often each of the values occurs; None says once.

        Raises:
            UserError: If the window has to be named, or the values hold what is no number.
        """
        if not np.isfinite(pixels).all():
            count = int((~np.isfinite(pixels)).sum())
            raise UserError(f"`{path}` holds {counted(count, 'NaN or Inf value')}: replace them before it is used")
        values = pixels.astype(np.float64)
        if self.name == "agc":
            return replace(self, curve=_equalised(values, counts))
        return replace(self, curve=(np.array(self._limits(values, full, path, counts)), np.array([0.0, 1.0])))

    def _limits(
        self, values: np.ndarray, full: tuple[float, float] | None, path: str, counts: np.ndarray | None
    ) -> tuple[float, float]:
        """The values that become 0 and 1."""
        if self.name in ("raw", "suv"):
            return self.numbers
        if self.name == "percentile":
            low, high = (_percentile(values, number, counts) for number in self.numbers)
            return low, high
        low, high = float(values.min()), float(values.max())
        if self.name == "minmax":
            return low, high
        if full is None and low >= 0 and high <= 1:
            full = (0.0, 1.0)
        example = f"for example {self.option} percentile:0.5,99.5 or {self.option} raw:{low:g},{high:g}"
        if full is None:
            raise UserError(f"`{path}` holds values from {low:g} to {high:g}: name its tone window, {example}")
        if self.text is None and 0 < high - low < _TENTH * (full[1] - full[0]):
            raise UserError(
                f"`{path}` uses {low:g} to {high:g} of a range from {full[0]:g} to {full[1]:g}, less than a tenth: "
                f"name its tone window, {example}, or keep the full range by {self.option} none"
            )
        return full


def _percentile(values: np.ndarray, number: float, counts: np.ndarray | None) -> float:
    """As `numpy.percentile` has it, linear between neighbours; with counts, of every value so many times."""
    if counts is None:
        return float(np.percentile(values, number))
    last = np.cumsum(counts)
    position = number / 100 * (last[-1] - 1)
    below, above = (
        values[np.searchsorted(last, index, side="right")] for index in (np.floor(position), np.ceil(position))
    )
    return float(below + (above - below) * (position - np.floor(position)))


def _equalised(values: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Histogram equalisation whose bins are cut where the slope would exceed the limit (plateau equalisation)."""
    found, edges = np.histogram(values, _BINS, weights=counts)
    plateau = np.minimum(found, _GAIN * found.sum() / _BINS)
    return edges, np.concatenate([[0.0], np.cumsum(plateau) / plateau.sum()])
