"""What goes wrong between a scene and its image."""
