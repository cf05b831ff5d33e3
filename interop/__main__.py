"""``python -m interop``: the command ``interop``."""

import sys

from interop._command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
