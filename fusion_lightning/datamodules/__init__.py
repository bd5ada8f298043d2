"""Data modules that deliver pairs of degraded images with their clean targets."""
