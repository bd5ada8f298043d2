"""Convolution with a known kernel, and its Wiener inverse."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.operators.linear import LinearOperator

Padding = Literal["circular", "reflect", "zero"]

DEFAULT_RHO = 0.01
"""Regularisation ρ of the Wiener inverse (40)."""


class Blur(LinearOperator):
    """Convolution with a kernel.

    Args:
        kernel: (k, k) with k odd; its middle is its origin.
        padding: What lies beyond the border: ``circular`` (the opposite side), ``reflect`` (the mirrored image without
            repeating its edge) or ``zero`` (black).
        rho: ρ of the Wiener inverse, more than 0 unless the kernel has no zero in the Fourier domain.

    Raises:
        UserError: If the kernel is not square with an odd side, or ``padding`` or ``rho`` is not one of the above.
    """

    def __init__(self, kernel: np.ndarray | Tensor, padding: Padding = "circular", rho: float = DEFAULT_RHO) -> None:
        kernel = torch.as_tensor(kernel).double().cpu()
        if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
            raise UserError(f"`kernel` must be square with an odd side, but got shape {tuple(kernel.shape)}")
        check_choice("padding", padding, ("circular", "reflect", "zero"))
        if rho < 0:
            raise UserError(f"`rho` must be at least 0, but got {rho}")
        self.kernel, self.padding, self.rho = kernel, padding, rho
        self._reach = 0 if padding == "circular" else len(kernel) // 2
        self._spectra: dict[tuple[int, int, torch.device], Tensor] = {}

    def A(self, x: Tensor) -> Tensor:
        """Extend the image, convolve, cut the border off."""
        return self._crop(self._multiply(self._extend(x, self.padding == "reflect"), lambda K: K))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Surround by zeros, correlate, add what landed in the border to where the border came from."""
        reach = self._reach
        return self._fold(self._multiply(F.pad(y, (reach,) * 4), lambda K: K.conj()))

    def A_dagger(self, y: Tensor) -> Tensor:
        """Wiener filter conj(K) / (|K|² + ρ) in the Fourier domain (40), the observation extended like an image.

        A black border darkens the rim, which the filter would answer with rings; dividing by A 1 first gives the rim
        its light back, worth 2 to 11 dB on real images.
        """
        if self.padding == "zero":
            y = y / self.A(torch.ones_like(y[:1, :1]))
        mirrored = self._extend(y, mirrored=self.padding != "circular")
        return self._crop(self._multiply(mirrored, lambda K: K.conj() / (K.abs().square() + self.rho)))

    def _multiply(self, x: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
        """Multiply the spectrum of x by a function of the kernel's."""
        size = (x.shape[-2], x.shape[-1])
        # half precision has no Fourier transform
        spectrum = torch.fft.rfft2(x.to(torch.promote_types(x.dtype, torch.float32)))
        result = torch.fft.irfft2(spectrum * factor(self._spectrum(*size, x.device)).to(spectrum.dtype), s=size)
        return result.to(x.dtype)

    def _spectrum(self, height: int, width: int, device: torch.device) -> Tensor:
        """K: the kernel's transform at a size, complex128, kept for the next call."""
        key = (height, width, device)
        if key not in self._spectra:
            reach = len(self.kernel) // 2
            offsets = torch.arange(-reach, reach + 1)
            # on an image smaller than the kernel its taps wrap around and add up
            at = (offsets % height)[:, None] * width + offsets % width
            field = torch.zeros(height * width, dtype=torch.float64).index_add(0, at.flatten(), self.kernel.flatten())
            self._spectra[key] = torch.fft.rfft2(field.view(height, width)).to(device)
        return self._spectra[key]

    def _extend(self, x: Tensor, mirrored: bool) -> Tensor:
        if not mirrored:
            return F.pad(x, (self._reach,) * 4)
        rows, columns = (self._mirror(side, x.device) for side in x.shape[-2:])
        return x.index_select(-2, rows).index_select(-1, columns)

    def _fold(self, x: Tensor) -> Tensor:
        """The adjoint of `_extend`."""
        if self.padding != "reflect":
            return self._crop(x)
        height, width = x.shape[-2] - 2 * self._reach, x.shape[-1] - 2 * self._reach
        folded = x.new_zeros(*x.shape[:-2], height, x.shape[-1]).index_add(-2, self._mirror(height, x.device), x)
        return x.new_zeros(*x.shape[:-2], height, width).index_add(-1, self._mirror(width, x.device), folded)

    def _crop(self, x: Tensor) -> Tensor:
        reach = self._reach
        return x[..., reach : x.shape[-2] - reach, reach : x.shape[-1] - reach]

    def _mirror(self, side: int, device: torch.device) -> Tensor:
        """Which row each row of the extended image shows; a border wider than the image goes to and fro."""
        period = max(2 * (side - 1), 1)
        index = torch.arange(-self._reach, side + self._reach, device=device) % period
        return torch.minimum(index, period - index) if side > 1 else torch.zeros_like(index)
