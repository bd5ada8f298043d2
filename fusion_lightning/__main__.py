"""`python -m fusion_lightning`."""

import sys

from fusion_lightning.main import main

if __name__ == "__main__":
    sys.exit(main())
