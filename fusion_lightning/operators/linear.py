"""Base class of linear operators, and compositions of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from fusion_lightning.errors import UserError


class LinearOperator(ABC):
    """A linear map A from images (B, C, H, W) to observations (B, C, h, w)."""

    sigma: float | Tensor = 0.0
    """Standard deviation of the observation's noise, in [0, 1] units: a number, or (B, 1, 1, 1) for a mixed batch."""
    rho: float | Tensor = 0.0
    """How strongly A† is regularised: 0 where A A† = I holds; a number, or (B, 1, 1, 1) for a mixed batch."""

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """Observe: y = A x."""

    @abstractmethod
    def A_adjoint(self, y: Tensor) -> Tensor:
        """The adjoint Aᵀ y: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for all x and y."""

    @abstractmethod
    def A_dagger(self, y: Tensor) -> Tensor:
        """A pseudo-inverse A† y, regularised where A loses what it maps."""


class Identity(LinearOperator):
    """A = I: nothing but noise went wrong."""

    def A(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The observation itself."""
        return y

    def A_dagger(self, y: Tensor) -> Tensor:
        """The observation itself."""
        return y


class Compose(LinearOperator):
    """Operators one after the other: A = A_n … A_1, A† = A_1† … A_n†.

    Args:
        operators: A_1 … A_n, in the order in which they happened.
    """

    def __init__(self, *operators: LinearOperator) -> None:
        self.operators = operators
        self.rho = max((float(operator.rho) for operator in operators), default=0.0)

    def A(self, x: Tensor) -> Tensor:
        """Apply A_1, then A_2, …."""
        return reduce(lambda image, operator: operator.A(image), self.operators, x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoints from the last to the first."""
        return reduce(lambda image, operator: operator.A_adjoint(image), reversed(self.operators), y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """Apply the pseudo-inverses from the last to the first."""
        return reduce(lambda image, operator: operator.A_dagger(image), reversed(self.operators), y)


class PerSample(LinearOperator):
    """One operator per sample of a batch; every sample gets what it would get alone.

    Args:
        operators: One for each sample; samples that share an operator object are computed together.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        self.operators = list(operators)
        self.sigma = torch.tensor([float(operator.sigma) for operator in operators]).view(-1, 1, 1, 1)
        self.rho = torch.tensor([float(operator.rho) for operator in operators]).view(-1, 1, 1, 1)
        groups: dict[int, list[int]] = {}
        for index, operator in enumerate(self.operators):
            groups.setdefault(id(operator), []).append(index)
        self._groups = list(groups.values())
        self._order = torch.tensor([index for group in self._groups for index in group]).argsort()

    def A(self, x: Tensor) -> Tensor:
        """Observe every sample."""
        return self._each("A", x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The adjoint for every sample."""
        return self._each("A_adjoint", y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """The pseudo-inverse for every sample."""
        return self._each("A_dagger", y)

    def _each(self, what: str, x: Tensor) -> Tensor:
        if len(x) != len(self.operators):
            raise UserError(f"`x` must have {len(self.operators)} samples, one for each operator, but got {len(x)}")
        if len(self._groups) == 1:
            return getattr(self.operators[0], what)(x)
        parts = [getattr(self.operators[group[0]], what)(x[group]) for group in self._groups]
        if len({part.shape[1:] for part in parts}) > 1:
            sizes = sorted({f"{part.shape[-2]} × {part.shape[-1]}" for part in parts})
            raise UserError(f"operators of one batch must agree in size, but got {' and '.join(sizes)}")
        return torch.cat(parts)[self._order.to(x.device)]
