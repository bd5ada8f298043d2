"""What the command line can do besides training: one module per command."""
