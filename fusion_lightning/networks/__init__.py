"""Neural networks as plain nn.Modules: shapes documented, no training code."""
