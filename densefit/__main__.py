"""`python -m densefit` is the console script `densefit`."""

import sys

from densefit.cli import main

if __name__ == "__main__":
    sys.exit(main())
