"""DDFM's EM step: expectations by quadrature, dense 8 × 8 solves, and where the released weights lead."""

import math

import pytest
import torch
from scipy import integrate

from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.diffusion.likelihood import Likelihood, differences, smoothed
from fusion_lightning.errors import UserError

LEVEL = NoiseLevel(0, torch.tensor(0.5))


def pair(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.rand(2, *size, dtype=torch.float64) * 2 - 1
    return a, b


@pytest.mark.parametrize(("distance", "mean"), [(0.3, 1.0), (0.05, 0.4), (1.2, 2.0)])
def test_the_weights_are_expectations_over_the_hidden_variances(distance: float, mean: float) -> None:
    """m given the distance d is proportional to N(d; 0, m) Exp(m; mean γ); its E[1/m] is sqrt(2/γ) / d."""

    def density(m: float, power: float) -> float:
        return math.exp(-(distance**2) / (2 * m) - m / mean) / m**power

    over, under = (integrate.quad(density, 0, math.inf, (power,), epsabs=0, limit=500)[0] for power in (1.5, 0.5))
    assert over / under == pytest.approx(math.sqrt(2 / mean) / distance, rel=1e-6)
    # and the step weighs by it: without gradient term f is the weighted mean of the sources
    a, b = torch.full((2, 1, 1, 4, 4), 0.5, dtype=torch.float64)
    b = b - 1.5
    em = Likelihood(a, b, "paper", update=False, penalty=0)
    em.gamma, em.rho = em.gamma * mean, em.rho * 0.7
    fused = em(a - distance, LEVEL)
    weight_a, weight_b = over / under, math.sqrt(2 / 0.7) / (1.5 - distance)
    expected = (weight_a * 0.5 + weight_b * -1.0) / (weight_a + weight_b)
    assert float(fused.mean()) == pytest.approx(expected, rel=1e-4)


def test_the_scales_settle_at_the_laplacian_maximum_likelihood() -> None:
    """The mean absolute distance is the scale of a Laplacian, here sqrt(γ/2)."""
    a, b = pair(2, 1, 12, 10)
    em = Likelihood(a, b, "paper", penalty=0)
    fused = 0.3 * a + 0.7 * b
    for _ in range(200):
        em(fused, LEVEL)
    for scale, source in ((em.gamma, a), (em.rho, b)):
        expected = (fused - source).abs().mean(dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close((scale / 2).sqrt(), expected, atol=1e-4, rtol=0)


def dense_differences() -> list[torch.Tensor]:
    """The two difference operators on 8 × 8 images as matrices (64, 64)."""
    unit = torch.eye(64, dtype=torch.float64).view(64, 8, 8)
    return [one.reshape(64, 64).T for one in differences(unit)]


def test_the_smoothed_copy_is_that_of_a_dense_solve() -> None:
    image, gradient = torch.randn(8, 8, dtype=torch.float64), torch.randn(2, 8, 8, dtype=torch.float64)
    matrices = dense_differences()
    left = torch.eye(64, dtype=torch.float64) + sum(matrix.T @ matrix for matrix in matrices)
    right = image.flatten() + sum(matrix.T @ one.flatten() for matrix, one in zip(matrices, gradient, strict=True))
    expected = torch.linalg.solve(left, right).view(8, 8)
    torch.testing.assert_close(smoothed(image, gradient), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("eta", [1.0, 0.1])
def test_passes_with_fixed_weights_reach_the_joint_optimum(eta: float) -> None:
    """min over x, u, k of m̄ (x − y)² + n̄ x² + ψ |u|² + η/2 (|u − ∇k|² + (k − x)²), all of it solved at once."""
    psi, (a, b) = 0.5, pair(1, 1, 8, 8)
    weight_a, weight_b = torch.rand(2, 64, dtype=torch.float64) + 0.5
    # the step's own formulas, with the weights held
    x, u = torch.zeros(8, 8, dtype=torch.float64), torch.zeros(2, 8, 8, dtype=torch.float64)
    y = (a - b)[0, 0]
    for _ in range(400):
        k = smoothed(x, u)
        u = eta / (2 * psi + eta) * torch.stack(differences(k))
        x = ((2 * weight_a * y.flatten() + eta * k.flatten()) / (2 * weight_a + 2 * weight_b + eta)).view(8, 8)
    across, down = dense_differences()
    one, none = torch.eye(64, dtype=torch.float64), torch.zeros(64, 64, dtype=torch.float64)
    system = torch.cat(
        (
            torch.cat((torch.diag(2 * weight_a + 2 * weight_b) + eta * one, none, none, -eta * one), dim=1),
            torch.cat((none, (2 * psi + eta) * one, none, -eta * across), dim=1),
            torch.cat((none, none, (2 * psi + eta) * one, -eta * down), dim=1),
            torch.cat((-one, -across.T, -down.T, one + across.T @ across + down.T @ down), dim=1),
        )
    )
    right = torch.cat((2 * weight_a * y.flatten(), torch.zeros(192, dtype=torch.float64)))
    expected = torch.linalg.solve(system, right)[:64]
    torch.testing.assert_close(x.flatten(), expected, atol=1e-9, rtol=0)


def test_the_step_is_those_formulas_with_the_gradient_carried_along() -> None:
    a, b = pair(2, 1, 8, 8)
    em = Likelihood(a, b, "paper", update=False, smoothness=0.5, penalty=0.2)
    fused, u = torch.zeros_like(a), torch.zeros(2, *a.shape, dtype=torch.float64)
    for _ in range(3):
        m, n = (math.sqrt(2) / ((fused - source).square() + 1e-6).sqrt() for source in (a, b))
        k = smoothed(fused - b, u)
        u = 0.2 / 1.2 * torch.stack(differences(k))
        expected = b + (2 * m * (a - b) + 0.2 * k) / (2 * m + 2 * n + 0.2)
        fused = em(fused, LEVEL)
        torch.testing.assert_close(fused, expected)


def test_the_paper_s_step_never_raises_the_distance_to_the_sources() -> None:
    a, b = pair(1, 1, 16, 16)
    em = Likelihood(a, b, "paper", update=False, penalty=0)
    em.gamma, em.rho = em.gamma * 0.5, em.rho * 1.7
    fused = torch.randn_like(a)

    def energy(image: torch.Tensor) -> float:
        to_a, to_b = (((image - source).square() + 1e-6).sqrt() for source in (a, b))
        return float((to_a / em.gamma.sqrt() + to_b / em.rho.sqrt()).sum())

    before = energy(fused)
    for _ in range(10):
        fused = em(fused, LEVEL)
        assert energy(fused) <= before + 1e-9
        before = energy(fused)


@pytest.mark.parametrize("expectation", ["released", "paper"])
def test_the_result_lies_between_the_sources(expectation: str) -> None:
    a, b = pair(2, 1, 9, 7)
    em = Likelihood(a, b, expectation, penalty=0)  # type: ignore[arg-type]
    fused = 2 * torch.randn_like(a)
    for _ in range(4):
        fused = em(fused, LEVEL)
        assert (fused >= torch.minimum(a, b) - 1e-12).all()
        assert (fused <= torch.maximum(a, b) + 1e-12).all()
    same = Likelihood(a, a, expectation, penalty=0)  # type: ignore[arg-type]
    torch.testing.assert_close(same(fused, LEVEL), a)


@pytest.mark.parametrize(("share", "expected"), [(0.3, 0.7), (0.8, 1 / 3), (0.5, 0.5), (1.0, 1 / 3)])
def test_released_weights_turn_a_share_of_a_into_the_other_s(share: float, expected: float) -> None:
    a, b = torch.full((1, 1, 4, 4), 0.6), torch.full((1, 1, 4, 4), -0.4)
    fused = Likelihood(a, b, "released")(share * a + (1 - share) * b, LEVEL)
    assert float((fused - b).mean()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("expectation", ["released", "paper"])
def test_an_image_does_not_depend_on_its_batch_and_constant_images_are_fine(expectation: str) -> None:
    a, b = pair(2, 1, 7, 9)
    a[0], b[0] = 0.2, 0.2
    start = torch.randn_like(a)
    together, alone = (Likelihood(a[n:], b[n:], expectation) for n in (0, 1))  # type: ignore[arg-type]
    first, second = start, start[1:]
    for _ in range(3):
        first, second = together(first, LEVEL), alone(second, LEVEL)
    assert first.isfinite().all()
    torch.testing.assert_close(first[1:], second)


def test_another_expectation_is_refused() -> None:
    with pytest.raises(UserError, match="`likelihood` must be one of released, paper, but got 'maximum'"):
        Likelihood(*pair(1, 1, 2, 2), "maximum")  # type: ignore[arg-type]
