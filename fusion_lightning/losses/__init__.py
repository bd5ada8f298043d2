"""Loss functions and weighted criteria that return their parts by name."""
