"""The command ``interop``, also ``python -m interop``.

The library does not need what the command line needs (the ``cli`` extra), so that is looked for here, first, and
its absence is one line and not a traceback.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]

_NEEDED = ("click", "packaging", "rich")


def main() -> int:
    """Run the command line; returns 2 if what it needs is not installed, else leaves with the command's status."""
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        hint = "write: pip install 'array-interop[cli]'"
        print(f"interop: the command line needs {error.name}, which is not installed; {hint}", file=sys.stderr)
        return 2
    from interop.cli import cli

    cli(prog_name="interop")
    return 0


if __name__ == "__main__":
    sys.exit(main())
