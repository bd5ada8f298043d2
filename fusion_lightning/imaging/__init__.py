"""Operations on images that every layer above shares: colour, kernels, filters, sizes, files, contact sheets."""
