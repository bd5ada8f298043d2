"""Train, compare and measure fusion of degraded multi-modal images."""

__version__ = "0.1.0"
