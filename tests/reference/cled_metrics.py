"""The five metrics of CLED-Fusion's tables, written down plainly in NumPy and SciPy.

One formula after the other on a pair of grey images (H, W), 0..255, float64; no thought for speed. They share no code
with the package: tests hold both against each other, benchmarks time them side by side.
"""

import numpy as np
from scipy.ndimage import correlate
from scipy.signal import convolve2d


def entropy(shares):
    shares = shares[shares > 0]
    return -np.sum(shares * np.log2(shares))


def mutual_information(fused, source):
    levels = np.arange(257)
    joint = np.histogram2d(source.ravel(), fused.ravel(), bins=(levels, levels))[0] / fused.size
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint)


def mi(fused, a, b):
    return mutual_information(fused, a) + mutual_information(fused, b)


def gaussian(size, sigma):
    x = np.arange(size) - (size - 1) / 2
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
    return window / window.sum()


def vifp(source, fused):
    arrived = held = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        window = gaussian(size, size / 5)
        if scale > 1:
            source = convolve2d(source, window, "valid")[::2, ::2]
            fused = convolve2d(fused, window, "valid")[::2, ::2]
        mean_s, mean_f = convolve2d(source, window, "valid"), convolve2d(fused, window, "valid")
        var_s = np.maximum(convolve2d(source * source, window, "valid") - mean_s * mean_s, 0)
        var_f = np.maximum(convolve2d(fused * fused, window, "valid") - mean_f * mean_f, 0)
        cov = convolve2d(source * fused, window, "valid") - mean_s * mean_f
        gain = cov / (var_s + 1e-10)
        noise = var_f - gain * cov
        flat = var_s < 1e-10
        gain[flat], noise[flat], var_s[flat] = 0, var_f[flat], 0
        flat = var_f < 1e-10
        gain[flat], noise[flat] = 0, 0
        noise[gain < 0] = var_f[gain < 0]
        gain[gain < 0] = 0
        noise = np.maximum(noise, 1e-10)
        arrived += np.sum(np.log10(1 + gain**2 * var_s / (noise + 2)))
        held += np.sum(np.log10(1 + var_s / 2))
    return arrived / held


def vif(fused, a, b):
    return vifp(a, fused) + vifp(b, fused)


def qabf(fused, a, b):
    def gradient(image):
        x = convolve2d(image, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "same")
        y = convolve2d(image, [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], "same")
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.hypot(x, y), np.where(x == 0, np.pi / 2, np.arctan(y / x))

    strength_f, angle_f = gradient(fused)
    kept = weight = 0.0
    for source in (a, b):
        strength, angle = gradient(source)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(strength > strength_f, strength_f / strength, strength / strength_f)
        relative = np.where(strength == strength_f, strength_f, relative)
        agreement = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (relative - 0.5))) * 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
        kept += np.sum(quality * strength)
        weight += np.sum(strength)
    return kept / weight


def nabf(fused, a, b):
    def gradient(image):
        x = correlate(image, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), mode="mirror") / 8
        y = correlate(image, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]), mode="mirror") / 8
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.hypot(x, y), np.where((x == 0) & (y == 0), 0, np.arctan(x / y))

    strength_f, angle_f = gradient(fused)
    lost, weight, artefact = 0.0, 0.0, True
    for source in (a, b):
        strength, angle = gradient(source)
        artefact = artefact & (strength_f > strength)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.minimum(strength, strength_f) / np.maximum(strength, strength_f)
        relative = np.where((strength == 0) | (strength_f == 0), 0, relative)
        agreement = np.abs(np.abs(angle - angle_f) - np.pi / 2) * 2 / np.pi
        kept_strength = 0.9999 / (1 + np.exp(-19 * (relative - 0.5)))
        kept_angle = 0.9995 / (1 + np.exp(-22 * (agreement - 0.5)))
        importance = np.where(strength >= 2, strength**1.5, 0.001)
        lost = lost + (1 - np.sqrt(kept_strength * kept_angle)) * importance
        weight += np.sum(importance)
    return np.sum(lost * artefact) / weight


def ssim(fused, a, b):
    def similarity(x, y):
        def mean(image):
            return correlate(image, gaussian(11, 1.5), mode="nearest")

        mean_x, mean_y = mean(x), mean(y)
        var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
        cov = mean(x * y) - mean_x * mean_y
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
        return np.mean(values / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))

    return similarity(fused, a) + similarity(fused, b)


METRICS = {"MI": mi, "VIF": vif, "Qabf": qabf, "Nabf": nabf, "SSIM": ssim}
