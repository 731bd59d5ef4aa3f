"""Entry point of `python -I -m executor`."""

import sys

from executor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
