"""Classical estimates of noise and blur, on grey images (B, 1, H, W) in [0, 1]."""

import torch
from torch import Tensor

from fusion_lightning.imaging.filters import blur_separably
from fusion_lightning.imaging.kernels import gaussian_taps

_NORMAL_MEDIAN = 0.6744897501960817
"""Median of |z| of a standard normal number z."""
_WEAK, _STRONG = 1.5, 3.0
"""Deviations of the two further blurs, in pixels."""
_EDGES = 0.02
"""Share of the pixels that are taken for edges."""
_SHARP = 0.8
"""Which of them counts: a fifth is sharper. The middle one is an edge that the scene itself has made soft."""


def noise_sigma(image: Tensor) -> Tensor:
    """Standard deviation of white noise, (B,) in 8-bit grey levels: MAD / 0.6745 of the finest diagonal details.

    Donoho and Johnstone's (1994) rule on Haar's wavelet. Details of the image count as noise: a sharp image without
    noise has some. Noise that was blurred afterwards, or whose neighbours are correlated, is taken for less.

    Args:
        image: At least 2 × 2 pixels; a last odd row or column is left out.
    """
    rows, columns = (side - side % 2 for side in image.shape[-2:])
    even, odd = image[..., 0:rows:2, :columns], image[..., 1:rows:2, :columns]
    diagonal = (even[..., 0::2] - even[..., 1::2] - odd[..., 0::2] + odd[..., 1::2]) / 2
    return 255 / _NORMAL_MEDIAN * diagonal.float().abs().flatten(1).median(dim=1).values


def blur_sigma(image: Tensor) -> Tensor:
    """Standard deviation of a Gaussian blur, (B,) in pixels, from the response of edges to further blurs.

    Where a step edge was blurred by σ, a further blur by s leaves σ² + s², and the steepest gradient falls as
    1 / sqrt(σ² + s²). Two further blurs tell σ² = (s₂² − R² s₁²) / (R² − 1) with R the ratio of the gradients after the
    weaker and after the stronger one (Zhuo and Sim 2011, with both blurs so strong that noise is smoothed, too).
    R is that of the sharper ones among the strongest edges. What the lens itself has blurred is contained: clean
    street scenes read 1.0 ± 0.5.

    Args:
        image: At least 16 × 16 pixels; without an edge the answer means nothing.
    """
    image = image.float()
    weak, strong = (_gradient(_smooth(image, sigma)).flatten(1) for sigma in (_WEAK, _STRONG))
    # edges that stay edges under the stronger blur: the weaker one's strongest pixels would be noise
    count = max(1, int(_EDGES * strong.shape[1]))
    at = strong.topk(count, dim=1).indices
    ratios = (weak.gather(1, at) / strong.gather(1, at).clamp(min=1e-8)).sort(dim=1).values
    ratio = ratios[:, int(_SHARP * (count - 1))]
    square = ratio.square().clamp(min=1 + 1e-6)
    return ((_STRONG**2 - square * _WEAK**2) / (square - 1)).clamp(min=0, max=100).sqrt()


def _smooth(image: Tensor, sigma: float) -> Tensor:
    taps = torch.as_tensor(gaussian_taps(sigma), dtype=image.dtype, device=image.device)
    return blur_separably(image, taps)


def _gradient(image: Tensor) -> Tensor:
    """Length of the gradient by central differences, inside the image."""
    across = (image[..., 1:-1, 2:] - image[..., 1:-1, :-2]) / 2
    down = (image[..., 2:, 1:-1] - image[..., :-2, 1:-1]) / 2
    return torch.hypot(across, down)


def darkens_to_the_border(image: Tensor, sigma: float) -> bool:
    """Whether a blurred image (1, 1, H, W) is dark along all its borders, as a blur over a black surround leaves it.

    The outermost pixels then have about half the light of those further inside: on every side three quarters at most.

    Args:
        image: The image.
        sigma: Standard deviation of the blur in pixels.
    """
    inside = int(3 * sigma) + 1
    ratios = []
    for turned in (image, image.flip(-2), image.mT, image.mT.flip(-2)):
        if turned.shape[-2] <= 2 * inside:
            return False
        ratios.append(float(turned[..., 0, :].mean() / turned[..., inside : 2 * inside, :].mean().clamp(min=1e-6)))
    return max(ratios) < 0.75
