"""Information metrics on histograms of grey levels: entropy and mutual information."""

from typing import Literal

import torch
from torch import Tensor

from fusion_lightning.errors import check_choice
from fusion_lightning.metrics.functional.histograms import bins, entropy, histogram, joint_histogram, mutual_information
from fusion_lightning.metrics.functional.images import fusion_score, stretch


@fusion_score()
def en(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Entropy of the fused image, -sum p log2 p over its 256 levels, in bits; 0..8, higher is better."""
    return entropy(histogram(bins(fused)))


@fusion_score()
def mi(fused: Tensor, source_a: Tensor, source_b: Tensor, *, merge_top_levels: bool = False) -> Tensor:
    """Mutual information in bits, summed over the sources: I(A; F) + I(B; F); 0..16, higher is better.

    I(A; F) = H(A) + H(F) - H(A, F) on 256-level histograms (Qu et al. 2002; the sum is not normalised).

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1].
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        merge_top_levels: Count the levels 254 and 255 as one in the joint histograms, as the MATLAB toolbox does
            because its index saturates; up to 1.8 % higher where images have white pixels.

    Returns:
        One value per image, (B,).
    """
    fused, source_a, source_b = bins(fused), bins(source_a), bins(source_b)
    if not merge_top_levels:
        return sum((mutual_information(joint_histogram(x, fused))[0] for x in (source_a, source_b)), torch.zeros(()))
    marginal = 2 * entropy(histogram(fused)) + entropy(histogram(source_a)) + entropy(histogram(source_b))
    fused, source_a, source_b = (index.clamp(max=254) for index in (fused, source_a, source_b))
    return marginal - entropy(joint_histogram(source_a, fused)) - entropy(joint_histogram(source_b, fused))


@fusion_score()
def q_mi(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Normalised mutual information, 2 [I(A; F) / (H(A) + H(F)) + I(B; F) / (H(B) + H(F))] (Hossny et al. 2008).

    0..2, higher is better. NaN when an image is constant and not black, as the toolbox's stretch is undefined there.
    """
    (f, a, b), undefined = _stretched_bins(fused, source_a, source_b)
    value = torch.zeros(())
    for source in (a, b):
        information, source_entropy, fused_entropy = mutual_information(joint_histogram(source, f))
        value = value + 2 * information / (source_entropy + fused_entropy)
    return value.masked_fill(undefined, torch.nan)


@fusion_score()
def q_ncie(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Nonlinear correlation information entropy (Wang et al. 2005); 0.80..1 in practice, higher is better.

    1 + sum (l / 3) log256(l / 3) over the eigenvalues l of the three images' matrix of nonlinear correlations
    I(X; Y) / 8 with unit diagonal. NaN when an image is constant and not black.
    """
    images, undefined = _stretched_bins(source_a, source_b, fused)
    matrix = torch.eye(3, dtype=torch.float64, device=fused.device).repeat(len(fused), 1, 1)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        correlation = mutual_information(joint_histogram(images[row], images[column]))[0] / 8
        matrix[:, row, column] = matrix[:, column, row] = correlation
    eigenvalues = torch.linalg.eigvalsh(matrix).clamp(min=0)
    return (1 - entropy(eigenvalues / 3) / 8).masked_fill(undefined, torch.nan)


@fusion_score()
def q_te(
    fused: Tensor,
    source_a: Tensor,
    source_b: Tensor,
    *,
    marginals: Literal["published", "textbook"] = "published",
) -> Tensor:
    """Tsallis entropy metric of order q = 0.43137 (Nava et al. 2007); >= 0, higher is better.

    (T(A, F) + T(B, F)) / (H(A)^q + H(B)^q + T(A, B)) with Shannon's H in bits and Tsallis' mutual information
    T(X, Y) = (1 - sum p(x, y)^q / m(x, y)^(q - 1)) / (1 - q). NaN when an image is constant and not black.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1].
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        marginals: `textbook` takes m(x, y) = p_X(x) p_Y(y); `published` takes p_Y(x) p_X(y), the slip in the toolbox
            that the published tables were made with.

    Returns:
        One value per image, (B,).
    """
    check_choice("marginals", marginals, ("published", "textbook"))
    order = 0.43137
    (f, a, b), undefined = _stretched_bins(fused, source_a, source_b)

    def tsallis(x: Tensor, y: Tensor) -> Tensor:
        joint = joint_histogram(x, y)
        rows, columns = joint.sum(2), joint.sum(1)
        if marginals == "published":
            rows, columns = columns, rows
        product = rows[:, :, None] * columns[:, None, :]
        return (1 - (joint**order * product ** (1 - order)).sum((1, 2))) / (1 - order)

    held = entropy(histogram(a)) ** order + entropy(histogram(b)) ** order + tsallis(a, b)
    value = (tsallis(a, f) + tsallis(b, f)) / held
    return value.masked_fill(undefined, torch.nan)


def _stretched_bins(*images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Bins of the stretched images, and which samples have an image that cannot be stretched: (B,)."""
    stretched = [stretch(image) for image in images]
    undefined = torch.stack([image[:, 0, 0].isnan() for image in stretched]).any(0)
    return [bins(image.nan_to_num()) for image in stretched], undefined
