"""Pairs of images: what they hold, and reading them from files."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fusion_lightning.datamodules.pairing import PairFiles
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import check_sizes, read_image, resize_image, shows_color, to_grey
from fusion_lightning.imaging.windows import Window

Side = Literal["a", "b"]


class Pair(NamedTuple):
    """Images of one scene (H, W, 1 or 3), uint8 or float32 in [0, 1]; a clean twin is None where none was delivered."""

    name: str
    a: np.ndarray
    b: np.ndarray
    clean_a: np.ndarray | None = None
    clean_b: np.ndarray | None = None
    scenario: str = "delivered"


class FolderPairs:
    """Pairs read from files, in the order of their names.

    Args:
        pairs: The files of each pair.
        color: Which source carries colour and is read as RGB; the other one is grey. None reads both as grey.
        windows: Tone windows of the two sources and their clean twins.
        resize: The source whose size the other images are brought to; None leaves them as they are.
    """

    def __init__(
        self,
        pairs: Sequence[PairFiles],
        color: Side | None,
        windows: tuple[Window, Window] = (Window(option="window_a"), Window(option="window_b")),
        resize: Side | None = None,
    ) -> None:
        self.pairs = pairs
        self.color = color
        self.windows = windows
        self.resize = resize

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """Read one pair.

        Raises:
            UserError: If a file cannot be read, or the sizes of the images do not fit each other.
        """
        name, files, scenario = self.pairs[index]
        images = {role: self._read(role, path) for role, path in files.items()}
        return Pair(name, scenario=scenario, **fit_sizes(images, files, self.resize))

    def _read(self, role: str, path: str) -> np.ndarray:
        window = self.windows["ab".index(role[-1])]
        if self.color is None:
            return to_grey(read_image(path, None, window))
        return read_image(path, 3 if role[-1] == self.color else 1, window)


def read_sources(
    files: Mapping[str, str], windows: tuple[Window, Window], resize: Side | None = None
) -> dict[str, np.ndarray]:
    """Read the two sources of a pair of which it is not known which is in colour; one that shows none is grey.

    Args:
        files: ``a`` and ``b`` -> path.
        windows: Their tone windows.
        resize: See `FolderPairs`.

    Returns:
        Two images (H, W, 1 or 3), uint8 or float32 in [0, 1], at most one of them in colour.

    Raises:
        UserError: If a file cannot be read, the sizes do not fit each other, or both are in colour.
    """
    images = {role: read_image(path, None, window) for (role, path), window in zip(files.items(), windows, strict=True)}
    images = {role: image if shows_color(image) else to_grey(image) for role, image in images.items()}
    if all(image.shape[2] == 3 for image in images.values()):
        raise UserError(
            f"{files['a']} and {files['b']} are both in colour, but only one source may be: convert one to grey"
        )
    return fit_sizes(images, files, resize)


def fit_sizes(
    images: dict[str, np.ndarray], files: Mapping[str, str], resize: Side | None = None
) -> dict[str, np.ndarray]:
    """Refuse images of different frames, or bring them to the size of one source where that is asked for.

    Raises:
        UserError: If the sides of two images have different ratios.
    """
    if resize is None:
        check_sizes({files[role]: image.shape[:2] for role, image in images.items()})
        return images
    size = images[resize].shape[:2]
    return {role: resize_image(image, size) for role, image in images.items()}
