"""Plain neural networks: shapes documented, no training code."""
