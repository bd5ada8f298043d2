"""Image operations shared by all packages above: colour, kernels, filters, resizing, files, contact sheets."""
