"""Operators against the inner product, autograd, scipy, and the degradations they model."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from fusion_lightning.degradations import degrade, parse, scenario
from fusion_lightning.errors import UserError
from fusion_lightning.imaging import kernels
from fusion_lightning.operators import (
    Blur,
    Compose,
    Downsample,
    Identity,
    LinearOperator,
    PerSample,
    from_batch,
    from_degradations,
)

LINE = kernels.line(7, 30)
SIZES = [(32, 32), (31, 45), (5, 3), (1, 1)]
OPERATORS = {
    "identity": lambda size: Identity(),
    "circular": lambda size: Blur(kernels.gaussian(1.3), "circular"),
    "reflect": lambda size: Blur(LINE, "reflect"),
    "zero": lambda size: Blur(kernels.disk(2.5), "zero"),
    "skew": lambda size: Blur(np.random.default_rng(0).random((5, 5)), "reflect"),
    "downsample": lambda size: Downsample(3, size),
    "composite": lambda size: Compose(Blur(LINE, "zero"), Downsample(4, size)),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("size", SIZES)
def test_the_adjoint_agrees_with_the_inner_product_and_with_autograd(name: str, size: tuple[int, int]) -> None:
    operator = OPERATORS[name](size)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    observed = operator.A(x)
    y = torch.randn_like(observed)
    adjoint = operator.A_adjoint(y)
    scale = observed.norm() * y.norm() + 1e-12
    assert abs((observed * y).sum() - (x * adjoint).sum()) / scale < 1e-5
    (gradient,) = torch.autograd.grad(observed, x, y)
    torch.testing.assert_close(gradient, adjoint, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [(12, 12), (13, 17), (2, 1)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_average_pooling_undoes_its_pseudo_inverse_to_the_last_bit(size: tuple[int, int], factor: int) -> None:
    operator = Downsample(factor, size)
    y = torch.rand(2, 3, *(-(-side // factor) for side in size))
    assert torch.equal(operator.A(operator.A_dagger(y)), y)
    assert operator.A_dagger(y).shape[-2:] == size


def test_average_pooling_averages() -> None:
    x = torch.rand(1, 2, 12, 8)
    expected = x.view(1, 2, 3, 4, 2, 4).mean((3, 5))
    torch.testing.assert_close(Downsample(4).A(x), expected)


@pytest.mark.parametrize(("padding", "mode"), [("circular", "wrap"), ("reflect", "mirror"), ("zero", "constant")])
def test_blur_agrees_with_scipy(padding: str, mode: str) -> None:
    kernel = np.random.default_rng(1).random((7, 7))
    x = torch.rand(1, 2, 20, 33)
    expected = np.stack([ndimage.convolve(plane.double().numpy(), kernel, mode=mode) for plane in x[0]])
    np.testing.assert_allclose(Blur(kernel, padding).A(x)[0].numpy(), expected, atol=1e-5)  # type: ignore[arg-type]


def test_wiener_follows_its_formula_and_sharpens() -> None:
    kernel, rho = kernels.gaussian(1.5), 0.003
    x = torch.rand(1, 1, 32, 40, dtype=torch.float64)
    operator = Blur(kernel, "circular", rho)
    impulse = np.zeros((32, 40))
    reach = len(kernel) // 2
    impulse[: len(kernel), : len(kernel)] = kernel
    K = np.fft.fft2(np.roll(impulse, (-reach, -reach), (0, 1)))
    expected = np.fft.ifft2(np.conj(K) / (np.abs(K) ** 2 + rho) * np.fft.fft2(x[0, 0].numpy())).real
    np.testing.assert_allclose(operator.A_dagger(x)[0, 0].numpy(), expected, atol=1e-6)
    sharpest = Blur(kernels.gaussian(0.5), "circular", rho=0.0)
    torch.testing.assert_close(sharpest.A_dagger(sharpest.A(x)), x)


@pytest.mark.parametrize("padding", ["circular", "reflect", "zero"])
def test_the_wiener_inverse_of_a_smooth_image_comes_nearer_to_it(padding: str) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((1, 64, 64)), (0, 3, 3), mode="wrap") * 8 - 3.5
    x = torch.from_numpy(smooth)[None]
    operator = Blur(kernels.gaussian(2.0), padding)  # type: ignore[arg-type]
    blurred = operator.A(x)
    assert (operator.A_dagger(blurred) - x).square().mean() < 0.5 * (blurred - x).square().mean()


@pytest.mark.parametrize(
    "specification",
    [
        "blur(sigma=1.7)",
        "blur(sigma=2, padding=zero)",
        "motion_blur(length=9, padding=circular)",
        "defocus(3)",
        "downsample(4)",
        "downsample(3)",
        "blur(sigma=1)+downsample(2)",
        "downsample(2)+downsample(3)",
        "identity",
    ],
)
def test_the_operator_of_a_degradation_does_what_the_degradation_did(specification: str) -> None:
    image = np.random.default_rng(0).random((37, 30, 3), dtype=np.float32)
    degraded, effects = degrade(image, parse(specification), np.random.default_rng(1))
    operator = from_degradations(effects, size=(37, 30))
    np.testing.assert_allclose(operator.A(_tensor(image)), _tensor(degraded), atol=2e-6)
    assert operator.A_dagger(_tensor(degraded)).shape == (1, 3, 37, 30)
    assert operator.sigma == 0


def test_the_noise_level_is_what_is_left_after_the_averaging() -> None:
    grey = np.full((256, 256, 1), 0.5, np.float32)
    for name in ("drfusion_noise", "drfusion_composite"):
        degraded, effects = degrade(grey, scenario(name).a, np.random.default_rng(0))
        inner = degraded[8:-8, 8:-8]
        assert from_degradations(effects).sigma == pytest.approx(inner.std(), rel=0.03)
    noise_then_blur = degrade(grey, parse("noise(sigma=20)+blur(sigma=1)"), np.random.default_rng(0))
    assert from_degradations(noise_then_blur[1]).sigma == pytest.approx(noise_then_blur[0].std(), rel=0.03)
    photons = degrade(grey, parse("poisson(peak=80)"), np.random.default_rng(0))
    assert from_degradations(photons[1]).sigma == pytest.approx(photons[0].std(), rel=0.03)


def test_a_mixed_batch_equals_its_samples() -> None:
    rng = np.random.default_rng(0)
    specifications = ["blur(sigma=2)", "noise", "blur(sigma=2)", "motion_blur(length=15)", "haze", "blur(sigma=1..3)"]
    batch = [degrade(rng.random((24, 31, 1), dtype=np.float32), parse(text), rng) for text in specifications]
    y = torch.cat([_tensor(image) for image, _ in batch])
    operator = from_batch([effects for _, effects in batch])
    assert isinstance(operator.sigma, Tensor)
    assert operator.sigma.shape == (6, 1, 1, 1)
    for index, (_, effects) in enumerate(batch):
        alone = from_degradations(effects)
        assert operator.sigma[index].item() == pytest.approx(alone.sigma)
        for what in ("A", "A_adjoint", "A_dagger"):
            together = getattr(operator, what)(y)[index : index + 1]
            torch.testing.assert_close(together, getattr(alone, what)(y[index : index + 1]), rtol=0, atol=1e-6)


def test_a_mixed_batch_passes_gradients() -> None:
    operator: LinearOperator = PerSample([Blur(LINE), Identity(), Blur(LINE, "zero")])
    x = torch.rand(3, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: operator.A_dagger(operator.A(v)).sum((1, 2, 3)), x[:, :, :4, :4])


def test_half_precision_comes_back_as_it_went_in() -> None:
    x = torch.rand(1, 1, 16, 16)
    half = Blur(LINE, "reflect").A(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), Blur(LINE, "reflect").A(x), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Blur(np.ones((4, 4))), "odd side"),
        (lambda: Blur(LINE, "mirror"), "circular, reflect, zero"),  # type: ignore[arg-type]
        (lambda: Blur(LINE, rho=-1), "`rho` must be at least 0"),
        (lambda: Downsample(0), "whole number of at least 1"),
        (lambda: Downsample(4, (16, 16)).A_dagger(torch.rand(1, 1, 5, 4)), "4 × 4 pixels, but got 5 × 4"),
        (lambda: PerSample([Identity()]).A(torch.rand(2, 1, 4, 4)), "must have 1 samples"),
        (lambda: PerSample([Identity(), Downsample(2)]).A(torch.rand(2, 1, 4, 4)), "2 × 2 and 4 × 4"),
    ],
)
def test_what_cannot_work_is_refused(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1))[None]
