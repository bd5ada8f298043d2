"""DRFusion's joint observation correction (12)–(17): make both sources and their fusion agree with what was observed.

The joint state x = [x_a, x_b, f] is (B, 3, H, W). It agrees with the observations y_a and y_b and the weight map w when

    A_a x_a = y_a,   A_b x_b = y_b,   f = w_a x_a + w_b x_b,   with w_a = w and w_b = 1 − w.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fusion_lightning.errors import check_choice
from fusion_lightning.operators.linear import LinearOperator

Projection = Literal["paper", "exact"]
"""The paper's generalised inverse (15), or the nearest state that agrees."""


class Observation(NamedTuple):
    """Observation of one sensor, and its operator."""

    y: Tensor
    """(B, 1, h, w), at the sensor's own size."""
    operator: LinearOperator
    """A, with y ≈ A x."""


def correct(
    estimate: Tensor,
    weight: Tensor,
    a: Observation,
    b: Observation,
    strength: Tensor,
    projection: Projection = "paper",
    iterations: int = 16,
) -> Tensor:
    """Move an estimate towards agreement with the observations.

    ``paper``, (16)(17): with r_i = A_i†(A_i x̂_i − y_i), x_i' = x̂_i − λ r_i and
    f' = f̂ − λ (w_a r_a + w_b r_b − w_a x̂_a − w_b x̂_b + f̂). Written with x̃_i = x̂_i − r_i this is a straight line from
    the estimate to [x̃_a, x̃_b, w_a x̃_a + w_b x̃_b], which it reaches at λ = 1.

    ``exact``: the same line to the nearest state that agrees. Both are one where A = I. Where A† is regularised by ρ
    (`LinearOperator.rho`), that state minimises ‖x − x̂‖² + ‖A x − y‖² / ρ, of which the Wiener filter is the case of
    one source.

    Args:
        estimate: x̂ = [x̂_a, x̂_b, f̂], (B, 3, H, W).
        weight: w, (B, 1, H, W) in [0, 1].
        a: The first source's observation.
        b: The second source's.
        strength: λ in [0, 1], (B, 1, 1, 1) or a scalar tensor.
        projection: ``paper`` or ``exact``.
        iterations: Conjugate-gradient steps of ``exact``.

    Returns:
        [x_a', x_b', f'], (B, 3, H, W), differentiable in everything but the operators.

    Raises:
        UserError: If ``projection`` is neither.
    """
    check_choice("projection", projection, Projection)
    weights = torch.cat((weight, 1 - weight), dim=1)
    if projection == "paper":
        sources = torch.cat(
            [
                x - seen.operator.A_dagger(seen.operator.A(x) - seen.y)
                for x, seen in zip(estimate[:, :2].split(1, dim=1), (a, b), strict=True)
            ],
            dim=1,
        )
    else:
        # in float32 conjugate gradients lose their bearings where a blur leaves the system ill-conditioned
        wide = [Observation(one.y.double(), one.operator) for one in (a, b)]
        sources = _nearest(estimate.double(), weights.double(), (wide[0], wide[1]), iterations).to(estimate.dtype)
    agreeing = torch.cat((sources, (weights * sources).sum(dim=1, keepdim=True)), dim=1)
    return estimate + strength * (agreeing - estimate)


def _nearest(estimate: Tensor, weights: Tensor, seen: tuple[Observation, Observation], iterations: int) -> Tensor:
    """The sources x (B, 2, H, W) of the nearest state that agrees.

    As f follows from x, ‖x − x̂‖² + ‖wᵀx − f̂‖² is to be smallest among A x = y. Its matrix M = I + w wᵀ mixes the two
    sources of a pixel only. Lagrange: x = M⁻¹(x̂ + w f̂ − Aᵀμ), where (A M⁻¹ Aᵀ + ρ) μ = A M⁻¹(x̂ + w f̂) − y.
    """
    # A Aᵀ of an average over n pixels is 1/n: scaled by the root of n, every operator weighs alike and ρ is relative
    scales = [(estimate[0, 0].numel() / one.y[0, 0].numel()) ** 0.5 for one in seen]

    def unmix(x: Tensor) -> Tensor:
        """M⁻¹ x, by Sherman and Morrison."""
        return x - weights * (weights * x).sum(dim=1, keepdim=True) / (1 + weights.square().sum(dim=1, keepdim=True))

    def observe(x: Tensor) -> _Pair:
        parts = zip(seen, scales, x.split(1, dim=1), strict=True)
        return _Pair(*(scale * one.operator.A(part) for one, scale, part in parts))

    def adjoint(multipliers: _Pair) -> Tensor:
        parts = zip(seen, scales, multipliers, strict=True)
        return torch.cat([one.operator.A_adjoint(scale * part) for one, scale, part in parts], dim=1)

    def system(multipliers: _Pair) -> _Pair:
        parts = zip(observe(unmix(adjoint(multipliers))), seen, multipliers, strict=True)
        return _Pair(*(x + torch.as_tensor(one.operator.rho).to(x) * part for x, one, part in parts))

    free = unmix(estimate[:, :2] + weights * estimate[:, 2:])
    right = _Pair(*(x - scale * one.y for x, scale, one in zip(observe(free), scales, seen, strict=True)))
    return free - unmix(adjoint(_conjugate_gradients(system, right, iterations)))


class _Pair(NamedTuple):
    """A vector that has a part of each sensor's size."""

    a: Tensor
    b: Tensor

    def plus(self, factor: Tensor, other: "_Pair") -> "_Pair":
        return _Pair(self.a + factor * other.a, self.b + factor * other.b)

    def dot(self, other: "_Pair") -> Tensor:
        """Inner product per sample, (B, 1, 1, 1)."""
        return sum(
            ((x * y).sum(dim=(1, 2, 3), keepdim=True) for x, y in zip(self, other, strict=True)), self.a.new_zeros(())
        )


def _conjugate_gradients(system: Callable[[_Pair], _Pair], right: _Pair, iterations: int) -> _Pair:
    """Solve a symmetric positive system, every sample on its own; a sample that is solved stays as it is."""
    solution = _Pair(*(torch.zeros_like(part) for part in right))
    residual = direction = right
    square = residual.dot(residual)
    for _ in range(iterations):
        image = system(direction)
        slope = direction.dot(image)
        going = slope > torch.finfo(slope.dtype).tiny
        step = torch.where(going, square, 0) / torch.where(going, slope, 1)
        solution, residual = solution.plus(step, direction), residual.plus(-step, image)
        before, square = square, residual.dot(residual)
        direction = residual.plus(torch.where(going, square, 0) / torch.where(going, before, 1), direction)
    return solution
