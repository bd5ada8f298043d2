"""Fusion metrics: pure functions and torchmetrics classes."""
