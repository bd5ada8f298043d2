"""Fusion methods: one LightningModule per method and stage."""
