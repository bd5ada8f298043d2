"""Metrics on the histograms of the grey levels: how much of the sources' information the fused image holds."""

from torch import Tensor

from .histograms import bins, entropy, histogram, joint_histogram
from .images import fusion_score


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
    fused_bins = bins(fused)
    joint_fused = fused_bins.clamp(max=254) if merge_top_levels else fused_bins
    total = 2 * entropy(histogram(fused_bins))
    for source in (source_a, source_b):
        source_bins = bins(source)
        joint_source = source_bins.clamp(max=254) if merge_top_levels else source_bins
        total = total + entropy(histogram(source_bins)) - entropy(joint_histogram(joint_source, joint_fused))
    return total
