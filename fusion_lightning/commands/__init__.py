"""Commands besides training: one module or folder per command, and what they share."""
