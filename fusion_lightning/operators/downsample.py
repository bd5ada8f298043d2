"""Average pooling, and its exact pseudo-inverse."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.operators.linear import LinearOperator


class Downsample(LinearOperator):
    """Average pooling by a factor; A A† = I exactly.

    Args:
        factor: Pixels that become one, in each direction, at least 1.
        size: (H, W) of the image. Needed only where it is no multiple of ``factor``: the last blocks then average
            the pixels they have, and ⌈H / factor⌉ alone does not tell H.

    Raises:
        UserError: If ``factor`` is less than 1, or an observation does not belong to ``size``.
    """

    def __init__(self, factor: int, size: tuple[int, int] | None = None) -> None:
        if factor < 1 or int(factor) != factor:
            raise UserError(f"`factor` must be a whole number of at least 1, but got {factor}")
        self.factor, self.size = int(factor), size

    def A(self, x: Tensor) -> Tensor:
        """Mean of every block."""
        # as deviations from a pixel of the block, so that equal pixels average to themselves to the last bit
        first = x[..., :: self.factor, :: self.factor]
        deviation = x - self._replicate(first, (x.shape[-2], x.shape[-1]))
        return first + F.avg_pool2d(deviation, self.factor, ceil_mode=True, count_include_pad=False)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Share every pixel among its block."""
        size = self._size(y)
        rows, columns = (
            torch.full((small,), float(self.factor), device=y.device, dtype=y.dtype) for small in y.shape[-2:]
        )
        rows[-1] -= len(rows) * self.factor - size[0]
        columns[-1] -= len(columns) * self.factor - size[1]
        return self._replicate(y / (rows[:, None] * columns), size)

    def A_dagger(self, y: Tensor) -> Tensor:
        """Replicate every pixel over its block."""
        return self._replicate(y, self._size(y))

    def _replicate(self, y: Tensor, size: tuple[int, int]) -> Tensor:
        blocks = y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)
        return blocks[..., : size[0], : size[1]]

    def _size(self, y: Tensor) -> tuple[int, int]:
        if self.size is None:
            return (y.shape[-2] * self.factor, y.shape[-1] * self.factor)
        expected = tuple(-(-side // self.factor) for side in self.size)
        if expected != tuple(y.shape[-2:]):
            raise UserError(
                f"an image of {self.size[0]} × {self.size[1]} averaged by {self.factor} must have "
                f"{expected[0]} × {expected[1]} pixels, but got {y.shape[-2]} × {y.shape[-1]}"
            )
        return self.size
