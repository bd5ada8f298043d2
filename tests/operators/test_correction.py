"""The joint observation correction against dense matrices, the pseudo-inverse of NumPy, and the paper's equations."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.imaging import kernels
from fusion_lightning.operators import (
    Blur,
    Compose,
    Downsample,
    Identity,
    LinearOperator,
    Observation,
    PerSample,
    correct,
)

SIDE = 8
ONE = torch.ones((), dtype=torch.float64)


def sharp_blur(rho: float = 0.0) -> Blur:
    """A blur that can be undone: its spectrum stays above 0.2."""
    return Blur(np.array([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]]), "circular", rho)


# those with A A† = I
PAIRS: dict[str, tuple[LinearOperator, LinearOperator]] = {
    "noise": (Identity(), Identity()),
    "blur": (sharp_blur(), sharp_blur()),
    "low resolution": (Downsample(2), Identity()),
    "composite": (Compose(sharp_blur(), Downsample(4)), sharp_blur()),
}
REGULARISED = {
    "blur": (Blur(kernels.gaussian(1.0), "circular", 0.01), sharp_blur(0.05)),
    "composite": (Compose(Blur(kernels.gaussian(0.7), "circular", 0.01), Downsample(2)), Identity()),
}


def problem(operators: tuple[LinearOperator, LinearOperator]) -> tuple[Tensor, Tensor, Observation, Observation]:
    """An estimate, a weight map, and observations of something else."""
    estimate, weight = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64), torch.rand(1, 1, SIDE, SIDE).double()
    a, b = (
        Observation(operator.A(torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)), operator) for operator in operators
    )
    return estimate, weight, a, b


def dense(linear: object, side: int) -> np.ndarray:
    """The matrix of a linear map of square images."""
    basis = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    return linear(basis).flatten(1).T.numpy()  # type: ignore[operator]


def joint_matrices(weight: Tensor, a: Observation, b: Observation) -> tuple[np.ndarray, np.ndarray]:
    """(13) and (15), written out in blocks."""
    forward = [dense(one.operator.A, SIDE) for one in (a, b)]
    inverse = [dense(one.operator.A_dagger, one.y.shape[-1]) for one in (a, b)]
    w = [np.diag(weight.flatten().numpy()), np.diag(1 - weight.flatten().numpy())]
    eye = np.eye(SIDE * SIDE)

    def zeros(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.zeros((rows.shape[0], columns.shape[1]))

    joint = np.block(
        [
            [forward[0], zeros(forward[0], eye), zeros(forward[0], eye)],
            [zeros(forward[1], eye), forward[1], zeros(forward[1], eye)],
            [w[0], w[1], -eye],
        ]
    )
    generalised = np.block(
        [
            [inverse[0], zeros(eye, inverse[1]), zeros(eye, eye)],
            [zeros(eye, inverse[0]), inverse[1], zeros(eye, eye)],
            [w[0] @ inverse[0], w[1] @ inverse[1], -eye],
        ]
    )
    return joint, generalised


def right_side(a: Observation, b: Observation) -> np.ndarray:
    return np.concatenate((a.y.flatten().numpy(), b.y.flatten().numpy(), np.zeros(SIDE * SIDE)))


@pytest.mark.parametrize("projection", ["paper", "exact"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_full_correction_agrees_with_the_observations(name: str, projection: str) -> None:
    estimate, weight, a, b = problem(PAIRS[name])
    x = correct(estimate, weight, a, b, ONE, projection, iterations=60)
    torch.testing.assert_close(a.operator.A(x[:, :1]), a.y)
    torch.testing.assert_close(b.operator.A(x[:, 1:2]), b.y)
    torch.testing.assert_close(x[:, 2:], weight * x[:, :1] + (1 - weight) * x[:, 1:2])


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("operators", [*PAIRS.values(), *REGULARISED.values()])
def test_the_papers_correction_is_that_of_the_block_matrices(
    operators: tuple[LinearOperator, LinearOperator], strength: float
) -> None:
    estimate, weight, a, b = problem(operators)
    joint, generalised = joint_matrices(weight, a, b)
    flat = estimate.flatten().numpy()
    expected = flat - strength * generalised @ (joint @ flat - right_side(a, b))
    ours = correct(estimate, weight, a, b, strength * ONE)
    np.testing.assert_allclose(ours.flatten().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_papers_correction_is_its_equations(strength: float) -> None:
    estimate, weight, a, b = problem(PAIRS["composite"])
    x_a, x_b, fused = estimate.split(1, dim=1)
    r_a, r_b = (one.operator.A_dagger(one.operator.A(x) - one.y) for x, one in ((x_a, a), (x_b, b)))
    w_a, w_b = weight, 1 - weight
    mixed = fused - strength * (w_a * r_a + w_b * r_b - w_a * x_a - w_b * x_b + fused)
    expected = torch.cat((x_a - strength * r_a, x_b - strength * r_b, mixed), dim=1)
    torch.testing.assert_close(correct(estimate, weight, a, b, strength * ONE), expected)


@pytest.mark.parametrize("name", PAIRS)
def test_the_joint_inverse_meets_three_of_penroses_conditions_and_the_fourth_where_A_is_the_identity(name: str) -> None:
    _, weight, a, b = problem(PAIRS[name])
    joint, generalised = joint_matrices(weight, a, b)
    np.testing.assert_allclose(joint @ generalised @ joint, joint, atol=1e-9)
    np.testing.assert_allclose(generalised @ joint @ generalised, generalised, atol=1e-9)
    np.testing.assert_allclose(joint @ generalised, (joint @ generalised).T, atol=1e-9)
    symmetric = np.allclose(generalised @ joint, (generalised @ joint).T, atol=1e-9)
    assert symmetric == all(one.y.numel() == SIDE * SIDE for one in (a, b))


@pytest.mark.parametrize("name", PAIRS)
def test_the_exact_projection_is_the_nearest_point(name: str) -> None:
    estimate, weight, a, b = problem(PAIRS[name])
    joint, _ = joint_matrices(weight, a, b)
    flat = estimate.flatten().numpy()
    nearest = flat + np.linalg.pinv(joint) @ (right_side(a, b) - joint @ flat)
    exact = correct(estimate, weight, a, b, ONE, "exact", iterations=100)
    np.testing.assert_allclose(exact.flatten().numpy(), nearest, atol=1e-7)
    assert (exact - estimate).norm() <= (correct(estimate, weight, a, b, ONE) - estimate).norm() + 1e-9


def test_the_exact_projection_is_nearer_where_information_is_lost() -> None:
    estimate, weight, a, b = problem(PAIRS["low resolution"])
    exact = correct(estimate, weight, a, b, ONE, "exact")
    assert (exact - estimate).norm() < 0.98 * (correct(estimate, weight, a, b, ONE) - estimate).norm()


@pytest.mark.parametrize("name", REGULARISED)
def test_a_regularised_projection_minimises_its_objective(name: str) -> None:
    operators = REGULARISED[name]
    estimate, weight, a, b = problem(operators)
    joint, _ = joint_matrices(weight, a, b)
    flat, n = estimate.flatten().numpy(), SIDE * SIDE
    # f is eliminated; rows of an ordinary least-squares problem for the two sources
    rows, right = [np.eye(2 * n), joint[-n:, : 2 * n]], [flat[: 2 * n], flat[2 * n :]]
    row = 0
    for one in (a, b):
        block, row = joint[row : row + one.y.numel(), : 2 * n], row + one.y.numel()
        rho = max(one.operator.rho, 1e-12) * one.y.numel() / n
        rows, right = [*rows, block / np.sqrt(rho)], [*right, one.y.flatten().numpy() / np.sqrt(rho)]
    expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    exact = correct(estimate, weight, a, b, ONE, "exact", iterations=300)
    np.testing.assert_allclose(exact[:, :2].flatten().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["noise", "low resolution"])
def test_sixteen_iterations_do_where_nothing_is_blurred(name: str) -> None:
    estimate, weight, a, b = problem(PAIRS[name])
    torch.testing.assert_close(
        correct(estimate, weight, a, b, ONE, "exact"),
        correct(estimate, weight, a, b, ONE, "exact", iterations=100),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("projection", ["paper", "exact"])
def test_a_mixed_batch_is_corrected_as_its_images_are_alone(projection: str) -> None:
    kinds = [(Identity(), sharp_blur()), (sharp_blur(0.1), Identity()), (sharp_blur(), sharp_blur())]
    singles = [problem(kind) for kind in kinds]
    strength = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64).view(-1, 1, 1, 1)
    estimate, weight = (torch.cat([one[index] for one in singles]) for index in (0, 1))
    a, b = (
        Observation(torch.cat([one[2 + side].y for one in singles]), PerSample([kind[side] for kind in kinds]))
        for side in (0, 1)
    )
    together = correct(estimate, weight, a, b, strength, projection)
    for index, one in enumerate(singles):
        alone = correct(*one, strength[index : index + 1], projection)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("projection", ["paper", "exact"])
def test_the_correction_is_differentiable(projection: str) -> None:
    estimate, weight, a, b = problem(PAIRS["composite"])
    leaves = (estimate.requires_grad_(), weight.requires_grad_(), torch.tensor(0.6).double().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, w, strength: correct(x, w, a, b, strength, projection, iterations=30), leaves, fast_mode=True
    )


def test_unknown_projections_are_refused() -> None:
    with pytest.raises(UserError, match="`projection` must be one of paper, exact, but got 'near'"):
        correct(*problem(PAIRS["noise"]), ONE, "near")  # type: ignore[arg-type]
