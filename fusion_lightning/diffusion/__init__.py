"""Diffusion schedules and sampling steps, as buffers and pure functions."""
