"""``python -m interop_conformance``: the same as ``interop conformance``, also where the project is not installed."""

from __future__ import annotations

import sys

from interop.cli._process import run
from interop_conformance.command import command

if __name__ == "__main__":
    sys.exit(run(command, "python -m interop_conformance"))
